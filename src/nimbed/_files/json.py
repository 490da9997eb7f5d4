"""JSON that others wrote: bounded in size and depth, and every value checked where it is read.

What is wrong comes out as one of nimbed's own errors, which names the file, the key and the remedy.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from nimbed._files.names import LFS_POINTER, fetch_by_lfs
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from nimbed.errors import NimbedError

T = TypeVar("T")
Json: TypeAlias = Any

_MAX_BYTES = 256 << 20
_MAX_DEPTH = 64
_MAX_WHOLE = 2**31 - 1  # what engines count tokens, widths and ids with
_REQUIRED: Any = object()
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str | bytes) -> Json:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON in UTF-8, is nested deeper than 64 levels, or holds half a surrogate pair.
    """
    text = text if isinstance(text, str) else text.decode("utf-8")
    try:
        content = json.loads(text)
    except RecursionError as err:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels") from err
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        _check_depth(content)
    if _SURROGATE.search(text):
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    return content


def _check_depth(content: Json) -> None:
    level = [content]
    for _ in range(_MAX_DEPTH + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return
        level = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")


_read: ContextVar[dict[Path, bytes] | None] = ContextVar("read", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Within it a file of settings is read once, whoever asks: what one parses is what another hashes."""
    if _read.get() is not None:
        yield
        return
    token = _read.set({})
    try:
        yield
    finally:
        _read.reset(token)


def bytes_of(path: Path) -> bytes:
    """A file's bytes; those that were read before, within :func:`reading_once`."""
    known = _read.get()
    if known is None:
        return path.read_bytes()
    if path not in known:
        known[path] = path.read_bytes()
    return known[path]


def forget(path: Path) -> None:
    """Read a file again, within :func:`reading_once` too: nimbed has written it anew."""
    (_read.get() or {}).pop(path, None)


def read_json(
    path: Path,
    *,
    missing: Json = _REQUIRED,
    kind: type = dict,
    error: type[NimbedError] = SpecError,
    remedy: str | None = None,
) -> Json:
    """A file's content: :class:`Fields`, or a list where ``kind`` says so; ``missing`` where there is no such file.

    A complaint is raised as ``error``, and ends with the remedy.

    Raises:
        NimbedError: of the class ``error``: the file is missing, too large, no JSON or of another kind.
    """
    again = remedy or "fetch the folder again"
    try:
        if not path.is_file():
            if missing is not _REQUIRED and not path.exists():
                return Fields(missing, str(path), error=error, remedy=remedy) if isinstance(missing, dict) else missing
            raise error(f"{path} is {'no file' if path.exists() else 'missing'}; {again}")
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise error(f"{path} has {size} bytes, more than any such file; {again}")
        if (text := bytes_of(path)).startswith(LFS_POINTER):
            raise error(fetch_by_lfs(path))
        content = parse_json(text)
    except (OSError, ValueError) as err:
        if isinstance(err, error):
            raise
        raise error(f"{path} cannot be read as JSON: {err}; {again}") from err
    if not isinstance(content, kind):
        raise error(f"{path} holds {_named(content)}, not {'an object' if kind is dict else 'a list'}; {again}")
    return Fields(content, str(path), error=error, remedy=remedy) if isinstance(content, dict) else content


class Fields(dict[str, Any]):
    """A JSON object that knows where it was read, so that a value of the wrong type is refused by file and key.

    For each method a key that is missing or null has the default; without one it is an error.

    Args:
        values: of the object.
        where: the file, and the key within it.
        error: what a complaint is raised as.
        remedy: what a complaint ends with, if anything.
    """

    def __init__(
        self, values: Mapping[str, Any], where: str, *, error: type[NimbedError] = SpecError, remedy: str | None = None
    ) -> None:
        super().__init__(values)
        self.where = where
        self._error = error
        self._remedy = remedy

    def whole(self, *keys: str, default: Json = _REQUIRED, minimum: int = 0, maximum: int = _MAX_WHOLE) -> int:
        """A whole number; ``keys`` are the names that it may have, the first of them first."""
        what = f"a whole number from {minimum} " + ("on" if maximum == _MAX_WHOLE else f"to {maximum}")
        value = self._get(keys, default, what)
        if value is not default and (
            isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum
        ):
            raise self.wrong(keys[0], what)
        return cast("int", value)

    def number(self, *keys: str, default: Json = _REQUIRED, minimum: float = -math.inf) -> float:
        """A finite number."""
        what = "a finite number" + ("" if math.isinf(minimum) else f" from {minimum:g} on")
        value = self._get(keys, default, what)
        if value is default:
            return cast("float", value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(_float_of(value)):
            raise self.wrong(keys[0], what)
        if value < minimum:
            raise self.wrong(keys[0], what)
        return float(value)

    def flag(self, key: str, *, default: Json = _REQUIRED) -> bool:
        """True or false."""
        return self._of(key, bool, "true or false", default)

    def text(self, key: str, *, default: Json = _REQUIRED) -> str:
        """A string."""
        return self._of(key, str, "a string", default)

    def fields(self, key: str, *, default: Json = _REQUIRED) -> Fields:
        """An object within this one."""
        value = self._of(key, dict, "an object", default)
        return (
            Fields(value, f"{self.where}: {key}", error=self._error, remedy=self._remedy)
            if isinstance(value, dict)
            else value
        )

    def wrong(self, key: str, wanted: str) -> NimbedError:
        """The complaint about a value; to be raised."""
        return self._complaint(f"{key}: {shown(self.get(key))} is not {wanted}")

    def _complaint(self, what: str) -> NimbedError:
        return self._error(f"{self.where}: {what}" + (f"; {self._remedy}" if self._remedy else ""))

    def _of(self, key: str, kind: type[T], wanted: str, default: Json) -> T:
        value = self._get((key,), default, wanted)
        if value is not default and not isinstance(value, kind):
            raise self.wrong(key, wanted)
        return cast("T", value)

    def _get(self, keys: tuple[str, ...], default: Json, wanted: str) -> Json:
        value = next((self[key] for key in keys if self.get(key) is not None), default)
        if value is _REQUIRED:
            raise self._complaint(f"{keys[0]} is missing; it is {wanted}")
        return value


def _float_of(value: float) -> float:
    """As a float: infinite where a whole number has no float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def shown(value: object) -> str:
    """A value from a file as a message shows it: cut, since nobody bounds it."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _named(content: object) -> str:
    if isinstance(content, (dict, list)):
        return "an object" if isinstance(content, dict) else "a list"
    return shown(content)
