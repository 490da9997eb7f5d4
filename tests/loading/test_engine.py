"""Settings in, an opened engine out: what the user said holds, and what cannot be is refused before it opens."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed._cache.lru import Keys
from nimbed._loading.engine import open_engine
from nimbed._loading.profile import Profile, write_profile
from nimbed._loading.settings import Settings
from nimbed._types import TokenBatch
from nimbed.backends import fake
from nimbed.backends.shapes import Tuning
from nimbed.errors import ArtefactError, InputError
from nimbed.spec import SpecOverrides


def opened(model="m", **more):
    return open_engine(Settings(model=model, backend="fake", **more))


@pytest.fixture
def requests(monkeypatch):
    """What the backend was asked for."""
    asked = []
    inner = fake.open_backend
    monkeypatch.setattr(fake, "open_backend", lambda request: asked.append(request) or inner(request))
    return asked


def test_a_new_revision_of_the_engine_is_a_new_key(monkeypatch):
    before = opened().vector_fingerprint
    monkeypatch.setattr(fake.FakeBackend, "version", "fake 2")
    after = opened().vector_fingerprint
    assert Keys(after, "")(["a text"]) != Keys(before, "")(["a text"])


def test_what_is_not_said_is_the_models(requests):
    engine = opened()
    info = engine.info
    assert (info.model, info.backend, info.precision, info.dim, info.max_length) == ("m", "fake", "fp32", 384, 512)
    assert (info.pooling, info.normalize, info.truncate) == ("mean", True, "warn")
    assert not engine.normalize_after
    assert engine.ranges is None
    assert requests[0].spec == engine.spec
    assert info.reasons["backend"] == "set by the user"
    assert {"pooling", "threads", "precision"} <= info.reasons.keys()


def test_what_is_said_reaches_the_engine(requests):
    engine = opened(dim=16, max_length=32, threads=1, truncate="silent")
    assert (engine.info.dim, engine.info.max_length, engine.info.threads) == (16, 32, 1)
    assert (requests[0].spec.max_length, requests[0].threads, requests[0].tuning) == (32, 1, None)
    assert requests[0].spec.dim == 384  # the caller's dim is cut afterwards
    (sequence,) = engine.tokenizer(["a" * 100], "").sequences
    assert len(sequence) == 32


def test_the_backend_runs():
    backend = opened().backend
    vectors = backend.session().run(TokenBatch.from_sequences([np.int32([1, 2, 3])]))
    assert vectors.shape == (1, 384)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dim": 385}, r"dim=385 is more than the model's 384"),
        ({"max_length": 513}, r'max_length=513 is more than the 512 tokens .*truncate="chunk"'),
        ({"spec": SpecOverrides(normalize=False)}, "normalize=False: .* normalizes in its graph"),
    ],
)
def test_what_the_model_cannot_is_refused_before_it_is_opened(wrong, says, requests):
    with pytest.raises(InputError, match=says):
        opened(**wrong)
    assert requests == []


def test_the_models_own_limits_may_be_said():
    engine = opened(dim=384, max_length=512, spec=SpecOverrides(normalize=True))
    assert engine.info.fingerprint == opened().info.fingerprint


def test_vectors_of_full_width_have_one_fingerprint_whatever_the_dim_and_prompt():
    prompted = opened(dim=16, spec=SpecOverrides(prompts={"query": "q: "}))
    plain = opened()
    assert prompted.vector_fingerprint == plain.vector_fingerprint
    assert prompted.info.fingerprint != plain.info.fingerprint
    assert prompted.info.prompts["query"] == "q: "
    assert opened(max_length=16).vector_fingerprint != plain.vector_fingerprint


def test_a_profile_of_these_threads_is_used_and_told(requests, tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path))
    tuning = Tuning(tokens_per_thread=64, least_alone=16)
    write_profile(Profile(tuning=tuning, measured={"engine": "a version"}), "fake", 1)
    assert "tuned here with a version" in opened(threads=1).info.reasons["shapes"]
    assert "shapes" not in opened(threads=2).info.reasons
    assert [request.tuning for request in requests] == [tuning, None]


def test_files_that_change_while_it_opens_close_it_again(tmp_path, monkeypatch):
    from tests.support.artefacts import FILES, made

    folder = tmp_path / "artefact"
    folder.mkdir()
    files = {**FILES, "tokenizer.json": fake.tokenizer().to_str().encode()}
    monkeypatch.setattr("tests.support.artefacts.FILES", files)
    made(folder)
    closed = []

    def open_while_it_is_written(request):
        (folder / "model.bin").write_bytes(b"another network")
        backend = fake.FakeBackend(request.spec)
        monkeypatch.setattr(backend, "close", lambda: closed.append(1))
        return backend

    monkeypatch.setattr(fake, "open_backend", open_while_it_is_written)
    with pytest.raises(ArtefactError, match=r"model\.bin was written into"):
        open_engine(Settings(model=str(folder), backend="fake"))
    assert closed == [1]


def test_a_width_that_a_model_was_not_trained_for_is_told(tmp_path):
    from tests.support.model_folders import write

    files = {"config.json": {"model_type": "bert", "hidden_size": 768, "max_position_embeddings": 64}}
    files |= {"tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    folder = write(tmp_path / "nomic-embed-text-v1.5", files=files)
    said = {dim: opened(model=str(folder), dim=dim).info.reasons.get("dim", "") for dim in (None, 768, 256, 300)}
    assert said == {
        None: "",
        768: "",
        256: "",
        300: "set by the user; the model was trained for 768, 512, 256, 128, 64",
    }
    centered = {dim: opened(model=str(folder), dim=dim) for dim in (768, 256)}
    assert len({engine.vector_fingerprint for engine in centered.values()}) == 1
    assert centered[256].spec.center_before_cut
