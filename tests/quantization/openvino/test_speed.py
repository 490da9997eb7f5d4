"""What layers in fp32 cost, where that can be measured."""

from __future__ import annotations

from dataclasses import replace

from nimbed import _machine
from nimbed.quantization.openvino.quantize import pack
from nimbed.quantization.openvino.speed import latency_cost


def test_the_cost_is_measured_where_int8_is_real(quantized, monkeypatch, pooled):
    graph, row = pack(pooled(quantized[1])), quantized[2].ranking[0]
    cpu = replace(_machine.cpu(), features=("avx2",))
    monkeypatch.setattr(_machine, "cpu", lambda: cpu)
    without = latency_cost(graph, graph, row)
    assert without["latency_ratio"] is None
    assert "not measured: with avx2" in without["latency"]
    monkeypatch.setattr(_machine, "cpu", lambda: replace(cpu, features=("avx512_vnni",)))
    assert latency_cost(graph, graph, row)["latency_ratio"] > 0
