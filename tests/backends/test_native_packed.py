from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.support.described import cosine, described, families, ids_of, plain, spec_of, weights_of, written
from tests.support.plain_engine import PlainEngine
from tests.support.plain_network import PlainNetwork

from nimbed._model_folder.networks.description import AttentionKind
from nimbed.backends.native_packed import pack, settings_of
from nimbed.quantization.native.second_pass import with_passes


@pytest.mark.parametrize("family", families())
def test_the_packed_network_gives_the_vectors_of_the_description(family, tmp_path):
    folder = written(family, tmp_path)
    network, exact = described(folder), plain(folder)
    settings = json.loads(json.dumps(settings_of(network, spec_of(folder, normalize=False))))
    engine = PlainEngine(settings, pack(weights_of(folder), network))
    for ids in map(np.array, ids_of(folder)):
        np.testing.assert_allclose(engine.vector(ids), exact.vector(ids), rtol=1e-4, atol=1e-5)
        assert not engine.hidden(ids)[:, network.hidden :].any()


def test_segments_and_a_padding_in_the_text(tmp_path):
    folder = written("xlm-roberta", tmp_path)
    engine = PlainEngine(settings_of(described(folder), spec_of(folder)), pack(weights_of(folder), described(folder)))
    ids = np.array([0, 7, 1, 1, 9, 2])
    assert cosine(engine.vector(ids), plain(folder).vector(ids)) > 1 - 1e-9


def random_weights(network) -> dict[str, np.ndarray]:
    """Of a gated network without tables of positions and segments."""
    rng = np.random.default_rng(0)
    q, kv = network.heads * network.head_dim, network.key_value_heads * network.head_dim
    shapes = {"query": (q, network.hidden), "key": (kv, network.hidden), "value": (kv, network.hidden)}
    shapes |= {"output": (network.hidden, q), "down": (network.hidden, network.intermediate)}
    shapes |= dict.fromkeys(("up", "gate"), (network.intermediate, network.hidden))
    weights = {"words": rng.normal(size=(network.vocabulary, network.hidden))}
    for layer in range(network.layers):
        for part, shape in shapes.items():
            weights[f"layers.{layer}.{part}.weight"] = rng.normal(size=shape) / shape[1] ** 0.5
            weights[f"layers.{layer}.{part}.bias"] = rng.normal(size=shape[0])
    norms = [f"layers.{layer}.{part}_norm" for layer in range(network.layers) for part in ("attention", "output")]
    for name in ["embedding_norm", *norms]:
        weights |= {f"{name}.{part}": rng.normal(size=network.hidden) for part in ("weight", "bias")}
    return {name: values.astype(np.float32) for name, values in weights.items()}


@pytest.mark.parametrize(
    ("heads", "shared", "width", "rotary"),
    [(6, 6, 10, False), (6, 2, 10, True), (8, 2, 16, True), (4, 1, 40, True), (4, 4, 80, False), (2, 1, 128, True),
     (12, 12, 32, True), (5, 5, 18, True)],
)  # fmt: skip
def test_any_number_and_width_of_heads(heads, shared, width, rotary, tmp_path):
    folder = written("gte-new", tmp_path)
    turns = tuple(1.0 / (i + 1) for i in range(width // 2)) if rotary else None
    kinds = (AttentionKind(rotary=turns, back=3), AttentionKind(rotary=turns, ahead=0, distances="alibi"))
    network = replace(
        described(folder), hidden=70, intermediate=100, heads=heads, key_value_heads=shared, head_dim=width, types=None,
        attention=kinds, attention_of=(0, 1, 0), vocabulary=50,
    )  # fmt: skip
    weights, ids = random_weights(network), np.arange(17)
    engine = PlainEngine(settings_of(network, spec_of(folder, normalize=False)), pack(weights, network))
    np.testing.assert_allclose(engine.vector(ids), PlainNetwork(network, weights).vector(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("heads", "shared", "width"), [(3, 1, 256), (4, 1, 64), (5, 1, 128), (6, 2, 64), (2, 1, 32)])
def test_threads_share_the_queries_of_a_head_of_keys(heads, shared, width, tmp_path):
    native = pytest.importorskip("nimbed._native", reason="the native engine is not compiled here")
    folder = written("gte-new", tmp_path)
    kinds = (AttentionKind(rotary=tuple(1.0 / (i + 1) for i in range(width // 2))), AttentionKind(distances="alibi"))
    network = replace(
        described(folder), heads=heads, key_value_heads=shared, head_dim=width, types=None, attention=kinds,
        attention_of=(0, 1, 0), vocabulary=50,
    )  # fmt: skip
    model = native.Model(settings_of(network, spec_of(folder)), pack(random_weights(network), network))
    ids, offsets = np.arange(40, dtype=np.int32), np.array([0, 11, 40], np.int32)
    alone = native.Session(model, 1, bulk=False).run(ids, offsets)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(native.Session(model, threads, bulk=False).run(ids, offsets), alone)


def norm(*, keeps):
    """The settings of ModernBERT's."""
    return {"epsilon": 1e-5, "keeps": keeps, "rms": False, "after": None}


def test_settings(tmp_path):
    network, spec = described(written("modernbert", tmp_path)), spec_of(tmp_path)
    settings = with_passes({**settings_of(network, spec, precision="int8"), "words": "bf16"}, ["layers.1.down"])
    layers = settings.pop("layers")
    assert settings == {
        "precision": "int8", "size": 96, "inner": 192, "head_dim": 32, "group_heads": 2, "queries": 1, "head_groups": 3,
        "vocabulary": 1200, "words": "bf16", "positions": 0, "types": 0, "max_length": 64, "padding": -1,
        "activation": "gelu", "gated": True, "embedding_norm": norm(keeps=False),
        "attention": [
            {"back": -1, "ahead": -1, "rotary": True, "distances": False},
            {"back": 8, "ahead": 8, "rotary": True, "distances": False},
        ],
        "pooling": "mean", "normalize": True, "head": [],
    }  # fmt: skip
    assert layers[1] == {
        "attention": 1, "query_norm": None, "key_norm": None, "attention_norm": norm(keeps=True),
        "output_norm": norm(keeps=True), "projection": {"group": 128, "passes": 1},
        "output": {"group": 128, "passes": 1}, "up": {"group": 128, "passes": 1}, "down": {"group": 128, "passes": 2},
    }  # fmt: skip


def test_settings_of_heads(tmp_path):
    network, spec = described(written("modernbert-cross", tmp_path)), spec_of(tmp_path)
    assert settings_of(network, spec)["head"] == [
        {"inputs": 96, "outputs": 96, "activation": "gelu", "norm": 1e-5},
        {"inputs": 96, "outputs": 1, "activation": "identity", "norm": None},
    ]


def test_shapes_of_arrays(tmp_path):
    folder = written("mpnet", tmp_path)
    arrays = pack(weights_of(folder), described(folder))
    assert {name: values.shape for name, values in arrays.items() if name.startswith(("layers.0", "attention"))} == {
        "attention.0.distances": (6, 144),
        "layers.0.projection.weights": (6, 128, 64), "layers.0.projection.bias": (384,),
        "layers.0.output.weights": (2, 128, 64), "layers.0.output.bias": (128,),
        "layers.0.up.weights": (3, 128, 64), "layers.0.up.bias": (192,),
        "layers.0.down.weights": (2, 192, 64), "layers.0.down.bias": (128,),
        **{f"layers.0.{norm}_norm.{part}": (128,) for norm in ("attention", "output")
           for part in ("gamma", "beta", "smooth")},
    }  # fmt: skip
    assert all(values.dtype == np.float32 and values.flags.c_contiguous for values in arrays.values())
