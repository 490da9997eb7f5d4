"""What is OpenVINO's own, beside the contract."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed import Encoder, _machine
from nimbed._machine import Cpu


@pytest.mark.parametrize("features", [("avx2",), ()], ids=["avx2", "unknown"])
def test_activations_stay_fp32_where_int8_would_overflow(
    features, monkeypatch, minilm_openvino_int8, minilm_fp32, peps
):
    texts = peps[:200:4]
    with Encoder(minilm_fp32, truncate="silent") as encoder:
        reference = encoder.encode(texts)
    monkeypatch.setattr(_machine, "cpu", lambda: Cpu(model="m", architecture="x86_64", features=features))
    with Encoder(minilm_openvino_int8, truncate="silent") as encoder:
        assert "would overflow" in encoder.info.reasons["arithmetic"]
        vectors = encoder.encode(texts)
    cosines = (vectors * reference).sum(axis=1)
    # Saturated 16-bit sums, which AVX2's kernels give, are at 0.9964 on average.
    assert cosines.mean() > 0.998
    assert np.abs(vectors - reference).max() > 1e-4  # the weights are int8's


def test_int8_kernels_where_the_cpu_has_them(monkeypatch, minilm_openvino_int8):
    monkeypatch.setattr(_machine, "cpu", lambda: Cpu(model="m", architecture="x86_64", features=("avx512_vnni",)))
    with Encoder(minilm_openvino_int8) as encoder:
        assert "arithmetic" not in encoder.info.reasons
