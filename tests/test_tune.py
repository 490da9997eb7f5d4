"""Profiles: found where they were left, refused where they are damaged; and the choice among candidates."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed import Encoder, quantize
from nimbed._loading.artefact import open_artefact
from nimbed._loading.profile import Profile, profile_path, read_profile, write_profile
from nimbed.backends.shapes import Tuning
from nimbed.cli import main
from nimbed.errors import ArtefactError
from nimbed.tune import CANDIDATES, _winner


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def artefact(tiny_onnx, tmp_path_factory):
    return quantize(tiny_onnx, tmp_path_factory.mktemp("tuned") / "tiny", precision="fp32", progress=False).folder


TUNED = Profile(tuning=Tuning(tokens_per_thread=64, least_alone=16), measured={"engine": "openvino 1"})


def test_an_encoder_uses_its_profile_and_says_so(artefact, home):
    texts = [f"a text of some words, number {n}" for n in range(40)]
    with Encoder(artefact, threads=1, cache=None) as encoder:
        before, fingerprint, batches = encoder.encode(texts), encoder.fingerprint, encoder.stats().batches
        assert "shapes" not in encoder.info.reasons
    write_profile(TUNED, open_artefact(artefact).manifest.digest, 1)
    with Encoder(artefact, threads=1, cache=None) as encoder:
        after = encoder.encode(texts)
        assert "least_alone=16: tuned here with openvino 1" in encoder.info.reasons["shapes"]
        assert encoder.stats().batches > batches
        assert encoder.fingerprint == fingerprint
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"tuning": {"speed": 1}, "measured": {}}', "\x00", '{"tuning": {"least_alone": 0}}']
)  # fmt: skip
def test_a_damaged_profile_is_refused_by_name(home, content):
    path = profile_path("digest", 1)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ArtefactError, match=r"profiles.*delete it, or tune again"):
        read_profile("digest", 1)


def test_a_profile_that_cannot_be_written(home, monkeypatch):
    home.write_text("a file where a folder should be")
    with pytest.raises(ArtefactError, match="NIMBED_HOME"):
        write_profile(TUNED, "digest", 1)


def test_the_default_stays_unless_another_is_surely_faster():
    assert _winner([[1.0, 1.0, 1.0, 1.0, 1.0], [0.99] * 5]) == 0
    assert _winner([[1.0, 1.0, 1.0, 1.0, 1.0], [0.8, 0.8, 0.8, 1.2, 1.2]]) == 0
    assert _winner([[1.0, 1.0, 1.0, 1.0, 1.0], [0.9] * 5, [0.8] * 5, [2.0] * 5]) == 2


def test_tuning_measures_every_candidate_and_is_found_again(artefact, home, capsys):
    assert main(["tune", str(artefact), "--seconds", "0.1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    for kind, candidates in CANDIDATES.items():
        assert printed.count(f"| {kind} |") == len(candidates)
    kept = read_profile(open_artefact(artefact).manifest.digest, 1)
    assert str(kept.tuning) in printed
    assert all(len(took) >= 5 for some in kept.measured["seconds"].values() for took in some.values())
