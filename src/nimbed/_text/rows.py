"""Rows of an input, and how a record becomes one: which field is its id, and which make its text."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nimbed._files.lines import Position


class Row(NamedTuple):
    """One text.

    Attributes:
        text: to embed.
        id: that the input gives it, or None where its number among the input's rows stands for one.
        file: that it was read from.
        line: its last line in that, from 1 on; of Parquet its row.
        end: the position behind it.
    """

    text: str
    id: str | None
    file: str
    line: int
    end: Position


class BadRow(NamedTuple):
    """A row that cannot be embedded.

    Attributes:
        kind: of fault, in a few words; a summary counts by it.
        reason: in full.
        file, line, end: as in :class:`Row`.
    """

    kind: str
    reason: str
    file: str
    line: int
    end: Position

    def error(self) -> InputError:
        """To be raised where bad rows are not skipped."""
        return InputError(f"{place_of(self)}: {self.reason}")


def place_of(row: Row | BadRow) -> str:
    """Where it stands, for a message."""
    return f"{row.file}, {'row' if row.file.endswith('.parquet') else 'line'} {row.line}"


class Fault(Exception):  # noqa: N818 (never leaves the package)
    """Why a record makes no row: kind and reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which fields of a record are read.

    Attributes:
        text: the fields that hold the text; several are joined, where null counts as empty.
        template: how they are joined, such as ``"{title}: {text}"``; None puts a line break between them.
        id: the field that holds the row's id, a string or a whole number; None numbers the rows.

    Raises:
        InputError: the template names a field that is not among ``text``, or has more than plain names in braces.
    """

    text: tuple[str, ...] = ("text",)
    template: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        if not self.text:
            raise InputError("text=() names no field; name the one with the text")
        if self.template is not None:
            named = {name for _, name in self._parts() if name is not None}
            if named != set(self.text):
                raise InputError(
                    f"template={self.template!r} names {column_names(sorted(named))}, and the fields of the text are "
                    f"{column_names(self.text)}; name the same in both"
                )

    @property
    def wanted(self) -> list[str]:
        """The fields that are read, each once."""
        return list(dict.fromkeys([*self.text, *([] if self.id is None else [self.id])]))

    def reader(self) -> Callable[[Mapping[str, Any]], tuple[str, str | None]]:
        """What makes (text, id) of a record; raises :class:`Fault`."""
        text_of = self._one(self.text[0]) if len(self.text) == 1 and self.template is None else self._joined()
        if self.id is None:
            return lambda values: (text_of(values), None)
        name = self.id
        return lambda values: (text_of(values), _id_of(values, name))

    def _one(self, name: str) -> Callable[[Mapping[str, Any]], str]:
        def text_of(values: Mapping[str, Any]) -> str:
            text = _value(values, name)
            return text if type(text) is str else _no_string(text, name)

        return text_of

    def _joined(self) -> Callable[[Mapping[str, Any]], str]:
        names = self.text
        parts = self._parts() if self.template is not None else None

        def text_of(values: Mapping[str, Any]) -> str:
            found = {name: _value(values, name) for name in names}
            texts = {n: v if type(v) is str else "" if v is None else _no_string(v, n) for n, v in found.items()}
            if not any(texts.values()):
                raise Fault("no text", f"{column_names(names)} are all empty")
            if parts is None:
                return "\n".join(filter(None, texts.values()))
            return "".join(literal + ("" if name is None else texts[name]) for literal, name in parts)

        return text_of

    def _parts(self) -> list[tuple[str, str | None]]:
        """(literal, name behind it) pairs."""
        assert self.template is not None  # noqa: S101 (asked by the callers)
        try:
            found = list(string.Formatter().parse(self.template))
        except ValueError as err:
            raise InputError(f"template={self.template!r}: {err}; a brace itself is written twice") from err
        if any(spec or conversion or name == "" for _, name, spec, conversion in found):
            raise InputError(f"template={self.template!r} may hold names in braces alone, such as {{title}}")
        return [(literal, name) for literal, name, _, _ in found]


def _value(values: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 (JSON)
    try:
        return values[name]
    except KeyError:
        raise Fault(
            "missing field", f'no field "{name}", only {column_names(values)}; name the one with the text'
        ) from None
    except TypeError:
        raise Fault("not an object", f'not a JSON object with "{name}"') from None


def _no_string(value: object, name: str) -> str:
    raise Fault("not a string", f'"{name}" is {type(value).__name__}, not a string')


def _id_of(values: Mapping[str, Any], name: str) -> str:
    value = _value(values, name)
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise Fault("no id", f'"{name}" is {type(value).__name__}, no id: a string or a whole number is one')


def column_names(names: object) -> str:
    """Names for a message, in ASCII and cut where they are many."""
    text = ", ".join(map(ascii, names)) if isinstance(names, (list, tuple, dict)) else ascii(names)
    return text if len(text) <= 120 else f"{text[:117]}..."
