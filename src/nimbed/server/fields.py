"""A request's JSON, read field by field: what is not of the type that is wanted is refused by its name."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import orjson

from nimbed.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Sized


# JSON's values are made at a stretch, in which nothing else runs: so many in half a second.
_MAX_VALUES = 4_000_000
_SMALL = 64 * 1024


def parse(body: bytes, max_characters: int) -> Fields:
    """The fields of a body.

    Raises:
        ApiError: it is no JSON object.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _MAX_VALUES:
        raise ApiError("invalid", f"the body has more than {_MAX_VALUES} values, lists and objects")
    try:
        with _without_collections(len(body)):
            parsed = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        what = "half of a surrogate pair" if "surrogate in string" in err.msg else "the body is not JSON"
        raise ApiError("syntax", f"{what} (at character {err.pos})") from None
    if not isinstance(parsed, dict):
        raise ApiError("invalid", "the body must be a JSON object")
    return Fields(parsed, max_characters)


@contextmanager
def _without_collections(size: int) -> Iterator[None]:
    """Python's collector would look at each new list, and again at all of them as they grow, for seconds."""
    if size <= _SMALL or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Fields:
    """The fields; null is as good as absent.

    Args:
        given: of a JSON object.
        max_characters: of each text.
        within: where they are, for messages.
    """

    def __init__(self, given: Mapping[str, Any], max_characters: int, within: str = "") -> None:
        self._given, self._max, self._within = given, max_characters, within

    def __contains__(self, name: str) -> bool:
        return self._given.get(name) is not None

    def inner(self, name: str, *, required: bool = False) -> Fields:
        """Those of an object."""
        value = self._given.get(name)
        if value is None and not required:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return Fields(value, self._max, f"{name}.")

    def any(self, name: str) -> Any:  # noqa: ANN401 (the caller looks)
        """Whatever it is."""
        return self._given.get(name)

    def text(self, name: str) -> str:
        """A text that has to be there."""
        if not isinstance(value := self._given.get(name), str):
            raise self._wrong(name, "a string")
        self.check_length([value], name)
        return value

    def name(self, name: str) -> str | None:
        """A short string, or None."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value or None

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._given.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def whole(self, name: str) -> int | None:
        """A whole number from 1 on, or None."""
        value = self._given.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise self._wrong(name, "a whole number from 1 on")
        return value

    def choice(self, name: str, among: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self._given.get(name)
        if value is None:
            return default
        if value not in among:
            raise self._wrong(name, f"one of {', '.join(among)}")
        return str(value)

    def texts(self, name: str) -> list[str]:
        """A list of texts that is not empty."""
        value = self._given.get(name)
        if not is_texts(value):
            raise self._wrong(name, "a list of strings")
        if not value:
            raise ApiError("empty", f"{self._within}{name} cannot be empty", param=name)
        self.check_length(value, name)
        return value

    def check_length(self, texts: Sequence[Sized], name: str, unit: str = "characters") -> None:
        """Refuse a text that would take long to tokenize, all the more as most of it would be cut off; or token ids."""
        if texts and max(map(len, texts)) > self._max:
            at = next(index for index, text in enumerate(texts) if len(text) > self._max)
            raise ApiError(
                "too_long",
                f"item {at} of {self._within}{name} has {len(texts[at])} {unit}; {self._max} are allowed",
                param=name,
            )

    def _wrong(self, name: str, wanted: str) -> ApiError:
        return ApiError("invalid", f"{self._within}{name} must be {wanted}", param=name)


def is_texts(value: object) -> TypeGuard[list[str]]:
    """Whether it is a list of strings; an empty one is."""
    return isinstance(value, list) and all(type(item) is str for item in value)


def is_ids(value: object) -> TypeGuard[list[int]]:
    """Whether it is a list of whole numbers that is not empty."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
