"""What a shared tier stores of an entry: a header, the float32 row, and a tag that no other content has."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

import numpy as np

from nimbed._cache.lru import Entry

# Format and kind of tag, dimensions, tokens before truncation (0: none cut).
_HEADER = struct.Struct("<8sII")
_CHECKED, _SIGNED = b"nmb2 crc", b"nmb2 mac"
_CRC_BYTES, _MAC_BYTES = 4, 16
_MAX_TOKENS = 2**31 - 1


class Seal:
    """Packs entries of one width, and knows its own work again.

    The tag covers the entry's key too, so no entry passes for another's. Without a secret it is a CRC-32, which notices
    damage; with one it is a keyed BLAKE2b, which nobody can make without the secret.
    """

    def __init__(self, dim: int, secret: bytes | None = None) -> None:
        self._dim = dim
        self._kind, tag_bytes = (_CHECKED, _CRC_BYTES) if secret is None else (_SIGNED, _MAC_BYTES)
        self._bytes = _HEADER.size + 4 * dim + tag_bytes
        # A key of BLAKE2b has 64 bytes at most; the secret may have any number.
        self._key = None if secret is None else hashlib.blake2b(secret, digest_size=64).digest()

    def pack(self, key: bytes, entry: Entry) -> bytes:
        """An entry as stored."""
        body = _HEADER.pack(self._kind, len(entry.row) // 4, entry.cut) + entry.row
        return body + self._tag(key + body)

    def unpack(self, key: bytes, value: object) -> Entry | None:
        """The entry, or None where the value is not exactly what :meth:`pack` made for this key and width."""
        if type(value) is not bytes or len(value) != self._bytes:
            return None
        at = _HEADER.size + 4 * self._dim
        kind, dim, cut = _HEADER.unpack_from(value)
        row = value[_HEADER.size : at]
        if (kind, dim) != (self._kind, self._dim) or not hmac.compare_digest(self._tag(key + value[:at]), value[at:]):
            return None
        sound = cut <= _MAX_TOKENS and np.isfinite(np.frombuffer(row, np.float32)).all()
        return Entry(row, cut) if sound else None

    def _tag(self, data: bytes) -> bytes:
        if self._key is None:
            return zlib.crc32(data).to_bytes(_CRC_BYTES, "little")
        return hashlib.blake2b(data, key=self._key, digest_size=_MAC_BYTES).digest()
