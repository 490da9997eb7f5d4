"""How close int8 outputs are to the fp32 ones; numpy alone, for every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._loading.progress import counted, unheard
from nimbed._types import TokenBatch
from nimbed._vectors import l2_normalized, row_cosines
from nimbed.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._types import Float32Array, Int32Array, Role

    Float64Array = np.ndarray[Any, np.dtype[np.float64]]

_NEIGHBOURS = 10
_ROWS = 16


def in_batches(
    sequences: Sequence[Int32Array],
    outputs: Callable[[TokenBatch], Float32Array],
    role: Role = "document",
    progress: Callable[[int, int], None] = unheard,
) -> Float32Array:
    """Outputs ``[n, dim]`` in order, of batches of like length; ``progress`` is told how many of how many tokens."""
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
    starts = range(0, len(order), _ROWS)
    batches = [TokenBatch.from_sequences([sequences[at] for at in order[i : i + _ROWS]], role) for i in starts]
    rows = [outputs(batch) for batch in counted(batches, [len(batch.ids) for batch in batches], progress)]
    return np.concatenate(rows)[np.argsort(order)]


def finite(outputs: Float32Array) -> Float32Array:
    """The outputs as they are.

    Raises:
        BuildError: they are not finite.
    """
    if not np.isfinite(outputs).all():
        raise BuildError("the network's outputs are not finite")
    return outputs


def closeness(reference: Float32Array, outputs: Float32Array) -> Float32Array:
    """How near each row is to its reference, ``[n]``; 1 is equal.

    Of vectors ``[n, dim]`` their cosine; of scores ``[n, 1]`` 1 less the difference in standard deviations of all.
    """
    return _of_scores(reference, outputs) if reference.shape[1] == 1 else row_cosines(reference, outputs)


def _of_scores(reference: Float32Array, scores: Float32Array) -> Float32Array:
    differences = np.abs(reference - scores)[:, 0]
    near: Float32Array = 1 - differences / np.maximum(reference.std(), np.float32(1e-12))
    return near


def score_quality(reference: Float32Array, scores: Float32Array) -> dict[str, Any]:
    """Differences between the artefact's scores ``[n, 1]`` and the fp32 ones of the held-out pairs, and their order.

    The order is compared by Kendall's tau-b (Kendall 1945), which is 1 where both rank all pairs alike.
    """
    differences = np.abs(reference - scores)
    order, other = (np.sign(x - x.T) for x in (reference.astype(np.float64), scores.astype(np.float64)))
    weight = float(np.sqrt((order**2).sum() * (other**2).sum()))
    return {
        "texts": len(scores),
        "mean_difference": round(float(differences.mean()), 6),
        "max_difference": round(float(differences.max()), 6),
        "kendall_tau": round(float((order * other).sum()) / weight, 6) if weight else 1.0,
    }


def quality(reference: Float32Array, vectors: Float32Array, documents: int) -> dict[str, Any]:
    """What the manifest says of an artefact: its vectors against the fp32 ones of the held-out texts.

    Args:
        reference: fp32 vectors ``[n, dim]``: documents first, then the queries that are sought among them.
        vectors: the artefact's, alike.
        documents: how many rows are documents.

    Returns:
        ``mean_cosine`` and ``min_cosine`` over all rows; ``top10_agreement``, the share of the ten documents that are
        nearest to each query in fp32 that are among the ten nearest in int8; ``rank_correlation``, Spearman's, of the
        similarities of all queries to all documents.
    """
    cosine = row_cosines(reference, vectors)
    exact, rounded = _similarities(reference, documents), _similarities(vectors, documents)
    return {
        "texts": len(cosine),
        "mean_cosine": round(float(cosine.mean()), 6),
        "min_cosine": round(float(cosine.min()), 6),
        "top10_agreement": round(_agreement(exact, rounded), 6),
        "rank_correlation": round(_spearman(exact.ravel(), rounded.ravel()), 6),
    }


def _similarities(vectors: Float32Array, documents: int) -> Float32Array:
    """Cosines ``[queries, documents]``."""
    unit = l2_normalized(vectors)
    similarities: Float32Array = unit[documents:] @ unit[:documents].T
    return similarities


def _agreement(exact: Float32Array, rounded: Float32Array) -> float:
    count = min(_NEIGHBOURS, exact.shape[1])
    nearest = [np.argsort(-s, axis=1, kind="stable")[:, :count] for s in (exact, rounded)]
    return float(np.mean([len(np.intersect1d(a, b)) / count for a, b in zip(*nearest, strict=True)]))


def _spearman(a: Float32Array, b: Float32Array) -> float:
    """Pearson's correlation of the ranks. Where fp32 has no order there is none to lose: 1; where int8 lost it: 0."""
    first, second = _ranks(a), _ranks(b)
    if first.std() == 0 or second.std() == 0:
        return float(first.std() == 0)
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Float32Array) -> Float64Array:
    """Equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Float64Array = (last - (counts - 1) / 2)[inverse]
    return ranks
