"""The code of the README and of every page runs as it is printed, and what they promise is true."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
import tomllib

from nimbed.cli.models import pages
from tests.support.models_page import PAGE, PLACE, with_tables

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
MARKDOWN = sorted(
    path for folder in (".", "docs", "benchmarks", "examples/**", "src/**") for path in ROOT.glob(f"{folder}/*.md")
)
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
    "nimbed.server.app",
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
    "api.md": "0.1.0 ",
    "bulk.md": "vectors.npy: 100 x 384, 0 texts truncated",
    "encoding.md": "(464, 384)",
    "evaluation.md": "| pets | nDCG@10 | short | 1.0000 |",
    "install.md": "(1, 384)",
    "ipex.md": "upstream has ended",
    "migrating.md": "384",
    "models.md": " mean True 256 {}",
    "native.md": "mean_cosine",
    "quantization.md": "rank_correlation  0.99",
    "reranking.md": "A cat sat here. 0.",
    "server.md": "200 384",
    "security.md": "up CacheConfig(size_bytes=",
    "serving.md": 'nimbed_texts_total{encoder="search"} 2.0',
    "speed.md": "| 64 callers | 64 tokens |",
}
WITHOUT_CODE = {"glossary.md"}


def test_every_page_of_the_docs_is_run():
    assert {*PAGES, *WITHOUT_CODE} == {page.name for page in (ROOT / "docs").glob("*.md")}
    assert not any("```python" in (ROOT / "docs" / page).read_text(encoding="utf-8") for page in WITHOUT_CODE)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:faiss", "ignore:builtin type:DeprecationWarning")
def test_the_code_of_a_page_runs_from_top_to_bottom(page, minilm_folder, minilm_int8, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert MODEL in "".join(blocks[:2])
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace(MODEL, repr(str(minilm_folder))), page, "exec"), names)
    assert PAGES[page] in capsys.readouterr().out


def test_readme_has_ten_lines_for_each_framework():
    for framework in ("haystack", "langchain", "llama_index"):
        assert any(f"from nimbed.{framework} import" in block for block in BLOCKS)


def test_the_readme_is_short_and_lines_are_narrow():
    assert len(README.splitlines()) <= 150
    wide = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MARKDOWN
        for number, line in enumerate(PLACE.sub("", path.read_text(encoding="utf-8")).splitlines(), 1)
        if len(line) > 120
    ]
    assert wide == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for path in MARKDOWN:
        for target in re.findall(r"^make ([\w-]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), (path, target)
    assert "\nmake demo" in README
    assert "\nmake test" in README


def test_links_lead_somewhere():
    for path in MARKDOWN:
        text = path.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            linked = path.parent / target if target else path
            assert linked.exists(), (path, target)
            assert not anchor or anchor in headings(linked), (path, target, anchor)


def headings(path):
    """The anchors that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in MARKDOWN:
        groups = re.findall(r'"nimbed\[([\w,-]+)\]"', path.read_text(encoding="utf-8"))
        assert {name for group in groups for name in group.split(",")} <= set(extras), path
    listed = re.findall(r"^\| (`.+?`) \|", section("install.md", "## Extras"), flags=re.MULTILINE)
    assert {*re.findall(r"`([\w-]+)`", "".join(listed))} == {*extras} - {"dev", "test"}


def section(page, heading):
    """What stands below a heading, up to the next one of its rank."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize(
    "module",
    ["", "bench", "bulk", "evaluate", "guard", "haystack", "langchain", "llama_index", "mteb", "opentelemetry",
     "prometheus", "quantization", "server", "tune"],
)  # fmt: skip
def test_the_public_names_are_those_of_the_api_page(module):
    name = f"nimbed.{module}".rstrip(".")
    assert names(section("api.md", f"## `{name}`")) == set(importlib.import_module(name).__all__)


def test_the_errors_are_those_of_the_api_page():
    errors = importlib.import_module("nimbed.errors")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", section("api.md", "## Errors"), flags=re.MULTILINE)
    assert {name for name, _ in rows} == set(errors.__all__)
    for name, builtin in rows:
        assert builtin in {base.__name__ for base in getattr(errors, name).__mro__}


def names(text):
    """The names in the first column of a table."""
    columns = re.findall(r"^\| (`.+?`) \|", text, flags=re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(columns)))


def test_the_tables_of_models_are_those_of_the_package():
    page = PAGE.read_text(encoding="utf-8")
    assert {match["name"] for match in PLACE.finditer(page)} == set(pages())
    assert page == with_tables(page), "make models-page writes them"


def test_contributing_says_where_every_folder_is():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)/`", " ".join(re.findall(r"^\| (`.+?`) \|", text, flags=re.MULTILINE)))
    package = ROOT / "src" / "nimbed"
    assert set(listed) == {path.parent.name for kind in ("py", "cpp") for path in package.glob(f"*/*.{kind}")}


def test_the_glossary_is_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [word.lower() for word in re.findall(r"^\*\*(.+?)\.?\*\*", text, flags=re.MULTILINE)]
    assert words == sorted(words)
    assert {"artefact", "session", "tier", "fingerprint", "roof", "admission limit"} <= set(words)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
