"""What the CPU could do."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed.bench.roof import Roof


@pytest.mark.parametrize("arithmetic", ["fp32", "int8"])
def test_the_roof_is_measured(arithmetic):
    assert Roof(arithmetic, threads=1).gops() > 1


def test_a_pass_is_the_products_that_it_counts(monkeypatch):
    roof = Roof("fp32", threads=1)
    taken = []

    def two_seconds(call):
        taken.append(call())
        return 2.0

    monkeypatch.setattr("nimbed.bench.roof.seconds", two_seconds)
    operations = 8 * 2 * 2048 * 1024 * 1024  # layers, a product and its addition, rows, width, width
    assert roof.gops() == pytest.approx(operations / 2 / 1e9)
    assert len(taken) == 1
    result = roof._request.get_output_tensor().data
    assert result.shape == (2048, 1024)
    assert 0.5 < float(np.std(result)) < 2  # the chain neither dies out nor overflows
