"""`nimbed serve`: what the flags and the file say."""

from __future__ import annotations

import argparse
import logging

import pytest

from nimbed.cli import main, serve
from nimbed.errors import InputError
from nimbed.server import Access, Alias, Limits, ModelSettings, ServerSettings

KEY = "0123456789abcdef"
EMPTY = Access(keys=[], hosts=[], origins=[])


def parsed(*line, keys=()):
    parser = argparse.ArgumentParser()
    serve.add_commands(parser.add_subparsers())
    return serve.settings_of(parser.parse_args(["serve", *line]), list(keys))


def test_defaults():
    assert parsed("m") == ServerSettings(models=[ModelSettings(model="m")], aliases=[], access=EMPTY)


def test_flags(tmp_path):
    (tmp_path / "keys").write_text("another-key-of-ours\n")
    said = parsed(
        "a", "b", "--backend", "fake", "--precision", "fp32", "--max-length", "64", "--threads", "1", "--cache", "0",
        "--role", "query", "--offline", "--alias", "x=a", "--alias", "y=b@document", "--host", "0.0.0.0",
        "--port", "1", "--token-ids", "own", "--access-log", "--traces", "--api-key-file", str(tmp_path / "keys"),
        "--allow-host", "h", "--cors-origin", "https://o", "--protect-health", "--queue", "9", "--max-body", "10",
        "--max-header", "11", "--max-text", "12", "--max-connections", "13", "--timeout", "1.5", "--idle", "2",
        "--drain", "3", keys=[KEY],
    )  # fmt: skip
    own = {"backend": "fake", "precision": "fp32", "max_length": 64, "threads": 1, "cache": 0, "role": "query",
           "offline": True}  # fmt: skip
    assert said == ServerSettings(
        models=[ModelSettings(model=name, **own) for name in "ab"],
        aliases=[Alias(name="x", model="a"), Alias(name="y", model="b", role="document")],
        host="0.0.0.0",
        port=1,
        token_ids="own",
        access_log=True,
        traces=True,
        access=Access(
            keys=[KEY, "another-key-of-ours"], hosts=["h"], origins=["https://o"], protect_health=True
        ),
        limits=Limits(queue=9, body_bytes=10, header_bytes=11, text_characters=12, connections=13, timeout_s=1.5,
                      idle_s=2.0, drain_s=3.0),
    )  # fmt: skip


def test_flags_go_before_the_file(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('port = 1\n[limits]\nqueue = 5\ntimeout_s = 7\n[[models]]\nmodel = "a"\n')
    said = parsed("b", "--config", str(path), "--port", "2", "--queue", "6")
    assert (said.port, said.limits) == (2, Limits(queue=6, timeout_s=7))
    assert [one.model for one in said.models] == ["a", "b"]


@pytest.mark.parametrize("flags", [["--threads", "4"], ["--offline"], ["--max-length", "64"]])
def test_flags_of_models_are_refused_where_no_model_is_named(flags, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[[models]]\nmodel = "a"\n')
    with pytest.raises(InputError, match=f"{flags[0]} is for models that the command line names"):
        parsed("--config", str(path), *flags)


def test_an_empty_key_is_no_open_door(capsys):
    """As ``--api-key "$KEY"`` has it where there is no such variable."""
    assert main(["serve", "m", "--api-key", ""]) == 1
    assert "16 printable" in capsys.readouterr().err


def test_the_key_of_the_command_line_goes_to_the_environment_beside_those_that_are_there(monkeypatch):
    started = []
    monkeypatch.setattr(serve.sys, "orig_argv", ["python", "-m", "nimbed", "serve", "m", "--api-key", KEY])
    monkeypatch.setattr(serve.os, "execve", lambda *call: started.append(call))
    monkeypatch.setenv("NIMBED_API_KEY", "another-key-of-ours")
    serve._hide_key(argparse.Namespace(api_key=KEY))
    ((_, line, environment),) = started
    assert line == ["python", "-m", "nimbed", "serve", "m"]
    assert environment["NIMBED_API_KEY"].split() == [KEY, "another-key-of-ours"]


def test_mistakes_are_one_line(capsys):
    assert main(["serve"]) == 1
    assert "no model is given" in capsys.readouterr().err
    assert main(["serve", "m", "--host", "0.0.0.0"]) == 1
    assert "--insecure" in capsys.readouterr().err
    with pytest.raises(InputError, match="16 printable"):
        parsed("m", keys=["short"])


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (["p", "serve", "m", "--api-key", "K"], ["p", "serve", "m"]),
        (["p", "--api-key=K", "serve"], ["p", "serve"]),
        (["p", "--api-key-file", "F", "--api-key", "K", "m", "--api-key", "L"], ["p", "--api-key-file", "F", "m"]),
        (["p", "serve"], ["p", "serve"]),
    ],
)
def test_a_command_line_without_the_key(line, left):
    assert serve.without_key(line) == left


def test_the_access_log_is_lines_of_their_own(capsys):
    logger = logging.getLogger("nimbed.access")
    before = list(logger.handlers)
    serve._log_access()
    logger.info("%s", '{"status":200}')
    assert capsys.readouterr().err == '{"status":200}\n'
    logger.handlers, logger.propagate = before, True
    logger.setLevel(logging.NOTSET)
