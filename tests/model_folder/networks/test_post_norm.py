from __future__ import annotations

import pytest

from nimbed._files.json import Fields
from nimbed._model_folder.networks.description import AttentionKind, NormStep
from nimbed._model_folder.networks.post_norm import post_norm, sizes_of
from nimbed.errors import SpecError

CONFIG = {"hidden_size": 12, "layers": 2, "num_attention_heads": 3, "intermediate_size": 20}


def test_sizes_by_the_names_that_a_config_has_for_them():
    sizes = sizes_of(Fields(CONFIG, "config.json"), {"layers": "layers"})
    assert (sizes.hidden, sizes.layers, sizes.heads, sizes.intermediate, sizes.head_dim) == (12, 2, 3, 20, 4)
    with pytest.raises(SpecError, match=r"config\.json: num_hidden_layers is missing"):
        sizes_of(Fields(CONFIG, "config.json"))


def test_fields_that_follow():
    kind = AttentionKind(back=3)
    fields = post_norm(sizes_of(Fields(CONFIG, "config.json"), {"layers": "layers"}), 0.5, kind)
    assert fields["attention"] == (kind,)
    assert fields["attention_of"] == (0, 0)
    assert fields["output_norms"] == (NormStep(epsilon=0.5),) * 2
