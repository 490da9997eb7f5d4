"""Texts of more rows than are computed at a time, on any number of threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.native.test_forward import KERNELS, Seeded, outputs_of_torch, run, seeded

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
LENGTHS = (2500, 40, 1100)  # three, one and two parts of 1024 rows
SIZES = {
    "vocab_size": 300, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 160,
    "max_position_embeddings": 2600, "pad_token_id": 0,
}  # fmt: skip
WINDOWS = {**SIZES, "local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2}
WIDE_HEADS = {**SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128}  # which round their results


@pytest.fixture(
    scope="module",
    params=[("Bert", SIZES, "mean"), ("ModernBert", WINDOWS, "cls"), ("Qwen3", WIDE_HEADS, "lasttoken")],
    ids=lambda case: case[0],
)
def encoder(request, tmp_path_factory):
    made = seeded(tmp_path_factory.mktemp("network"), *request.param, max_length=2600)
    rng = np.random.default_rng(0)
    return Seeded(made.network, made.arrays, made.settings, [rng.integers(5, 300, n).astype(np.int32) for n in LENGTHS])


@pytest.fixture(scope="module")
def rounded(encoder):
    short = Seeded(encoder.network, encoder.arrays, encoder.settings, [one[:90] for one in encoder.sequences])
    made = short.rounded()
    return Seeded(encoder.network, made.arrays, made.settings, encoder.sequences)


def test_fp32_is_transformers(encoder):
    found = run(encoder.session(), encoder.sequences)
    for sequence, vector in zip(encoder.sequences, found, strict=True):
        np.testing.assert_allclose(vector, pooled(encoder, sequence), atol=2e-5, rtol=1e-4)


def pooled(encoder, sequence):
    hidden = outputs_of_torch(encoder.network, sequence)
    return {"cls": hidden[0], "lasttoken": hidden[-1], "last": hidden[-1]}.get(
        encoder.settings["pooling"], hidden.mean(0)
    )


def test_int8_is_near(encoder, rounded):
    exact, found = (run(one.session(), one.sequences) for one in (encoder, rounded))
    cosines = (exact * found).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_bits_are_the_same_on_any_number_of_threads_and_by_any_kernels(precision, encoder, rounded):
    network = encoder if precision == "fp32" else rounded
    alone = run(network.session(), network.sequences)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(run(network.session(threads), network.sequences), alone)
    for kernels in KERNELS:
        np.testing.assert_array_equal(run(network.session(2, kernels), network.sequences[-2:]), alone[-2:])


def test_bulk_that_runs_beside_others_gives_threads_away_and_changes_no_bit(rounded):
    """Two sessions in bulk at once: each layer takes as many threads as the other leaves."""
    model = _native.Model(rounded.settings, rounded.arrays)
    alone = run(_native.Session(model, 1, bulk=False), rounded.sequences)
    found: dict[int, list[np.ndarray]] = {0: [], 1: []}

    def embed(number, session):
        for _ in range(4):
            found[number].append(run(session, rounded.sequences[number:]))

    sessions = [_native.Session(model, 3, bulk=True) for _ in found]
    threads = [threading.Thread(target=embed, args=one) for one in enumerate(sessions)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for number, vectors in found.items():
        assert len(vectors) == 4
        for one in vectors:
            np.testing.assert_array_equal(one, alone[number:])
