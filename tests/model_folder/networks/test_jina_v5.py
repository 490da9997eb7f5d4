from __future__ import annotations

import numpy as np
import pytest
from tests.support.described import change, described, fields_of, tensors_of, weights_of
from tests.support.jina_v5 import ALPHA, RANK, adapter_tensors, write_jina_v5

from nimbed._model_folder.networks.table import family_of
from nimbed.errors import SpecError


@pytest.mark.parametrize(("size", "ahead", "head_norm"), [("nano", None, None), ("small", 0, 1e-6)])
def test_its_base_is_told_by_is_decoder(size, ahead, head_norm, tmp_path):
    network = described(write_jina_v5(tmp_path, size, variant="drawn"))
    assert (network.family, network.attention[0].ahead, network.head_norm) == (f"jina-v5-{size}", ahead, head_norm)


def test_the_base_of_another_is_refused(tmp_path):
    folder = change(write_jina_v5(tmp_path, "small", variant="drawn"), is_decoder=False)
    with pytest.raises(
        SpecError, match=r"model\.safetensors: layers\.\d\.self_attn\.[kq]_norm\.weight .* is no tensor"
    ):
        weights_of(folder)


def test_other_code_is_not_known_by_the_type_alone(tmp_path):
    folder = write_jina_v5(tmp_path, "nano", variant="drawn")
    assert family_of(fields_of(folder)) is not None
    assert family_of(fields_of(change(folder, auto_map={"AutoModel": "modeling.JinaOmni"}))) is None


def test_an_adapter_is_added_to_each_of_its_targets(tmp_path):
    folder = write_jina_v5(tmp_path, "nano", variant="drawn")
    weights, plain, low = (
        weights_of(folder, adapter="clustering"),
        weights_of(folder),
        adapter_tensors(folder, "clustering"),
    )
    stored = tensors_of(folder)
    for ours, theirs in (("gate", "mlp.gate_proj"), ("key", "self_attn.k_proj")):
        name = f"layers.2.{theirs}"
        a, b = (low[f"base_model.model.{name}.lora_{half}.weight"].astype(np.float64) for half in "AB")
        exact = stored[f"{name}.weight"] + ALPHA / RANK * b @ a
        np.testing.assert_allclose(weights[f"layers.2.{ours}.weight"], exact, rtol=1e-4, atol=1e-5)
    for name in ("words", "layers.1.output_norm.weight"):
        np.testing.assert_array_equal(weights[name], plain[name])
