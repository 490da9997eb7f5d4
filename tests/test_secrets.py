"""A password given in a URL is nowhere to be read."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest

from nimbed import CacheConfig, Encoder
from nimbed._settings import Settings
from nimbed.langchain import NimbedEmbeddings
from nimbed.llama_index import NimbedEmbedding
from tests.redis_server import redis_server

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


@pytest.mark.parametrize("adapter", [NimbedEmbeddings, NimbedEmbedding])
def test_not_in_adapters(adapter):
    embedding = adapter(model_name="m", backend="fake", cache=URL)
    shown = [repr(embedding), str(embedding), str(embedding.model_dump()), embedding.model_dump_json()]
    if hasattr(embedding, "to_dict"):
        shown += [str(embedding.to_dict()), embedding.to_json()]
    assert not [text for text in shown if WORD in text]
    assert WORD.encode() not in pickle.dumps(embedding)
    assert embedding.cache.url == URL
    embedding.encoder.close()


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
