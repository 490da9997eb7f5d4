"""What the benchmark scripts decide by themselves: gates, and graphs that they rewrite."""

from __future__ import annotations

import importlib
import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nimbed._vectors import row_cosines
from nimbed.bench import BenchReport, Figure
from nimbed.bench.network import Network
from nimbed.bench.operations import Operations
from tests.support import networks
from tests.support.contenders import make_network
from tests.support.oracles import oracle_vectors

pytest.importorskip("psutil")
ELSEWHERE = {"_ipex_worker", "_gguf_file", "_llama_cpp"}  # run in other environments
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_every_script_can_be_imported(script):
    names = [path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in ELSEWHERE]
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


@pytest.mark.parametrize(
    ("documents", "times", "holds"), [(7.0, (1.4, 2.4), True), (3.0, (1.6, 2.4), False), (7.0, (1.4,), True)]
)
def test_gates_of_a_decoder(script, documents, times, holds):
    peers = script("peers")
    report = made({peers.NATIVE: documents, "sentence-transformers fp32": 1.5}, {})
    gates = peers.judge_decoder(report, {"times": dict(zip((peers.NATIVE, peers.ONE_THREAD), times, strict=False))})
    assert list(gates.values()) == [holds] * (1 + len(times))
    assert peers.judge_decoder(made({}, {}), {"times": {}}) == {}


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
                "reading_ms": [0.3],
                "figures": {
                    judged.DOCUMENTS: {case.contenders[0]: [documents], **others},
                    judged.QUERY: {case.contenders[0]: [query], **others},
                },
            }
        return judged.judge(cases)

    held, missed = gates(5.0, 0.3), gates(0.9, 0.6)
    assert len(held) == len(judged.GATES)
    assert all(held.values())
    assert missed.keys() == held.keys()
    assert not any(missed.values())
    assert judged.judge({}) == {}


def test_a_peer_that_is_not_installed_is_left_out_with_the_command(script, monkeypatch, tmp_path, capsys):
    apart = script("_apart")
    monkeypatch.setattr(apart, "user_cache_path", lambda name: tmp_path / name)
    assert apart.installed([apart.CTRANSLATE2, apart.IPEX], "folder", 2) == []
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "without CTranslate2 int8: not installed: make peers-env",
        "without IPEX int8: not installed: make ipex-env",
    ]
    assert apart.versions([apart.CTRANSLATE2]) == {}


def test_a_peer_apart_answers_through_its_worker(script, monkeypatch, tmp_path):
    apart = script("_apart")
    worker = tmp_path / "worker.py"
    worker.write_text(
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from _worker import serve\n"
        "def load(folder, threads, max_length):\n"
        "    print('noise')\n"
        "    return lambda texts, role: [[len(text), threads, max_length, len(role)] for text in texts]\n"
        "serve(load)\n"
    )
    monkeypatch.setattr(apart.Home, "interpreter", sys.executable)
    monkeypatch.setitem(apart.HOMES, "made", apart.Home("made", "pytest", (str(worker),)))
    (made,) = apart.installed(["made"], "folder", 2)
    assert apart.versions(["made"]) == {"pytest": pytest.__version__}
    with made.open(None) as embeds:
        assert embeds.encode(["four", "to"], role="query").tolist() == [[4, 2, 256, 5], [2, 2, 256, 5]]
    worker.write_text("raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="made: its process has ended"), made.open(64):
        pass


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3", "gemma3-both"])
def test_llama_cpp_computes_what_the_oracle_does(script, monkeypatch, tmp_path, family):
    apart = script("_apart")
    if apart.HOMES[apart.LLAMA_CPP].version is None:
        pytest.skip("make peers-env")
    if family == "gemma3-both":  # whose scores llama.cpp divides by the root of the head's width alone
        tiny = {**networks.FAMILIES[family].tiny, "query_pre_attn_scalar": 32}
        monkeypatch.setitem(networks.FAMILIES, family, replace(networks.FAMILIES[family], tiny=tiny))
    networks.write_folder(family, tmp_path)
    texts = ["A short one.", *networks.real_texts(3)]
    exact = oracle_vectors(tmp_path, networks.token_ids(tmp_path, texts, longest=64))
    (peer,) = apart.installed([apart.LLAMA_CPP], str(tmp_path), 2)
    with peer.open(64) as embeds:
        assert row_cosines(embeds.encode(texts), exact).min() > 0.999


def test_a_querys_limit_is_the_larger_of_reading_and_computing(script):
    limits = script("_query_limits")
    network = Network(tokenizer=make_network().tokenizer, longest=64, operations=Operations(linear=8e6, quadratic=1e3))
    found = limits.limits(network, ["a cat", "the old trees", "birds"], max_length=64, threads=2, gops=1.0)
    assert (found.tokens, found.weight_bytes) == (2, 4e6)
    assert found.operations == 2 * 8e6 + 4 * 1e3
    assert found.computing_ms == found.ms == pytest.approx(16.004)
    assert 0 < found.reading_ms < 16
    assert limits.recorded(found, {"a": 32.008})["times"] == {"a": pytest.approx(2)}
    said = limits.shown(replace(found, gops=1e9, gb_per_s=1.0), {"a": 8.0})
    assert "4 MB of int8 weights once at 1.0 GB/s: 4 ms" in said
    assert "The limit is reading: 4 ms." in said
    assert said.endswith("| a | 8 | 2.00 |")


@pytest.mark.parametrize(
    ("name", "folder"), [("qwen3-0.6b", "qwen3-0.6b-2-layers-seeded"), ("bge-small", "bge-small-2-layers")]
)
def test_a_seeded_model_is_written_once(script, monkeypatch, tmp_path, tiny_folder, name, folder):
    models = script("_peer_models")

    def write(family, target, *, size, layers):
        assert (size, layers) == ("real", 2)
        return real(family, target, size="tiny", layers=layers)

    real = networks.write_folder
    monkeypatch.setattr(networks, "write_folder", write)
    monkeypatch.setitem(models.SHAPES, "bge-small", (32, 12, 4, 64))
    options = Namespace(model=name, layers=2, work=tmp_path)
    made = models.chosen(options, str(tiny_folder))
    assert (made.name, made.folder, made.network) == (f"{name}-2-layers", tmp_path / folder, name in models.NETWORKS)
    config = json.loads((made.folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    written = (made.folder / "model.safetensors").stat().st_mtime_ns
    assert models.chosen(options, str(tiny_folder)) == made
    assert (made.folder / "model.safetensors").stat().st_mtime_ns == written
    with script("_peers").SentenceTransformers(label="st", folder=str(made.folder), threads=2).open(16) as embeds:
        assert embeds.encode(["a text"]).shape == (1, config["hidden_size"])


def test_a_folder_is_taken_as_it_is(script, tmp_path):
    models = script("_peer_models")
    found = models.chosen(Namespace(model=str(tmp_path), layers=None, work=tmp_path), "")
    assert (found.folder, found.name, found.network) == (tmp_path, None, False)


def test_what_second_passes_cost(script, minilm_native, tmp_path, monkeypatch):
    """The median of turns, by the network with its second passes and the same without."""
    from nimbed._model_folder.safetensors import read_tensors, write_tensors

    arrays, metadata = read_tensors(minilm_native / "encoder.safetensors")
    settings = json.loads(metadata["nimbed"])
    settings["layers"][0]["down"]["passes"] = settings["layers"][2]["up"]["passes"] = 2
    write_tensors(tmp_path / "encoder.safetensors", arrays, {"nimbed": json.dumps(settings)})
    second_passes, vectors = script("_second_passes"), []

    def alternate(_, *calls):
        for call in calls[:2]:
            call()
        return [4.0, 5.0, 8.0], [3.0, 4.0, 4.0]

    monkeypatch.setattr(second_passes._common, "alternate", alternate)
    monkeypatch.setattr(second_passes._common, "seconds", lambda call: vectors.append(call()))
    documents = [np.int32([101, 2000, 3000, 102]), np.int32([101, 2001, 102])]
    assert second_passes.cost(tmp_path, documents) == {"products": 2, "share_of_time": 0.25}
    assert (vectors[0] != vectors[1]).any()
    assert second_passes.cost(minilm_native, documents) == {"products": 0, "share_of_time": 0.0}


@pytest.mark.parametrize(("share", "holds"), [(0.25, True), (0.26, False)])
def test_the_gate_of_second_passes(script, share, holds):
    found = {"fp32": {}, "int8": {"second_passes": {"share_of_time": share}}, "4-bit weights": {"holds": False}}
    gates = script("families").judge({"bert": {"planted": found}})
    assert gates["bert, planted: second passes take at most 25% of a document's time"] is holds
