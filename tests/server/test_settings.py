"""What may be set, and what is refused."""

from __future__ import annotations

import pytest

from nimbed.errors import InputError
from nimbed.server import Access, Alias, Limits, ModelSettings, ServerSettings

MODELS = [ModelSettings(model="m")]
KEY = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    assert ServerSettings(models=MODELS, host=host).on_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_beyond_loopback_a_key_is_needed_or_the_word_insecure(host):
    with pytest.raises(InputError, match="--insecure"):
        ServerSettings(models=MODELS, host=host)
    assert not ServerSettings(models=MODELS, host=host, access=Access(keys=[KEY])).on_loopback
    assert not ServerSettings(models=MODELS, host=host, access=Access(insecure=True)).on_loopback


@pytest.mark.parametrize("key", ["short", "with a space in it", "n\u00f6t-ascii-but-long", "line\nbreak-in-the-key"])
def test_keys_that_cannot_be_used_are_refused_and_not_shown(key):
    with pytest.raises(InputError, match="16") as caught:
        Access(keys=[key])
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "embed.example.org:8443",
        "http://embed.example.org",
        "a b",
        "",
        "[::1]",
        "::1]",
        "*",
        "*.example.org",
        "a.",
        "1:2",
        ":::",
        "fe80::1%eth0",
    ],
)
def test_a_host_that_no_request_could_name_is_refused(host):
    with pytest.raises(InputError, match=r"hosts: .* is no name without a port"):
        Access(hosts=[host])


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example/",
        "https://a.example/x",
        "a.example",
        "null",
        "HTTPS://A.example",
        "https://a.example:443",
        "http://a.example:80",
        "https://*.example",
        "https://ex\u00e4mple.org",
        "https://a:b",
        "https://",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(InputError, match=r"origins: .* is not as browsers write one"):
        Access(origins=[origin])


def test_hosts_and_origins_of_all_kinds():
    hosts, origins = (
        ["Embed.Example", "10.0.0.1", "fe80::1"],
        ["http://localhost:3000", "https://[::1]:8443", "http://a.example:443", "chrome-extension://abc"],
    )
    assert (Access(hosts=hosts).hosts, Access(origins=origins).origins) == (hosts, origins)


def test_a_lone_string_is_no_list_of_keys():
    with pytest.raises(InputError, match="keys must be a list"):
        Access(keys=KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": 0},
        {"queue": True},
        {"body_bytes": -1},
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"drain_s": "1"},
    ],
)
def test_limits(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Limits(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"models": []}, {"port": -1}, {"port": 70000}, {"token_ids": "cl100k"}, {"models": MODELS, "port": True}]
)
def test_the_server(wrong):
    with pytest.raises(InputError):
        ServerSettings(**{"models": MODELS, **wrong})


def test_roles():
    with pytest.raises(InputError, match="role='passage'"):
        ModelSettings(model="m", role="passage")
    with pytest.raises(InputError, match="role='passage'"):
        Alias(name="a", role="passage")


@pytest.mark.parametrize(
    ("text", "alias"),
    [
        ("a", Alias(name="a")),
        ("a=org/m", Alias(name="a", model="org/m")),
        ("a=org/m@query", Alias(name="a", model="org/m", role="query")),
        ("a@document", Alias(name="a", role="document")),
        ("a=m@v2", Alias(name="a", model="m@v2")),
    ],
)
def test_aliases_of_the_command_line(text, alias):
    assert Alias.parse(text) == alias


@pytest.mark.parametrize("text", ["", "@query", "a=", "=m"])
def test_aliases_that_are_none(text):
    with pytest.raises(InputError, match="is no name, or is one of no model"):
        Alias.parse(text)


@pytest.mark.parametrize("text", ["", "=m", "a\nb"])
def test_an_alias_is_a_name(text):
    with pytest.raises(InputError, match="is no name"):
        Alias.parse(text)
