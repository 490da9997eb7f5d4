"""`nimbed serve`: models over HTTP."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nimbed.backends import BACKENDS
from nimbed.cli.arguments import to_path
from nimbed.errors import InputError

if TYPE_CHECKING:
    import argparse

    from nimbed.server.settings import Access, Limits, ModelSettings, ServerSettings

_KEY = "NIMBED_API_KEY"
# Flags and the settings that they set, by the part that these belong to.
_OF_SERVER = ("host", "port", "token_ids", "access_log", "traces")
_OF_LIMITS = {
    "queue": "queue",
    "max_body": "body_bytes",
    "max_header": "header_bytes",
    "max_text": "text_characters",
    "max_connections": "connections",
    "timeout": "timeout_s",
    "idle": "idle_s",
    "drain": "drain_s",
}
_OF_MODEL = ("backend", "precision", "max_length", "threads", "cache", "revision", "task", "role")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The one that serves."""
    parser = commands.add_parser(
        "serve",
        help="serve models over HTTP: OpenAI, TEI, Cohere / Jina rerank and Ollama",
        description="Several models may be served, embedders and rerankers. What a flag says of the server goes before "
        "what the settings file says; models, aliases, keys, hosts and origins are added to the file's. Flags of a "
        "model are for the models on the command line. docs/server.md has all of it.",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="hub id, model folder or artefact folder")
    parser.add_argument("--config", type=to_path, metavar="FILE.toml", help="settings, by the names in docs/server.md")
    parser.add_argument("--alias", action="append", default=[], metavar="NAME[=MODEL][@ROLE]", help="another name")
    parser.add_argument("--host", help="where to listen (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="(default: 8080; 0 takes a free one)")
    parser.add_argument("--token-ids", choices=("refuse", "own"), help="token ids in place of texts (default: refuse)")
    parser.add_argument("--access-log", action="store_true", default=None, help="a line of JSON for each request")
    parser.add_argument("--traces", action="store_true", default=None, help="OpenTelemetry spans (extra otel)")
    _access_arguments(parser)
    _limit_arguments(parser)
    _model_arguments(parser)
    parser.set_defaults(run=_serve)


def _access_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--api-key", metavar="KEY", help=f"better: --api-key-file, or {_KEY} in the environment")
    parser.add_argument("--api-key-file", type=to_path, metavar="FILE", help="keys, one a line: any of them opens")
    parser.add_argument("--insecure", action="store_true", default=None, help="listen beyond loopback without a key")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="another name of this server")
    parser.add_argument("--cors-origin", action="append", default=[], metavar="ORIGIN", help="web pages that may ask")
    parser.add_argument(
        "--protect-health", action="store_true", default=None, help="ask for the key for health and metrics too"
    )


def _limit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", type=int, help="requests that may wait or run; further ones get 429 (default: 512)")
    parser.add_argument("--max-body", type=int, metavar="BYTES", help="of one request (default: 32 MiB)")
    parser.add_argument("--max-header", type=int, metavar="BYTES", help="of all headers (default: 16 KiB)")
    parser.add_argument("--max-text", type=int, metavar="CHARACTERS", help="of one text (default: 400000)")
    parser.add_argument("--max-connections", type=int, metavar="N", help="open at once (default: 1024)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="without a text that is done (default: 60)")
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="of silence on a connection (default: 30)")
    parser.add_argument("--drain", type=float, metavar="SECONDS", help="to finish when told to stop (default: 30)")


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--role", choices=("document", "query"), help="of requests that say none (default: document)")
    parser.add_argument("--backend", choices=("auto", *BACKENDS))
    parser.add_argument("--precision", choices=("auto", "int8", "fp32", "bf16"))
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="that a text keeps")
    parser.add_argument("--threads", type=int, help="threads of each engine (default: as `nimbed doctor` says)")
    parser.add_argument("--cache", type=_size_or_url, help="bytes, or the URL of a shared tier; 0 for none")
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--task", help="what the vectors are for (default: the model's own)")
    parser.add_argument("--offline", action="store_true", help="never touch the network")


def _size_or_url(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def settings_of(chosen: argparse.Namespace, keys: list[str]) -> ServerSettings:
    """What the flags say, over what the file says.

    Raises:
        InputError: a setting cannot be used.
    """
    from nimbed.server import Access, Alias, Limits, ServerSettings
    from nimbed.server.settings_file import read_settings_file

    said: dict[str, Any] = {} if chosen.config is None else read_settings_file(chosen.config)
    said |= _given(chosen, {name: name for name in _OF_SERVER})
    said["models"] = [*said.get("models", []), *_models(chosen)]
    said["aliases"] = [*said.get("aliases", []), *map(Alias.parse, chosen.alias)]
    said["access"] = _access(chosen, said.get("access", Access()), keys)
    said["limits"] = _limits(chosen, said.get("limits", Limits()))
    return ServerSettings(**said)


def _given(chosen: argparse.Namespace, names: dict[str, str]) -> dict[str, Any]:
    return {to: value for name, to in names.items() if (value := getattr(chosen, name)) is not None}


def _models(chosen: argparse.Namespace) -> list[ModelSettings]:
    from nimbed.server import ModelSettings

    said = _given(chosen, {name: name for name in _OF_MODEL})
    if not chosen.models and (lost := [*said, *["offline"] * chosen.offline]):
        raise InputError(
            f"--{lost[0].replace('_', '-')} is for models that the command line names, and it names none: "
            f"write {lost[0]} under [[models]] in the settings file"
        )
    return [ModelSettings(model=model, offline=chosen.offline, **said) for model in chosen.models]


def _access(chosen: argparse.Namespace, access: Access, keys: list[str]) -> Access:
    from nimbed.server.settings_file import read_keys

    if chosen.api_key_file is not None:
        keys = [*keys, *read_keys(chosen.api_key_file, "--api-key-file")]
    said = _given(chosen, {"insecure": "insecure", "protect_health": "protect_health"})
    return replace(
        access,
        keys=[*access.keys, *keys],
        hosts=[*access.hosts, *chosen.allow_host],
        origins=[*access.origins, *chosen.cors_origin],
        **said,
    )


def _limits(chosen: argparse.Namespace, limits: Limits) -> Limits:
    return replace(limits, **_given(chosen, _OF_LIMITS))


def _serve(chosen: argparse.Namespace) -> int:
    _hide_key(chosen)
    from nimbed.server import create_app
    from nimbed.server.lifecycle import run
    from nimbed.server.settings_file import keys_of_environment

    keys = [] if chosen.api_key is None else [chosen.api_key]
    settings = settings_of(chosen, [*keys, *keys_of_environment()])
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # else whoever sends garbage writes to the log
    if settings.access_log:
        _log_access()
    app = create_app(settings)

    def ready(port: int) -> None:
        names = ", ".join(app.catalog.names)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"nimbed serves {names} on http://{host}:{port}", flush=True)

    return 0 if run(app, ready) else 1


def _hide_key(chosen: argparse.Namespace) -> None:
    """A command line is everybody's to read: start again without the key there."""
    if not chosen.api_key or (line := without_key(sys.orig_argv)) == sys.orig_argv:
        return  # called as a function: there is no such line
    keys = f"{chosen.api_key}\n{os.environ.get(_KEY, '')}"
    os.execve(sys.executable, line, {**os.environ, _KEY: keys})  # noqa: S606 (this very program)


def without_key(line: list[str]) -> list[str]:
    """A command line without ``--api-key`` and its value."""
    left, skip = [], False
    for word in line:
        if not skip and word != "--api-key" and not word.startswith("--api-key="):
            left.append(word)
        skip = word == "--api-key"
    return left


def _log_access() -> None:
    """The access log goes to standard error, a line each and nothing around it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("nimbed.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
