"""Lanes and slices: what is short does not wait behind what is long, and vectors stay the encoder's own."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest
from tests.support.cross_encoders import DOCUMENTS, QUERY
from tests.support.servers import WAIT_S, Held, fake_app

from nimbed import Encoder, SpecOverrides
from nimbed._serving.call import Call
from nimbed._types import Pair, PromptedText
from nimbed.errors import BackendError
from nimbed.server import ModelSettings, models
from nimbed.server.errors import ApiError
from nimbed.server.models import Asked, Embedder, Scorer, open_model, slices

MANY = [f"text {number}" for number in range(700)]


async def rows_of(parts):
    return np.concatenate([part.rows async for part in parts])


@pytest.fixture(scope="module")
def prompted(prompted_folder, native):
    """A model with a prompt for each role, and its own encoder."""
    model = open_model(ModelSettings(model=str(prompted_folder), precision="fp32"))
    with Encoder(prompted_folder, precision="fp32") as encoder:
        yield model, encoder
    model.close()


async def test_vectors_are_those_of_the_role_whatever_lane_they_take(prompted):
    model, encoder = prompted
    for texts in (MANY[:3], MANY[:40], MANY):
        for role in ("query", "document"):
            found = await rows_of(model.embed(Asked(texts=texts, role=role)))
            np.testing.assert_array_equal(found, encoder.encode(texts, role=role))


async def test_requests_that_come_together_have_their_own_vectors_and_tokens(prompted, monkeypatch):
    model, encoder = prompted
    calls = []
    monkeypatch.setattr(models, "Call", lambda *args: calls.append(Call(*args)) or calls[-1])
    texts = [f"number {number}" * (1 + number % 5) for number in range(60)]
    asked = [Asked(texts=texts[2 * at : 2 * at + 1 + at % 3], role=("query", "document")[at % 2]) for at in range(20)]

    async def of(one):
        return [part async for part in model.embed(one)]

    answered = await asyncio.gather(*map(of, asked))
    assert len(calls) == 2  # the first went alone
    for one, (part,) in zip(asked, answered, strict=True):
        np.testing.assert_array_equal(part.rows, encoder.encode(one.texts, role=one.role))
        (alone,) = await of(one)
        assert part.tokens == alone.tokens
        assert len(part.tokens) == len(part.cut) == len(one.texts)


def test_lanes_go_by_length(prompted):
    model, _ = prompted
    assert model._lane(Asked(texts=["short"], role="query")) == ("query", None)
    assert model._lane(Asked(texts=["short"], role="document")) == ("query", model.spec.prompt("document"))
    assert model._lane(Asked(texts=MANY, role="query")) == ("document", model.spec.prompt("query"))
    assert model._lane(Asked(texts=["x" * 9000], role="document")) == ("document", None)


async def test_a_prompt_takes_the_place_of_the_roles(prompted):
    model, encoder = prompted
    found = await rows_of(model.embed(Asked(texts=["a cat"], role="document", prompt="")))
    own = SpecOverrides(prompts={"query": "", "document": ""})
    with Encoder(encoder.info.artefact, spec=own, precision="fp32") as plain:
        np.testing.assert_array_equal(found, plain.encode(["a cat"]))


@pytest.mark.parametrize("asked", [{"dim": 0}, {"dim": 385}])
async def test_what_the_model_cannot_give_is_refused(asked):
    model = open_model(ModelSettings(model="m", backend="fake"))
    with pytest.raises(ApiError):
        await rows_of(model.embed(Asked(texts=["a"], role="document", **asked)))
    model.close()


async def test_scores_are_the_rerankers(reranker_folder, native):
    model = open_model(ModelSettings(model=str(reranker_folder), precision="fp32"))
    assert isinstance(model, Scorer)
    pairs = [Pair(QUERY, text) for text in DOCUMENTS]
    few = await rows_of(model.score(pairs))
    many = await rows_of(model.score(pairs * 60))
    np.testing.assert_array_equal(np.tile(few, (60, 1)), many)
    np.testing.assert_array_equal(few, await rows_of(model.score(DOCUMENTS, QUERY)))
    model.close()


def test_slices_are_bounded_and_in_order():
    found = list(slices(MANY, most=lambda: 250_000))
    assert [len(part) for part in found] == [256, 256, 188]
    assert [text for part in found for text in part] == MANY
    assert [len(part) for part in slices(["x" * 300_000] * 3, most=lambda: 250_000)] == [1, 1, 1]
    assert [len(part) for part in slices(["x"] * 5, added=125_000, most=lambda: 250_000)] == [2, 2, 1]


def test_what_is_computed_is_made_when_its_turn_comes():
    made = []
    parts = slices(MANY, lambda text: made.append(text) or PromptedText(prompt="p", text=text), most=lambda: 250_000)
    assert next(parts)[255] == PromptedText(prompt="p", text=MANY[255])
    assert made == MANY[:256]
    assert [len(part) for part in slices(["x"], most=lambda: 1)] == [1]


async def test_slices_take_a_few_seconds_whatever_the_model(monkeypatch):
    calls = []
    monkeypatch.setattr(models, "Call", lambda *args: calls.append(len(args[1])) or Call(*args))
    with open_model(ModelSettings(model="m", backend="fake", cache=0)) as model:
        await rows_of(model.embed(Asked(texts=["x" * 100] * 700, role="document")))
        assert calls[:2] == [80, 80]  # 8,000 characters, until it is known how fast it is
        assert max(calls) <= 256
        for fast in (16_000, 32_000, 64_000, 128_000, 250_000, 250_000):
            if fast == 16_000:
                model._slice_characters = 8_000
            model._pace(10**6)
            assert model._slice_characters == fast
        model._pace(6_000)
        assert model._slice_characters == 30_000
        model._pace(10)
        assert model._slice_characters == 8_000


async def test_what_a_cache_had_says_nothing_of_the_models_speed():
    texts = ["x" * 100 + str(number) for number in range(70)]
    with open_model(ModelSettings(model="m", backend="fake")) as model:
        await rows_of(model.embed(Asked(texts=texts, role="document")))
        known = model._slice_characters
        await rows_of(model.embed(Asked(texts=texts, role="document")))
        assert model._slice_characters == known == 16_000


async def test_a_short_text_overtakes_a_long_list():
    app = fake_app()
    model, held = app.catalog.first().model, Held(app)
    long = asyncio.create_task(rows_of(model.embed(Asked(texts=MANY, role="document"))))
    await asyncio.to_thread(held.reached.wait, WAIT_S)
    waiting = model.stats().queue_depth
    assert waiting <= 512  # two slices, and no more
    held.go_on.set()
    assert len(await long) == len(MANY)
    app.close()


async def test_what_is_cancelled_is_taken_out():
    app = fake_app()
    model, held = app.catalog.first().model, Held(app)
    long = asyncio.create_task(rows_of(model.embed(Asked(texts=MANY, role="document"))))
    await asyncio.to_thread(held.reached.wait, WAIT_S)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    held.go_on.set()
    assert len(await rows_of(model.embed(Asked(texts=["after"], role="document")))) == 1
    assert held.rows < len(MANY)
    app.close()


async def test_slices_that_fail_are_said_once_and_in_no_log(caplog):
    app = fake_app()
    model = app.catalog.first().model

    def fails(batch):
        raise BackendError("a secret text")

    for session in model._opened().scheduler.sessions:
        session.run = fails
    with pytest.raises(BackendError):
        await rows_of(model.embed(Asked(texts=MANY, role="document")))
    app.close()
    await asyncio.sleep(0.05)  # the other slice has ended too
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_the_files_say_which_kind_it_is(reranker_folder, native):
    with open_model(ModelSettings(model="m", backend="fake", max_length=64, cache=0)) as model:
        assert isinstance(model, Embedder)
        assert model.info.max_length == 64
        assert model.stats().cache is None
