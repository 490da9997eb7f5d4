"""Settings are parsed strictly, run over sets, compared, and reported; nothing here needs a model."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from nimbed import Encoder
from nimbed.cli import main
from nimbed.errors import InputError
from nimbed.evaluate import RerankItem, RerankSet, RetrievalSet, StsSet, evaluate

TOPICS = ("cats sleep all day", "prices rose in may", "rivers run to the sea", "the train was late", "bread needs salt")
RETRIEVAL = RetrievalSet(
    name="topics",
    docs={f"d{i}": f"{topic}, part {i}" for i, topic in enumerate(TOPICS * 30)},
    queries={f"q{i}": f"why {topic}" for i, topic in enumerate(TOPICS)},
    qrels={f"q{i}": {f"d{i}": 2, f"d{i + 5}": 1} for i in range(5)},
)
STS = StsSet(name="pairs", first=TOPICS, second=[*TOPICS[:3], "a car", "gold"], gold=[5, 5, 5, 1, 0])
RERANK = RerankSet(
    name="few",
    items=[RerankItem(query=f"why {t}", positive=[f"{t} indeed"], negative=["gold", "a car"]) for t in TOPICS],
)
FAKE = "any@backend=fake"
SMALL = "any@backend=fake,dim=16,name=small"


@pytest.fixture(scope="module")
def report():
    return evaluate([SMALL, FAKE], retrieval=[RETRIEVAL], sts=[STS], rerank=[RERANK], resamples=300)


def test_every_figure_of_every_setting_is_there(report):
    assert [(s.kind, s.set, s.metric, s.setting) for s in report.scores] == [
        (kind, name, metric, setting)
        for kind, name, metric in (
            ("retrieval", "topics", "nDCG@10"),
            ("retrieval", "topics", "recall@100"),
            ("retrieval", "topics", "MRR@10"),
            ("sts", "pairs", "Spearman"),
            ("rerank", "few", "MAP"),
            ("rerank", "few", "MRR"),
        )
        for setting in ("small", FAKE)
    ]
    for score in report.scores:
        assert -1 <= score.value <= 1
        assert (score.against_reference is None) == (score.setting == FAKE)
        if score.against_reference is not None:
            other = next(s for s in report.scores if (s.set, s.metric, s.setting) == (score.set, score.metric, FAKE))
            assert score.against_reference.difference == pytest.approx(score.value - other.value)
            assert score.against_reference.low <= score.against_reference.high
    assert next(s.value for s in report.scores if s.metric == "MAP" and s.setting == FAKE) == 1
    with pytest.raises(FrozenInstanceError):
        report.seed = 1


def test_speed_stands_beside_quality(report):
    assert [(s.set, s.setting, s.texts) for s in report.speeds] == [
        (name, setting, texts)
        for name, texts in (("topics", 150), ("pairs", 10), ("few", 15))
        for setting in ("small", FAKE)
    ]
    assert all(s.texts_per_s > 0 and s.truncated == 0 for s in report.speeds)


def test_the_report_is_a_table_and_json(report):
    table = report.to_markdown()
    assert "| topics | nDCG@10 | small | " in table
    assert "The reference is any@backend=fake." in table
    assert "a side figure" in table
    assert json.loads(report.to_json()) == report.to_dict() | {"settings": ["small", FAKE]}


def test_equal_settings_differ_by_nothing_mixed_or_not():
    found = evaluate([f"{FAKE},name=a", f"{FAKE},name=b"], retrieval=[RETRIEVAL], mixed=True, resamples=100)
    for score in found.scores[::2]:
        assert (score.against_reference.difference, score.against_reference.p_value) == (0, 1)
    assert [(m.metric, m.queries, m.documents) for m in found.mixed] == [
        (metric, "a", "b") for metric in ("nDCG@10", "recall@100", "MRR@10")
    ]
    assert all(m.against_queries.difference == m.against_documents.difference == 0 for m in found.mixed)


class Turned:
    """A setting of one's own: an encoder whose space is turned, so that it only goes with itself."""

    label = "turned"

    @contextmanager
    def open(self, max_length):
        with Encoder("any", backend="fake", max_length=max_length, cache=None) as encoder:
            self.encoder = encoder
            yield self

    def encode_iter(self, texts, *, role="document", progress=False):
        for block in self.encoder.encode_iter(texts, role=role):
            yield np.roll(block, 7, axis=1)

    def stats(self):
        return self.encoder.stats()


def test_mixed_finds_spaces_that_do_not_fit():
    found = evaluate([Turned(), FAKE], retrieval=[RETRIEVAL], mixed=True, resamples=100)
    own = next(s for s in found.scores if s.setting == "turned" and s.metric == "nDCG@10")
    mixed = next(m for m in found.mixed if m.metric == "nDCG@10")
    assert own.against_reference.difference == pytest.approx(0)
    assert mixed.value < 0.7 * own.value
    assert mixed.against_queries.difference == pytest.approx(mixed.value - own.value)
    assert "must I re-index?" in found.to_markdown()


def test_cut_texts_are_counted():
    found = evaluate([f"{FAKE},max_length=200", f"{FAKE},name=cut"], retrieval=[RETRIEVAL], max_length=8, resamples=100)
    assert [s.truncated for s in found.speeds] == [0, 155]
    assert "Texts cut to the maximum length: topics 155 (cut)." in found.to_markdown()


@pytest.mark.parametrize(
    ("settings", "more", "says"),
    [
        ([], {"sts": [STS]}, "no setting"),
        ([FAKE], {}, "nothing to evaluate on"),
        ([FAKE, FAKE], {"sts": [STS]}, "two settings are called"),
        ([FAKE], {"sts": [STS, STS]}, "two sets are called 'pairs'"),
        ([FAKE], {"sts": [STS], "resamples": 5}, "resamples=5"),
        ([FAKE], {"retrieval": [RETRIEVAL], "mixed": True}, "mixed needs two settings"),
        ([SMALL, FAKE], {"retrieval": [RETRIEVAL], "mixed": True}, "vectors of one width"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_once(settings, more, says):
    with pytest.raises(InputError, match=says):
        evaluate(settings, **more)


@pytest.fixture
def sts_file(tmp_path):
    rows = "".join(f"{score}\t{a}\t{b}\n" for score, a, b in zip(STS.gold, STS.first, STS.second, strict=True))
    path = tmp_path / "pairs.tsv"
    path.write_text(f"score\tsentence1\tsentence2\n{rows}")
    return path


def test_the_command_prints_and_writes(sts_file, tmp_path, capsys):
    out = [tmp_path / name for name in ("r.json", "r.md", "r.png")]
    options = ["--sts", str(sts_file), "--resamples", "200", "--seed", "3", "--max-length", "64"]
    outputs = ["--json", str(out[0]), "--markdown", str(out[1]), "--plot", str(out[2])]
    assert main(["evaluate", SMALL, FAKE, *options, *outputs]) == 0
    assert capsys.readouterr().out == out[1].read_text()
    record = json.loads(out[0].read_text())
    assert (record["seed"], record["resamples"], record["max_length"], record["reference"]) == (3, 200, 64, FAKE)
    assert out[2].stat().st_size > 5000


def test_the_command_names_what_is_wrong_before_it_runs(sts_file, tmp_path, capsys):
    assert main(["evaluate", FAKE, "--sts", str(sts_file), "--json", str(tmp_path / "no" / "r.json")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    sts_file.write_text("score\tsentence1\tsentence2\nmany\ta\tb\n")
    assert main(["evaluate", FAKE, "--sts", str(sts_file)]) == 1
    assert "pairs.tsv, line 2: score 'many' is not a number" in capsys.readouterr().err
