"""IPEX in static int8 by nimbed's backend of that name, run by IPEX's own interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _worker import serve

from nimbed import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def load(folder: str, threads: int, max_length: int) -> Callable[[Sequence[str], Any], Any]:
    """Opened for as long as the process lives."""
    encoder = Encoder(
        folder,
        backend="ipex",
        precision="int8",
        threads=threads,
        max_length=max_length,
        truncate="silent",
        cache=None,
    )
    return lambda texts, role: encoder.encode(texts, role=role)


if __name__ == "__main__":
    serve(load)
