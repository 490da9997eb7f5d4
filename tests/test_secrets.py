"""A password given in a URL is nowhere to be read."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest
from langchain_core.load import dumps
from pydantic import ValidationError

from nimbed import CacheConfig, Encoder
from nimbed._adapters.haystack import Options
from nimbed._loading.settings import Settings
from nimbed.haystack import NimbedTextEmbedder
from nimbed.langchain import NimbedEmbeddings
from nimbed.llama_index import NimbedEmbedding
from tests.support.redis_server import redis_server

WORD = "s3cret-word"
URL = f"redis://me:{WORD}@127.0.0.1:1/0"


def test_not_in_reprs_and_pickles():
    config = CacheConfig(url=URL)
    encoder = Encoder("m", backend="fake", cache=config)
    for shown in (repr(config), repr(encoder), repr(Settings(model="m", cache=config)), repr(encoder.stats())):
        assert WORD not in shown
    for thing in (config, encoder):
        assert WORD.encode() not in pickle.dumps(thing)
    assert copy.deepcopy(config).url == URL
    encoder.close()


SECRETS = {
    "a password": CacheConfig(url=URL),
    "a user name": CacheConfig(url=f"redis://{WORD}@127.0.0.1:1/0"),
    "options": CacheConfig(url=f"redis://127.0.0.1:1/0?username=me&password={WORD}"),
    "of a certificate": CacheConfig(url=f"rediss://127.0.0.1:1/0?ssl_password={WORD}"),
    "of a socket": CacheConfig(url=f"unix://me:{WORD}@/nowhere/socket"),
    "an escaped one": CacheConfig(url=f"redis://me:{WORD}%23%3F%40@127.0.0.1:1/0"),
    "a key": CacheConfig(url="redis://127.0.0.1:1/0", key=f"{WORD} of some length"),
    "a key in bytes": CacheConfig(url="redis://127.0.0.1:1/0", key=f"{WORD} of some length".encode()),
}
secrets = pytest.mark.parametrize("cache", SECRETS.values(), ids=SECRETS)


def langchain(cache):
    return NimbedEmbeddings(model_name="m", backend="fake", cache=cache)


def llama_index(cache):
    return NimbedEmbedding(model_name="m", backend="fake", cache=cache)


@secrets
@pytest.mark.parametrize("adapter", [langchain, llama_index])
def test_not_in_adapters(adapter, cache):
    embedding = adapter(cache)
    shown = [
        repr(embedding), str(embedding), str(vars(embedding)), str(dict(embedding)), str(embedding.model_dump()),
        embedding.model_dump_json(), dumps(embedding), str(pickle.dumps(embedding)), str(embedding.encoder.stats()),
    ]  # fmt: skip
    if hasattr(embedding, "to_dict"):
        shown += [str(embedding.to_dict()), embedding.to_json()]
    assert not [text for text in shown if WORD in text]
    assert embedding.cache is cache
    embedding.encoder.close()


@secrets
def test_not_in_haystacks_files(cache):
    component = NimbedTextEmbedder("m", backend="fake", cache=cache)
    for shown in (component.to_dict(), vars(component), component._options.model_dump_json()):
        assert WORD not in str(shown)
    again = NimbedTextEmbedder.from_dict(component.to_dict())
    assert again._options.cache.signed == (cache.key is not None)


@secrets
def test_not_in_copies(cache):
    with Encoder("m", backend="fake", cache=cache) as encoder:
        assert WORD not in str(pickle.dumps(encoder)) + str(pickle.dumps(cache)) + repr(cache) + repr(encoder.stats())
    assert copy.deepcopy(cache) is cache


COMPLAINTS = {
    "a list": {"cache": [URL]},
    "a dictionary": {"cache": {"url": URL, "bogus": 1}},
    "a wrong URL": {"cache": f"{URL}?bogus=1"},
    "a wrong key": {"cache": {"url": URL, "key": [WORD]}},
    "another field": {"cache": URL, "max_length": "x"},
    "the wrong field": {"max_length": URL},
    "the wrong size": {"cache": {"size_bytes": URL}},
    "the wrong time": {"cache": {"ttl_s": URL}},
    "an unknown field": {"cache": URL, "bogus_field": URL},
}


def complaint_of(call):
    try:
        call()
    except ValueError as err:
        return err
    raise AssertionError("it was accepted")


@pytest.mark.parametrize("said", COMPLAINTS.values(), ids=COMPLAINTS)
@pytest.mark.parametrize("adapter", [NimbedEmbeddings, NimbedEmbedding, Options])
def test_not_in_complaints(adapter, said):
    check_complaint(complaint_of(lambda: adapter(model_name="m", backend="fake", **said)))


@pytest.mark.parametrize("adapter", [langchain, llama_index])
def test_not_in_a_complaint_of_setting_what_cannot_be_set(adapter):
    embedding = adapter(None)
    check_complaint(complaint_of(lambda: setattr(embedding, "cache", URL)))


def check_complaint(error):
    while error is not None:
        shown = [str(error), repr(error), "".join(traceback.format_exception(error))]
        if isinstance(error, ValidationError):
            shown += [str(error.errors()), error.json()]
        assert not [text for text in shown if WORD in text]
        error = error.__cause__ or error.__context__


def test_not_in_logs_and_errors(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    with Encoder("m", backend="fake", cache=CacheConfig(url=URL, timeout_s=0.05)) as encoder:
        encoder.encode(["one"])
        assert encoder.stats().cache.tier.state == "down"
        assert encoder.stats().cache.tier.name == "redis://127.0.0.1:1/0"
    assert caplog.records
    assert WORD not in caplog.text


def test_a_copy_runs_without_the_tier_or_takes_the_environments_url(tmp_path, monkeypatch):
    monkeypatch.delenv("NIMBED_REDIS_URL", raising=False)
    server = redis_server(tmp_path)
    try:
        with Encoder("m", backend="fake", cache=server.url) as encoder:
            encoder.encode(["one", "two"])
            copied = pickle.loads(pickle.dumps(encoder))
        with copied:
            assert copied.encode(["one", "two"]).shape == (2, 384)
            tier = copied.stats().cache.tier
            assert tier.state.startswith("off: ")
            assert "NIMBED_REDIS_URL" in tier.state
            twice = pickle.loads(pickle.dumps(copied))
        monkeypatch.setenv("NIMBED_REDIS_URL", server.url)
        with twice:
            twice.encode(["one", "two"])
            assert twice.stats().cache.tier.hits == 2
            assert WORD not in repr(twice.stats())
    finally:
        server.kill()


def test_without_credentials_a_pickle_keeps_the_tier(tmp_path):
    url = f"sqlite:///{tmp_path}/v.db"
    with Encoder("m", backend="fake", cache=url) as encoder:
        encoder.encode(["one"])
        copied = pickle.loads(pickle.dumps(encoder))
    with copied:
        copied.encode(["one"])
        assert copied.stats().cache.tier.hits == 1


def test_a_copy_signs_with_the_environments_key_or_runs_without_the_tier(tmp_path, monkeypatch):
    monkeypatch.delenv("NIMBED_CACHE_KEY", raising=False)
    url, key = f"sqlite:///{tmp_path}/v.db", f"{WORD} of some length"
    with Encoder("m", backend="fake", cache=CacheConfig(url=url, key=key)) as encoder:
        encoder.encode(["one"])
        copied = pickle.loads(pickle.dumps(encoder))
    with copied:
        copied.encode(["one"])
        assert copied.stats().cache.tier.state == "off: its key is not written out; set NIMBED_CACHE_KEY"
        twice = pickle.loads(pickle.dumps(copied))
    monkeypatch.setenv("NIMBED_CACHE_KEY", key)
    with twice:
        twice.encode(["one"])
        assert twice.stats().cache.tier.hits == 1
    by_environment = pickle.dumps(CacheConfig(url=url))
    monkeypatch.delenv("NIMBED_CACHE_KEY")
    assert pickle.loads(by_environment).signed
    monkeypatch.setenv("NIMBED_CACHE_KEY", "another key, also long")
    with Encoder("m", backend="fake", cache=url) as other:
        other.encode(["one"])
        assert (other.stats().cache.tier.hits, other.stats().cache.tier.damaged) == (0, 1)
