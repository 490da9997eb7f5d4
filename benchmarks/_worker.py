"""The far end of `_peers.Apart`, in another environment: texts in, vectors out, both pickled."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def serve(load: Callable[[str, int, int], Callable[[Sequence[str], str], Any]]) -> None:
    """Until the other side closes: `load` takes folder, threads and the longest text in tokens."""
    texts_in, vectors_out, sys.stdout = sys.stdin.buffer, sys.stdout.buffer, sys.stderr
    embed = load(*pickle.load(texts_in))
    while True:
        try:
            texts, role = pickle.load(texts_in)
        except EOFError:
            return
        pickle.dump(embed(texts, role), vectors_out)
        vectors_out.flush()
