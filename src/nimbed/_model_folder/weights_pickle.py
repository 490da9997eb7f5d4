"""The pickle in a file of weights, read as data: a machine of few operations, none of which calls or imports anything.

It knows what ``torch.save`` writes of tensors by name (protocol 2): dictionaries, tuples, numbers and strings, tensors
and their storages. All else that a pickle may hold is refused by name. Operations: Python's Lib/pickletools.py.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A tensor takes some hundred bytes and forty operations: these are enough for 25,000 of them.
_MOST_BYTES = 4 << 20
_MOST_STEPS = 1_000_000
_KINDS = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
_DICTIONARY, _TENSOR, _PARAMETER = "an empty dictionary", "a tensor", "a parameter"
_GLOBALS = {
    "collections OrderedDict": _DICTIONARY,
    "torch._utils _rebuild_tensor_v2": _TENSOR,
    "torch._utils _rebuild_parameter": _PARAMETER,
    **{f"torch {kind}Storage": kind for kind in _KINDS},
}


class ForeignPickleError(ValueError):
    """It holds something else than weights; says what."""


@dataclass(frozen=True)
class Name:
    """What a name among the few that are known stands for. It is never called."""

    means: str


@dataclass(frozen=True)
class Storage:
    """Numbers in an entry ``data/<key>`` of the archive; ``kind`` is torch's word for their type."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor within a storage; offset and strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_records(code: bytes) -> dict[str, TensorRecord]:
    """The tensors by name.

    Raises:
        ForeignPickleError: the pickle holds something else, or needs something that is not known.
        ValueError: it is damaged.
    """
    if len(code) > _MOST_BYTES:
        raise ValueError(f"a pickle of {len(code)} bytes, which is more than tensors' names take")
    try:
        found = _Machine(code).run()
    except (IndexError, KeyError, struct.error) as err:
        raise ValueError(f"the pickle is cut, or refers to what is not there ({type(err).__name__})") from err
    if type(found) is not dict or not found:
        raise ForeignPickleError(f"it holds {_kind(found)}, not tensors by name")
    for name, value in found.items():
        if type(value) is not TensorRecord:
            raise ForeignPickleError(f"{name!r:.100} is {_kind(value)}, not a tensor")
    return found


def _kind(value: object) -> str:
    return "a dictionary" if type(value) is dict else f"a {type(value).__name__}"


class _Machine:
    """The stack, the memo and the place in the code. Values are never compared, hashed or shown but by their types."""

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        for _ in range(_MOST_STEPS):
            operation = self._take(1)
            if operation == pickle.STOP:
                return self._pop()
            if (step := _STEPS.get(operation)) is None:
                raise ForeignPickleError(f"operation {operation!r} is nothing that a file of weights needs")
            step(self)
        raise ValueError(f"more than {_MOST_STEPS} operations")

    def _take(self, size: int) -> bytes:
        taken = self._code[self._at : self._at + size]
        if len(taken) < size:
            raise IndexError("the code ends")
        self._at += size
        return taken

    def number(self, form: str) -> int:
        """The whole number that stands in the code, of a form of ``struct``."""
        number: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _pop(self) -> Any:  # noqa: ANN401 (whatever lies there)
        if self._marks and self._marks[-1] == len(self._stack):
            raise IndexError("nothing lies above the mark")
        return self._stack.pop()

    def above_mark(self) -> list[Any]:
        mark = self._marks.pop()
        above = self._stack[mark:]
        del self._stack[mark:]
        return above

    def push(self, value: object) -> None:
        self._stack.append(value)

    def protocol(self) -> None:
        if (number := self.number("<B")) != 2:
            raise ForeignPickleError(f"pickle protocol {number}; torch.save writes 2")

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def text(self) -> None:
        self.push(self._take(self.number("<I")).decode("utf-8"))

    def long(self) -> None:
        self.push(int.from_bytes(self._take(self.number("<B")), "little", signed=True))

    def name(self) -> None:
        end = self._code.index(b"\n", self._code.index(b"\n", self._at) + 1)
        name = self._take(end - self._at).decode("utf-8").replace("\n", " ")
        self._take(1)
        if name not in _GLOBALS:
            raise ForeignPickleError(f"it names {name.replace(' ', '.')!r:.100}, which might run code")
        self.push(Name(_GLOBALS[name]))

    def keep(self, form: str) -> None:
        self._memo[self.number(form)] = self._stack[-1]

    def recall(self, form: str) -> None:
        self.push(self._memo[self.number(form)])

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self._pop() for _ in range(count)][::-1]))

    def tupleabove_mark(self) -> None:
        self.push(tuple(self.above_mark()))

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"items of {_kind(target)}")
        for name, value in zip(items[::2], items[1::2], strict=True):
            if type(name) is not str:
                raise ForeignPickleError(f"a name that is {_kind(name)}, not a string")
            target[name] = value

    def set_item(self) -> None:
        self.set_items([self._pop(), self._pop()][::-1])

    def build(self) -> None:
        """What is said beside a dictionary's items: versions of modules, which change no tensor."""
        self._pop()
        if type(self._stack[-1]) is not dict:
            raise ForeignPickleError(f"a state of {_kind(self._stack[-1])}")

    def storage(self) -> None:
        match self._pop():
            case ("storage", Name(kind), str(key), str(), int(count)) if kind in _KINDS and type(count) is int:
                self.push(Storage(kind, key, count))
            case _:
                raise ForeignPickleError("it refers to something else than a storage of numbers")

    def reduce(self) -> None:
        given, name = self._pop(), self._pop()
        match name, given:
            case Name("an empty dictionary"), ():
                self.push({})
            case Name("a tensor"), (Storage(), *_):
                self.push(_tensor(given))
            case Name("a parameter"), (TensorRecord(), bool(), {}):
                self.push(given[0])
            case _:
                what = name.means if type(name) is Name else _kind(name)
                raise ForeignPickleError(f"{what} is made of something that is not known")


def _tensor(given: tuple[Any, ...]) -> TensorRecord:
    match given:
        case (Storage() as storage, offset, tuple(shape), tuple(strides), bool(), {}, *more) if more in ([], [None]):
            if len(shape) == len(strides) and all(type(number) is int for number in (offset, *shape, *strides)):
                return TensorRecord(storage, offset, shape, strides)
    raise ForeignPickleError("a tensor is described in a way that is not known")


_STEPS: Final[Mapping[bytes, Callable[[_Machine], None]]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.MARK: _Machine.mark,
    pickle.EMPTY_DICT: lambda machine: machine.push({}),
    pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
    pickle.NONE: lambda machine: machine.push(None),
    pickle.NEWTRUE: lambda machine: machine.push(True),
    pickle.NEWFALSE: lambda machine: machine.push(False),
    pickle.BININT: lambda machine: machine.push(machine.number("<i")),
    pickle.BININT1: lambda machine: machine.push(machine.number("<B")),
    pickle.BININT2: lambda machine: machine.push(machine.number("<H")),
    pickle.LONG1: _Machine.long,
    pickle.BINUNICODE: _Machine.text,
    pickle.GLOBAL: _Machine.name,
    pickle.BINPUT: lambda machine: machine.keep("<B"),
    pickle.LONG_BINPUT: lambda machine: machine.keep("<I"),
    pickle.BINGET: lambda machine: machine.recall("<B"),
    pickle.LONG_BINGET: lambda machine: machine.recall("<I"),
    pickle.TUPLE1: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3: lambda machine: machine.tuple_of(3),
    pickle.TUPLE: _Machine.tupleabove_mark,
    pickle.SETITEM: _Machine.set_item,
    pickle.SETITEMS: lambda machine: machine.set_items(machine.above_mark()),
    pickle.BUILD: _Machine.build,
    pickle.BINPERSID: _Machine.storage,
    pickle.REDUCE: _Machine.reduce,
}
