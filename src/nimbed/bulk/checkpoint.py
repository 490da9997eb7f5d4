"""How much of an iterable a writer has acknowledged, in a file."""

from __future__ import annotations

import hashlib
import json
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from nimbed._files.json import read_json
from nimbed._files.whole import whole_file, writing
from nimbed.errors import FingerprintError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Item = TypeVar("Item")
_VERSION = 1
_ANEW = "remove it to begin anew"


class Checkpoint:
    """What was acknowledged: a count of items, and a hash over all of them.

    Args:
        path: of the file; None keeps nothing.
        fingerprint: of the vectors.

    Attributes:
        count: items that were acknowledged.

    Raises:
        FingerprintError: the file is of a run with another model or engine.
        InputError: it is damaged.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint
        self.count, self._digest = 0, ""
        if path is None or not path.exists():
            return
        found = read_json(path, error=InputError, remedy=_ANEW)
        if found.whole("version") != _VERSION:
            raise found.wrong("version", f"{_VERSION}, which this nimbed writes")
        if found.text("fingerprint") != fingerprint:
            raise FingerprintError(
                f"{path} is of a run with fingerprint {found['fingerprint']}, now it is {fingerprint}: their vectors "
                f"may not be compared; use the model of then, or {_ANEW} with an empty store"
            )
        self.count, self._digest = found.whole("count", maximum=2**63), found.text("digest")

    def rest(self, items: Iterable[Item], name: Callable[[Item], str]) -> Iterator[Item]:
        """What follows the items that were acknowledged.

        Raises:
            InputError: those are not the same as they were then.
        """
        iterator = iter(items)
        digest, read = "", 0
        for item in islice(iterator, self.count):
            digest = _added(digest, name(item))
            read += 1
        if digest != self._digest:
            raise InputError(
                f"{self._path} says that {self.count} items were written, and the first {read} are others now; give "
                f"the same in the same order, or {_ANEW}"
            )
        return iterator

    def acknowledge(self, names: Iterable[str]) -> None:
        """Some more items are where they should be."""
        for name in names:
            self._digest = _added(self._digest, name)
            self.count += 1
        if self._path is None:
            return
        state = {
            "version": _VERSION, "fingerprint": self._fingerprint, "count": self.count, "digest": self._digest,
        }  # fmt: skip
        with writing(self._path), whole_file(self._path) as file:
            file.write(json.dumps(state).encode())


def batches(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """Lists of so many."""
    iterator = iter(items)
    while batch := list(islice(iterator, count)):
        yield batch


def _added(digest: str, name: str) -> str:
    return hashlib.blake2b(f"{digest}{name}".encode(), digest_size=16).hexdigest()
