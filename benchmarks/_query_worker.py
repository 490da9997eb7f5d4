"""The far end of `query_after_pause.py --other`: queries of another build of nimbed, run by that build's interpreter.

It imports nothing of this checkout, so that any build can run it. Pickled requests come in, pickled answers go out.
"""

from __future__ import annotations

import pickle
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def timed(query: Callable[[str], Any], queries: Sequence[str], pause_s: float) -> list[float]:
    """Milliseconds of each query, each after a pause; the first goes once before them and is not counted."""
    query(queries[0])
    took = []
    for text in queries:
        if pause_s:
            time.sleep(pause_s)
        started = time.perf_counter()
        query(text)
        took.append(1000 * (time.perf_counter() - started))
    return took


def open_encoder(model: str, threads: int | None) -> Any:  # noqa: ANN401 (an Encoder of that build)
    """On the native engine, without a cache of vectors."""
    from nimbed import Encoder

    return Encoder(model, backend="native", precision="int8", threads=threads, truncate="silent", cache=None)


def main() -> None:
    requests, answers, sys.stdout = sys.stdin.buffer, sys.stdout.buffer, sys.stderr
    model, threads = pickle.load(requests)
    with ExitStack() as stack:
        encoders = {name: stack.enter_context(open_encoder(model, count)) for name, count in threads.items()}
        while True:
            try:
                name, queries, pause_s = pickle.load(requests)
            except EOFError:
                return
            pickle.dump(timed(encoders[name].encode_query, queries, pause_s), answers)
            answers.flush()


if __name__ == "__main__":
    main()
