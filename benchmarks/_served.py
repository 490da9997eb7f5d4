"""Servers as processes of their own, for the benchmarks, and what one asks of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

GENERATOR = Path(__file__).with_name("_http_load.py")
WAIT_S = 120.0


class Running:
    """A process that answers on a port of this machine."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()

    def get(self, path: str) -> int:
        """The status of a route."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.request("GET", path)
        return connection.getresponse().status

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """An answer, parsed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.request("POST", "/v1/embeddings", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        parsed: dict[str, Any] = json.loads(answer.read())
        return parsed

    def load(self, connections: int, seconds: float, bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the load generator found, and the server's own CPU seconds."""
        before = cpu_of(self.process.pid)
        line = [sys.executable, str(GENERATOR), str(self.port), str(connections), str(seconds)]
        said = subprocess.run(
            line, input="\n".join(map(json.dumps, bodies)), capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(said.stdout)
        assert set(found["statuses"]) == {"200"}, found["statuses"]
        return {**found, "server_cpu_s": cpu_of(self.process.pid) - before}


class Served(Running):
    """``nimbed serve`` on a free port."""

    def __init__(self, model: str, *flags: str, stderr: IO[str] | None = None) -> None:
        line = [sys.executable, "-m", "nimbed", "serve", model, "--port", "0", *flags]
        began = time.perf_counter()
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=stderr, text=True)
        said = process.stdout.readline() if process.stdout else ""
        found = re.search(r":(\d+)$", said.strip())
        assert found, said
        super().__init__(process, int(found[1]))
        assert self.get("/health") == 200
        self.ready_s = time.perf_counter() - began

    def stop_under_load(self, body: dict[str, Any], connections: int) -> dict[str, float]:
        """SIGTERM while connections wait for answers: how many of what had arrived got one, and the exit.

        Each connection sends its request long before the signal, so that its last byte has been read.
        """
        outcomes: list[bool] = []
        callers = [threading.Thread(target=self._ask, args=(body, outcomes)) for _ in range(connections)]
        for caller in callers:
            caller.start()
        time.sleep(0.2)
        done_before = len(outcomes)
        began = time.perf_counter()
        os.kill(self.process.pid, signal.SIGTERM)
        for caller in callers:
            caller.join()
        status = self.process.wait(WAIT_S)
        lost = connections - sum(outcomes)
        return {"waiting": connections - done_before, "lost": lost, "exit": status,
                "seconds": time.perf_counter() - began}  # fmt: skip

    def _ask(self, body: dict[str, Any], outcomes: list[bool]) -> None:
        try:
            outcomes.append(len(self.post(body)["data"]) == len(body["input"]))
        except (OSError, http.client.HTTPException, AssertionError):
            outcomes.append(False)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system
