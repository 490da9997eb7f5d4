"""What is there is not built again, what was refused is not tried again, and a child's end becomes an error."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.artefacts import SPEC, made, rewrite
from tests.support.building import request_of_a_model

from nimbed._loading import child_process
from nimbed._loading.artefact import open_artefact
from nimbed._loading.build import QualityGate, find_or_build, longest_text
from nimbed._loading.manifest import FORMAT, RECIPE
from nimbed.errors import ArtefactError, BuildError, InputError, MissingExtraError, QualityError

# The gate


@pytest.mark.parametrize("value", [-0.1, 1.1, True, "0.9", None, float("nan")])
def test_a_threshold_is_a_number_from_0_to_1(value):
    with pytest.raises(InputError, match=r"QualityGate\(min_cosine=.*\): a number from 0 to 1"):
        QualityGate(min_cosine=value)


MEASURES = st.fixed_dictionaries({}, optional=dict.fromkeys(asdict(QualityGate()), st.floats(0, 1)))


@given(MEASURES)
def test_failures_are_the_measures_below_their_thresholds(measured):
    gate = QualityGate()
    thresholds = asdict(gate)
    assert gate.of(measured) == {name: thresholds[name] for name in thresholds if name in measured}
    assert gate.failures(measured).keys() == {name for name, value in measured.items() if value < thresholds[name]}
    nothing = QualityGate(**dict.fromkeys(thresholds, 0))
    assert nothing.failures(measured) == {}


def test_a_measure_at_its_threshold_passes():
    gate = QualityGate()
    assert gate.failures({**asdict(gate), "other": 0}) == {}


# Building


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def request_(home):
    return request_of_a_model(SPEC, target=str(home / "artefacts" / "small"), key="k")


@pytest.fixture
def child(monkeypatch):
    """Plays the child process: tells ``reports``, ends with ``fault``; counts how often it was started."""

    class Played:
        reported, ended, started = (), None, 0

        def begins(self):
            pass

        def reports(self):
            return iter(self.reported)

        def fault(self):
            return self.ended

    played = Played()

    @contextmanager
    def started(*_, **__):
        played.started += 1
        played.begins()
        yield played

    monkeypatch.setattr(child_process, "started", started)
    monkeypatch.setattr(child_process, "interpreter", lambda: "python")
    return played


def test_what_is_there_is_opened_and_not_built(request_, home, child):
    folder = home / "artefacts" / "small"
    folder.mkdir(parents=True)
    made(folder)
    assert find_or_build(request_) == open_artefact(folder)
    assert child.started == 0


def test_an_artefact_of_other_inputs_is_left_alone(request_, home, child):
    folder = home / "artefacts" / "small"
    folder.mkdir(parents=True)
    manifest = open_artefact(made(folder)).manifest
    with pytest.raises(InputError, match="made from other inputs; choose another folder"):
        find_or_build(replace(request_, key="another"))
    assert open_artefact(folder).manifest == manifest


def test_what_is_missing_is_built_once(request_, home, child):
    def build():
        (home / "artefacts" / "small").mkdir(parents=True)
        made(home / "artefacts" / "small")

    child.begins = build
    child.reported = [
        {"kind": "progress", "stage": "quantizing", "done": 1, "total": 2},
        {"kind": "done"},
    ]
    assert find_or_build(request_, progress=False) == find_or_build(request_, progress=False)
    assert child.started == 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("MissingExtraError", MissingExtraError), ("ArtefactError", ArtefactError), ("ZeroDivisionError", BuildError)],
)
def test_a_childs_error_is_this_ones(kind, expected, request_, child):
    child.reported = [{"kind": "error", "type": kind, "message": "in its own words"}]
    with pytest.raises(expected, match=r"^in its own words$"):
        find_or_build(request_, progress=False)


@pytest.mark.parametrize(
    ("fault", "says"),
    [("was killed", "building some/model was killed$"), (None, "ended before it was done; build it beforehand")],
)
def test_a_child_that_ends_without_a_word_is_an_error(fault, says, request_, child):
    child.ended = fault
    with pytest.raises(BuildError, match=says):
        find_or_build(request_, progress=False)


@pytest.mark.parametrize(
    ("engine", "max_length", "longest"),
    [("native", 512, 512), ("native", 128, 512), ("native", 8192, 8192), ("openvino", 8192, 512)],
)
def test_long_texts_are_for_networks_that_take_them_and_the_engine_with_room_for_them(
    engine, max_length, longest, request_
):
    assert longest_text(engine, replace(request_.spec, max_length=max_length)) == longest


def test_who_stops_a_build_hears_how_far_it_was(request_, child):
    def reported():
        yield {"kind": "progress", "stage": "quantizing", "done": 5, "total": 12}
        raise KeyboardInterrupt

    child.reported = reported()
    said = "building some/model was stopped, and nothing was published; run it again: 5 of 12 layers are done"
    with pytest.raises(KeyboardInterrupt, match=said):
        find_or_build(request_, progress=False)


def test_a_child_that_cannot_be_started_is_named_with_what_to_do(request_, child):
    def refuse():
        raise OSError("no more processes")

    child.begins = refuse
    with pytest.raises(BuildError, match=r"builds some/model could not be run: no more processes; build it beforehand"):
        find_or_build(request_, progress=False)


def refuse_quality(child):
    child.reported = [{"kind": "error", "type": "QualityError", "message": "too far from fp32"}]


def test_a_refusal_in_the_cache_is_remembered(request_, home, child):
    refuse_quality(child)
    with pytest.raises(QualityError, match=r"^too far from fp32$"):
        find_or_build(request_, progress=False)
    with pytest.raises(QualityError, match=r"too far from fp32 \(as found before: .*small\.r\d+\.refused\)"):
        find_or_build(request_, progress=False)
    assert child.started == 1


def test_a_refusal_elsewhere_leaves_no_file_of_ours(request_, tmp_path, child):
    refuse_quality(child)
    for _ in range(2):
        with pytest.raises(QualityError, match=r"^too far from fp32$"):
            find_or_build(replace(request_, target=str(tmp_path / "mine")), progress=False)
    assert child.started == 2
    assert not list(tmp_path.glob("mine*"))


def test_an_artefact_of_an_older_format_is_built_anew(request_, home, child):
    folder = home / "artefacts" / "small"
    folder.mkdir(parents=True)
    rewrite(made(folder), format=FORMAT - 1)
    child.begins = lambda: made(folder)
    child.reported = [{"kind": "done"}]
    assert find_or_build(request_, progress=False).manifest.format == FORMAT
    assert child.started == 1


def test_an_older_artefact_of_another_model_is_left_alone(request_, home, child):
    folder = home / "artefacts" / "small"
    folder.mkdir(parents=True)
    rewrite(made(folder), format=FORMAT - 1)
    with pytest.raises(InputError, match=r"small holds an artefact of some/model in an older format; choose another"):
        find_or_build(replace(request_, name="another/model"), progress=False)
    assert child.started == 0


def test_a_refusal_of_an_older_recipe_does_not_count(request_, home, child):
    refuse_quality(child)
    (home / "artefacts").mkdir(parents=True)
    for name in ("small.refused", f"small.r{RECIPE - 1}.refused"):
        (home / "artefacts" / name).write_text("then")
    with pytest.raises(QualityError, match=r"^too far from fp32$"):
        find_or_build(request_, progress=False)
    assert child.started == 1
