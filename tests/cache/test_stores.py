"""Where a shared tier keeps its values: URLs, files that are ours and files that are not, what expires."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time

import pytest
from tests.support.redis_server import redis_server

from nimbed import Encoder
from nimbed._cache.stores import SqliteStore, open_store
from nimbed.errors import InputError

# URLs

WRONG_URLS = [
    "redis:/secret",
    "http://secret",
    "secret:6379",
    "sqlite://",
    "redis://:secret@secret/secret@host",
    "redis://h:secret",
    "redis://",
    "redis:///0",
    # A password that begins with digits looks like a port.
    "redis://:123#secret@host:6379/0",
    "redis://:123?secret@host:6379/0",
    "redis://:123?secret=1@host:6379/0",
    "redis://:123?password=secret@host:6379/0",
    "redis://:123/secret@host:6379/0",
    "redis://:123",
    # Options that redis-py does not know, or that change its replies.
    "redis://host/0?decode_responses=true&x=secret",
    "redis://host/0?secret=1",
    "redis://host/0?secret",
    "redis://host/0?ssl_password=secret",
    "redis://host/0?protocol=secret",
    "rediss://host/0?ssl_cert_reqs=secret",
    # Hosts and paths that cannot be.
    "redis://secret..host/0",
    f"redis://{'secret' * 20}/0",
    "redis://secret\n/0",
    "unix://secret/x",
    "unix:///secret%00x",
    "sqlite:///secret%00x",
    "sqlite:///secret\0x",
    "sqlite:///secret?mode=ro",
    "sqlite:///:memory:secret",
    "sqlite://secret/file.db",
]


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_that_cannot_be_is_refused_at_opening_and_not_shown(url):
    with pytest.raises(InputError) as caught:
        Encoder("m", backend="fake", cache=url)
    shown, error = "", caught.value
    while error is not None:
        shown, error = shown + str(error), error.__context__
    assert "secret" not in shown
    assert "123" not in shown


# SQLite


def opened(path, **more) -> SqliteStore:
    store = open_store(f"sqlite:///{path}", **{"timeout_s": 1, "ttl_s": None, **more})
    assert isinstance(store, SqliteStore)
    return store


def test_a_file_of_ours(tmp_path):
    store = opened(f"{tmp_path}/deeper/a%20b.db")
    store.put({b"k": b"v"})
    assert store.get([b"k", b"x"]) == [b"v", None]
    files = sorted((tmp_path / "deeper").iterdir())
    assert [file.name for file in files] == ["a b.db", "a b.db-shm", "a b.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()
    again = opened(f"{tmp_path}/deeper/a b.db")
    assert again.get([b"k"]) == [b"v"]
    again.close()


def foreign_database(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


OLD = "CREATE TABLE vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL) WITHOUT ROWID"
FOREIGN = {
    "another table": ["CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')"],
    "a table of this name": [OLD, "INSERT INTO vectors VALUES (x'00', x'00', 1.0)"],
    "another program's mark": ["PRAGMA application_id = 7"],
    "WAL already": ["PRAGMA journal_mode=WAL", "CREATE TABLE notes (text)"],
}


@pytest.mark.parametrize("statements", FOREIGN.values(), ids=FOREIGN)
def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path, statements):
    path = tmp_path / "mine.db"
    foreign_database(path, *statements)
    before = {file.name: (file.read_bytes(), file.stat().st_mode) for file in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"mine.db is not a cache of nimbed's"):
        Encoder("m", backend="fake", cache=f"sqlite:///{path}")
    assert {file.name: (file.read_bytes(), file.stat().st_mode) for file in tmp_path.iterdir()} == before


def test_a_database_that_comes_between_the_look_and_the_first_use_is_left_alone(tmp_path):
    path = tmp_path / "v.db"
    store = opened(path)
    foreign_database(path, *FOREIGN["a table of this name"])
    before = path.read_bytes()
    with pytest.raises(sqlite3.DatabaseError, match="another program's"):
        store.put({b"k": b"v"})
    store.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"x", b"this is no database at all, but long enough to be read as one" * 100])
def test_a_file_that_is_no_database(tmp_path, content):
    (tmp_path / "v.db").write_bytes(content)
    with pytest.raises(InputError, match="not a cache of nimbed's"):
        Encoder("m", backend="fake", cache=f"sqlite:///{tmp_path}/v.db")
    assert (tmp_path / "v.db").read_bytes() == content


def test_a_place_where_no_file_can_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "file" / "v.db", tmp_path / "pipe", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="cannot be a SQLite file"):
            opened(place)


def test_a_file_of_ours_that_is_damaged_fails_no_call(tmp_path):
    url = f"sqlite:///{tmp_path}/v.db"
    with Encoder("m", backend="fake", cache=url) as first:
        first.encode(["one"])
    content = (tmp_path / "v.db").read_bytes()
    (tmp_path / "v.db").write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with Encoder("m", backend="fake", cache=url) as second:
        assert second.encode(["one"]).shape == (1, 384)
        assert second.stats().cache.tier.state == "down"


def test_what_has_expired_is_deleted_while_the_file_is_in_use_a_few_rows_at_a_time(tmp_path):
    store = opened(tmp_path / "v.db", ttl_s=0.05)
    store.put({bytes([n]): b"v" for n in range(100)})
    time.sleep(0.1)

    def rows() -> int:
        return store._connection.execute("SELECT count(*) FROM vectors").fetchone()[0]

    store.put({b"new": b"v"})
    assert rows() == 99  # one more, two less
    store.put({b"n%d" % n: b"v" for n in range(50)})
    assert rows() <= 51
    store.close()


def test_a_locked_file_is_a_failure_not_a_wait_for_ever(tmp_path):
    store = opened(tmp_path / "v.db", timeout_s=0.05)
    store.put({b"k": b"v"})
    with contextlib.closing(sqlite3.connect(tmp_path / "v.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError):
            store.put({b"k": b"w"})
        assert store.get([b"k"]) == [b"v"]
    store.close()


def test_redis_keeps_what_it_is_told_to(tmp_path):
    server = redis_server(tmp_path)
    try:
        store = open_store(server.url, timeout_s=1, ttl_s=None)
        store.put({b"k": b"v"})
        store.interrupt()
        assert store.get([b"k", b"x"]) == [b"v", None]
        store.close()
    finally:
        server.kill()
