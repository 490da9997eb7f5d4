"""The table of backends is the one place that says which engines there are, and what each is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

import nimbed
from nimbed.backends import BACKENDS, BUILT, engine_module
from nimbed.errors import InputError, MissingExtraError

SOURCE = Path(nimbed.__file__).parent
TABLE = SOURCE / "backends" / "table.py"


def names_in(*nodes: ast.expr | None) -> set[str]:
    """Engines that are named by these literals, where they name nothing else (``auto`` stands for all of them)."""
    words = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)} - {"auto"}
    return words if words <= set(BACKENDS) else set()


def docstrings(tree: ast.Module) -> set[int]:
    scopes = [n for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    return {id(n.body[0].value) for n in scopes if n.body and isinstance(n.body[0], ast.Expr)}


def lists_of_engines(text: str) -> list[int]:
    """Lines where two engines or more are listed: a literal, a dispatch by comparisons, or a sentence to be shown."""
    tree, found = ast.parse(text), []
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            named = names_in(*node.elts)
        elif isinstance(node, ast.Dict):
            named = names_in(*node.keys)
        elif isinstance(node, ast.FunctionDef):
            compared = [n for n in ast.walk(node) if isinstance(n, ast.Compare)]
            sides = [names_in(side) for n in compared for side in (n.left, *n.comparators)]
            named = set().union(*sides)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            named = set(re.findall(rf'"({"|".join(BACKENDS)})"', node.value))
        else:
            continue
        if len(named) > 1:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_other_module_lists_engines(path):
    if path != TABLE:
        assert lists_of_engines(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        'A = ("auto", "native", "openvino")',
        'A = {"ipex": 1, "torch": 2}',
        'def f(x):\n    if x == "native":\n        return 1\n    return x == "torch"',
        'raise ValueError(\'there are "native" and "openvino"\')',
    ],
)
def test_a_list_elsewhere_would_be_found(text):
    assert lists_of_engines(text)


@pytest.mark.parametrize("text", ['A = ("openvino", "nncf", "torch")', 'A = ("native",)', '"""Or "torch", "ipex"."""'])
def test_packages_and_docstrings_are_no_lists(text):
    assert lists_of_engines(text) == []


def test_importing_the_table_imports_no_engine():
    engines = {record.module for record in BACKENDS.values()} | {"nimbed._native", "openvino", "torch"}
    script = "import nimbed.backends, sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not engines & set(done.stdout.split())


@pytest.mark.parametrize("record", BACKENDS.values(), ids=str)
def test_a_record_is_whole(record):
    """Names of modules are strings, which nothing else holds to what there is."""
    assert find_spec(record.module)
    assert record.precisions
    assert {*record.built, *record.compared} <= set(record.precisions)
    assert record.package is None or record.remedy or record.notice
    assert bool(record.built) == bool(record.builder) == bool(record.files) == (record in BUILT.values())
    assert not record.builder or find_spec(record.builder)


@pytest.mark.parametrize("name", BUILT)
def test_quantize_has_the_precisions_of_the_table(name, tmp_path):
    for precision in {"int8", "fp32"} - set(BUILT[name].built):
        with pytest.raises(InputError, match=f"precision='{precision}': backend=\"{name}\" "):
            nimbed.quantize(tmp_path, backend=name, precision=precision)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ipex", "make ipex-env"),
        ("native", r"C\+\+ compiler"),
        ("openvino", r"nimbed\[openvino\]"),
        ("torch", r"nimbed\[torch\]"),
    ],
)
def test_who_lacks_an_engine_is_told_its_own_remedy(name, remedy, monkeypatch, tmp_path):
    (tmp_path / "lacking_engine.py").write_text("import nothing_there")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], module="lacking_engine"))
    with pytest.raises(MissingExtraError, match=f"backend='{name}' needs nothing_there: .*{remedy}"):
        engine_module(name)
