"""A profile is found by artefact, CPU and threads, and refused where it cannot be used."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed import _machine
from nimbed._loading.profile import Profile, profile_path, read_profile, write_profile
from nimbed.backends.shapes import Tuning
from nimbed.errors import ArtefactError


@given(tokens=st.integers(1, 10**6), alone=st.integers(1, 512))
def test_a_profile_comes_back_as_it_was_written(tokens, alone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIMBED_HOME", str(tmp_path_factory.mktemp("home")))
        profile = Profile(tuning=Tuning(tokens_per_thread=tokens, least_alone=alone), measured={"engine": "x"})
        write_profile(profile, "digest", 2)
        assert read_profile("digest", 2) == profile
        assert read_profile("digest", 3) is None
        assert read_profile("another", 2) is None


PROFILE = Profile(tuning=Tuning(tokens_per_thread=64, least_alone=16), measured={"engine": "openvino 1", "gain": 1.5})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_reason_names_the_choice_and_the_engine():
    assert PROFILE.reason == "tokens_per_thread=64, least_alone=16: tuned here with openvino 1"


def test_the_place_tells_artefacts_threads_and_cpus_apart(home, monkeypatch):
    places = [profile_path("d", 1), profile_path("d", 2), profile_path("e", 1)]
    cpu = _machine.cpu()
    monkeypatch.setattr(_machine, "cpu", lambda: replace(cpu, model="another"))
    places.append(profile_path("d", 1))
    assert len(set(places)) == 4
    assert {place.parent for place in places} == {home / "profiles"}


def test_a_later_one_takes_the_place_of_the_first():
    write_profile(PROFILE, "d", 1)
    later = replace(PROFILE, tuning=Tuning(tokens_per_thread=128, least_alone=16))
    assert write_profile(later, "d", 1) == profile_path("d", 1)
    assert read_profile("d", 1) == later


GOOD = json.loads(json.dumps(asdict(PROFILE)))


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({**GOOD, "tuning": {"tokens_per_thread": 64}}, r"tokens_per_thread, least_alone are wanted, not .*delete it"),
        ({**GOOD, "tuning": {**GOOD["tuning"], "speed": 1}}, "are wanted, not"),
        ({**GOOD, "tuning": {**GOOD["tuning"], "least_alone": 0}}, "least_alone"),
        ({**GOOD, "tuning": {**GOOD["tuning"], "least_alone": 2**20 + 1}}, "least_alone"),
        ({**GOOD, "tuning": {**GOOD["tuning"], "tokens_per_thread": 1.5}}, "tokens_per_thread"),
        ({**GOOD, "measured": {}}, "engine"),
        ({**GOOD, "measured": None}, "measured"),
        ([], "profiles"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(record, says):
    path = write_profile(PROFILE, "d", 1)
    path.write_text(json.dumps(record))
    with pytest.raises(ArtefactError, match=says) as caught:
        read_profile("d", 1)
    assert str(path) in str(caught.value)


def test_a_home_that_is_a_file_is_named_with_what_to_do(home):
    home.write_text("a file")
    with pytest.raises(ArtefactError, match=r"cannot be written: .*; choose another place with NIMBED_HOME"):
        write_profile(PROFILE, "d", 1)


def test_without_a_home_nothing_was_tuned(monkeypatch):
    def unknown():
        raise ArtefactError("no home")

    monkeypatch.setattr("nimbed._loading.profile.home", unknown)
    assert read_profile("d", 1) is None
    with pytest.raises(ArtefactError, match="no home"):
        write_profile(PROFILE, "d", 1)
