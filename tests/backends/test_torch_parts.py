"""What the engines on PyTorch share: poolings, the sentence head, and weights that are read from files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nimbed._types import ModelSpec
from nimbed.backends.torch_parts import SentenceHead, first_line, input_names, load_model, pool
from nimbed.errors import SpecError

SPEC = ModelSpec(architecture="bert", hidden_size=2, dim=2, pooling="mean", normalize=False, max_length=8, origins={})
HIDDEN = torch.tensor([[[1.0, 8.0], [3.0, 2.0], [99.0, 99.0]]])
MASK = torch.tensor([[1, 1, 0]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("cls", [1, 8]), ("lasttoken", [3, 2]), ("max", [3, 8]), ("mean", [2, 5]), ("weightedmean", [7 / 3, 4])],
)
def test_padding_has_no_part_in_a_pooling(pooling, expected):
    assert pool(HIDDEN, MASK.float(), pooling)[0].tolist() == pytest.approx(expected)


def test_the_head_pools_and_normalizes(tmp_path):
    assert SentenceHead(tmp_path, SPEC)(HIDDEN, MASK)[0].tolist() == [2, 5]
    unit = SentenceHead(tmp_path, replace(SPEC, normalize=True))(HIDDEN, MASK)
    assert unit.norm(dim=1).tolist() == pytest.approx([1])


def test_scores_are_the_activation_of_the_logit(tmp_path):
    head = SentenceHead(tmp_path, replace(SPEC, task="scoring", activation="sigmoid"))
    assert head(torch.tensor([[0.0]], dtype=torch.bfloat16), MASK).tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("architecture", "segments"), [("bert", True), ("electra", True), ("roberta", False), ("modernbert", False)]
)
def test_only_networks_with_segments_are_given_them(architecture, segments):
    names = input_names(replace(SPEC, architecture=architecture))
    assert names == ["input_ids", "attention_mask", *(["token_type_ids"] if segments else [])]


def test_a_model_has_memory_of_its_own(tiny_folder):
    """The file may be replaced while the model is open."""
    weights = tiny_folder / "model.safetensors"
    first, second = (load_model(tiny_folder, weights, "embedding") for _ in range(2))
    with torch.no_grad():
        next(first.parameters()).zero_()
    assert next(second.parameters()).abs().max() > 0
    assert not first.training


def test_weights_that_the_settings_do_not_describe_are_refused(tiny_folder, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}))
    with pytest.raises(SpecError, match=r"model\.safetensors lacks .*layer\.2\."):
        load_model(folder, folder / "model.safetensors", "embedding")
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 1}))
    with pytest.raises(SpecError, match=r"word_embeddings\.weight has the shape"):
        load_model(folder, folder / "model.safetensors", "embedding")


def test_a_message_is_cut_to_its_first_line():
    assert first_line(RuntimeError("  shapes differ\nat line 3\n" + "x" * 1000)) == "shapes differ"
    assert first_line(RuntimeError()) == "RuntimeError"


def test_bf16_is_computed_in_fp32_behind_the_network(tmp_path):
    made = SentenceHead(tmp_path, SPEC)(HIDDEN.to(torch.bfloat16), MASK)
    assert made.dtype == torch.float32
    assert np.isfinite(made.numpy()).all()
