"""Which of a hub repository's files are fetched: settings, tokenizer, and one form of the network."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from nimbed._loading.artefact import MANIFEST
from nimbed._model_folder.network_file import PICKLE, graph_file, no_graph, readable
from nimbed._model_folder.peft_adapter import SETTINGS, WEIGHTS
from nimbed._model_folder.weights import named_files
from nimbed.backends import BACKENDS
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nimbed._loading.hub import Source

_SETTINGS = ("*.json", "*.jinja", "*/config.json", f"adapters/*/{SETTINGS}", "LICENSE*", "README.md")
# Weights of the layers behind the pooling: of a folder's files the last of these.
_DENSE = (f"[0-9]*/{PICKLE}", "[0-9]*/model.safetensors")


def needed_files(name: str, files: Sequence[str], source: Source, engine: str) -> Sequence[str]:
    """Of a repository's files those that are needed: settings, tokenizer, and one form of the network, if any."""
    if MANIFEST in files:
        return files
    settings = _settings_and_dense(files)
    if (record := BACKENDS.get(engine)) is None:
        return settings
    names = record.networks.names
    graph = readable(source.file, record) if source.file else next((g for g in names if g in files), None)
    if graph is None:
        raise no_graph(name, names)
    if graph not in files:
        there = ", ".join(f for f in files if record.networks.has(f))
        raise InputError(f"Source(file={graph!r}): no such file in {name}, which has {there or 'none of that kind'}")
    beside = [graph.removesuffix(".xml") + ".bin"] if graph.endswith(".xml") else []
    adapters = matching(files, [f"adapters/*/{WEIGHTS}"]) if record.adapters else []
    return [*settings, graph, *(f for f in beside if f in files), *adapters]


def _settings_and_dense(files: Sequence[str]) -> list[str]:
    """What is small: settings, tokenizer, and the layers behind the pooling, pickled ones where they are alone."""
    dense = {file.partition("/")[0]: file for kind in _DENSE for file in matching(files, [kind])}
    return [*matching(files, _SETTINGS), *dense.values()]


def named_files_of(folder: Path, files: Sequence[str], source: Source, engine: str) -> Sequence[str]:
    """Of a repository's files those that the network's own, which is in the folder, names."""
    if MANIFEST in files or engine not in BACKENDS:
        return []
    graph = graph_file(folder, source.file, BACKENDS[engine])
    paths = [(graph.parent / name).relative_to(folder).as_posix() for name in named_files(graph)]
    return [path for path in paths if path in files]


def matching(files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """A pattern's stars do not reach into folders."""
    return [f for f in files if any(fnmatch.fnmatch(f, p) and f.count("/") == p.count("/") for p in patterns)]
