"""An artefact is opened as what it is, or the contradiction is named."""

from __future__ import annotations

import pytest
from tests.support import artefacts
from tests.support.artefacts import FILES, QUALITY, made

from nimbed._loading.engine import open_engine
from nimbed._loading.hub import Source
from nimbed._loading.settings import Settings
from nimbed.backends import fake
from nimbed.errors import InputError, ModelNotFoundError, SpecError
from nimbed.spec import SpecOverrides


@pytest.fixture
def artefact(tmp_path, monkeypatch):
    """One for OpenVINO, with a tokenizer; the stand-in opens any engine's."""
    monkeypatch.setattr(artefacts, "FILES", {**FILES, "tokenizer.json": fake.tokenizer().to_str().encode()})
    folder = tmp_path / "artefact"
    folder.mkdir()
    return made(folder)


def opened(folder, **more):
    return open_engine(Settings(model=str(folder), **{"backend": "fake", **more}))


def test_an_artefact_is_named_and_described_by_its_manifest(artefact):
    info = opened(artefact).info
    assert (info.model, info.revision, info.precision) == ("some/model", "abc", "int8")
    assert info.quality == QUALITY
    assert info.artefact == str(artefact)
    assert info.reasons["precision"] == "the artefact's own"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"backend": "native"}, "is an artefact for openvino, not for backend='native'"),
        ({"precision": "fp32"}, "is an int8 artefact, not fp32"),
        ({"spec": SpecOverrides(pooling="cls")}, "was built with mean pooling; build another one"),
        (
            {"spec": SpecOverrides(task="retrieval")},
            "there is no prompt for this task; the model has no adapters for tasks",
        ),
        (
            {"source": Source(file="other.onnx")},
            r"model\.safetensors, not from Source\(file='other\.onnx'\)",
        ),
    ],
)
def test_what_contradicts_the_artefact_is_refused(said, says, artefact):
    with pytest.raises(InputError, match=says):
        opened(artefact, **said)


def test_what_agrees_with_it_may_be_said(artefact):
    plain = opened(artefact).info.fingerprint
    for said in (
        {"precision": "int8"},
        {"spec": SpecOverrides(pooling="mean")},
        {"source": Source(file="model.safetensors")},
        {"source": Source(file="model.xml")},
    ):
        assert opened(artefact, **said).info.fingerprint == plain


def test_one_that_was_forced_warns_whenever_it_is_opened(artefact):
    made(artefact, forced=True, quality={**QUALITY, "min_cosine": 0.5, "missed": ["min_cosine"]})
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"published by force: min_cosine 0\.5000 \(at least 0\.9\)"):
            info = opened(artefact).info
        assert info.reasons["quality"].startswith("this artefact failed its quality gate")


def test_an_embedding_model_scores_no_pairs(artefact):
    with pytest.raises(SpecError, match="is a sentence-embedding model and scores no pairs"):
        opened(artefact, task="scoring")


def test_a_stand_in_needs_no_folder_and_others_do(tmp_path):
    assert opened(tmp_path / "nothing").info.backend == "fake"
    with pytest.raises(ModelNotFoundError):
        opened(tmp_path / "nothing", backend="openvino")
