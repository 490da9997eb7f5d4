"""How close int8 outputs are to the fp32 ones, whatever CPU the build runs on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from nimbed._types import TokenBatch
from nimbed.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nimbed._types import Float32Array, Int32Array

    Float64Array = np.ndarray[Any, np.dtype[np.float64]]

# The rounding of a quantised graph computed as it stands, in fp32: what int8 kernels give on CPUs with VNNI or AMX.
# The kernels for other CPUs saturate, and would show errors that no user gets.
# Nor are activations rounded where the graph does not say so, which OpenVINO does beside weights stored in int8.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": "NO", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
_NEIGHBOURS = 10
_ROWS = 16


def vectors_of(encoder: ov.Model, sequences: Sequence[Int32Array]) -> Float32Array:
    """Sentence vectors ``[n, dim]`` or scores ``[n, 1]`` of a graph with its head.

    Raises:
        BuildError: they are not finite.
    """
    return finite(run(ov.Core().compile_model(encoder, "CPU", _EXACT), sequences))


def run(compiled: ov.CompiledModel, sequences: Sequence[Int32Array]) -> Float32Array:
    """Outputs ``[n, dim]`` in order, computed in batches of like length: each new shape costs a compilation."""
    request, names = compiled.create_infer_request(), [port.get_any_name() for port in compiled.inputs]

    def outputs(batch: TokenBatch) -> Float32Array:
        inputs = batch.padded(int(batch.lengths.max()))
        request.infer({name: inputs[name] for name in names})
        return np.array(request.get_output_tensor(0).data, np.float32)

    return in_batches(sequences, outputs)


def in_batches(sequences: Sequence[Int32Array], outputs: Callable[[TokenBatch], Float32Array]) -> Float32Array:
    """Outputs ``[n, dim]`` in order, of batches of like length."""
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
    batches = (order[start : start + _ROWS] for start in range(0, len(order), _ROWS))
    rows = [outputs(TokenBatch.from_sequences([sequences[at] for at in batch])) for batch in batches]
    return np.concatenate(rows)[np.argsort(order)]


def finite(outputs: Float32Array) -> Float32Array:
    """The outputs as they are.

    Raises:
        BuildError: they are not finite.
    """
    if not np.isfinite(outputs).all():
        raise BuildError("the network gives results that are not finite")
    return outputs


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Let NNCF, which compiles graphs with settings of its own, compute as :func:`vectors_of` does.

    Without it a build on a CPU without VNNI corrects biases, and ranks layers, by kernels that saturate. NNCF has no
    setting for it, so OpenVINO's own call is wrapped, in the build process alone.
    """
    real = ov.Core.compile_model

    def compile_model(core: ov.Core, model: ov.Model, device_name: str, config: object = None) -> ov.CompiledModel:  # noqa: ARG001
        return real(core, model, device_name, _EXACT)

    ov.Core.compile_model = compile_model
    try:
        yield
    finally:
        ov.Core.compile_model = real


def closeness(reference: Float32Array, outputs: Float32Array) -> Float32Array:
    """How near each row is to its reference, ``[n]``; 1 is equal.

    Of vectors ``[n, dim]`` their cosine; of scores ``[n, 1]`` 1 less the difference in standard deviations of all.
    """
    return _of_scores(reference, outputs) if reference.shape[1] == 1 else cosines(reference, outputs)


def _of_scores(reference: Float32Array, scores: Float32Array) -> Float32Array:
    differences = np.abs(reference - scores)[:, 0]
    near: Float32Array = 1 - differences / np.maximum(reference.std(), np.float32(1e-12))
    return near


def cosines(reference: Float32Array, vectors: Float32Array) -> Float32Array:
    """Cosine between each row and its reference, ``[n]``."""
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(vectors, axis=1)
    products: Float32Array = (reference * vectors).sum(axis=1) / np.maximum(norms, 1e-12)
    return products


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
    cosine = cosines(reference, vectors)
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
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
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
