"""The forward pass over every kind of part that a description may have, against transformers, and bit for bit."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nimbed._loading.unfinished import Unfinished
from nimbed._types import ModelSpec, TokenBatch
from nimbed.backends.native import read_packed
from nimbed.quantization.native.layers import in_8_bits
from nimbed.quantization.native.second_pass import sizes_of, with_passes

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
KERNELS = [name for name in ("avx2", "avx512_vnni", "reference") if _native.kernels(name) is not None]
LENGTHS = (1, 2, 7, 40, 90, 33)
SIZES = {
    "vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 160,
    "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
OFFSET = {**SIZES, "pad_token_id": 1}
DISTIL = {"vocab_size": 300, "dim": 96, "n_layers": 3, "n_heads": 4, "hidden_dim": 160, "max_position_embeddings": 128}
WINDOWS = {**SIZES, "local_attention": 16, "global_attn_every_n_layers": 3, "cls_token_id": 1, "sep_token_id": 2}
ONE_KEY_HEAD = {
    "vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1,
    "head_dim": 64, "intermediate_size": 160, "max_position_embeddings": 128,
}  # fmt: skip
ENCODERS = [
    ("Bert", SIZES, "lasttoken"), ("MPNet", OFFSET, "mean"), ("XLMRoberta", OFFSET, "cls"),
    ("DistilBert", DISTIL, "max"),
    ("ModernBert", WINDOWS, "cls"), ("ModernBert", WINDOWS, "mean"), ("ModernBert", WINDOWS, "lasttoken"),
    ("Qwen3", ONE_KEY_HEAD, "lasttoken"), ("Qwen3", ONE_KEY_HEAD, "mean"),
]  # fmt: skip
CLASSIFIERS = [
    ("Bert", SIZES), ("XLMRoberta", OFFSET), ("Electra", {**SIZES, "embedding_size": 96}), ("DistilBert", DISTIL),
    ("MPNet", OFFSET), ("ModernBert", WINDOWS), ("ModernBert", {**WINDOWS, "classifier_pooling": "mean"}),
]  # fmt: skip


@dataclass(frozen=True)
class Seeded:
    """A network of transformers', and what the engine is opened with."""

    network: Any
    arrays: dict[str, Any]
    settings: dict[str, Any]
    sequences: list[np.ndarray]

    def session(self, threads=1, kernels="auto", **changes):
        model = _native.Model({**self.settings, **changes}, self.arrays)
        return _native.Session(model, threads, bulk=False, kernels=kernels)

    def rounded(self):
        with tempfile.TemporaryDirectory() as folder:
            pieces = Unfinished(folder=Path(folder), inputs="these")
            arrays = in_8_bits(self.arrays, self.settings, self.sequences * 4, 2, pieces, lambda *_: None)
        return Seeded(self.network, arrays, {**self.settings, "precision": "int8"}, self.sequences)


def seeded(folder, name, sizes, pooling="cls", task="embedding", max_length=96):
    import torch
    import transformers

    torch.manual_seed(0)
    kind = "ForSequenceClassification" if task == "scoring" else "Model"
    config = getattr(transformers, f"{name}Config")(**sizes, num_labels=1)
    network = getattr(transformers, f"{name}{kind}")(config).eval()
    with torch.no_grad():
        for weights in network.parameters():  # those that begin as zeros or ones too
            weights.add_(0.05 * torch.randn_like(weights))
    network.save_pretrained(folder)
    spec = ModelSpec(
        architecture=json.loads((folder / "config.json").read_text())["model_type"], hidden_size=96,
        dim=1 if task == "scoring" else 96, pooling=pooling, normalize=False, max_length=max_length, task=task,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    sequences = [rng.integers(5, 300, n).astype(np.int32) for n in LENGTHS]
    return Seeded(network, *read_packed(folder, folder / "model.safetensors", spec), sequences)


def outputs_of_torch(network, sequence):
    import torch

    with torch.inference_mode():
        found = network(torch.from_numpy(sequence[None].astype(np.int64)))
    return found.logits[0].numpy() if "logits" in found else found.last_hidden_state[0].numpy()


def run(session, sequences, **more):
    batch = TokenBatch.from_sequences(sequences)
    return session.run(batch.ids, batch.offsets, **more)


POOLED = {
    "cls": lambda hidden: hidden[0],
    "lasttoken": lambda hidden: hidden[-1],
    "max": lambda hidden: hidden.max(axis=0),
    "mean": lambda hidden: hidden.mean(axis=0),
}


@pytest.fixture(scope="module", params=ENCODERS, ids=[f"{name} {pooling}" for name, _, pooling in ENCODERS])
def encoder(request, tmp_path_factory):
    return seeded(tmp_path_factory.mktemp("encoder"), *request.param)


def test_fp32_is_transformers(encoder):
    pool = POOLED[encoder.settings["pooling"]]
    expected = np.stack([pool(outputs_of_torch(encoder.network, sequence)) for sequence in encoder.sequences])
    for threads, kernels in [(1, name) for name in KERNELS] + [(2, "auto")]:
        found = run(encoder.session(threads, kernels), encoder.sequences)
        off = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert off.max() < 5e-6


@pytest.mark.parametrize(("name", "sizes"), CLASSIFIERS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_classifiers_score_is_transformers(name, sizes, tmp_path):
    made = seeded(tmp_path, name, sizes, task="scoring")
    expected = np.stack([outputs_of_torch(made.network, sequence) for sequence in made.sequences])
    np.testing.assert_allclose(run(made.session(), made.sequences), expected, rtol=1e-4, atol=2e-6)
    off = run(made.rounded().session(), made.sequences) - expected
    assert np.abs(off).max() < 0.05 * expected.std()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_all_bits_are_the_same_in_any_company_and_by_any_kernels(precision, encoder):
    made = encoder if precision == "fp32" else encoder.rounded()
    alone = np.concatenate([run(made.session(), [sequence]) for sequence in made.sequences])
    for threads, kernels in [(1, name) for name in KERNELS] + [(3, "auto")]:
        np.testing.assert_array_equal(run(made.session(threads, kernels), made.sequences), alone)


def test_threads_that_compute_a_group_of_inputs_together_give_the_same_bits(encoder):
    """The feed-forward network has three panels of 64 columns, the first two of which are rounded together."""
    made = encoder.rounded()
    alone = [run(made.session(), [sequence]) for sequence in made.sequences]
    for session in map(made.session, (2, 3, 5)):
        for sequence, expected in list(zip(made.sequences, alone, strict=True)) * 4:
            np.testing.assert_array_equal(run(session, [sequence]), expected)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_left_out_for_rows_that_nobody_pools_changes_no_bit(precision, encoder):
    made = encoder if precision == "fp32" else encoder.rounded()
    batch = TokenBatch.from_sequences(made.sequences)
    session, layers = made.session(2), len(made.settings["layers"])
    hidden = session.hidden(batch.ids, batch.offsets, None, layers)
    tokens = run(made.session(2, pooling="none"), made.sequences)
    np.testing.assert_array_equal(tokens, hidden)
    if made.settings["pooling"] in {"cls", "lasttoken"}:
        rows = batch.offsets[:-1] if made.settings["pooling"] == "cls" else batch.offsets[1:] - 1
        np.testing.assert_array_equal(run(session, made.sequences), hidden[rows])


def test_tokens_that_are_no_keys_are_not_read(encoder):
    """ColBERT's expansion tokens attend, and nobody attends to them."""
    session = encoder.session(pooling="none")
    text, more = encoder.sequences[3], encoder.sequences[2]
    found = run(session, [np.concatenate([text, more])], keys=np.int32([len(text)]))
    if encoder.settings["padding"] < 0:
        np.testing.assert_allclose(found[: len(text)], run(session, [text]), rtol=1e-5, atol=1e-6)
    whole = run(session, [np.concatenate([text, more])])
    assert np.abs(found[len(text) :] - whole[len(text) :]).max() > 1e-3
    for keys in ([0], [len(text) + len(more) + 1], [1, 1]):
        with pytest.raises(ValueError, match="keys"):
            run(session, [np.concatenate([text, more])], keys=np.int32(keys))


def test_a_second_pass_brings_the_outputs_nearer(encoder):
    made, exact = encoder.rounded(), run(encoder.session(), encoder.sequences)
    names = list(sizes_of(made.settings, {name: values.shape for name, values in made.arrays.items()}))
    once = np.linalg.norm(run(made.session(), made.sequences) - exact)
    twice = np.linalg.norm(run(made.session(**with_passes(made.settings, names)), made.sequences) - exact)
    assert twice < 0.8 * once
