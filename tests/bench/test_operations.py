"""Arithmetic is counted in the network, not guessed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nimbed._model_folder.safetensors import write_tensors
from nimbed.backends.table import ENCODER_FILE
from nimbed.bench.operations import Operations, count_operations


def test_operations_are_those_of_the_formula(tiny_onnx):
    from nimbed import quantize

    hidden, width, layers = 32, 64, 2
    counted = count_operations(quantize(tiny_onnx, precision="fp32", progress=False).folder)
    # Q, K, V, output and the two of the feed-forward layer; scores and values of attention. Mean pooling is one more.
    linear, quadratic = layers * 2 * (4 * hidden**2 + 2 * hidden * width), layers * 2 * 2 * hidden
    assert counted.quadratic == pytest.approx(quadratic)
    assert linear <= counted.linear <= linear + 2 * hidden


def test_texts_add_up_linearly_and_their_attention_by_the_square():
    counted = Operations(linear=2, quadratic=1)
    assert counted.of([1, 3]) == 2 * 4 + 10
    assert counted.of([]) == 0
    assert counted.of([100_000]) == 2e5 + 1e10  # beyond 32 bits


@pytest.mark.parametrize("gated", [False, True])
def test_the_native_engines_settings_are_enough(gated, tmp_path):
    known = {"size": 32, "inner": 64, "gated": gated, "layers": [{}] * 3}
    known |= {"head_dim": 16, "group_heads": 2, "queries": 1, "head_groups": 1}
    write_tensors(tmp_path / ENCODER_FILE, {"none": np.zeros(16, np.float32)}, {"nimbed": json.dumps(known)})
    hidden, width, layers = 32, 64, 3
    assert count_operations(tmp_path) == Operations(
        linear=layers * 2 * (4 * hidden**2 + (2 + gated) * hidden * width), quadratic=layers * 2 * 2 * hidden
    )


def test_a_folder_without_a_network_that_can_be_read_has_none(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    assert count_operations(tmp_path) is None
