"""Fewer encoder layers, distilled back to the original's sentence vectors: the part of prune_layers.py that is torch.

For BERT, RoBERTa, XLM-RoBERTa and MPNet, whose layers are ``encoder.layer``.
"""

from __future__ import annotations

import copy
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from torch.nn.functional import mse_loss, normalize

from nimbed._serving.plan import plan
from nimbed._types import TokenBatch
from nimbed.backends.shapes import ShapePolicy
from nimbed.backends.torch_parts import pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from nimbed._types import Int32Array, Pooling

BATCH_TOKENS = 2048
LEARNING_RATE, LEAST_SHARE, WARM_UP_STEPS = 2e-4, 0.02, 50
REPORT_STEPS = 50
# Of the source: what another network is in, or what tells of another.
_NOT_COPIED = ("*.safetensors", "*.bin", "*.onnx", "onnx", "openvino", "data_config.json", "README.md", ".git*")


def load(folder: Path) -> Any:  # noqa: ANN401 (a class for each architecture)
    """The network in fp32. Dropout stays off, in training too: what is learned is a vector without noise."""
    model, found = transformers.AutoModel.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    if any(name.startswith("pooler.") for name in found["missing_keys"]):
        model.pooler = None  # random, and no sentence vector needs it
    return model.eval()


def without(model: Any, layer: int) -> Any:  # noqa: ANN401
    """A copy of the network without one encoder layer; every other weight is the same, bit for bit."""
    pruned = copy.deepcopy(model)
    del pruned.encoder.layer[layer]
    pruned.config.num_hidden_layers = len(pruned.encoder.layer)
    return pruned


def embed(model: Any, pooling: Pooling, sequences: Sequence[Int32Array]) -> torch.Tensor:  # noqa: ANN401
    """Vectors of length 1 ``[n, hidden_size]`` of one batch of token ids."""
    batch = TokenBatch.from_sequences(sequences)
    padded = batch.padded(int(batch.lengths.max()))
    ids, mask = (torch.from_numpy(padded[name]) for name in ("input_ids", "attention_mask"))
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return normalize(pool(hidden, mask.float(), pooling), dim=-1)


def vectors(model: Any, pooling: Pooling, sequences: Sequence[Int32Array]) -> torch.Tensor:  # noqa: ANN401
    """Vectors of any number of texts, in their order, without gradients."""
    batches = plan([len(s) for s in sequences], ShapePolicy(token_budget=BATCH_TOKENS))
    with torch.no_grad():
        rows = [embed(model, pooling, [sequences[i] for i in batch]) for batch in batches]
    order = np.concatenate(batches)
    return torch.cat(rows)[torch.from_numpy(np.argsort(order))]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Token ids of texts with the original's vectors of them, ``[n, hidden_size]``, each of length 1."""

    sequences: Sequence[Int32Array]
    wanted: torch.Tensor
    pooling: Pooling

    @classmethod
    def by(cls, teacher: Any, pooling: Pooling, sequences: Sequence[Int32Array]) -> Lesson:  # noqa: ANN401
        """The teacher's vectors, computed once."""
        return cls(sequences=sequences, wanted=vectors(teacher, pooling, sequences), pooling=pooling)

    def cosine(self, model: Any) -> float:  # noqa: ANN401
        """Mean cosine of a network's vectors with the wanted ones."""
        return float((vectors(model, self.pooling, self.sequences) * self.wanted).sum(dim=1).mean())


def cosines_without(model: Any, lesson: Lesson) -> list[float]:  # noqa: ANN401
    """For each encoder layer the mean cosine with the original's vectors that is left when it is dropped."""
    return [lesson.cosine(without(model, layer)) for layer in range(len(model.encoder.layer))]


def distil(model: Any, lesson: Lesson, *, steps: int | None, minutes: float, seed: int) -> dict[str, float]:  # noqa: ANN401
    """Train the encoder layers in place; the embeddings, which the original shares, stay as they are.

    The loss is 1 - cosine with the original's vector, and the mean square error of the cosines of all pairs of a
    batch. AdamW; the rate rises over the first steps, and falls linearly to the end.

    Args:
        model: the pruned network.
        lesson: what it learns.
        steps: how many batches; None goes by the clock.
        minutes: of wall-clock time, where no number of steps is given.
        seed: of the order of the texts.

    Returns:
        ``steps``, ``seconds``, and ``first_loss`` and ``last_loss``, each the mean of 50 steps.
    """
    optimizer = torch.optim.AdamW(model.encoder.parameters(), weight_decay=0.0)
    started, losses = time.perf_counter(), []
    for rows in batches([len(s) for s in lesson.sequences], np.random.default_rng(seed)):
        seconds = time.perf_counter() - started
        done = len(losses) / steps if steps else seconds / (60 * minutes)
        if done >= 1:
            break
        share = min((len(losses) + 1) / WARM_UP_STEPS, max(LEAST_SHARE, 1 - done))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * share
        losses.append(step(model, lesson, rows, optimizer))
        if len(losses) % REPORT_STEPS == 0:
            mean = np.mean(losses[-REPORT_STEPS:])
            print(f"  step {len(losses)}, {seconds:.0f} s: loss {mean:.4f}", file=sys.stderr, flush=True)
    first, last = (float(np.mean(part)) for part in (losses[:REPORT_STEPS], losses[-REPORT_STEPS:]))
    return {"steps": len(losses), "seconds": seconds, "first_loss": first, "last_loss": last}


def step(model: Any, lesson: Lesson, rows: npt.NDArray[np.int64], optimizer: torch.optim.Optimizer) -> float:  # noqa: ANN401
    """One batch; its loss."""
    wanted = lesson.wanted[torch.from_numpy(rows)]
    got = embed(model, lesson.pooling, [lesson.sequences[i] for i in rows])
    loss = (1 - (got * wanted).sum(dim=1)).mean() + mse_loss(got @ got.T, wanted @ wanted.T)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def batches(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Shuffled without end, of like length, which spares padding, but with other neighbours each time round."""
    while True:
        about = np.multiply(lengths, rng.uniform(0.8, 1.25, len(lengths))).astype(np.int64) + 1
        groups = plan(about, ShapePolicy(token_budget=BATCH_TOKENS))
        yield from (groups[at] for at in rng.permutation(len(groups)))


def prune(
    model: Any,  # noqa: ANN401
    depths: Sequence[int],
    choose: Lesson,
    learn: Callable[[Any], dict[str, float]],
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """From deep to shallow: drop the layer that is missed least, distil, go on from there.

    Args:
        model: the original; it stays as it is.
        depths: numbers of layers wanted, each with a network of its own.
        choose: texts that tell which layer is missed least, before anything is distilled without it.
        learn: distils a network in place.

    Yields:
        the network and its record, for each depth; layers are counted from 0 there.
    """
    kept, tried = list(range(len(model.encoder.layer))), []
    for depth in sorted(depths, reverse=True):
        while len(kept) > depth:
            cosines = cosines_without(model, choose)
            least = int(np.argmax(cosines))
            tried.append(dict(zip(kept, cosines, strict=True)))
            print(f"  without layer {kept[least]}: cosine {cosines[least]:.4f}", file=sys.stderr)
            model = without(model, least)
            del kept[least]
        before = choose.cosine(model)
        model = copy.deepcopy(model)
        learned = learn(model)
        record = {"kept": list(kept), "cosine_without": list(tried), "cosine_before": before, **learned}
        yield model, {**record, "cosine_after": choose.cosine(model)}


def write(model: Any, source: Path, out: Path) -> None:  # noqa: ANN401
    """The network with all else of the source folder: an ordinary sentence-transformers model folder."""
    shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    model.save_pretrained(out)
