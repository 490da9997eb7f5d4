"""The quality gate: what it measures, when it repairs, when it refuses, and what force does."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace

import numpy as np
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.support.model_folders import candidate_of
from tests.support.planted import sensitive_model

from nimbed import Encoder, Source, _machine, quantize
from nimbed._loading.artefact import open_artefact
from nimbed._loading.build import make_request
from nimbed.cli import main
from nimbed.errors import BuildError, InputError, QualityError
from nimbed.quantization import QualityGate
from nimbed.quantization.calibration import choose, one_row, read_texts
from nimbed.quantization.closeness import _agreement, _spearman, quality
from nimbed.quantization.openvino import repair
from nimbed.quantization.openvino.exact import exact_arithmetic, vectors_of
from nimbed.quantization.openvino.layers import in_fp32, layers_of
from nimbed.quantization.openvino.quantize import pack, prepare, quantize_network
from nimbed.quantization.openvino.speed import latency_cost
from nimbed.spec import read_spec

LAST_ATTENTION = "/model/encoder/layer.1/attention/self/MatMul"


@pytest.fixture(scope="module")
def sensitive(tiny_folder, tmp_path_factory):
    return sensitive_model(tiny_folder, tmp_path_factory.mktemp("models") / "sensitive", outliers=False)


@pytest.fixture(scope="module")
def planted(tiny_folder, tmp_path_factory):
    return sensitive_model(tiny_folder, tmp_path_factory.mktemp("models") / "planted", outliers=True)


@given(
    pairs=st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=3, max_size=40).filter(
        lambda pairs: all(len(set(values)) > 1 for values in zip(*pairs, strict=True))
    )
)
def test_rank_correlation_is_spearmans(pairs):
    a, b = np.array(pairs, np.float32).T
    assert _spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_rank_correlation_without_an_order():
    flat, slope = np.ones(5, np.float32), np.arange(5, dtype=np.float32)
    assert _spearman(flat, slope) == 1
    assert _spearman(slope, flat) == 0


def test_agreement_counts_neighbours_that_stay():
    exact = np.arange(30, 0, -1, dtype=np.float32)[None].repeat(2, axis=0)
    rounded = exact.copy()
    rounded[0, 0] = -1  # the nearest goes to the end, so the eleventh comes in
    assert _agreement(exact, rounded) == pytest.approx((0.9 + 1) / 2)
    assert _agreement(exact[:, :4], rounded[:, :4]) == 1


def test_quality_of_equal_and_of_turned_vectors():
    vectors = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    same = quality(vectors, 3 * vectors, 30)
    assert same == {
        "texts": 60, "mean_cosine": 1, "min_cosine": 1, "top10_agreement": 1, "rank_correlation": 1
    }  # fmt: skip
    turned = vectors.copy()
    turned[7] = -turned[7]
    measured = quality(vectors, turned, 30)
    assert measured["min_cosine"] == -1
    assert measured["mean_cosine"] == pytest.approx(58 / 60, abs=1e-6)
    assert measured["top10_agreement"] < 1
    assert measured["rank_correlation"] < 1


def test_the_gate_names_what_it_misses():
    gate = QualityGate(min_cosine=0.9)
    measured = {**asdict(gate), "texts": 5}
    assert gate.failures(measured) == {}
    assert gate.failures({**measured, "min_cosine": 0.89}) == {"min_cosine": 0.9}
    for value in (1.1, -0.1, "high", True, float("nan")):
        with pytest.raises(InputError, match=r"top10_agreement=.*from 0 to 1"):
            QualityGate(top10_agreement=value)


def test_gate_force_and_field_are_part_of_the_key(tiny_onnx, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("text,body\na,b\n")
    settings = {"source": Source(), "calibration_file": file}
    model = candidate_of(tiny_onnx)
    changes = ({}, {"gate": QualityGate(min_cosine=0.5)}, {"force": True}, {"text_field": "body"})
    keys = [make_request(model, "int8", **settings, **change).key for change in changes]
    assert len(set(keys)) == len(keys)
    assert make_request(model, "int8", **settings).key == keys[0]


@pytest.fixture(scope="module")
def quantised(planted):
    """The planted network, prepared and quantised in this process, with its calibration."""
    from nimbed._text.tokenizer import TextTokenizer, load_tokenizer

    tokenizer = TextTokenizer(load_tokenizer(planted), read_spec(planted), max_length=64, truncate="silent")
    texts = choose(read_texts(None), lambda some: tokenizer(some).sequences, count=16, seed=0, origin="test")
    prepared = prepare(ov.Core().read_model(planted / "onnx" / "model.onnx"), texts.calibrate)
    return prepared, quantize_network(prepared, texts.calibrate), texts


def pooled(network):
    """A head for these tests: the mean of the token vectors."""
    from nimbed.quantization.openvino.head import append_head

    return append_head(network.clone(), POOLED, None)


@pytest.fixture(scope="module", autouse=True)
def spec_of_the_head(planted):
    global POOLED  # noqa: PLW0603 (one spec for the module)
    POOLED = read_spec(planted)


def test_layers_are_what_shares_rounded_values(quantised):
    layers = layers_of(quantised[1])
    together = [{name.rsplit("/", 2)[-2] for name in layer.operations} for layer in layers]
    assert together.count({"query", "key", "value"}) == 2
    assert [LAST_ATTENTION] in [list(layer.operations) for layer in layers]
    names = [name for layer in layers for name in (*layer.operations, *layer.quantizers)]
    assert len(names) == len(set(names))
    kinds = [op.get_type_name() for op in quantised[1].get_ops()]
    assert kinds.count("FakeQuantize") == sum(len(layer.quantizers) for layer in layers)


def test_all_layers_in_fp32_compute_as_before(quantised):
    prepared, rounded, texts = quantised
    exact = vectors_of(pooled(prepared.network), texts.ranking)
    back = in_fp32(rounded, layers_of(rounded))
    assert layers_of(back) == []
    np.testing.assert_allclose(vectors_of(pooled(back), texts.ranking), exact, atol=1e-4)
    spoiled = vectors_of(pooled(rounded), texts.ranking)
    assert np.abs(spoiled - exact).max() > 0.05
    np.testing.assert_allclose(vectors_of(pack(pooled(rounded)), texts.ranking), spoiled, atol=1e-4)


def repair_context(quantised, gate):
    prepared, rounded, texts = quantised
    exact = pooled(prepared.network)
    reference = vectors_of(exact, texts.held_out)
    context = repair.RepairContext(
        gate=gate,
        calibrate=texts.calibrate,
        ranking=texts.ranking,
        expected=vectors_of(exact, texts.ranking),
        head=pooled,
        measure=lambda graph: quality(reference, vectors_of(graph, texts.held_out), 128),
    )
    return pooled(rounded), context


def test_layers_that_hurt_are_found_without_accuracy_control(quantised, monkeypatch):
    monkeypatch.setattr(repair, "_CONTROL_SECONDS", -1.0)
    encoder, context = repair_context(quantised, QualityGate())
    before = context.measure(encoder)
    assert context.gate.failures(before)
    repaired, after, record = repair.repair(encoder, before, quantised[0], context)
    assert context.gate.failures(after) == {}
    assert context.measure(pack(repaired)) == pytest.approx(after, abs=1e-3)
    assert record["accuracy_control"].startswith("stopped after")
    assert LAST_ATTENTION in record["fp32_layers"]
    assert len(record["fp32_layers"]) <= 3
    assert record["before"] == before


def test_no_more_than_half_goes_back(quantised, monkeypatch):
    monkeypatch.setattr(repair, "_CONTROL_SECONDS", -1.0)
    encoder, context = repair_context(quantised, QualityGate(min_cosine=1, mean_cosine=1))
    repaired, after, record = repair.repair(encoder, context.measure(encoder), quantised[0], context)
    assert context.gate.failures(after)
    assert record["quantised_layers"] == len(layers_of(encoder))
    assert len(layers_of(repaired)) == len(layers_of(encoder)) - len(layers_of(encoder)) // 2


def test_the_cost_is_measured_where_int8_is_real(quantised, monkeypatch):
    graph, row = pack(pooled(quantised[1])), quantised[2].ranking[0]
    cpu = replace(_machine.cpu(), features=("avx2",))
    monkeypatch.setattr(_machine, "cpu", lambda: cpu)
    without = latency_cost(graph, graph, row)
    assert without["latency_ratio"] is None
    assert "not measured: with avx2" in without["latency"]
    monkeypatch.setattr(_machine, "cpu", lambda: replace(cpu, features=("avx512_vnni",)))
    assert latency_cost(graph, graph, row)["latency_ratio"] > 0


def test_nncf_computes_without_saturation(quantised):
    """Under the wrapper, an engine of NNCF's own gives what is measured, whatever kernels this CPU has."""
    from nncf.openvino.engine import OVNativeEngine

    encoder, sequence = pooled(quantised[1]), quantised[2].ranking[0]
    row = one_row(sequence, [port.get_any_name() for port in encoder.inputs])
    real = ov.Core.compile_model
    with exact_arithmetic():
        (vectors,) = OVNativeEngine(encoder).infer(row).values()
    assert ov.Core.compile_model is real
    np.testing.assert_allclose(vectors[0], vectors_of(encoder, [sequence])[0], atol=1e-6)


def test_planted_outliers_are_repaired(in_process, planted, sensitive, tmp_path, capsys):
    assert main(["quantize", str(planted), "-o", str(tmp_path / "out"), "--count", "16", "--backend", "openvino"]) == 0
    manifest = open_artefact(tmp_path / "out").manifest
    assert manifest.forced is False
    assert manifest.quality["missed"] == []
    assert manifest.repair["before"]["mean_cosine"] < 0.99 < manifest.quality["mean_cosine"]
    assert manifest.repair["fp32_layers"] == [LAST_ATTENTION]
    said = capsys.readouterr().out
    for words in ("mean cosine", "top-10 agreement", "repaired, before: mean cosine 0.9", LAST_ATTENTION, "time: "):
        assert words in said
    with warnings.catch_warnings(), Encoder(tmp_path / "out") as encoder, Encoder(planted, precision="fp32") as exact:
        assert "quality" not in encoder.info.reasons
        assert encoder.info.quality == manifest.quality
        np.testing.assert_allclose(
            exact.encode(["one", "two words"]),
            Encoder(sensitive, precision="fp32").encode(["one", "two words"]),
            atol=1e-3,
        )


@pytest.mark.parametrize("texts", [["The quick brown fox jumps over the lazy dog."], ["a a a a"] * 64])
def test_sabotaged_calibration_is_refused(texts, in_process, sensitive, tmp_path):
    with pytest.raises(QualityError, match=r"on 256 held-out texts: .*min_cosine 0\.\d+ \(at least 0\.995\)") as caught:
        quantize(sensitive, tmp_path / "out", calibration=texts, backend="openvino", progress=False)
    assert isinstance(caught.value, BuildError)
    for remedy in ("--calibrate", 'precision="fp32"', "--force", "Nothing was published"):
        assert remedy in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_force_publishes_and_the_encoder_warns(in_process, tiny_onnx, tmp_path, capsys):
    gate = QualityGate(mean_cosine=1.0, min_cosine=1.0)
    made = quantize(tiny_onnx, tmp_path / "out", calibration=["a text"], gate=gate, force=True, progress=False)
    assert made.manifest.forced is True
    assert made.manifest.quality["missed"] == ["mean_cosine", "min_cosine"]
    with pytest.raises(InputError, match="made from other inputs"):
        quantize(tiny_onnx, tmp_path / "out", calibration=["a text"], gate=gate, progress=False)
    with pytest.warns(UserWarning, match="failed its quality gate and was published by force: mean_cosine") as caught:
        encoder = Encoder(tmp_path / "out")
    assert len(caught) == 1
    assert encoder.info.reasons["quality"] in str(caught[0].message)
    assert encoder.encode(["still works"]).shape == (1, 32)
    encoder.close()
