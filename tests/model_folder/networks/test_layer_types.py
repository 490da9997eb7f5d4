from __future__ import annotations

import pytest

from nimbed._files.json import Fields
from nimbed._model_folder.networks.layer_types import GLOBAL, LOCAL, layer_types, turns_of
from nimbed._model_folder.networks.rotary import frequencies
from nimbed.errors import SpecError

OLDER = {GLOBAL: ("rope_theta", 1e6), LOCAL: ("local_theta", 1e4)}


def config(**keys):
    return Fields(keys, "config.json")


def test_a_list_goes_before_the_pattern():
    assert layer_types(config(), [LOCAL, GLOBAL]) == [LOCAL, GLOBAL]
    assert layer_types(config(layer_types=[GLOBAL, GLOBAL]), [LOCAL, GLOBAL]) == [GLOBAL, GLOBAL]


@pytest.mark.parametrize("types", [[GLOBAL], [GLOBAL, "chunked"], "full_attention", [GLOBAL, None]])
def test_other_lists_are_refused(types):
    with pytest.raises(SpecError, match=r"config\.json: layer_types: .*2 times"):
        layer_types(config(layer_types=types), [LOCAL, GLOBAL])


def test_the_base_of_each_type():
    assert turns_of(config(), LOCAL, OLDER, 16) == frequencies(1e4, 16)
    assert turns_of(config(local_theta=500.0), LOCAL, OLDER, 16) == frequencies(500.0, 16)
    newer = {GLOBAL: {"rope_type": "default", "rope_theta": 7.0}}
    assert turns_of(config(rope_parameters=newer, rope_theta=9.0), GLOBAL, OLDER, 16) == frequencies(7.0, 16)


def test_settings_for_no_type_are_refused():
    with pytest.raises(SpecError, match=r"rope_parameters: .*full_attention and sliding_attention"):
        turns_of(config(rope_parameters={"rope_theta": 7.0}), GLOBAL, OLDER, 16)
