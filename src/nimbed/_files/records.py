"""JSON made into records, each field of the type that its declaration gives."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
_MAX_FLOAT = sys.float_info.max


def record_of(kind: type[T], values: object, names: Mapping[str, Any], where: str = "") -> T:
    """A dataclass, and those within it, from what ``dataclasses.asdict`` and JSON made of it.

    Args:
        kind: the dataclass.
        values: the JSON object.
        names: what stands for the names that the declarations are written with.
        where: the object is, for messages.

    Raises:
        ValueError: a field is missing, unknown or of another type; says which and why.
    """
    made: T = _Reader(names).read(kind, values, where)
    return made


class _Reader:
    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = {"Mapping": Mapping, "Any": Any, "Literal": Literal, **names}

    def read(self, kind: Any, value: object, where: str) -> Any:  # noqa: ANN401 (types as values)
        origin, inner = get_origin(kind), get_args(kind)
        if is_dataclass(kind):
            return kind(**self._fields(kind, value, where, exact=True))  # type: ignore[operator]
        if is_typeddict(kind):
            return self._fields(kind, value, where, exact=False)
        if origin is Mapping:
            return {name: self.read(inner[1], v, f"{where}.{name}") for name, v in _of(dict, value, where).items()}
        if origin is tuple:
            return tuple(self.read(inner[0], v, f"{where}[{i}]") for i, v in enumerate(_of(list, value, where)))
        if origin in {Union, UnionType}:
            return None if value is None else self.read(inner[0], value, where)
        return _scalar(kind, value, where)

    def _fields(self, kind: Any, value: object, where: str, *, exact: bool) -> dict[str, Any]:  # noqa: ANN401
        """The fields of a record; what it has besides them is an error, or (of a dictionary) kept as it is."""
        values, hints = _of(dict, value, where), get_type_hints(kind, localns=self._names)
        own = fields(kind) if exact else ()
        optional = {f.name for f in own if f.default is not MISSING or f.default_factory is not MISSING}
        if lacking := hints.keys() - values.keys() - optional:
            raise ValueError(f"{where}.{min(lacking)} is missing: it is incomplete".lstrip("."))
        if exact and (unknown := values.keys() - hints.keys()):
            raise ValueError(f"{where}.{min(unknown)} is nothing that belongs there".lstrip("."))
        return {n: self.read(hints[n], v, f"{where}.{n}") if n in hints else v for n, v in values.items()}


def _of(kind: type[T], value: object, where: str) -> T:
    if not isinstance(value, kind):
        raise _wrong(value, kind, where)
    return value


def _scalar(kind: Any, value: object, where: str) -> object:  # noqa: ANN401 (a type)
    if get_origin(kind) is Literal:
        fits = isinstance(value, str) and value in get_args(kind)
    elif kind is float:
        fits = isinstance(value, (int, float)) and type(value) is not bool and -_MAX_FLOAT < value < _MAX_FLOAT
    else:
        fits = kind is Any or type(value) is kind
    if not fits:
        raise _wrong(value, kind, where)
    return value


def _wrong(value: object, kind: Any, where: str) -> ValueError:  # noqa: ANN401 (a type)
    wanted = " or ".join(map(repr, get_args(kind))) or getattr(kind, "__name__", kind)
    return ValueError(f"{where.lstrip('.')} is {str(value)[:60]!r}, not {wanted}")
