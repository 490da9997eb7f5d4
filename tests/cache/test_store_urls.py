"""URLs of shared tiers: what they may say, and that what is secret in them is not shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed._cache.store_urls import check_url, has_credentials, sqlite_path, without_credentials
from nimbed.errors import InputError


@pytest.mark.parametrize(
    "url",
    [
        "redis://host", "redis://host/", "redis://h_o:6379/2", "redis://[::1]:6379/0", "unix:///run/redis.sock?db=1",
        "unix://me:word@/run/redis.sock", "redis://me:p%23%3F%40@host", "sqlite:///a b%3Fc.db", "sqlite:////a@b.db",
        "rediss://host/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&health_check_interval=30",
    ],
)  # fmt: skip
def test_a_url_that_may_be(url):
    check_url(url)


def test_credentials():
    url = "rediss://user:word@host:6379/2?ssl_cert_reqs=none"
    assert has_credentials(url)
    assert without_credentials(url) == "rediss://host:6379/2"
    for option in ("username", "password", "ssl_password"):
        assert has_credentials(f"rediss://host?{option}=word")
        assert "word" not in without_credentials(f"redis://host?{option}=word")
    assert not has_credentials("redis://host:6379/0?db=1")
    check_url(url)


@given(st.sampled_from(["redis://", "rediss://", "unix://", "sqlite:///", "http://", ""]), st.text(max_size=30))
def test_whatever_the_url_a_refusal_is_ours_and_quotes_none_of_it(scheme, rest):
    url = f"{scheme}user:wordword@{rest}"
    refusal = None
    try:
        check_url(url, source="from here")
    except InputError as err:
        refusal = err
    if refusal is not None:
        assert str(refusal).startswith("from here: ")
        assert "wordword" not in str(refusal)
        assert refusal.__cause__ is refusal.__context__ is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (7, "cache: a URL must be a string, not int"),
        ("", r"a URL must be redis://.*, rediss://.*, unix:///path or sqlite:///path/to/file"),
        ("redis://", "a URL must be redis://"),
        ("REDIS://host", "a URL must be redis://"),
        ("redis://host/x", "a URL must be redis://"),
        ("unix://host/x", "a URL of a socket is unix:///path"),
        ("unix:///", "a URL must be redis://"),
        ("sqlite://x.db", "a SQLite URL is sqlite:///path/to/file"),
        ("redis://host\x7f", "no line breaks or other control characters"),
        ("redis://host%0a", "no line breaks or other control characters"),
        ("redis://host?db=1&nope=2", r"behind the \? of a redis:// URL may come client_name, db, "),
        ("redis://host?ssl_keyfile=x", r"behind the \?"),
        ("redis://host?db", r"behind the \?"),
    ],
)
def test_each_fault_is_told_with_what_would_do(url, says):
    with pytest.raises(InputError, match=says):
        check_url(url)


def test_a_tls_url_may_have_tls_options():
    check_url("rediss://host?ssl_keyfile=x&db=1")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///vectors.db", "vectors.db"),
        ("sqlite:////var/v.db", "/var/v.db"),
        ("sqlite:///a%20b%3Fc.db", "a b?c.db"),
        ("sqlite:///caf%e9.db", "caf\udce9.db"),
    ],
)
def test_the_file_of_a_url(url, path):
    assert sqlite_path(url) == path


@given(st.text(st.characters(categories=["L", "N"]), min_size=1), st.integers(1, 65535))
def test_what_is_shown_has_the_place_and_not_who_asks(word, port):
    shown = without_credentials(f"rediss://user:{word}@host:{port}/3?password={word}")
    assert shown == f"rediss://host:{port}/3"
    assert without_credentials(shown) == shown
    assert not has_credentials(shown)
