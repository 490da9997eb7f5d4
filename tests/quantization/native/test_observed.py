"""What the inputs of each product are like, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._loading.unfinished import Unfinished
from nimbed._types import TokenBatch
from nimbed.backends.native import read_packed
from nimbed.quantization.native.observed import Observed
from nimbed.spec import read_spec

_native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
SEQUENCES = [np.arange(start, start + length, dtype=np.int32) for start, length in ((5, 3), (9, 9), (7, 1))]


@pytest.fixture(scope="module")
def model(tiny_folder):
    arrays, settings = read_packed(tiny_folder, tiny_folder / "model.safetensors", read_spec(tiny_folder))
    return _native.Model(settings, arrays)


@pytest.fixture
def pieces(tmp_path):
    return Unfinished(folder=tmp_path / "pieces", inputs="these")


@pytest.fixture(scope="module")
def inputs_of_torch(tiny_folder):
    """By layer and product what torch's modules read of these texts, ``[tokens, inputs]``."""
    import torch
    import transformers

    network, found = transformers.AutoModel.from_pretrained(tiny_folder).eval(), []
    for layer in network.encoder.layer:
        places = {
            "projection": layer.attention.self.value, "output": layer.attention.output.dense,
            "up": layer.intermediate.dense, "down": layer.output.dense,
        }  # fmt: skip
        found.append({name: [] for name in places})
        for name, module in places.items():
            seen = found[-1][name]
            module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0][0].numpy()))
    with torch.inference_mode():
        for sequence in SEQUENCES:
            network(torch.from_numpy(sequence[None].astype(np.int64)))
    return [{name: np.concatenate(rows) for name, rows in layer.items()} for layer in found]


def test_moments_and_maxima_are_those_of_torch(model, inputs_of_torch, pieces):
    observed = Observed(model, SEQUENCES, 2, pieces)
    for number, expected in enumerate(inputs_of_torch):
        seen = observed.layer(number)
        assert seen.keys() == expected.keys()
        for name, x in expected.items():
            size = x.shape[1]  # without the padding; the heads' order is the network's, since one group has them all
            np.testing.assert_allclose(
                seen[name].moments[:size, :size], np.tril(x.astype(np.float64).T @ x), rtol=1e-3, atol=1e-3
            )
            np.testing.assert_allclose(seen[name].largest[:size], np.abs(x).max(axis=0), rtol=1e-3, atol=1e-4)


def test_threads_change_no_bit(model, pieces):
    one, three = (Observed(model, SEQUENCES * 90, threads, pieces) for threads in (1, 3))
    for number in range(2):
        same(one.layer(number), three.layer(number))


def same(a, b):
    assert all(np.array_equal(a[name].moments, b[name].moments) for name in a)
    assert all(np.array_equal(a[name].largest, b[name].largest) for name in a)


def test_it_goes_on_where_it_was_kept(model, pieces):
    whole = Observed(model, SEQUENCES, 1, pieces)
    whole.layer(0)
    whole.store()
    expected = whole.layer(1)
    again = Observed(model, SEQUENCES, 1, pieces)
    same(again.layer(1), expected)
    (kept,) = pieces.folder.iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    same(Observed(model, SEQUENCES, 1, pieces).layer(1), expected)


def test_what_was_kept_is_taken_up_and_not_computed_again(model, pieces):
    first = Observed(model, SEQUENCES, 1, pieces)
    first.layer(0)
    state = first._trace.state()
    pieces.store("texts", {"layer": np.array([1]), **{name: values * 2 for name, values in state.items()}})
    seen = Observed(model, SEQUENCES, 1, pieces).layer(1)
    np.testing.assert_array_equal(seen["projection"].largest, np.abs(state["normed"] * 2).max(axis=0))


def test_what_was_kept_behind_the_wanted_layer_is_of_no_use(model, pieces):
    one = Observed(model, SEQUENCES, 1, pieces)
    expected = one.layer(0)
    one.store()
    same(Observed(model, SEQUENCES, 1, pieces).layer(0), expected)


@pytest.mark.parametrize(("layer", "rows"), [(3, 13), (-1, 13), (1, 12)])
def test_a_trace_resumes_only_where_it_could_have_been(layer, rows, model):
    batch = TokenBatch.from_sequences(SEQUENCES)
    trace = _native.Trace(model, batch.ids, batch.offsets, None, 1)
    state = {name: values[:rows] for name, values in trace.state().items()}
    with pytest.raises(ValueError, match=r"layers|is given"):
        trace.resume(layer, state["hidden"], state["normed"])


def test_a_trace_ends_with_the_layers_and_is_of_fp32(model, tiny_folder):
    batch = TokenBatch.from_sequences(SEQUENCES)
    trace = _native.Trace(model, batch.ids, batch.offsets, None, 1)
    for _ in range(2):
        trace.next()
    with pytest.raises(ValueError, match="no more layers"):
        trace.next()
