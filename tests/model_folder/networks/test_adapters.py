from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, save, tensors_of, weights_of, written

from nimbed.errors import SpecError

BASE = "roberta.encoder.layers.0.mixer.Wqkv.parametrizations.weight."
TABLE = "roberta.embeddings.word_embeddings.parametrizations.weight."


@pytest.fixture
def folder(tmp_path):
    return written("jina-v3-remote", tmp_path)


def test_the_adapters_of_a_task_are_added_by_alpha_over_rank(folder):
    tensors = tensors_of(change(folder, lora_alpha=3))
    weights, plain = weights_of(folder, adapter="separation"), weights_of(folder)
    a, b = (tensors[f"{BASE}0.lora_{half}"][2].astype(np.float64) for half in "AB")
    whole = tensors[f"{BASE}original"] + 3 / 4 * b @ a
    for part, wanted in zip(("query", "key", "value"), np.split(whole, 3), strict=True):
        np.testing.assert_allclose(weights[f"layers.0.{part}.weight"], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(weights[f"layers.0.{part}.bias"], plain[f"layers.0.{part}.bias"])
    a, b = (tensors[f"{TABLE}0.lora_{half}"][2].astype(np.float64) for half in "AB")
    np.testing.assert_allclose(weights["words"], tensors[f"{TABLE}original"] + 3 / 4 * a @ b, rtol=1e-5, atol=1e-6)


def test_without_a_task_the_weights_are_as_they_are(folder):
    np.testing.assert_array_equal(weights_of(folder)["words"], tensors_of(folder)[f"{TABLE}original"])


@pytest.mark.parametrize("adapter", ["retrieval", "SEPARATION"])
def test_an_adapter_that_is_not_there_is_refused(adapter, folder):
    with pytest.raises(SpecError, match=rf"config\.json: lora_adaptations: .* has no adapter '{adapter}'"):
        weights_of(folder, adapter=adapter)


def test_a_network_without_adapters_has_none(tmp_path):
    with pytest.raises(SpecError, match=r"lora_adaptations: \[\] has no adapter 'one'"):
        weights_of(written("bert", tmp_path), adapter="one")


@pytest.mark.parametrize("half", ["A", "B"])
def test_half_an_adapter_is_named(half, folder):
    tensors = tensors_of(folder)
    del tensors[f"{BASE}0.lora_{half}"]
    with pytest.raises(SpecError, match=rf"lacks {BASE}0\.lora_{half}"):
        weights_of(save(folder, tensors))


@pytest.mark.parametrize("keys", [{"lora_rank": 8}, {"lora_adaptations": ["separation"]}])
def test_adapters_of_another_shape_are_named(keys, folder):
    with pytest.raises(SpecError, match=r"lora_[AB] has the shape \[5, .*\], config\.json says \["):
        weights_of(change(folder, **keys))


def test_adapters_without_a_word_about_them_are_refused(folder):
    with pytest.raises(SpecError, match="lora_adaptations"):
        weights_of(change(folder, "lora_adaptations"))
