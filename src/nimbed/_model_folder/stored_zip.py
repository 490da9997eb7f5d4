"""Zip archives whose entries are stored as they are, as ``torch.save`` writes them: where each lies in the file.

Nothing is unpacked, so that an archive never takes more memory than a list of its entries. The format is
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = b"PK\3\4"
_MOST_ENTRIES = 100_000
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_LONGEST_COMMENT = 0xFFFF
_ELSEWHERE = 0xFFFFFFFF  # the number stands among the extra fields
_ENCRYPTED, _SIZES_BEHIND = 1, 8


@dataclass(frozen=True)
class Entry:
    """One file of an archive: ``content[begin:end]``, once :func:`check_crc` has looked."""

    begin: int
    end: int
    crc32: int


def read_entries(content: memoryview) -> dict[str, Entry]:
    """The entries by name; ``content`` is the archive, mapped into memory.

    Raises:
        ValueError: it is no such archive: it is cut, or an entry is compressed or encrypted, has another's name, lies
            outside the file or over another one, or has two headers that differ.
    """
    try:
        return _entries(content)
    except (struct.error, OverflowError) as err:
        raise ValueError(f"a header is cut: {err}") from err


def check_crc(content: memoryview, name: str, entry: Entry) -> None:
    """Refuse an entry whose bytes are not those that were stored.

    Raises:
        ValueError: their CRC-32 is another.
    """
    if zlib.crc32(content[entry.begin : entry.end]) != entry.crc32:
        raise ValueError(f"the CRC-32 of {name} is not that of its bytes")


def _entries(content: memoryview) -> dict[str, Entry]:
    count, at, end = _directory(content)
    entries: dict[str, Entry] = {}
    spans = [(at, len(content))]
    for _ in range(count):
        name, entry, header, at = _entry(content, at, end)
        if name in entries:
            raise ValueError(f"{name} is there twice")
        entries[name] = entry
        spans.append((header, entry.end))
    if at != end:
        raise ValueError("its directory has more entries than it counts")
    spans.sort()
    if any(before[1] > behind[0] for before, behind in pairwise(spans)):
        raise ValueError("entries lie over each other")
    return entries


def _directory(content: memoryview) -> tuple[int, int, int]:
    """How many entries the central directory has, where it begins and where it ends."""
    tail = max(0, len(content) - _END.size - _LONGEST_COMMENT)
    found = bytes(content[tail:]).rfind(b"PK\5\6")
    if found < 0:
        raise ValueError("it has no central directory")
    end = tail + found
    _, _, _, _, count, size, begin, _ = _END.unpack_from(content, end)
    locator = end - _LOCATOR.size
    if locator >= 0 and bytes(content[locator : locator + 4]) == b"PK\6\7":
        end = _LOCATOR.unpack_from(content, locator)[2]
        if end > locator - _END64.size:
            raise ValueError("its end is not where it says")
        signature, *_, count, size, begin = _END64.unpack_from(content, end)
        if signature != b"PK\6\6":
            raise ValueError("its end is not where it says")
    if count > _MOST_ENTRIES or begin + size > end:
        raise ValueError(f"a directory of {count} entries and {size} bytes at byte {begin} of {len(content)}")
    return count, begin, begin + size


def _entry(content: memoryview, at: int, end: int) -> tuple[str, Entry, int, int]:
    """An entry of the directory: its name, its bytes, where its own header begins, and where the next entry is."""
    signature, _, _, flags, method, _, _, crc, packed, size, names, extras, comments, *_, header = _CENTRAL.unpack_from(
        content, at
    )
    behind = at + _CENTRAL.size + names
    after = behind + extras + comments
    if signature != b"PK\1\2" or after > end:
        raise ValueError(f"no entry of its directory at byte {at}")
    raw = bytes(content[at + _CENTRAL.size : behind])
    wide = _wide(bytes(content[behind : behind + extras]))
    size, packed, header = (next(wide) if number == _ELSEWHERE else number for number in (size, packed, header))
    name = raw.decode("utf-8")
    if method or size != packed or flags & _ENCRYPTED:
        raise ValueError(f"{name!r:.100} is compressed or encrypted, and no weights are")
    begin = _begin(content, header, raw, (crc, size), flags)
    if begin + size > len(content):
        raise ValueError(f"{name!r:.100} ends at byte {begin + size} of {len(content)}")
    return name, Entry(begin, begin + size, crc), header, after


def _wide(extra: bytes) -> Iterator[int]:
    """The numbers of 64 bits among the extra fields (zip64), in order; behind the last, an error."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            yield from struct.unpack_from(f"<{min(size, len(extra) - at - 4) // 8}Q", extra, at + 4)
            break
        at += 4 + size
    raise ValueError("a size is missing")


def _begin(content: memoryview, header: int, name: bytes, said: tuple[int, int], flags: int) -> int:
    """Where an entry's bytes begin: behind the header before them, which must say what the directory says."""
    signature, _, own_flags, method, _, _, crc, packed, size, names, extras = _LOCAL.unpack_from(content, header)
    begin: int = header + _LOCAL.size + names + extras
    differs = method or own_flags != flags or bytes(content[header + _LOCAL.size :][:names]) != name
    # What is written as it comes has zeros here; behind 4 GB the numbers are among the extra fields.
    if not flags & _SIZES_BEHIND and _ELSEWHERE not in {packed, size}:
        differs = differs or (crc, packed, size) != (said[0], said[1], said[1])
    if signature != LOCAL or differs:
        raise ValueError(f"byte {header} begins no entry, or another one than its directory says")
    return begin
