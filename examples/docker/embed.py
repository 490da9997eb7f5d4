r"""One text per line in, one JSON list of floats per line out. Needs nimbed's base install and an artefact, no torch.

printf 'first text\nsecond text\n' | python embed.py /artefact
"""

from __future__ import annotations

import json
import sys

from nimbed import Encoder


def main(artefact: str) -> None:
    with Encoder(artefact) as encoder:
        info = encoder.info
        print(f"{info.model}: {info.backend} {info.precision}, {info.threads} threads", file=sys.stderr)
        for block in encoder.encode_iter(line.rstrip("\n") for line in sys.stdin):
            for vector in block.tolist():
                print(json.dumps(vector))


if __name__ == "__main__":
    main(sys.argv[1])
