from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.support.described import described, written

from nimbed._model_folder.networks.config import MAX_WIDTH
from nimbed._model_folder.networks.description import AttentionKind
from nimbed.backends.native_layout import Layout, Widths, padded, panels, panels_in_8_bits, placed


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return described(written("bert", tmp_path_factory.mktemp("bert")))


@pytest.mark.parametrize("rotary", [False, True])
def test_whatever_heads_a_description_may_have_fit_into_the_engine(rotary, network):
    """Its columns and groups are bounded in native/model.cpp, heads and widths where they are described."""
    kinds = (AttentionKind(rotary=() if rotary else None),)
    for heads in (1, 2, 3, 7, 8, 61, 64, 126, 127, 251, 512, 1021, 1024):
        for dim in {*range(1, 130), 255, 256, 257, 1023, 1024, MAX_WIDTH // heads}:
            if heads * dim <= MAX_WIDTH and dim <= 1024:
                wide = replace(network, heads=heads, key_value_heads=heads, head_dim=dim, attention=kinds)
                widths = Widths.of(wide)
                assert max(widths.head_dim, widths.group_heads, widths.head_groups) <= 1024
                assert widths.context <= 1 << 16


@pytest.mark.parametrize(
    ("heads", "shared", "width", "rotary", "expected"),
    [
        ((12), 12, 32, False, (32, 1, 2, 6, 64, 64)),
        ((12), 12, 64, True, (64, 1, 1, 12, 64, 64)),
        ((6), 6, 10, False, (16, 1, 3, 2, 64, 64)),
        ((6), 6, 10, True, (32, 1, 2, 3, 64, 64)),
        ((16), 8, 128, True, (128, 2, 1, 8, 256, 128)),
        ((8), 2, 16, False, (16, 4, 1, 2, 64, 64)),
        ((7), 7, 16, False, (16, 1, 1, 7, 64, 64)),
    ],
)
def test_widths(heads, shared, width, rotary, expected, network):
    kinds = (AttentionKind(rotary=(1.0,) * (width // 2) if rotary else None),)
    widths = Widths.of(replace(network, heads=heads, key_value_heads=shared, head_dim=width, attention=kinds))
    assert (widths.hidden, widths.inner) == (128, 192)
    assert (
        widths.head_dim, widths.queries, widths.group_heads, widths.head_groups, widths.query_columns,
        widths.key_columns,
    ) == expected  # fmt: skip
    assert widths.context == widths.head_groups * widths.query_columns


def test_every_component_has_a_place_of_its_own(network):
    layout = Layout(replace(network, heads=6, key_value_heads=2, head_dim=10))
    assert len(set(layout.query_places.tolist())) == 60
    assert layout.query_places.max() < layout.widths.context
    assert layout.key_places.tolist() == [*range(10), *range(64, 74)]


def test_the_halves_of_a_head_lie_apart_where_they_turn(network):
    layout = Layout(
        replace(network, heads=2, key_value_heads=2, head_dim=6, attention=(AttentionKind(rotary=(1.0,) * 3),))
    )
    assert layout.key_places.tolist() == [0, 1, 2, 16, 17, 18, 32, 33, 34, 48, 49, 50]


def test_a_gates_panel_goes_before_each_of_the_others(network):
    layout = Layout(network)
    up, gate = np.full(160, 1, np.float32), np.full(160, 2, np.float32)
    assert layout.up(up, gate).reshape(-1, 64)[:, 0].tolist() == [2, 1, 2, 1, 2, 1]
    assert layout.up(up, None).shape == (192,)


def test_panels():
    rows = np.arange(128 * 3, dtype=np.float32).reshape(128, 3)
    made = panels(rows)
    assert made.shape == (2, 3, 64)
    np.testing.assert_array_equal(made[1, 2], rows[64:, 2])


def test_panels_in_8_bits():
    rows = np.random.default_rng(0).integers(-127, 128, (128, 12)).astype(np.int8)
    made = panels_in_8_bits(rows)
    assert made.shape == (2, 2, 3, 32, 4)
    for output, input_ in [(0, 0), (31, 5), (32, 11), (63, 4), (64, 3), (127, 9)]:
        found = made[output // 64, output % 64 // 32, input_ // 4, output % 32, input_ % 4]
        assert found == rows[output, input_]


def test_nothing_is_copied_where_nothing_is_padded():
    values = np.ones((4, 64), np.float32)
    assert placed(values, slice(0, 64), 64, axis=1) is values
    assert placed(values, slice(0, 64), 128, axis=1).sum() == 256
    assert (padded(1), padded(64), padded(65, 16)) == (64, 64, 80)
