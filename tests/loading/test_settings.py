"""What a user may say, and what is refused before anything is opened."""

from __future__ import annotations

import copy
import pickle

import pytest

from nimbed import CacheConfig
from nimbed._loading.settings import EncoderStats, Settings
from nimbed.errors import InputError


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"size_bytes": -1}, "size_bytes"), ({"size_bytes": 1.5}, "size_bytes"), ({"size_bytes": True}, "size_bytes"),
        ({"ttl_s": 0}, "ttl_s"), ({"ttl_s": "1"}, "ttl_s"), ({"timeout_s": float("inf")}, "timeout_s"),
        ({"timeout_s": None}, "timeout_s"), ({"key": "short"}, "key"), ({"key": 7}, "key"), ({"url": 7}, "URL"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be(wrong, named):
    with pytest.raises(InputError, match=named):
        CacheConfig(**wrong)


def test_what_a_user_may_say():
    assert CacheConfig.of(None) is None
    assert CacheConfig.of(1000).size_bytes == 1000
    assert CacheConfig.of("sqlite:///x.db").url == "sqlite:///x.db"
    for wrong in (True, 1.5, [1]):
        with pytest.raises(InputError, match="cache must be"):
            CacheConfig.of(wrong)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("NIMBED_CACHE_KEY", raising=False)


URL = "redis://me:word@host:6379/0"
KEY = "k" * 16


def test_a_pickle_has_neither_credentials_nor_key_and_knows_it():
    config = CacheConfig(url=URL, key=KEY, ttl_s=9)
    copied = pickle.loads(pickle.dumps(config))
    assert (copied.url, copied.key, copied.ttl_s) == ("redis://host:6379/0", None, 9)
    assert copied.credentials_dropped
    assert copied.signed  # never without a key where there was one
    again = pickle.loads(pickle.dumps(copied))
    assert (again.url, again.credentials_dropped, again.signed) == (copied.url, True, True)


def test_what_has_no_secrets_is_pickled_whole():
    config = CacheConfig(size_bytes=7, url="sqlite:///x.db", timeout_s=2)
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_copy_in_this_process_keeps_its_credentials():
    config = CacheConfig(url=URL, key=KEY)
    assert copy.deepcopy(config) is config


def test_neither_url_nor_key_is_shown():
    shown = repr(CacheConfig(url=URL, key="s3cr" * 4))
    assert "word" not in shown
    assert "s3cr" not in shown
    assert "host" not in shown


def test_the_environments_key_counts_where_a_tier_is_shared(monkeypatch):
    monkeypatch.setenv("NIMBED_CACHE_KEY", f" {KEY}\n")
    assert CacheConfig().secret() is None
    assert CacheConfig(url="sqlite:///x.db").secret() == KEY.encode()
    assert CacheConfig(url="sqlite:///x.db", key=b"o" * 16).secret() == b"o" * 16
    monkeypatch.setenv("NIMBED_CACHE_KEY", "short")
    with pytest.raises(InputError, match=r"NIMBED_CACHE_KEY must be .*16 bytes or more") as caught:
        CacheConfig(url="sqlite:///x.db")
    assert "'short'" not in str(caught.value)


def test_a_number_in_the_wrong_place_is_shown_and_a_word_is_not():
    with pytest.raises(InputError, match=r"size_bytes=-1 must be"):
        CacheConfig(size_bytes=-1)
    with pytest.raises(InputError, match=r"ttl_s=<str> must be"):
        CacheConfig(ttl_s=URL)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"backend": "onnx"}, r"backend='onnx' is not one of auto, "),
        ({"precision": "int4"}, r"precision='int4' is not one of auto, bf16, fp32, int8"),
        ({"truncate": "cut"}, r"truncate='cut' is not one of chunk, error, silent, warn"),
        ({"dim": 0}, r"dim=0 must be a whole number from 1 on"),
        ({"threads": True}, "threads=True must be"),
        ({"max_length": 1.0}, r"max_length=1\.0 must be"),
        ({"threads": 10**9}, "threads=1000000000 is more than 4096; None takes the cores"),
        ({"spec": "mean"}, r"spec='mean' must be a nimbed\.SpecOverrides\(\.\.\.\), or None"),
        ({"source": "main"}, r"source='main' must be a nimbed\.Source\(\.\.\.\), or None"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong, says):
    Settings(model="m")
    with pytest.raises(InputError, match=says):
        Settings(model="m", **wrong)


def test_padding_is_a_share_of_what_was_computed():
    assert EncoderStats(tokens=30, padded_tokens=40).padding_waste == pytest.approx(0.25)
    assert EncoderStats().padding_waste == 0
