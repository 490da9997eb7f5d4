"""Retrieve passages with vectors, then let a reranker put the best ones in order.

pip install "nimbed[export]"
python examples/rerank.py [model of the vectors] [reranker]

A cross-encoder such as BAAI/bge-reranker-base or cross-encoder/ms-marco-MiniLM-L6-v2 reads question and passage
together, which is slow and exact, so it gets only the few passages that vectors have found. If you name no reranker,
the model of the vectors ranks again, as a stand-in that needs no download.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from quickstart import default_model

from nimbed import Encoder, Reranker

PEPS = [Path(__file__).parent / "data" / "peps" / f"pep-{number}.rst" for number in ("0380", "0618", "0723")]
QUESTION = "How does a script declare which packages it depends on?"
RETRIEVED, KEPT = 20, 3


def passages() -> list[str]:
    paragraphs = [p for path in PEPS for p in path.read_text(encoding="utf-8").split("\n\n")]
    return [" ".join(paragraph.split()) for paragraph in paragraphs if len(paragraph.split()) > 12]


def main(model: str, reranker_model: str) -> None:
    texts = passages()
    with Encoder(model, truncate="silent") as encoder:
        similarity = encoder.encode(texts) @ encoder.encode_query(QUESTION)
    found = [int(index) for index in np.argsort(-similarity, kind="stable")[:RETRIEVED]]

    with Reranker(reranker_model) as reranker:
        ranked = reranker.rank(QUESTION, [texts[index] for index in found], top_k=KEPT)
        print(
            f"{len(texts)} passages, {len(found)} retrieved, ranked by a {reranker.kind} in {reranker.info.precision}:"
        )
    for one in ranked:
        print(f"{one.score:.3f} (was number {one.index + 1})  {texts[found[one.index]][:150]}")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else default_model()
    main(chosen, sys.argv[2] if len(sys.argv) > 2 else chosen)
