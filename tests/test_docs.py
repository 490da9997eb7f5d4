"""The README's code runs as it is printed, and its promises about commands are true."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
MODULES = [
    "nimbed",
    "nimbed.encoder",
    "nimbed.reranker",
    "nimbed.evaluate.run",
    "nimbed.evaluate.settings",
    "nimbed.haystack",
    "nimbed.langchain",
    "nimbed._adapters.langchain_rerank",
    "nimbed.llama_index",
    "nimbed._adapters.llama_index_rerank",
]
MODEL = '"sentence-transformers/all-MiniLM-L6-v2"'


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[0] for block in BLOCKS])
def test_readme_code_runs(block, minilm_folder, minilm_int8, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert MODEL in block
    # The hub's name stands for the same files on this machine.
    exec(compile(block.replace(MODEL, repr(str(minilm_folder))), "README.md", "exec"), {})
    said = capsys.readouterr().out
    if "isolate the packages" in block:
        assert said.strip() == "A virtual environment has its own site directories."


# page -> what its code prints
PAGES = {
    "ipex.md": "upstream has ended",
    "evaluation.md": "| pets | nDCG@10 | short | 1.0000 |",
    "quantisation.md": "rank_correlation  0.99",
    "native.md": "mean_cosine",
    "speed.md": "| 64 callers | 64 tokens |",
    "security.md": "up CacheConfig(size_bytes=",
    "serving.md": 'nimbed_texts_total{encoder="search"} 2.0',
}


def test_every_page_of_the_docs_is_run():
    assert set(PAGES) == {page.name for page in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:faiss", "ignore:builtin type:DeprecationWarning")
def test_the_code_of_a_page_runs_from_top_to_bottom(page, minilm_folder, minilm_int8, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert MODEL in blocks[0]
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace(MODEL, repr(str(minilm_folder))), page, "exec"), names)
    assert PAGES[page] in capsys.readouterr().out


def test_readme_has_ten_lines_for_each_framework():
    for framework in ("haystack", "langchain", "llama_index"):
        assert any(f"from nimbed.{framework} import" in block for block in BLOCKS)


def test_make_targets_and_links_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_extras_in_the_readme_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for group in re.findall(r'"nimbed\[([\w,-]+)\]"', README) for name in group.split(",")}
    assert named
    assert named <= set(extras)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
