"""A load generator for HTTP on loopback: one thread, many connections, each with one request after another.

Run as a process of its own, so that its CPU time can be told from the server's:

    python benchmarks/_http_load.py PORT CONNECTIONS SECONDS < bodies.jsonl

Each line of standard input is a body. It prints a JSON object: requests, seconds, its own CPU seconds, the latencies in
milliseconds, and counts by status.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = (
    b"POST /v1/embeddings HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


class Connection:
    """Sends a request when the response to the one before has come."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._waiting, self._got, self._wanted, self.status = b"", 0, -1, 0
        self.started = 0.0

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self._waiting, self._got, self._wanted = b"", 0, -1
        self.started = time.perf_counter()
        self.socket.sendall(request)

    def read(self) -> bool:
        """Read what is there; whether the response is complete."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._got += len(data)
        if self._wanted < 0:
            self._waiting += data
            end = self._waiting.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self._waiting[:end].lower()
            at = head.index(b"content-length:") + 15
            self.status = int(head[9:12])
            self._wanted = end + 4 + int(head[at : (head + b"\r\n").index(b"\r\n", at)])
        return self._got >= self._wanted


def requests_of(lines: list[bytes]) -> Iterator[bytes]:
    """Requests without end."""
    return cycle([_HEAD % len(line) + line for line in lines])


def load(port: int, connections: int, seconds: float, lines: list[bytes]) -> dict[str, object]:
    """Ask for so many seconds."""
    asking = requests_of(lines)
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        one = Connection(port)
        selector.register(one.socket, selectors.EVENT_READ, one)
        one.ask(next(asking))
    waits, statuses = [], {}
    began, cpu = time.perf_counter(), _cpu()
    while (now := time.perf_counter()) < began + seconds:
        for key, _ in selector.select(1):
            one = key.data
            if one.read():
                now = time.perf_counter()
                waits.append(1000 * (now - one.started))
                statuses[one.status] = statuses.get(one.status, 0) + 1
                one.ask(next(asking))
    took = now - began
    return {"requests": len(waits), "seconds": took, "cpu_s": _cpu() - cpu, "ms": waits, "statuses": statuses}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    bodies = [line.strip() for line in sys.stdin.buffer if line.strip()]
    print(json.dumps(load(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), bodies)))
