"""How close the int8 vectors are to the fp32 ones, whatever CPU the build runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from nimbed.errors import BuildError
from nimbed.quantization._calibrate import one_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._types import Float32Array, Int32Array

# The rounding of a quantised graph computed as it stands, in fp32: what int8 kernels give on CPUs with VNNI or AMX.
# The kernels for other CPUs saturate, and would show errors that no user gets.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "LP_TRANSFORMS_MODE": "NO"}


def vectors_of(encoder: ov.Model, sequences: Sequence[Int32Array]) -> Float32Array:
    """Sentence vectors ``[n, dim]`` or scores ``[n, 1]`` of a graph with its head, each text or pair alone.

    Raises:
        BuildError: they are not finite.
    """
    request = ov.Core().compile_model(encoder, "CPU", _EXACT).create_infer_request()
    names = [port.get_any_name() for port in encoder.inputs]
    rows = []
    for sequence in sequences:
        request.infer(one_row(sequence, names))
        rows.append(np.array(request.get_output_tensor(0).data[0], np.float32))
    vectors = np.stack(rows)
    if not np.isfinite(vectors).all():
        raise BuildError("the network gives results that are not finite")
    return vectors


def score_quality(reference: Float32Array, scores: Float32Array) -> dict[str, Any]:
    """Differences between the artefact's scores ``[n, 1]`` and the fp32 ones of the held-out pairs, and their order.

    The order is compared by Kendall's tau-b (Kendall 1945), which is 1 where both rank all pairs alike.
    """
    differences = np.abs(reference - scores)
    order, other = (np.sign(x - x.T) for x in (reference.astype(np.float64), scores.astype(np.float64)))
    weight = float(np.sqrt((order**2).sum() * (other**2).sum()))
    return {
        "pairs": len(scores),
        "mean_difference": round(float(differences.mean()), 6),
        "max_difference": round(float(differences.max()), 6),
        "kendall_tau": round(float((order * other).sum()) / weight, 6) if weight else 1.0,
    }


def quality(reference: Float32Array, vectors: Float32Array) -> dict[str, Any]:
    """Cosines between the artefact's vectors and the fp32 ones of the held-out texts."""
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(vectors, axis=1)
    cosines = (reference * vectors).sum(axis=1) / np.maximum(norms, 1e-12)
    return {
        "texts": len(cosines),
        "mean_cosine": round(float(cosines.mean()), 6),
        "min_cosine": round(float(cosines.min()), 6),
    }
