"""Quantize a model on your own texts, and see what that costs in quality and gains in speed.

pip install "nimbed[export]"
python examples/quantize_and_compare.py [model folder or hub id] [texts.jsonl or texts.txt]

Half of the texts are used to calibrate (they set the ranges of the int8 numbers), the other half to compare.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from quickstart import default_model

from nimbed import Calibration, Encoder, quantize

PEPS = Path(__file__).parent / "data" / "peps"
MOST_TEXTS = 600


def main(model: str, file: str | None = None) -> None:
    texts = read(Path(file)) if file else paragraphs()
    texts = texts[:: len(texts) // MOST_TEXTS + 1]
    ours, held_out = texts[0::2], texts[1::2]

    # Both are kept in nimbed's cache folder, so running this again builds nothing.
    int8 = quantize(model, calibration=Calibration(texts=ours, count=128))
    fp32 = quantize(model, precision="fp32")

    fast, fast_rate = embed(int8.folder, held_out)
    exact, exact_rate = embed(fp32.folder, held_out)
    cosines = (fast * exact).sum(axis=1)
    print(f"int8: {int8.folder.name}, calibrated on {int8.manifest.calibration['count']} of {len(ours)} texts")
    print(f"compared on {len(held_out)} other texts:")
    print(f"  cosine int8 to fp32    mean {cosines.mean():.4f}, worst {cosines.min():.4f}")
    print(f"  same ten neighbours    {overlap(fast, exact):.1%} (mean overlap of each text's ten nearest others)")
    print(f"  texts a second         {fast_rate:.0f} in int8, {exact_rate:.0f} in fp32: {fast_rate / exact_rate:.1f} x")


def embed(artefact: Path, texts: list[str]) -> tuple[npt.NDArray[np.float32], float]:
    """float32 ``[n, dim]`` of length 1, and texts a second, of the second run: the first one compiles batch shapes."""
    with Encoder(artefact, truncate="silent") as encoder:
        encoder.encode(texts)
        started = time.perf_counter()
        vectors = encoder.encode(texts)
        rate = len(texts) / (time.perf_counter() - started)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rate


def overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], k: int = 10) -> float:
    """Share of each text's ``k`` nearest others that both sets of vectors name."""
    nearest = []
    for vectors in (a, b):
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        nearest.append(np.argsort(-scores, axis=1)[:, :k])
    return float(np.mean([len(np.intersect1d(x, y)) / k for x, y in zip(*nearest, strict=True)]))


def read(path: Path) -> list[str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [json.loads(line)["text"] for line in lines] if path.suffix == ".jsonl" else lines


def paragraphs() -> list[str]:
    found = (text for path in sorted(PEPS.glob("*.rst")) for text in path.read_text(encoding="utf-8").split("\n\n"))
    return [text.strip() for text in found if len(text.strip()) > 80]


if __name__ == "__main__":
    main(*(sys.argv[1:] or [default_model()]))
