"""The whole native engine: its layers and vectors against torch, whatever is beside a text, on however many threads."""

from __future__ import annotations

import gc
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed._loading.artefact import open_artefact
from nimbed._model_folder.safetensors import read_tensors
from nimbed._types import TokenBatch
from nimbed.backends import open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.table import ENCODER_FILE
from nimbed.errors import BackendError

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
KERNELS = [name for name in ("avx2", "avx512_vnni", "reference") if _native.kernels(name) is not None]


class Parts:  # no record: hypothesis would write all arrays out
    def __init__(self, settings, arrays):
        self.settings, self.arrays = settings, arrays


@pytest.fixture(scope="module")
def network(minilm_native):
    import json

    arrays, metadata = read_tensors(minilm_native / ENCODER_FILE)
    return Parts(json.loads(metadata["nimbed"]), arrays)


@pytest.fixture(scope="module")
def model(network):
    return _native.Model(network.settings, network.arrays)


@pytest.fixture(scope="module")
def engine(minilm_native):
    spec = open_artefact(minilm_native).manifest.spec
    made = open_backend("native", OpenRequest(folder=minilm_native, spec=spec, precision="int8", threads=2))
    yield made
    made.close()


@pytest.fixture(scope="module")
def oracle(minilm_folder):
    import torch
    import transformers

    loaded = transformers.AutoModel.from_pretrained(minilm_folder).eval()

    def hidden(sequence):
        with torch.inference_mode():
            ids = torch.from_numpy(sequence[None].astype(np.int64))
            return [h[0].numpy() for h in loaded(ids, output_hidden_states=True).hidden_states]

    return hidden


def sequence(rng, tokens):
    return np.concatenate([[101], rng.integers(1000, 29000, tokens - 2), [102]]).astype(np.int32)


def batch(*sequences):
    made = TokenBatch.from_sequences(sequences)
    return made.ids, made.offsets, made.type_ids


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("tokens", [3, 16, 61])
def test_every_layer_is_near_torch(kernels, tokens, model, oracle):
    text = sequence(np.random.default_rng(tokens), tokens)
    session = _native.Session(model, 1, bulk=False, kernels=kernels)
    for layer, expected in enumerate(oracle(text)):
        found = session.hidden(*batch(text), layer)
        off = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert off < (2e-3 if layer == 0 else 0.09), f"layer {layer}"


@pytest.mark.parametrize("kernels", KERNELS)
def test_all_kernels_agree(kernels, model):
    texts = [sequence(np.random.default_rng(i), n) for i, n in enumerate((3, 7, 16, 17, 90))]
    expected = _native.Session(model, 1, bulk=False, kernels="reference").run(*batch(*texts))
    found = _native.Session(model, 2, bulk=False, kernels=kernels).run(*batch(*texts))
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(2, 160), min_size=1, max_size=9), threads=st.integers(1, 3), bulk=st.booleans())
def test_a_vector_is_the_same_bits_in_any_company(lengths, threads, bulk, model):
    rng = np.random.default_rng(sum(lengths))
    texts = [sequence(rng, n) for n in lengths]
    alone = np.concatenate([_native.Session(model, 1, bulk=False).run(*batch(text)) for text in texts])
    session = _native.Session(model, threads, bulk=bulk)
    np.testing.assert_array_equal(session.run(*batch(*texts)), alone)
    np.testing.assert_array_equal(session.run(*batch(*texts[::-1]))[::-1], alone)


def test_a_vector_is_the_same_bits_on_every_instruction_set(model):
    texts = batch(*(sequence(np.random.default_rng(n), n) for n in (2, 17, 40)))
    plain, *others = [_native.Session(model, 1, bulk=False, kernels=name).run(*texts) for name in KERNELS]
    for vectors in others:
        np.testing.assert_array_equal(vectors.view(np.uint32), plain.view(np.uint32))


@pytest.mark.parametrize("tokens", [3, 40, 600])
def test_threads_that_wake_late_join_at_a_later_layer(tokens, model):
    """They sleep between batches, and find a batch at another layer each time."""
    rng = np.random.default_rng(tokens)
    texts = batch(*(sequence(rng, min(tokens, 300)) for _ in range(-(-tokens // 300))))
    expected = _native.Session(model, 1, bulk=False).run(*texts)
    session = _native.Session(model, 4, bulk=False)
    for pause_s in rng.choice([0, 0, 1e-4, 1e-3], 120 if tokens < 100 else 15):
        time.sleep(pause_s)
        np.testing.assert_array_equal(session.run(*texts), expected)


def test_the_longest_text(model):
    text = sequence(np.random.default_rng(0), 512)
    vectors = _native.Session(model, 2, bulk=False).run(*batch(text))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="sequence 1 has 513 tokens; 1 to 512 are possible"):
        _native.Session(model, 1, bulk=False).run(*batch(text, np.append(text, 102)))


def test_segments_count(model):
    ids, offsets, _ = batch(sequence(np.random.default_rng(0), 10))
    session = _native.Session(model, 1, bulk=False)
    first, second = np.zeros(10, np.int32), np.repeat(np.int32([0, 1]), 5)
    np.testing.assert_array_equal(session.run(ids, offsets, first), session.run(ids, offsets, None))
    assert (session.run(ids, offsets, second) * session.run(ids, offsets, None)).sum() < 0.99


@pytest.mark.parametrize(
    ("ids", "offsets", "types", "why"),
    [
        ([101, 30522], [0, 2], None, "token id 30522 is not in the vocabulary of 30522"),
        ([101, -1], [0, 2], None, "token id -1"),
        ([101, 102], [0, 3], None, "offsets"),
        ([101, 102], [1, 2], None, "offsets"),
        ([101, 102], [0], None, "offsets"),
        ([101, 102], [0, 0, 2], None, "sequence 0 has 0 tokens"),
        ([101, 102], [0, 5, 2], None, "sequence 1 has -3 tokens"),
        ([101, 102], [0, 2], [0], "segment ids"),
        ([101, 102], [0, 2], [0, 2], "segment id 2"),
    ],
)
def test_bad_batches_are_refused(ids, offsets, types, why, model):
    session = _native.Session(model, 1, bulk=False)
    with pytest.raises(ValueError, match=why):
        session.run(np.int32(ids), np.int32(offsets), None if types is None else np.int32(types))


def test_a_refusal_is_a_backend_error(engine):
    with pytest.raises(BackendError, match="token id 99999"):
        engine.session().run(TokenBatch.from_sequences([np.int32([101, 99999])]))


def test_queries_and_bulk_at_once_give_the_same_bits(engine):
    rng = np.random.default_rng(1)
    texts = [TokenBatch.from_sequences([sequence(rng, n)]) for n in (5, 40, 120, 200)]
    expected = [engine.session().run(text) for text in texts]
    sessions = [engine.session(), engine.session(), *engine.bulk().sessions]
    wrong: list[int] = []

    def work(session):
        for _ in range(6):
            for text, vector in zip(texts, expected, strict=True):
                wrong.append(int((session.run(text) != vector).sum()))

    threads = [threading.Thread(target=work, args=[session]) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 6 * len(texts) * len(sessions)


def test_a_child_of_fork_lets_go_of_it(engine):
    session, text = engine.session(), TokenBatch.from_sequences([np.int32([101, 2000, 102])])
    session.run(text)
    gc.collect()  # what other tests left: an engine of theirs may not survive being dropped in a child
    child = os.fork()
    if not child:
        del session
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("change", ["missing setting", "setting", "missing array", "dtype", "shape", "strides"])
def test_a_network_that_does_not_fit_itself_is_refused(change, network):
    changed, arrays = dict(network.settings), dict(network.arrays)
    if change == "missing setting":
        del changed["head_groups"]
    elif change == "setting":
        changed["head_groups"] = 7
    elif change == "missing array":
        del arrays["layers.3.down.weights"]
    elif change == "dtype":
        arrays["words"] = arrays["words"].astype(np.float64)
    elif change == "shape":
        arrays["layers.0.up.scale"] = arrays["layers.0.up.scale"][:-1].copy()
    else:
        arrays["positions"] = np.asfortranarray(arrays["positions"])
    with pytest.raises(ValueError, match=r"the (setting|array) "):
        _native.Model(changed, arrays)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["size", "inner", "head_dim", "group_heads", "queries", "head_groups", "layers", "types",
       "positions", "max_length", "vocabulary", "attention", "head", "gated", "precision", "words"]),
       value=st.one_of(st.integers(-(2**70), 2**70), st.text(), st.none(), st.floats()))  # fmt: skip
def test_no_setting_makes_it_read_beyond_its_arrays(name, value, network):
    changed = {**network.settings, name: value}
    try:
        model = _native.Model(changed, network.arrays)
    except ValueError:
        return
    # What fits the same padded arrays is another network, within their bounds (as a sanitizer sees).
    vectors = _native.Session(model, 1, bulk=False).run(*batch(np.int32([101, 102])))
    assert vectors.shape == (1, changed["size"])
