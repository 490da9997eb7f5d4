"""What the benchmark scripts decide by themselves: gates, and graphs that they rewrite."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from nimbed.bench import BenchReport, Figure

pytest.importorskip("psutil")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_every_script_can_be_imported(script):
    names = [path.stem for path in BENCHMARKS.glob("*.py") if path.stem != "_ipex_worker"]  # it runs in another place
    assert "prune_layers" in names
    for name in names:
        assert script(name).__doc__


def made(docs: dict[str, float], queries: dict[str, float]) -> BenchReport:
    documents = [
        Figure(part="documents", case="natural lengths", contender=label, unit="texts/s", values=[rate])
        for label, rate in docs.items()
    ]
    latencies = [
        Figure(part="latency", case="natural lengths, as they come, p50", contender=label, unit="ms", values=[took])
        for label, took in queries.items()
    ]
    figures = documents + latencies
    return BenchReport(
        contenders=list(docs), figures=figures, agreement={}, refused={}, failed={}, roof={}, conditions={}
    )  # fmt: skip


def test_gates_of_the_peers(script):
    peers = script("peers")
    rivals = {"HuggingFaceEmbeddings": 30.0, "ONNX Runtime int8": 45.0, "IPEX int8": 60.0}
    times = {"HuggingFaceEmbeddings": 24.0, "ONNX Runtime int8": 5.0}
    ours, exact = (peers.NATIVE, peers.OPENVINO), "nimbed OpenVINO fp32"
    held = peers.judge(
        made({**dict(zip(ours, (100.0, 60.0), strict=True)), **rivals},
             {**dict(zip(ours, (1.2, 3.5), strict=True)), exact: 9.0, **times})
    )  # fmt: skip
    assert len(held) == 4 + 3 + 3 + 3
    assert all(held.values())
    missed = peers.judge(
        made({**dict(zip(ours, (65.0, 50.0), strict=True)), **rivals},
             {**dict(zip(ours, (5.2, 5.5), strict=True)), exact: 9.0, **times})
    )  # fmt: skip
    assert missed.keys() == held.keys()
    assert not any(missed.values())
    assert peers.judge(made({}, {})) == {}


def test_gates_of_a_query_after_a_pause(script):
    judged = script("query_after_pause")
    names = (judged.DEFAULT, judged.ONE, judged.OTHER_DEFAULT, judged.OTHER_ONE)

    def gates(default: list[float], idle_cpu_s: float) -> dict[str, bool]:
        others = ([1.0, 1.3], [1.1, 1.4], [1.3, 1.7])
        took = dict(zip(names, (default, *others), strict=True))
        times = {(judged.QUIET, 0): took, (judged.QUIET, 20): took, (judged.SPINNER, 20): took}
        return judged.judge(judged.Found(times=times, idle_cpu_s=idle_cpu_s))

    held, missed = gates([0.9, 1.2], 0.0), gates([1.6, 9.0], 0.02)
    assert len(held) == 1 + 3 + 2 + 2
    assert all(held.values())
    assert missed.keys() == held.keys()
    assert not any(missed.values())
    alone = judged.Found(times={(judged.QUIET, 20): {judged.DEFAULT: [1.0], judged.ONE: [1.0]}})
    assert len(judged.judge(alone)) == 3


@pytest.fixture(params=["fp32", "int8"])
def graph(request, in_process, tiny_onnx):
    from nimbed import quantize
    from nimbed.quantization import QualityGate

    gate = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0)  # random weights
    built = quantize(tiny_onnx, backend="openvino", precision=request.param, gate=gate, progress=False)
    return built.folder / "model.xml", {"fp32": 1e-5, "int8": 1e-2}[request.param]


def test_one_product_for_q_k_and_v_gives_the_same(script, graph):
    import openvino as ov

    path, tolerance = graph
    plain, joined = ov.Core().read_model(path), ov.Core().read_model(path)
    assert script("tuning").join_qkv(joined) == 2  # layers
    products = [sum(node.get_type_name() == "MatMul" for node in one.get_ops()) for one in (plain, joined)]
    assert products[0] - products[1] == 2 * 2
    ids = np.arange(1000, 1012)[None]
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    first, second = (
        ov.Core().compile_model(one, "CPU")({port.get_any_name(): inputs[port.get_any_name()] for port in one.inputs})[
            0
        ]
        for one in (plain, joined)
    )
    np.testing.assert_allclose(first, second, atol=tolerance)


def test_a_summary_has_a_line_for_each_contender(script):
    report = made({"a": 100.0, "b": 50.0}, {"a": 1.234})
    record = {**report.to_dict(), "agreement": {"a": {"mean": 0.99971, "worst": 0.999}}}
    record["failed"] = {"served, 64 callers, b": "it broke"}
    header, _, first, last = script("_summary").summary(record).splitlines()
    assert header.startswith("| contender | documents a second | times b | query p50 20 ms apart, ms |")
    assert first == "| a | 100 | 2.00 |  |  | 1.23 |  |  |  |  |  | 0.9997 | 0.9990 |"
    assert last == "| b | 50 | 1.00 |  |  |  |  |  | failed |  |  |  |  |"


def test_gates_of_the_families_speed(script):
    judged = script("family_speed")

    def gates(documents: float, query: float) -> dict[str, bool]:
        """Of a native engine so many times as fast as the others."""
        cases = {}
        for name, case in judged.CASES.items():
            others = {label: [1.0] for label in case.contenders[1:]}
            cases[name] = {
                "figures": {
                    judged.DOCUMENTS: {case.contenders[0]: [documents], **others},
                    judged.QUERY: {case.contenders[0]: [query], **others},
                }
            }
        return judged.judge(cases)

    held, missed = gates(5.0, 0.3), gates(0.9, 0.6)
    assert len(held) == len(judged.GATES)
    assert all(held.values())
    assert missed.keys() == held.keys()
    assert not any(missed.values())
    assert judged.judge({}) == {}
