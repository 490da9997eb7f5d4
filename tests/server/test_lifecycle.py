"""The process: ready, told to stop, and gone with status 0 when all that it accepted is answered."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import warnings

import pytest
from tests.support.servers import WAIT_S, Held, Listening, everything, fake_app, request_bytes

from nimbed.server import Limits
from nimbed.server.lifecycle import Server, run

BODY = json.dumps({"input": [f"text {number}" for number in range(300)]}).encode()


def start(*arguments, **environment):
    """``nimbed serve`` on a stand-in, and the port where it listens."""
    line = [sys.executable, "-m", "nimbed", "serve", "m", "--backend", "fake", "--port", "0", *arguments]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment})
    said = process.stdout.readline().decode()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
    assert found, said + process.stderr.read().decode()
    return process, int(found[1])


def ended(process):
    """What it wrote to standard error; it must have ended well."""
    with process:
        _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    return said


def test_sigterm_answers_what_was_accepted_and_exits_with_0():
    process, port = start()
    connections = [socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) for _ in range(8)]
    for connection in connections:
        connection.sendall(request_bytes(BODY))
    connections[0].recv(1)  # all were read by then, or are in the middle of it
    process.send_signal(signal.SIGTERM)
    answers = [everything(connection) for connection in connections]
    for connection in connections:
        connection.close()
    assert all(answer.startswith((b"HTTP/1.1 200", b"TTP/1.1 200")) for answer in answers)
    assert all(b'"usage"' in answer for answer in answers)
    assert ended(process) == b""


def test_a_key_is_not_in_the_command_line_of_the_process():
    process, port = start("--api-key", "0123456789abcdef0123")
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True, check=True)
    assert "serve" in shown.stdout
    assert "0123456789abcdef" not in shown.stdout
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(request_bytes(BODY, "connection: close"))
        assert everything(connection).startswith(b"HTTP/1.1 401")
    process.terminate()
    ended(process)


def test_a_port_that_is_taken_ends_it_with_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        app = fake_app(port=taken.getsockname()[1])
        with pytest.raises(SystemExit) as caught:
            run(app, print)
        assert caught.value.code != 0


def test_garbage_collection_leaves_out_what_was_opened_before_it_listens(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # event loops of tests before this one
    before, while_it_runs = gc.get_freeze_count(), []
    monkeypatch.setattr(Server, "run", lambda _self: while_it_runs.append(gc.get_freeze_count()))
    run(fake_app(), print)
    assert while_it_runs[0] > before
    assert gc.get_freeze_count() == 0


def test_while_it_drains_it_is_not_ready_and_accepts_nobody():
    app = fake_app()
    held = Held(app)
    with Listening(app) as server, server.connect() as connection:
        connection.sendall(request_bytes(BODY))
        assert held.reached.wait(WAIT_S)
        server.stop()
        assert app.load.draining
        answers = []
        reader = threading.Thread(target=lambda: answers.append(everything(connection)))
        reader.start()
        asyncio.run(refused(server.port))
        held.go_on.set()
        reader.join(WAIT_S)
        assert answers[0].startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_reads_ends_with_the_drain_and_without_a_word(caplog):
    app = fake_app(limits=Limits(drain_s=1))
    many = json.dumps({"input": [f"text {number}" for number in range(20_000)]}).encode()
    with Listening(app) as server:
        connection = server.connect()
        connection.sendall(request_bytes(many))
        assert connection.recv(1) == b"H"
        server.stop()
    connection.close()
    assert app.load.requests == 0
    assert app.load.bytes == 0
    assert "Exception" not in caplog.text


async def refused(port):
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.05)
    raise AssertionError("it still listens")
