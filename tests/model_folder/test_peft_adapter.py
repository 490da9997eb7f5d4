"""PEFT's settings of an adapter: honoured by formula, or refused by file and key."""

from __future__ import annotations

import json

import pytest
from tests.support.jina_v5 import SETTINGS

from nimbed._model_folder.peft_adapter import adapter_files, read_adapter
from nimbed.errors import SpecError


def write(folder, **settings):
    place = folder / "adapters" / "one"
    place.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in {**SETTINGS, **settings}.items() if value != "gone"}
    (place / "adapter_config.json").write_text(json.dumps(content))
    (place / "adapter_model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"r": 32, "lora_alpha": 32}, 1.0),
        ({"r": 16, "lora_alpha": 8}, 0.5),
        ({"r": 16, "lora_alpha": 8, "use_rslora": True}, 2.0),
        ({"r": 4, "lora_alpha": 1.5, "use_rslora": None}, 0.375),
    ],
)
def test_scale(settings, scale, tmp_path):
    adapter = read_adapter(write(tmp_path, **settings), "one")
    assert (adapter.rank, adapter.scale) == (settings["r"], scale)


def test_targets_are_ends_of_names(tmp_path):
    adapter = read_adapter(write(tmp_path, target_modules=["q_proj", "mlp.up_proj"]), "one")
    assert adapter.has("layers.0.self_attn.q_proj")
    assert adapter.has("layers.3.mlp.up_proj")
    assert not adapter.has("layers.0.self_attn.qq_proj")
    assert not adapter.has("layers.0.up_proj")
    assert read_adapter(write(tmp_path, target_modules="all-linear"), "one").has("anything")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "LOHA"),
        ("bias", "all"),
        ("fan_in_fan_out", True),
        ("modules_to_save", ["classifier"]),
        ("use_dora", True),
        ("lora_bias", True),
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("layers_to_transform", [1]),
        ("layer_replication", [[0, 2]]),
        ("trainable_token_indices", [4]),
        ("init_lora_weights", "pissa"),
        ("exclude_modules", ["k_proj"]),
        ("a_key_of_tomorrow", 3),
    ],
)
def test_what_is_not_honoured_is_refused(key, value, tmp_path):
    with pytest.raises(SpecError, match=rf"adapters/one/adapter_config\.json: {key}: .* is not honoured"):
        read_adapter(write(tmp_path, **{key: value}), "one")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 0),
        ("r", "gone"),
        ("r", 2.5),
        ("lora_alpha", "much"),
        ("lora_alpha", "gone"),
        ("use_rslora", "yes"),
        ("target_modules", ".*proj"),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", ["q_proj", 3]),
    ],
)
def test_settings_of_another_kind_are_named(key, value, tmp_path):
    with pytest.raises(SpecError, match=rf"adapters/one/adapter_config\.json: {key}"):
        read_adapter(write(tmp_path, **{key: value}), "one")


@pytest.mark.parametrize("name", ["../one", "a/../../b", "/etc", ""])
def test_a_name_that_leads_out_is_refused(name, tmp_path):
    with pytest.raises(SpecError, match=r"config\.json: task_names|is missing"):
        adapter_files(write(tmp_path), name)


def test_in_the_hubs_cache_files_are_links_to_a_store(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    place = write(snapshot) / "adapters" / "one"
    for file in list(place.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    assert read_adapter(snapshot, "one").file == place / "adapter_model.safetensors"
