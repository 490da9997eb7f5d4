"""`nimbed serve` under clients of every kind, for ten minutes: memory, answers, vectors and logs.

Beside those that ask well: some cut their connection while they send or while they are answered, some read slowly, some
send garbage, wrong types or bodies without end. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common
import numpy as np
import psutil
from _served import Served

from nimbed import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_GROWTH_MB = 30.0
PAUSE_S = 0.005  # of each client between two requests, so that none of them takes all of the server's time
MARK = "a-text-that-no-log-may-hold"
_HEAD = "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
_VALUES: list[Any] = [None, True, 1, -1.5, "", MARK, [], [[]], {}, [1, 2], [None], [MARK, 1], {"a": [MARK]}, "m" * 5000]
_FIELDS = (
    "input",
    "inputs",
    "query",
    "texts",
    "documents",
    "model",
    "dimensions",
    "encoding_format",
    "truncate",
    "ids",
)
_PATHS = ("/v1/embeddings", "/embed", "/rerank", "/v1/rerank", "/predict", "/similarity", "/tokenize", "/decode",
          "/api/embed", "/", "/none", "/embed_sparse")  # fmt: skip


class Soak:
    """The clients, and what they found.

    Args:
        server: that is asked.
        texts: of those that ask well.
        vectors: that they must get.
    """

    def __init__(self, server: Served, texts: Sequence[str], vectors: np.ndarray) -> None:
        self._server, self._texts, self._vectors = server, texts, vectors
        self.statuses: Counter[int] = Counter()
        self.wrong = 0
        self.failed: list[str] = []
        self.over = threading.Event()

    def run(self, seconds: float) -> list[float]:
        """Ask for so many seconds; the server's memory in MB, each second."""
        kinds: list[Callable[[random.Random], None]] = [
            *[self._asks_well] * 3, self._asks_much, self._cuts_its_body, self._cuts_the_answer, self._reads_slowly,
            self._sends_garbage, self._sends_wrong_types, self._sends_wrong_types,
        ]  # fmt: skip
        threads = [threading.Thread(target=self._repeat, args=(kind, n)) for n, kind in enumerate(kinds)]
        for thread in threads:
            thread.start()
        process, sizes, end = psutil.Process(self._server.process.pid), [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            time.sleep(1)
            sizes.append(process.memory_info().rss / 1e6)
        self.over.set()
        for thread in threads:
            thread.join()
        return sizes

    def _asks_well(self, chance: random.Random) -> None:
        first = chance.randrange(len(self._texts) - 8)
        part = slice(first, first + chance.randrange(1, 8))
        self._check(part, {"input": list(self._texts[part])})

    def _asks_much(self, _: random.Random) -> None:
        self._check(slice(0, len(self._texts)), {"input": list(self._texts)})

    def _cuts_its_body(self, chance: random.Random) -> None:
        with self._connected() as connection:
            sent = self._request("/v1/embeddings", {"input": [MARK] * 50})
            connection.sendall(sent[: chance.randrange(len(sent))])

    def _cuts_the_answer(self, chance: random.Random) -> None:
        with self._connected() as connection:
            connection.sendall(self._request("/v1/embeddings", {"input": [MARK + str(chance.random())] * 200}))
            time.sleep(chance.random() * 0.05)

    def _reads_slowly(self, _: random.Random) -> None:
        with self._connected() as connection:
            connection.sendall(self._request("/embed", {"inputs": list(self._texts[:64])}))
            for _ in range(20):
                if self.over.wait(0.05) or not connection.recv(4096):
                    break

    def _sends_garbage(self, chance: random.Random) -> None:
        with self._connected() as connection:
            body = chance.randbytes(chance.randrange(300))
            framed = _HEAD.format(chance.choice(_PATHS), len(body)).encode() + body
            connection.sendall(framed if chance.random() < 0.7 else body + b"\r\n\r\n")
            self._status_of(connection)

    def _sends_wrong_types(self, chance: random.Random) -> None:
        fields = {name: chance.choice(_VALUES) for name in chance.sample(_FIELDS, chance.randrange(1, 5))}
        with self._connected() as connection:
            connection.sendall(self._request(chance.choice(_PATHS), fields))
            self._status_of(connection)

    def _repeat(self, kind: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        while not self.over.is_set():
            try:
                kind(chance)
                time.sleep(PAUSE_S)
            except ConnectionError:
                pass
            except Exception as err:
                self.failed.append(f"{kind.__name__}: {err!r}")
                time.sleep(0.1)

    def _check(self, part: slice, body: dict[str, Any]) -> None:
        found = self._server.post(body)["data"]
        self.statuses[200] += 1
        vectors = np.array([item["embedding"] for item in found], np.float32)
        self.wrong += not np.array_equal(vectors, self._vectors[part])

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._server.port), timeout=60)

    def _request(self, path: str, body: dict[str, Any]) -> bytes:
        data = json.dumps(body).encode()
        return _HEAD.format(path, len(data)).encode() + data

    def _status_of(self, connection: socket.socket) -> None:
        if len(head := connection.recv(65536)) > 12:
            self.statuses[int(head[9:12])] += 1


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    texts = _common.passages(options.data, 100 if options.quick else 400)
    with Encoder(options.model, cache=None, truncate="silent") as encoder:
        vectors, artefact = encoder.encode(texts), str(encoder.info.artefact)
    log = Path(tempfile.mkstemp(suffix=".log")[1])
    with log.open("w") as stderr, Served(artefact, "--cache", "4000000", "--access-log", stderr=stderr) as server:
        soak = Soak(server, texts, vectors)
        sizes = soak.run(20.0 if options.quick else 60 * options.minutes)
    settled = sizes[len(sizes) // 5 :]
    record = {
        "conditions": _common.conditions(minutes=options.minutes, texts=len(texts)),
        "statuses": {str(status): count for status, count in sorted(soak.statuses.items())},
        "wrong vectors": soak.wrong,
        "failed": Counter(soak.failed).most_common(10),
        "memory MB": {"first": settled[0], "last": settled[-1], "max": max(sizes), "each minute": sizes[::60]},
        "marks in the log": log.read_text().count(MARK),
    }
    log.unlink()
    print(json.dumps({name: value for name, value in record.items() if name != "conditions"}, indent=1))
    return _common.finish(options, "serve_soak", record, judge(record))


def judge(record: dict[str, Any]) -> dict[str, bool]:
    """The gates, by name."""
    memory, statuses = record["memory MB"], record["statuses"]
    return {
        "no status of 500 and above": not any(int(status) >= 500 for status in statuses),
        "no 429, since the queue was never full": "429" not in statuses,
        "no wrong vector": record["wrong vectors"] == 0,
        "nobody who asked well failed": not record["failed"],
        f"memory grows by less than {MAX_GROWTH_MB:g} MB": memory["last"] - memory["first"] < MAX_GROWTH_MB,
        "no text in the log": record["marks in the log"] == 0,
    }


if __name__ == "__main__":
    sys.exit(main())
