"""The bench on a tiny folder: who takes part, what is refused, what is written down."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed.bench import PARTS, Figure, Texts, bench, own_contenders, save_plots, shipped_texts
from nimbed.bench.agreement import agreement
from nimbed.bench.fresh_process import _resident_mb
from nimbed.bench.network import network_of
from nimbed.bench.operations import Operations, count_operations
from nimbed.bench.roof import Roof
from nimbed.cli import main
from nimbed.errors import InputError
from nimbed.evaluate import Setting

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "some",
    "birds",
    "that",
    "sang",
    "in",
    "old",
    "trees",
    "near",
]


def make_texts(count: int = 16) -> Texts:
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, int(size))) for size in rng.integers(5, 90, count)]
    return Texts(documents=documents, queries=[text[:30] for text in documents[:8]], origin="made here")


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A contender that misbehaves as it is told."""

    label: str
    dim: int = 384
    fails_on_queries: bool = False

    @contextmanager
    def open(self, max_length: int | None):
        yield self

    def encode(self, texts, *, role="document"):
        if self.fails_on_queries and role == "query":
            raise RuntimeError("Already borrowed")
        return np.random.default_rng(1).standard_normal((len(texts), self.dim)).astype(np.float32)

    async def aencode(self, texts, *, role="document"):
        return self.encode(texts, role=role)


@pytest.fixture(scope="module")
def fake(tiny_folder) -> Setting:
    return Setting(model=str(tiny_folder), backend="fake", name="fake")


@pytest.fixture(scope="module")
def report(fake):
    other = Setting(model=fake.model, backend="fake", name="fake again")
    return bench([other, fake], texts=make_texts(), quick=True, max_length=64)


def test_every_part_has_figures_of_every_contender(report):
    assert {figure.part for figure in report.figures} == {
        "latency",
        "documents",
        "batches",
        "served",
        "start",
        "threads",
    }
    for figure in report.figures:
        assert len(figure.values) == 2
        assert min(figure.values) > 0
        assert report.find(figure.part, figure.case, "fake") is not None
        assert report.find(figure.part, figure.case, "fake again") is not None
    assert not report.refused
    assert not report.failed


def test_lengths_go_as_far_as_the_network(report):
    lengths = {f.case: f.tokens for f in report.figures if f.case.endswith(" tokens") and f.part == "latency"}
    assert lengths == {"16 tokens": 16, "64 tokens": 64}


def test_reports_say_what_they_hold(report, tmp_path):
    read = json.loads(report.to_json())
    assert read["reference"] == "fake"
    assert {f["times_reference"] for f in read["figures"] if f["contender"] == "fake"} == {1.0}
    text = report.to_markdown()
    assert all(f.case in text for f in report.figures)
    assert "made here" in text
    assert "roof" not in text.partition("**start**")[2].partition("**")[0]
    pictures = save_plots(report, tmp_path / "charts")
    assert {p.stem for p in pictures} == set(PARTS)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)


def test_figures_know_their_rates():
    figure = Figure(part="p", case="c", contender="x", unit="ms", values=[1, 2, 30], tokens=10, operations=4e6)
    assert (figure.median, figure.texts_per_s, figure.tokens_per_s, figure.gops) == (2, 500, 5000, 2)
    assert Figure(part="p", case="c", contender="x", unit="MB", values=[5.0]).gops is None


def test_ratios_are_above_1_for_what_is_better(report):
    by_hand = {
        "ms": lambda a, b: b / a,
        "texts/s": lambda a, b: a / b,
    }
    for part, case in (("latency", "16 tokens"), ("documents", "natural lengths")):
        mine, other = report.find(part, case, "fake again"), report.find(part, case, "fake")
        assert report.ratio(mine) == pytest.approx(by_hand[mine.unit](mine.median, other.median))


def test_who_computes_something_else_has_no_figures(fake):
    report = bench([Odd(label="noise"), fake], parts=["documents"], texts=make_texts(), quick=True, max_length=64)
    assert "do not agree" in report.refused["noise"]
    assert {figure.contender for figure in report.figures} == {"fake"}
    assert "No figures of noise" in report.to_markdown()


def test_who_fails_does_not_end_the_others_run(fake):
    odd = Odd(label="odd", fails_on_queries=True)
    report = bench([fake, odd, Odd(label="last")], parts=["served"], texts=make_texts(), quick=True, max_length=64)
    assert report.refused.keys() == {"fake"}
    assert report.failed == {"served, 64 callers, odd": "RuntimeError: Already borrowed"}
    assert {figure.contender for figure in report.figures} == {"last"}


def test_a_lone_model_stands_for_the_engines_here(tiny_folder):
    labels = [contender.label for contender in own_contenders([str(tiny_folder)])]
    assert labels[-2:] == ["openvino fp32", "torch fp32"]
    assert own_contenders([f"{tiny_folder}@backend=fake"])[0].label.endswith("@backend=fake")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parts": ["speed"]}, "'speed' is not one of latency"),
        ({"rounds": 0}, "rounds=0"),
        ({"max_length": 0}, "max_length=0"),
    ],
)
def test_settings_that_cannot_be_used(fake, arguments, message):
    with pytest.raises(InputError, match=message):
        bench([fake], texts=make_texts(), **arguments)


def test_texts_must_be_there():
    with pytest.raises(InputError, match="documents"):
        Texts(documents=[], queries=["a", "b"], origin="nowhere")
    with pytest.raises(InputError, match="documents"):
        Texts.of([], "nowhere")
    with pytest.raises(InputError, match="own settings"):
        bench([Odd(label="odd")], texts=make_texts())


def test_shipped_texts_are_of_natural_length():
    texts = shipped_texts()
    assert (len(texts.documents), len(texts.queries)) == (256, 60)
    assert max(map(len, texts.queries)) <= 160


@settings(max_examples=25, deadline=None)
@given(tokens=st.integers(3, 64), count=st.integers(1, 5))
def test_texts_of_exactly_so_many_tokens(fake, tokens, count):
    network = network_of([fake])
    texts = network.exact(tokens, count, make_texts().documents)
    assert network.lengths(texts, 512) == [tokens] * count


def test_no_text_of_so_many_tokens(fake):
    with pytest.raises(InputError, match="exactly 64 tokens"):
        network_of([fake]).exact(64, 2, ["too short"])


def test_operations_are_those_of_the_formula(tiny_onnx):
    from nimbed import quantize

    hidden, width, layers = 32, 64, 2
    counted = count_operations(quantize(tiny_onnx, precision="fp32", progress=False).folder)
    # Q, K, V, output and the two of the feed-forward layer; scores and values of attention. Mean pooling is one more.
    linear, quadratic = layers * 2 * (4 * hidden**2 + 2 * hidden * width), layers * 2 * 2 * hidden
    assert counted.quadratic == pytest.approx(quadratic)
    assert linear <= counted.linear <= linear + 2 * hidden
    assert Operations(linear=2, quadratic=1).of([1, 3]) == 2 * 4 + 10


@pytest.mark.parametrize("arithmetic", ["fp32", "int8"])
def test_the_roof_is_measured(arithmetic):
    assert Roof(arithmetic, threads=1).gops() > 1


@pytest.mark.skipif(not list(Path("/proc/self/task").glob("*/children")), reason="this system does not list children")
def test_memory_counts_what_a_contender_started():
    before = _resident_mb()
    program = "held = bytearray(range(256)) * 500_000; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        during = _resident_mb()
        child.communicate(b"\n")
    assert during > before + 100


def test_agreement_of_matrices():
    same = np.eye(3, dtype=np.float32)
    assert agreement(same, same * 2).held
    assert not agreement(same, same[:, ::-1]).held
    assert not agreement(same, same[:2]).held


def test_the_command(tiny_folder, tmp_path, capsys):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(make_texts(40).documents))
    setting = f"{tiny_folder}@backend=fake,name=tiny"
    files = ["--json", f"{tmp_path}/b.json", "--markdown", f"{tmp_path}/b.md", "--plot", f"{tmp_path}/charts"]
    options = ["--only", "latency", "--quick", "--max-length", "32", "--texts", str(path), *files]
    assert main(["bench", setting, *options]) == 0
    assert "**latency**" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())["conditions"]["texts"] == str(path)
    assert (tmp_path / "b.md").read_text().startswith("**latency**")
    assert (tmp_path / "charts" / "latency.png").is_file()
    assert main(["bench", setting, "--json", f"{tmp_path}/missing/b.json"]) == 1
    assert "there is no folder" in capsys.readouterr().err
