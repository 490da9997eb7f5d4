"""Peers of an environment of their own (make peers-env), run by its interpreter with the name of one of them.

Each makes what it runs at its first opening, beside the model's files.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _worker import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import tokenizers

    Embed = Callable[[Sequence[str], str], Any]

BATCH = 32


def ctranslate2(folder: str, threads: int, max_length: int) -> Embed:
    """In int8, sorted by length; mean pooling and normalization by hand."""
    import ctranslate2 as api

    made = Path(folder) / "ctranslate2"
    if not made.is_dir():
        api.converters.TransformersConverter(folder).convert(str(made), quantization="int8")
    encoder = api.Encoder(str(made), device="cpu", compute_type="int8", intra_threads=threads)
    tokenizer = _tokenizer(folder, max_length)

    def embed(texts: Sequence[str], role: str) -> Any:  # noqa: ANN401, ARG001 (an array)
        ids = [one.ids for one in tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda at: -len(ids[at]))
        vectors: list[Any] = [None] * len(ids)
        for start in range(0, len(ids), BATCH):
            places = order[start : start + BATCH]
            hidden = np.array(encoder.forward_batch([ids[at] for at in places]).last_hidden_state)
            for row, at in zip(hidden, places, strict=True):
                vectors[at] = row[: len(ids[at])].mean(0)
        found = np.stack(vectors)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return embed


def fastembed(folder: str, threads: int, max_length: int) -> Embed:
    """With its defaults, on the fp32 graph; it cuts where the tokenizer's settings say."""
    from fastembed import TextEmbedding

    made = Path(folder) / f"fastembed-{max_length}"
    if not made.is_dir():
        part = made.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for name in ("config.json", "tokenizer.json", "special_tokens_map.json"):
            shutil.copy(Path(folder) / name, part)
        settings = json.loads((Path(folder) / "tokenizer_config.json").read_text(encoding="utf-8"))
        settings |= {"model_max_length": max_length, "max_length": max_length}
        (part / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        (part / "model.onnx").symlink_to((Path(folder) / "onnx" / "model.onnx").resolve())
        part.rename(made)
    model = TextEmbedding(
        "sentence-transformers/all-MiniLM-L6-v2",
        specific_model_path=str(made),
        threads=threads,
        providers=["CPUExecutionProvider"],
    )
    return lambda texts, role: np.stack(list(model.embed(texts)))  # noqa: ARG005


def llama_cpp(folder: str, threads: int, max_length: int) -> Embed:
    """In Q8_0, on the folder's own token ids."""
    import _gguf_file
    from _llama_cpp import LlamaCpp

    file = Path(folder) / "model-q8_0.gguf"
    if not file.is_file():
        _gguf_file.write(Path(folder), file)
    model, tokenizer = LlamaCpp(file, threads), _tokenizer(folder, max_length)
    return lambda texts, role: model.embed([one.ids for one in tokenizer.encode_batch(list(texts))])  # noqa: ARG005


def _tokenizer(folder: str, max_length: int) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    made.no_padding()
    made.enable_truncation(max_length)
    return made


ENGINES = {"ctranslate2": ctranslate2, "fastembed": fastembed, "llama_cpp": llama_cpp}

if __name__ == "__main__":
    serve(ENGINES[sys.argv[1]])
