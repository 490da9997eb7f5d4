"""A layer's products in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed.errors import BuildError
from nimbed.quantization.native.observed import Seen
from nimbed.quantization.native.products import LayerRounder

pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
WIDTH, INNER = 128, 192
INPUTS = {"projection": WIDTH, "output": WIDTH, "up": WIDTH, "down": INNER}
OUTPUTS = {"projection": 3 * WIDTH, "output": WIDTH, "up": INNER, "down": WIDTH}
SETTINGS = {
    "group_heads": 2, "queries": 1, "head_dim": 32, "head_groups": 2,
    "layers": [{name: {"group": 64 if name == "down" else size} for name, size in INPUTS.items()}],
}  # fmt: skip


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for name, inputs in INPUTS.items():
        made[f"layers.0.{name}.weights"] = rng.standard_normal((OUTPUTS[name] // 64, inputs, 64)).astype(np.float32)
        made[f"layers.0.{name}.bias"] = rng.standard_normal(OUTPUTS[name]).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    made = {name: rng.standard_normal((400, size)).astype(np.float32) for name, size in INPUTS.items()}
    made["projection"][:, 7] *= 50  # a channel that is much larger than the others
    return made


def seen_in(inputs):
    return {
        name: Seen(moments=np.tril(x.astype(np.float64).T @ x), largest=np.abs(x).max(axis=0))
        for name, x in inputs.items()
    }


@pytest.fixture(scope="module")
def rounded(arrays, inputs):
    return dict(LayerRounder(arrays, SETTINGS, 0, seen_in(inputs)).arrays(2))


@pytest.mark.parametrize("name", INPUTS)
def test_a_product_in_8_bits_is_near_the_one_in_fp32(name, arrays, inputs, rounded):
    norm = {"projection": "embedding_norm.smooth", "up": "layers.0.attention_norm.smooth"}.get(name)
    exact = np.einsum("ri,pic->rpc", inputs[name], arrays[f"layers.0.{name}.weights"])
    scale, x = rounded[f"layers.0.{name}.scale"], inputs[name] * (rounded[norm] if norm else 1)
    panels, groups, _ = scale.shape
    whole = rounded[f"layers.0.{name}.weights"].transpose(0, 2, 4, 1, 3).reshape(panels, -1, 64)
    assert whole.dtype == np.int8
    parts = [
        np.einsum("ri,pic->rpc", x[:, at], whole[:, at].astype(np.float32)) * scale[:, g]
        for g, at in enumerate(np.array_split(np.arange(INPUTS[name]), groups))
    ]
    assert np.linalg.norm(sum(parts) - exact) < 0.01 * np.linalg.norm(exact)
    sums = [whole[:, at].sum(axis=1) for at in np.array_split(np.arange(INPUTS[name]), groups)]
    np.testing.assert_allclose(rounded[f"layers.0.{name}.sum"], scale * np.stack(sums, axis=1), rtol=1e-6)


def test_the_norms_factors_make_channels_alike(inputs, rounded):
    size = np.abs(inputs["projection"]).max(axis=0) * rounded["embedding_norm.smooth"]
    assert size.max() < 15 * np.median(size)


def test_channels_that_are_padding_stay(arrays, inputs):
    seen = seen_in({name: np.where(np.arange(x.shape[1]) < 100, x, 0) for name, x in inputs.items()})
    none = {name: values.copy() for name, values in arrays.items()}
    for values in none.values():
        if values.ndim > 1:
            values[:, 100:] = 0
    made = dict(LayerRounder(none, SETTINGS, 0, seen).arrays(1))
    assert (made["embedding_norm.smooth"][100:] == 1).all()
    assert all(np.isfinite(values).all() for values in made.values())


def test_moments_that_no_inputs_have_are_refused(arrays, inputs):
    seen = seen_in(inputs)
    seen["up"] = Seen(moments=-seen["up"].moments, largest=seen["up"].largest)
    with pytest.raises(BuildError, match=r"layers\.0\.up: its inputs have no second moments"):
        dict(LayerRounder(arrays, SETTINGS, 0, seen).arrays(1))
