"""The shape of the package: how large things may grow, and where their tests are. (Layers: import-linter.)"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nimbed

SOURCE = Path(nimbed.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
TESTS = Path(__file__).parent


def test_public_names():
    assert len(nimbed.__all__) <= 8
    assert sorted(nimbed.__all__, key=str.lower) == sorted(nimbed.__all__, key=str.lower)
    assert all(getattr(nimbed, name) is not None for name in nimbed.__all__)
    assert set(nimbed.__all__) <= set(dir(nimbed))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nimbed.nothing


def test_the_build_package_does_not_hide_the_function():
    import nimbed.quantization

    assert callable(nimbed.quantize)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            # A record that is filled in field by field is one statement, however many lines it takes.
            long_calls = [s for s in body if isinstance(s, (ast.Assign, ast.Return, ast.Expr)) and spans(s) > 10]
            lines -= sum(spans(s) - 1 for s in long_calls)
            assert lines <= 25, f"{path.name}:{node.name} has {lines} lines"


def runtime_imports(tree: ast.AST) -> set[str]:
    """Modules that are imported when the code runs, and not for the type checker alone."""
    if isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING":
        return set()
    own = {tree.module or ""} if isinstance(tree, ast.ImportFrom) else set()
    own |= {alias.name for alias in tree.names} if isinstance(tree, ast.Import) else set()
    return own.union(*map(runtime_imports, ast.iter_child_nodes(tree)))


def test_openvino_is_imported_in_one_place():
    """That which keeps its telemetry out: elsewhere ``import openvino`` would start it."""
    places = {
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        if {"openvino", "openvino.opset13"} & runtime_imports(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert places == {"backends/openvino_api.py"}


def test_a_web_server_is_imported_by_the_server_alone():
    """The core knows no HTTP, and what runs it pays for none."""
    web = {"httptools", "orjson", "starlette", "uvicorn", "uvloop"}
    places = {
        path.relative_to(SOURCE).parts[0]
        for path in FILES
        if web & {name.partition(".")[0] for name in runtime_imports(ast.parse(path.read_text(encoding="utf-8")))}
    }
    assert places == {"server"}


def test_processes_are_started_in_one_place():
    """That which gives a child nothing of the current folder to import."""
    places = {
        path.name
        for path in FILES
        if {"subprocess", "multiprocessing"} & runtime_imports(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert places == {"child_process.py", "llama_index.py"}  # LlamaIndex' workers are asked about, not started


def spans(node: ast.stmt) -> int:
    return node.end_lineno - node.lineno + 1


def test_typed_marker_and_license():
    assert (SOURCE / "py.typed").is_file()
    assert (SOURCE.parent.parent / "LICENSE").read_text().startswith("                                 Apache License")


# Packages whose tests are named otherwise: the adapters are tested through the public module of each framework.
TESTED_OTHERWISE = {"adapters"}
# Tests of what all modules of a package have in common.
SHARED_TESTS = {"backends/test_contract"}


def plain(path: Path) -> str:
    """A module or a package by its name without the mark of privacy."""
    return "/".join(part.removeprefix("_") for part in path.with_suffix("").parts)


def modules_by_package() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in (path.relative_to(SOURCE) for path in FILES if path.parent != SOURCE and path.name != "__init__.py"):
        found.setdefault(plain(path.parent), set()).add(plain(Path(path.name)))
    return found


PACKAGES = modules_by_package()


def has_test(module: str, tests: set[str]) -> bool:
    return any(test == f"test_{module}" or test.startswith(f"test_{module}_") for test in tests)


@pytest.mark.parametrize("package", sorted(PACKAGES.keys() - TESTED_OTHERWISE))
def test_tests_mirror_the_package(package):
    tests = {path.stem for path in (TESTS / package).glob("test_*.py") if f"{package}/{path.stem}" not in SHARED_TESTS}
    assert not {module for module in PACKAGES[package] if not has_test(module, tests)}, "have no test_<module>*.py"
    assert not {test for test in tests if not any(has_test(module, {test}) for module in PACKAGES[package])}, (
        f"are tests of no module of {package}"
    )
