"""The far end of `_peers.Ipex`, run by IPEX's own interpreter: texts in, vectors out, both pickled."""

from __future__ import annotations

import pickle
import sys

from nimbed import Encoder


def main() -> None:
    texts_in, vectors_out, sys.stdout = sys.stdin.buffer, sys.stdout.buffer, sys.stderr
    folder, threads, max_length = pickle.load(texts_in)
    with Encoder(
        folder,
        backend="ipex",
        precision="int8",
        threads=threads,
        max_length=max_length,
        truncate="silent",
        cache=None,
    ) as encoder:
        while True:
            try:
                texts, role = pickle.load(texts_in)
            except EOFError:
                return
            pickle.dump(encoder.encode(texts, role=role), vectors_out)
            vectors_out.flush()


if __name__ == "__main__":
    main()
