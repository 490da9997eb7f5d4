"""An output of before, from which an update takes the vectors of texts that it knows."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nimbed.bulk.manifest import Manifest
from nimbed.bulk.part_files import HASH_BYTES, RECORDS, hashes_name, part_name
from nimbed.errors import FingerprintError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nimbed.bulk.layout import Format, Layout

_OPEN_PARTS = 4
_ANEW = "compute all anew with begin='restart'"


class Previous:
    """Vectors of an earlier output by their texts' hashes.

    It holds 24 bytes a row in memory.

    Args:
        records: the folder that has ``_nimbed`` in it: the output itself, or what is kept beside it.
        out: the output.
        form: its format.

    Raises:
        InputError: it was altered since, or has nothing by which to know a text again.
    """

    def __init__(self, records: Path, out: Path, form: Format) -> None:
        if not form.readable:
            raise InputError(f"{out}: vectors are not read back from .{form.name}; update a .npy, .parquet or .lance")
        self._out, self._form = out, form
        manifest = Manifest(records / RECORDS)
        self.key, _ = manifest.read_job()
        manifest.read_parts()
        self._parts = [manifest.parts[number] for number in sorted(manifest.parts)]
        self._starts = np.cumsum([0, *(part.rows for part in self._parts)])
        self._hashes, self._order = self._index(records)
        self._layout: Layout | None = None
        self._read: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._mapped: npt.NDArray[Any] | None = None

    @property
    def rows(self) -> int:
        """How many it has."""
        return int(self._starts[-1])

    def suits(self, key: Mapping[str, Any], layout: Layout) -> None:
        """Raise where its vectors are not those that would be computed.

        Raises:
            FingerprintError: another model or engine made them.
            InputError: they are of another role or type.
        """
        if self.key["fingerprint"] != key["fingerprint"]:
            raise FingerprintError(
                f"{self._out} holds vectors of fingerprint {self.key['fingerprint']}, and this encoder has "
                f"{key['fingerprint']}: they cannot stand in one output; {_ANEW}"
            )
        for name in ("role", "dtype", "width"):
            if self.key[name] != key[name]:
                raise InputError(
                    f"{self._out} was made with {name}={self.key[name]!r}, now it is {key[name]!r}; {_ANEW}"
                )
        self._layout = layout

    def find(self, hashes: Sequence[bytes]) -> npt.NDArray[np.int64]:
        """Where the vectors of these texts are; -1 where there is none."""
        wanted = np.frombuffer(b"".join(hashes), f"V{HASH_BYTES}")
        if not len(self._hashes) or not len(wanted):
            return np.full(len(wanted), -1, np.int64)
        keys = _sortable(wanted)
        at = np.minimum(np.searchsorted(self._hashes, keys), len(self._hashes) - 1)
        return np.where(self._hashes[at] == keys, self._order[at], -1)

    def vectors(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Those at positions that :meth:`find` gave, ``[n, width]``."""
        assert self._layout is not None  # noqa: S101 (suits is asked first)
        if not self._form.folder:
            if self._mapped is None:
                self._mapped = self._form.read_output(self._out, self._layout)
            return np.asarray(self._mapped[positions])
        found = np.empty((len(positions), self._layout.width), self._layout.numbers)
        parts = np.searchsorted(self._starts, positions, side="right") - 1
        for index in np.unique(parts):
            of_part = parts == index
            found[of_part] = self._part(int(index))[positions[of_part] - self._starts[index]]
        return found

    def _part(self, index: int) -> npt.NDArray[Any]:
        assert self._layout is not None  # noqa: S101
        if index not in self._read:
            number = self._parts[index].part
            name = part_name(number, self._form.part_suffix)
            path = self._out / name
            if not self._parts[index].files[name].matches(path):
                raise InputError(f"{path} was cut short or altered; mend it by running without an update first")
            self._read[index] = self._form.read_part(path, self._layout)
            if len(self._read) > _OPEN_PARTS:
                self._read.popitem(last=False)
        self._read.move_to_end(index)
        return self._read[index]

    def _index(self, records: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Hashes in order, and the row of each."""
        pieces = []
        for part in self._parts:
            name = hashes_name(part.part)
            if not part.files[name].matches(records / name):
                raise InputError(f"{records / name} was cut short or altered; {_ANEW}")
            pieces.append((records / name).read_bytes())
        hashes = _sortable(np.frombuffer(b"".join(pieces), f"V{HASH_BYTES}"))
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order.astype(np.int64)


def _sortable(hashes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As strings of bytes, which numpy compares: all are of one length, so that trailing zeros do not matter."""
    return hashes.view(f"S{HASH_BYTES}")
