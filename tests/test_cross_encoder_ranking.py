"""A cross-encoder that was really trained, on real pairs: int8 ranks like fp32, and fp32 is what torch gives."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from nimbed import Calibration, Reranker
from nimbed._text.pair_tokenizer import PairTokenizer
from nimbed._text.tokenizer import load_tokenizer
from nimbed._types import Pair
from nimbed.quantization.closeness import score_quality
from nimbed.quantization.openvino.exact import vectors_of
from tests.conftest import ROOT, shared_data
from tests.support.building import build_here, in_process


@pytest.fixture(scope="module")
def training():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("train_cross_encoder")


@pytest.fixture(scope="module")
def train_rows(training):
    return training.read_pairs(shared_data("stsb_en_train") / "pairs.tsv.gz")


@pytest.fixture(scope="module")
def pairs(training) -> list[tuple[str, str]]:
    rows = training.read_pairs(shared_data("stsb_en_dev") / "pairs.tsv.gz")
    return [(first, second) for _, first, second in rows[::10]]


@pytest.fixture(scope="module")
def trained(training, train_rows, minilm_folder, tmp_path_factory) -> Path:
    """NIMBED_CROSS_ENCODER, which benchmarks/train_cross_encoder.py wrote; else one of a very short training."""
    if ready := os.environ.get("NIMBED_CROSS_ENCODER"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("trained") / "cross-encoder"
    chosen = argparse.Namespace(seed=0, threads=2, steps=60, batch=8)
    training.save(training.train(minilm_folder, train_rows[::4], chosen), minilm_folder, folder)
    return folder


@pytest.fixture(scope="module")
def int8(trained, train_rows):
    texts = [first for _, first, _ in train_rows[::20]]
    return build_here(trained, calibration=Calibration(texts=texts, count=48))


@pytest.fixture(scope="module")
def openvino_int8(trained, train_rows):
    texts = [first for _, first, _ in train_rows[::20]]
    return build_here(trained, calibration=Calibration(texts=texts, count=48), backend="openvino")


@pytest.fixture(scope="module")
def fp32_scores(trained, pairs):
    with in_process(), Reranker(trained, precision="fp32") as reranker:
        return reranker.score_pairs(pairs)


def tau(scores, reference) -> float:
    return score_quality(reference[:, None], scores[:, None])["kendall_tau"]


def test_fp32_is_what_torch_gives(trained, pairs, fp32_scores):
    with Reranker(trained, backend="torch") as oracle:
        np.testing.assert_allclose(fp32_scores, oracle.score_pairs(pairs), atol=1e-4)


def test_int8_ranks_like_fp32(int8, pairs, fp32_scores):
    with Reranker(int8) as reranker:
        assert reranker.info.precision == "int8"
        assert tau(reranker.score_pairs(pairs), fp32_scores) >= 0.95


def test_int8_as_cpus_with_vnni_round_ranks_like_fp32(openvino_int8, pairs, fp32_scores):
    spec = openvino_int8.manifest.spec
    tokenizer = PairTokenizer(load_tokenizer(openvino_int8.folder), spec, max_length=spec.max_length, truncate="silent")
    graph = ov.Core().read_model(openvino_int8.folder / "model.xml")
    sequences = tokenizer([Pair(*pair) for pair in pairs]).sequences
    assert tau(vectors_of(graph, sequences)[:, 0], fp32_scores) >= 0.95


def test_the_manifest_tells_of_the_scores(int8):
    quality = int8.manifest.quality
    assert quality["texts"] == 2 * 128
    assert 0 < quality["mean_difference"] <= quality["max_difference"] < 0.2
    assert quality["kendall_tau"] > 0.9
    assert int8.manifest.spec.task == "scoring"


def test_the_classifier_is_not_quantized(openvino_int8):
    network = ov.Core().read_model(openvino_int8.folder / "model.xml")
    flat = [
        op
        for op in network.get_ops()
        if op.get_type_name() == "MatMul" and op.input_value(0).get_partial_shape().rank.get_length() == 2
    ]
    assert len(flat) == 2  # BERT's pooler and the classifier
    for op in flat:
        kinds = {source.get_node().get_type_name() for source in op.input_values()}
        assert "FakeQuantize" not in kinds


def test_kendalls_tau_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one = rng.integers(0, 8, (60, 1)).astype(np.float32)
    two = one + rng.integers(0, 6, (60, 1)).astype(np.float32)
    made = score_quality(one, two)
    assert made["kendall_tau"] == pytest.approx(stats.kendalltau(one[:, 0], two[:, 0])[0], abs=1e-6)
    assert made["max_difference"] == np.abs(one - two).max()
    assert score_quality(one, one)["kendall_tau"] == 1
    assert score_quality(one, -one)["kendall_tau"] == -1
    assert score_quality(one * 0, one)["kendall_tau"] == 1  # a constant has no order to lose
