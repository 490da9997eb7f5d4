"""Bounds on what comes before a request is known, on real connections."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing

import pytest
from tests.support.servers import WAIT_S, Held, Listening, everything, fake_app, request_bytes

from nimbed.server import Limits

BODY = json.dumps({"input": "a cat"}).encode()


@pytest.fixture(scope="module")
def server():
    with Listening(fake_app(limits=Limits(header_bytes=2000, idle_s=0.5, timeout_s=1.0, connections=4))) as one:
        yield one


def test_requests_one_after_another(server):
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=WAIT_S)) as connection:
        for _ in range(3):
            connection.request("POST", "/v1/embeddings", BODY, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200
            assert "server" not in answer.headers
            assert len(json.loads(answer.read())["data"]) == 1


def test_a_connection_that_says_nothing_is_closed(server):
    with server.connect() as connection:
        assert everything(connection) == b""


def test_headers_that_trickle_are_cut_off(server):
    with server.connect() as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
        assert everything(connection) == b""


def test_a_connection_that_falls_silent_is_closed(server):
    with server.connect() as connection:
        connection.sendall(request_bytes(BODY))
        assert everything(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/livez", "/none"])
@pytest.mark.parametrize("rest", [b"\r\n", b"x"])
def test_what_dribbles_in_after_an_answer_does_not_hold_the_connection(server, path, rest):
    """An empty line, or a body that nobody reads."""
    length = 1_000_000_000 if rest == b"x" else 0
    with server.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 ")
        connection.sendall(rest)
        assert everything(connection) == b""


INNER = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAA")


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_offer_to_upgrade_is_passed_over_and_the_body_is_read(server, pieces):
    """As Java's own client asks."""
    whole = request_bytes(BODY, *UPGRADE)
    at = len(whole) if pieces == 1 else len(whole) - len(BODY)
    with server.connect() as connection:
        connection.sendall(whole[:at])
        time.sleep(0.05 * (pieces - 1))
        connection.sendall(whole[at:] + request_bytes(BODY, "connection: close"))
        assert everything(connection).count(b"HTTP/1.1 200") == 2


def test_a_body_behind_an_offer_to_upgrade_is_no_request(server):
    with server.connect() as connection:
        whole = request_bytes(INNER, *UPGRADE)
        connection.sendall(whole[: -len(INNER)])
        time.sleep(0.05)
        connection.sendall(INNER)
        found = everything(connection)
    assert found.count(b"HTTP/1.1") == 1
    assert b"is not JSON" in found


def test_connect_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 400")


def test_a_request_behind_a_large_body_is_not_counted_with_it(server):
    large = request_bytes(json.dumps({"input": "x" * 3000}).encode())
    following = request_bytes(BODY, "connection: close")
    with server.connect() as connection:
        connection.sendall(large + following[:20])
        time.sleep(0.05)
        connection.sendall(following[20:])
        assert everything(connection).count(b"HTTP/1.1 200") == 2


def test_a_long_address_is_refused_however_it_comes(server):
    with server.connect() as connection:
        connection.sendall(b"GET /livez?" + b"x" * 3000 + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("start", [b"POST /embed HTTP/1.1\r\nx-long: ", b"POST /"])
def test_headers_without_end_are_refused(server, start):
    with server.connect() as connection:
        connection.sendall(start + b"x" * 5000)
        assert everything(connection).startswith(b"HTTP/1.1 431")


def test_what_is_not_http_is_refused(server):
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01garbage\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 400")


def test_too_many_connections_are_503(server):
    held = [server.connect() for _ in range(4)]
    with server.connect() as connection:
        connection.sendall(request_bytes(BODY, "connection: close"))
        assert everything(connection).startswith(b"HTTP/1.1 503")
    for one in held:
        one.close()


def test_an_answer_that_nobody_reads_is_given_up(server):
    body = json.dumps({"input": [f"text {number}" for number in range(2000)]}).encode()
    with server.connect() as connection:
        connection.sendall(request_bytes(body))
        for _ in range(400):
            time.sleep(0.05)
            if not server.connections:
                break
        assert server.connections == 0


PAGE = b"GET /ui/page.css HTTP/1.1\r\nhost: localhost\r\n\r\n"


def test_a_client_that_reads_nothing_is_gone_however_little_is_left_for_it(server):
    """Less than from where on a transport says that it is much."""
    with server.connect() as connection:
        for _ in range(20_000):
            connection.sendall(PAGE)
            time.sleep(0.001)
            (one,) = server.protocols
            if one.transport.get_write_buffer_size():
                break
        for _ in range(200):
            time.sleep(0.05)
            if not server.connections:
                break
        assert server.connections == 0


@pytest.fixture
def held():
    with Listening(fake_app(limits=Limits(idle_s=0.5))) as one:
        yield one, Held(one.app)


def test_a_request_behind_another_is_computed_as_long_as_it_takes(held):
    server, engine = held
    with server.connect() as connection:
        connection.sendall(INNER + request_bytes(BODY, "connection: close"))
        time.sleep(1)
        engine.go_on.set()
        assert everything(connection).count(b"HTTP/1.1 200") == 2


def test_a_client_that_goes_takes_all_with_it_that_it_has_asked(held):
    server, engine = held
    long = request_bytes(json.dumps({"input": [f"text {number}" for number in range(5000)]}).encode())
    with server.connect() as connection:
        connection.sendall(long + INNER)
        assert engine.reached.wait(WAIT_S)
    for _ in range(200):
        time.sleep(0.05)
        if not server.app.load.requests:
            break
    assert server.app.load.requests == 0
    engine.go_on.set()


@pytest.mark.parametrize(
    "bad", [b"\x16garbage\r\n\r\n", b"GET /livez?" + b"x" * 20_000, request_bytes(b"x")[:-3] + b"z"]
)
def test_what_is_no_request_becomes_no_part_of_an_answer_before_it(held, bad):
    server, engine = held
    with server.connect() as connection:
        connection.sendall(request_bytes(BODY))
        assert engine.reached.wait(WAIT_S)
        connection.sendall(bad)
        time.sleep(0.1)
        engine.go_on.set()
        found = everything(connection)
    assert found.startswith(b"HTTP/1.1 200")
    assert found.count(b"HTTP/1.1") == 1
