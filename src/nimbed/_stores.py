"""Where a shared tier keeps its values: a Redis server, or a SQLite file. Errors are raised; the tier minds them."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SCHEMES = ("redis", "rediss", "unix", "sqlite")
_PREFIX = b"nimbed:1:"
# SQLite allows 999 variables in the oldest versions still about.
_KEYS_AT_ONCE = 500


class Store(Protocol):
    """Bytes by key. Every method may raise one of ``errors``."""

    errors: tuple[type[Exception], ...]

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """Values in the order of the keys, None where there is none."""
        ...

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store them all."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


def check_url(url: str) -> None:
    """The form of a tier's URL.

    Raises:
        InputError: says what would do; never shows the URL, which may hold a password.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in _SCHEMES or not rest.strip("/"):
        raise InputError(
            "cache: a URL must be redis://host:port/db, rediss://..., unix://path or sqlite:///path/to/file "
            "(it is not shown here, since it may hold a password)"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
        torn = scheme.startswith("redis") and not parts.path.strip("/").isdecimal() and parts.path not in {"", "/"}
    except ValueError:  # its message quotes a part of the URL
        torn = True
    if torn:
        raise InputError(
            "cache: after redis:// come [user:password@]host[:port][/number]; special characters of a password must "
            "be percent-encoded"
        )


def has_credentials(url: str) -> bool:
    """Whether the URL holds a user name or password."""
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(parse_qs(parts.query).keys() & {"username", "password"})


def without_credentials(url: str) -> str:
    """Scheme, host, port and path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def open_store(url: str, *, timeout_s: float, ttl_s: float | None) -> Store:
    """A store that connects when it is first used."""
    if url.startswith("sqlite"):
        return SqliteStore(Path(unquote(url.removeprefix("sqlite:///"))), timeout_s=timeout_s, ttl_s=ttl_s)
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
        self.errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self._ttl_ms = None if ttl_s is None else max(1, int(ttl_s * 1000))
        try:
            # Connecting and answering may each take half of the time. The tier above retries.
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s / 2,
                socket_connect_timeout=timeout_s / 2,
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError):  # its message may quote the URL, and so a password
            raise InputError("cache: redis-py does not take this URL (not shown: it may hold a password)") from None

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """One MGET."""
        values: Any = self._client.mget([_PREFIX + key for key in keys])
        return list(values)

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """One MSET, or a pipeline of SET where values expire."""
        named = {_PREFIX + key: value for key, value in values.items()}
        if self._ttl_ms is None:
            self._client.mset(named)
            return
        with self._client.pipeline(transaction=False) as pipeline:
            for key, value in named.items():
                pipeline.set(key, value, px=self._ttl_ms)
            pipeline.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class SqliteStore:
    """Values in a file, in WAL mode: many processes may use it at once."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    def __init__(self, path: Path, *, timeout_s: float, ttl_s: float | None) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def get(self, keys: Sequence[bytes]) -> list[object]:
        """Selects of a few hundred keys each."""
        found: dict[bytes, object] = {}
        with self._lock:
            connection = self._opened()
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[start : start + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, value FROM vectors WHERE key IN ({marks}) AND (expires IS NULL OR expires > ?)"  # noqa: S608 (question marks alone)
                found.update(connection.execute(query, (*some, time.time())))
        return [found.get(key) for key in keys]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """One transaction."""
        expires = None if self._ttl_s is None else time.time() + self._ttl_s
        with self._lock, self._opened() as transaction:
            transaction.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", [(k, v, expires) for k, v in values.items()]
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=self._timeout_s, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                with connection:
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS vectors "
                        "(key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL) WITHOUT ROWID"
                    )
                    connection.execute("DELETE FROM vectors WHERE expires <= ?", (time.time(),))
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection
