"""The native engine's kernels by name, and what their tests share."""

from __future__ import annotations

import numpy as np
import pytest

_native = pytest.importorskip("nimbed._native", reason="the native engine is not built here")
testing = _native.testing

SETS = [name for name in ("reference", "avx2", "avx512_vnni") if _native.kernels(name) is not None]
FAST = SETS[1:]
NONE, GELU, GELU_TANH, RELU, SILU, TANH, SIGMOID, FINE_GELU = ACTIVATIONS = range(8)

every_set = pytest.mark.parametrize("kernels", SETS)


def random(seed=0):
    return np.random.default_rng(seed)


def floats(values):
    return np.ascontiguousarray(values, np.float32)


def assert_same_bits(run):
    """``run(kernels)`` gives one array, or several: the same bits by every set. Returns those."""

    def bits(kernels):
        found = run(kernels)
        return [np.asarray(part) for part in (found if isinstance(found, tuple) else (found,))]

    plain = bits("reference")
    for kernels in FAST:
        for ours, defined in zip(bits(kernels), plain, strict=True):
            assert ours.dtype == defined.dtype
            whole = f"u{ours.itemsize}"
            np.testing.assert_array_equal(ours.view(whole), defined.view(whole), kernels)
    return plain
