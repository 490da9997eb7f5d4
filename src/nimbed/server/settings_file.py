"""The settings in a TOML file, by the names that they have in :mod:`nimbed.server.settings`."""

from __future__ import annotations

import os
import sys
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

from nimbed.errors import InputError, MissingExtraError
from nimbed.server.settings import Access, Alias, Limits, ModelSettings, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")
API_KEY = "NIMBED_API_KEY"
_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str, "int": int, "float": (int, float), "bool": bool, "Sequence[str]": list, "int | str": (int, str),
    "int | None": int, "str | None": str,
}  # fmt: skip


def read_settings_file(path: Path) -> dict[str, Any]:
    """The arguments of :class:`ServerSettings` that a file has.

    ``[access]`` also takes ``key_file``, whose lines are keys.

    Raises:
        InputError: it cannot be read, or says something that is no setting; names the key, and never shows its value.
    """
    given = _toml(path)
    tables = {"access": Access, "limits": Limits}
    lists = {"models": ModelSettings, "aliases": Alias}
    said: dict[str, Any] = {}
    for name, value in given.items():
        where = f"{path}: {name}"
        if name in tables:
            table = _table(value, where)
            said[name] = record(tables[name], _with_key_file(table, where) if name == "access" else table, where)
        elif name in lists:
            if not isinstance(value, list):
                raise InputError(f"{where} must be tables: [[{name}]]")
            said[name] = [record(lists[name], _table(one, where), where) for one in value]
        else:
            _check(ServerSettings, name, value, str(path))
            said[name] = value
    return said


def read_keys(path: Path, where: str) -> list[str]:
    """The keys in a file, one a line; empty lines and those that begin with # are none.

    Raises:
        InputError: there is no such file, or no key in it.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError) as err:  # of a name with a zero in it, or of bytes that are no ASCII
        raise InputError(f"{where}: {path} cannot be read as keys, one a line ({type(err).__name__})") from None
    if not (keys := [line for line in lines if line and not line.startswith("#")]):
        raise InputError(f"{where}: {path} holds no key")
    return keys


def keys_of_environment() -> list[str]:
    """Those in ``NIMBED_API_KEY``, one a line."""
    return os.environ.get(API_KEY, "").split()


def record(kind: type[T], given: Mapping[str, Any], where: str) -> T:
    """A record of its fields. Raises as :func:`read_settings_file`."""
    for name, value in given.items():
        _check(kind, name, value, where)
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name not in given and one.default is MISSING and one.default_factory is MISSING:
            raise InputError(f"{where} needs {one.name}")
    try:
        return kind(**given)
    except InputError as err:
        raise InputError(f"{where}: {err}") from err


def _toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as err:
            raise MissingExtraError('a TOML file needs tomli on Python 3.10: pip install "nimbed[serve]"') from err
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise InputError(f"{path} cannot be read as TOML: {err}") from err


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a table")
    return value


def _with_key_file(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    from pathlib import Path

    said = dict(table)
    if "keys" in said:
        _check(Access, "keys", said["keys"], where)
    if (name := said.pop("key_file", None)) is not None:
        if not isinstance(name, str):
            raise InputError(f"{where}: key_file must be a path")
        said["keys"] = [*said.get("keys", []), *read_keys(Path(name), where)]
    return said


def _check(kind: type, name: str, value: object, where: str) -> None:
    known = {one.name: str(one.type) for one in fields(kind)}
    if name not in known:
        raise InputError(f"{where}: {name} is no setting; there are {', '.join(known)}")
    wanted = _KINDS.get(known[name], str)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise InputError(f"{where}: {name} must be {known[name]}, not {type(value).__name__}")
