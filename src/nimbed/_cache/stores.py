"""Where a shared tier keeps its values: a Redis server, or a SQLite file. Errors are raised; the tier handles them."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nimbed._cache.store_urls import sqlite_path
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PREFIX = b"nimbed:2:"
# SQLite allows 999 variables in the oldest versions still in use.
_MAX_SELECT_KEYS = 500
# "nmbd", in the header of our files: another program's database is not touched.
_APPLICATION_ID = 0x6E6D6264
_MAGIC, _HEADER_BYTES, _ID_AT = b"SQLite format 3\0", 100, 68
_SCHEMA = (
    "CREATE TABLE vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL) WITHOUT ROWID",
    "CREATE INDEX expiring ON vectors (expires) WHERE expires IS NOT NULL",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)


class Store(Protocol):
    """Bytes by key, for one thread. Every method may raise."""

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """Values in the order of the keys, None where there is none."""
        ...

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store them all."""
        ...

    def interrupt(self) -> None:
        """Make the operation that runs fail soon; called from another thread."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


def open_store(url: str, *, timeout_s: float, ttl_s: float | None) -> Store:
    """A store that connects when it is first used.

    Raises:
        InputError: the file is not nimbed's or cannot be one, or redis-py does not take the URL.
    """
    if url.startswith("sqlite"):
        return SqliteStore(Path(sqlite_path(url)), timeout_s=timeout_s, ttl_s=ttl_s)
    return RedisStore(url, timeout_s=timeout_s, ttl_s=ttl_s)


class RedisStore:
    """Values on a Redis server, pipelined."""

    def __init__(self, url: str, *, timeout_s: float, ttl_s: float | None) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as err:
            raise MissingExtraError('a redis:// cache needs redis-py: pip install "nimbed[redis]"') from err
        self._ttl_ms = None if ttl_s is None else max(1, int(ttl_s * 1000))
        # Connecting and answering may each take half of the time. The tier above retries.
        limits = {"socket_timeout": timeout_s / 2, "socket_connect_timeout": timeout_s / 2}
        fault = None
        try:
            self._client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **limits)
            self._client.connection_pool.make_connection()  # checks the options, and connects to nothing
        except Exception as err:  # noqa: BLE001 (its message may quote the URL, and so a password)
            fault = type(err).__name__
        if fault:
            raise InputError(f"cache: redis-py does not take this URL ({fault}; not shown: it may hold a password)")

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """One MGET."""
        values: list[object] = self._client.mget([_PREFIX + key for key in keys])
        return values

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """One MSET, or a pipeline of SET where values expire."""
        named: dict[Any, Any] = {_PREFIX + key: value for key, value in values.items()}
        if self._ttl_ms is None:
            self._client.mset(named)
            return
        with self._client.pipeline(transaction=False) as pipeline:
            for key, value in named.items():
                pipeline.set(key, value, px=self._ttl_ms)
            pipeline.execute()

    def interrupt(self) -> None:
        """Cut the connection: a server that sends a byte now and then would never run into a time-out."""
        self._client.connection_pool.disconnect(inuse_connections=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class SqliteStore:
    """Values in a file, in WAL mode: many processes may use it at once.

    Raises:
        InputError: there is a file that is not nimbed's, or there can be none.
    """

    def __init__(self, path: Path, *, timeout_s: float, ttl_s: float | None) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Also its -wal and -shm will have this mode.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            header = _header(path)
        except (OSError, ValueError) as err:
            raise InputError(f"cache: {path} cannot be a SQLite file: {err}; name a file that can be written") from err
        if header and not _is_ours(header):
            raise InputError(
                f"cache: {path} is not a cache of nimbed's, and is left as it is; name another file, or delete it"
            )

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """Selects of a few hundred keys each."""
        found: dict[bytes, object] = {}
        connection = self._opened()
        for start in range(0, len(keys), _MAX_SELECT_KEYS):
            some = keys[start : start + _MAX_SELECT_KEYS]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, value FROM vectors WHERE key IN ({marks}) AND (expires IS NULL OR expires > ?)"  # noqa: S608 (only question marks)
            found.update(connection.execute(query, (*some, time.time())))
        return [found.get(key) for key in keys]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """One transaction, which also deletes what has expired: twice as many rows as it writes, at most."""
        now = time.time()
        expires = None if self._ttl_s is None else now + self._ttl_s
        with self._opened() as transaction:
            transaction.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", [(k, v, expires) for k, v in values.items()]
            )
            transaction.execute(
                "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors WHERE expires <= ? LIMIT ?)",
                (now, 2 * len(values)),
            )

    def interrupt(self) -> None:
        """End a long query; a lock is not waited for longer than the time-out."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path, timeout=self._timeout_s, check_same_thread=False, isolation_level="IMMEDIATE"
            )
            try:
                _prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _header(path: Path) -> bytes:
    """The file's beginning; it can be written too."""
    if not path.is_file():
        raise OSError("it is no ordinary file")
    with path.open("r+b") as file:
        return file.read(_HEADER_BYTES)


def _is_ours(header: bytes) -> bool:
    return header.startswith(_MAGIC) and header[_ID_AT : _ID_AT + 4] == _APPLICATION_ID.to_bytes(4, "big")


def _prepare(connection: sqlite3.Connection) -> None:
    """Make a new file ours. It may have become another program's since it was looked at."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (owner,), (tables,) = (
            connection.execute(query).fetchone()
            for query in ("PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
        )
        if owner != _APPLICATION_ID:
            if owner or tables:
                raise sqlite3.DatabaseError("the file is another program's")
            for statement in _SCHEMA:
                connection.execute(statement)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
