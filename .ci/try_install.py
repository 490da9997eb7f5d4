"""Embed with seeded folders of BERT's shape in an environment that has nimbed and what it asks for, and nothing else.

python .ci/try_install.py: what a release's wheels are tried with, after they are installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from nimbed import Encoder

WIDTH, INNER, LONGEST = 768, 3072, 512
WORDS = ("the", "a", "of", "in", "is", "why", "cat", "dog", "sat", "on", "mat", "price", "may", "budget", "passed")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["the cat sat on the mat", "why is the price of a dog in may", "budget"]


def tensors(layers: int, vocabulary: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(0.05)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.LayerNorm.weight": np.ones(WIDTH, np.float32), f"{name}.LayerNorm.bias": weight(WIDTH)}

    def dense(name: str, outputs: int, inputs: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": weight(outputs, inputs), f"{name}.bias": weight(outputs)}

    rows = {"word": vocabulary, "position": LONGEST, "token_type": 2}
    found = {f"embeddings.{name}_embeddings.weight": weight(count, WIDTH) * 10 for name, count in rows.items()}
    found |= norm("embeddings")
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            found |= dense(f"{layer}.attention.self.{part}", WIDTH, WIDTH)
        found |= dense(f"{layer}.attention.output.dense", WIDTH, WIDTH) | norm(f"{layer}.attention.output")
        found |= dense(f"{layer}.intermediate.dense", INNER, WIDTH)
        found |= dense(f"{layer}.output.dense", WIDTH, INNER) | norm(f"{layer}.output")
    return found


def write_weights(path: Path, arrays: dict[str, np.ndarray]) -> None:
    header, at = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())


def write_model(folder: Path, layers: int) -> Path:
    vocabulary = {word: n for n, word in enumerate(dict.fromkeys([*SPECIAL, *WORDS, *map(chr, range(33, 127))]))}
    folder.mkdir()
    config = {
        "model_type": "bert", "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": layers,
        "num_attention_heads": 12, "vocab_size": len(vocabulary), "max_position_embeddings": LONGEST,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
    }  # fmt: skip
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(
            {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}.items()
        )
    ]
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir()
    for name, value in {"config": config, "modules": modules, "1_Pooling/config": pooling}.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_weights(folder / "model.safetensors", tensors(layers, len(vocabulary)))
    return folder


def vectors_of(folder: Path, precision: str) -> np.ndarray:
    with Encoder(folder, precision=precision) as encoder:
        assert encoder.info.backend == "native", encoder.info.reasons
        vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    return vectors


def main() -> None:
    assert all(importlib.util.find_spec(name) is None for name in ("openvino", "torch", "transformers"))
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["NIMBED_HOME"] = f"{scratch}/home"
        base = vectors_of(write_model(Path(scratch) / "bert-base", 12), "fp32")
        folder = write_model(Path(scratch) / "bert-short", 2)
        cosines = (vectors_of(folder, "fp32") * vectors_of(folder, "int8")).sum(1)
    assert cosines.min() > 0.99
    print(f"Python {sys.version.split()[0]}: BERT-base {base[0, :3]}; two layers in int8, cosine {cosines.min():.5f}")


if __name__ == "__main__":
    main()
