"""The TOML file."""

from __future__ import annotations

import pytest

from nimbed.errors import InputError
from nimbed.server import Access, Alias, Limits, ModelSettings, ServerSettings, from_environment
from nimbed.server.settings_file import read_keys, read_settings_file

KEY = "0123456789abcdef"
WHOLE = f"""
host = "0.0.0.0"
port = 9000
token_ids = "own"
access_log = true

[access]
keys = ["{KEY}"]
key_file = "KEYS"
hosts = ["embed.example"]

[limits]
queue = 10
timeout_s = 5

[[models]]
model = "m"
name = "small"
backend = "fake"
cache = 0

[[aliases]]
name = "a"
model = "m"
role = "query"
"""


def test_all_of_it(tmp_path):
    (tmp_path / "keys").write_text("# rotated in May\nanother-key-of-ours\n\n")
    (tmp_path / "s.toml").write_text(WHOLE.replace("KEYS", str(tmp_path / "keys")))
    said = read_settings_file(tmp_path / "s.toml")
    assert ServerSettings(**said) == ServerSettings(
        host="0.0.0.0",
        port=9000,
        token_ids="own",
        access_log=True,
        access=Access(keys=[KEY, "another-key-of-ours"], hosts=["embed.example"]),
        limits=Limits(queue=10, timeout_s=5),
        models=[ModelSettings(model="m", name="small", backend="fake", cache=0)],
        aliases=[Alias(name="a", model="m", role="query")],
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hosts = 1", "hosts is no setting"),
        ("port = '80'", "port must be int"),
        ("port = true", "port must be int"),
        ("access = 1", "access must be a table"),
        ("[access]\nkeys = 'one'", "keys must be Sequence"),
        ("[access]\nkey_file = '/nowhere'", "cannot be read as keys"),
        ("[limits]\nqueue = 0", "queue=0"),
        ("[models]\nmodel = 'm'", r"\[\[models\]\]"),
        ("[[models]]\nbackend = 'fake'", "models needs model"),
        ("[[models]]\nmodel = 'm'\nrole = 'passage'", "role='passage'"),
        ("port = ", "cannot be read as TOML"),
    ],
)
def test_mistakes_are_named(text, says, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=says):
        read_settings_file(tmp_path / "s.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        read_settings_file(tmp_path / "none.toml")


def test_a_file_without_keys_is_refused(tmp_path):
    (tmp_path / "keys").write_text("# none yet\n")
    with pytest.raises(InputError, match="holds no key"):
        read_keys(tmp_path / "keys", "--api-key-file")


@pytest.mark.parametrize(
    "access", ['keys = 5\nkey_file = "k"', 'keys = "abc"\nkey_file = "k"', 'key_file = "a\\u0000b"']
)
def test_keys_of_a_wrong_kind_are_refused(access, tmp_path):
    (tmp_path / "s.toml").write_text(f'[[models]]\nmodel = "m"\n[access]\n{access}\n')
    with pytest.raises(InputError, match=r"access: keys must be|cannot be read as keys"):
        read_settings_file(tmp_path / "s.toml")


def test_the_factory_reads_the_file_that_the_environment_names(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="NIMBED_SERVE_CONFIG"):
        from_environment()
    (tmp_path / "s.toml").write_text('[[models]]\nmodel = "m"\nbackend = "fake"\n')
    monkeypatch.setenv("NIMBED_SERVE_CONFIG", str(tmp_path / "s.toml"))
    monkeypatch.setenv("NIMBED_API_KEY", f"{'k' * 16}\n{'l' * 16}\n")
    app = from_environment()
    assert list(app.catalog.names) == ["m"]
    assert app.settings.access.keys == ["k" * 16, "l" * 16]
    app.close()
