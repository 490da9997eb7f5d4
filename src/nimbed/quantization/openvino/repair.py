"""Repair of int8 outputs that are too far from fp32: layers go back to fp32 until they are close enough.

NNCF's accuracy control runs first. It ranks layers by what each gains when it alone goes back, which finds a single
culprit but misses several that mask one another; what it leaves is repaired by the damage of each layer on its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.quantization.calibration import one_row
from nimbed.quantization.closeness import closeness
from nimbed.quantization.openvino.exact import exact_arithmetic, run, vectors_of
from nimbed.quantization.openvino.head import PREFIX
from nimbed.quantization.openvino.layers import in_fp32, layers_of
from nimbed.quantization.openvino.quantize import pack, parameters
from nimbed.quantization.openvino.speed import latency_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import openvino as ov

    from nimbed._loading.build import QualityGate
    from nimbed._types import Float32Array, Int32Array
    from nimbed.quantization.openvino.layers import Layer
    from nimbed.quantization.openvino.quantize import Prepared

# With more than half of its layers in fp32 an artefact is int8 in name only: a whole fp32 one serves better.
_MAX_FP32_SHARE = 0.5
_CONTROL_SECONDS = 120.0
# Standard deviations by which scores may differ on average: normal ones have a Kendall tau of 0.95 there.
_NEAR_SCORES = 0.06


@dataclass(frozen=True, kw_only=True)
class RepairContext:
    """What a repair works with.

    Attributes:
        gate: that must be passed.
        calibrate: token ids that set ranges.
        ranking: token ids that tell which layers hurt; none of them is held out.
        expected: the fp32 outputs ``[n, dim]`` for ``ranking``.
        head: appends the head to a network.
        measure: the quality report of a graph, on the held-out texts.
    """

    gate: QualityGate
    calibrate: list[Int32Array]
    ranking: list[Int32Array]
    expected: Float32Array
    head: Callable[[ov.Model], ov.Model]
    measure: Callable[[ov.Model], dict[str, Any]]

    def distance(self, encoder: ov.Model) -> float:
        """1 - closeness to fp32 on the ranking texts, on average."""
        return float(1 - closeness(self.expected, vectors_of(encoder, self.ranking)).mean())

    @property
    def near(self) -> float:
        """The distance from which on a full measurement is worth its time."""
        return _NEAR_SCORES if self.expected.shape[1] == 1 else 1 - self.gate.mean_cosine


def repair(
    encoder: ov.Model, measured: dict[str, Any], prepared: Prepared, context: RepairContext
) -> tuple[ov.Model, dict[str, Any], dict[str, Any]]:
    """Put layers back to fp32 until the gate passes or half of them are.

    Args:
        encoder: the quantized graph with its head, weights not packed.
        measured: its quality report.
        prepared: the network that it was made from.
        context: texts, gate and measure.

    Returns:
        The repaired graph (or the last attempt), its quality report, and the record for the manifest.
    """
    original, layers = encoder, layers_of(encoder)
    max_layers = max(1, int(len(layers) * _MAX_FP32_SHARE))
    record: dict[str, Any] = {"before": measured, "quantised_layers": len(layers)}
    controlled, record["accuracy_control"] = _control(prepared, context, max_layers)
    if controlled is not None:
        attempt = context.measure(controlled)
        first = "mean_cosine" if "mean_cosine" in attempt else "kendall_tau"
        record["accuracy_control"] += f": {first} {attempt[first]}"
        if attempt[first] > measured[first]:
            encoder, measured = controlled, attempt
    if context.gate.failures(measured):
        left = layers_of(encoder)
        encoder, measured = _put_back(encoder, measured, context, max_layers - (len(layers) - len(left)))
    still = {name for layer in layers_of(encoder) for name in layer.operations}
    record["fp32_layers"] = [n for layer in layers for n in layer.operations if n not in still]
    middle = sorted(context.ranking, key=len)[len(context.ranking) // 2]
    record.update(latency_cost(pack(original), pack(encoder), middle))
    return encoder, measured, record


def _put_back(
    encoder: ov.Model, measured: dict[str, Any], context: RepairContext, max_layers: int
) -> tuple[ov.Model, dict[str, Any]]:
    """Put layers back in order of the damage that each does when it alone is quantized."""
    ranked = _by_damage(encoder, context)
    for count in range(1, min(max_layers, len(ranked)) + 1):
        candidate = in_fp32(encoder, ranked[:count])
        last = count == min(max_layers, len(ranked))
        if not last and context.distance(candidate) > context.near:
            continue
        attempt = context.measure(candidate)
        if last or not context.gate.failures(attempt):
            return candidate, attempt
    return encoder, measured


def _by_damage(encoder: ov.Model, context: RepairContext) -> list[Layer]:
    layers = layers_of(encoder)
    alone = [in_fp32(encoder, [other for other in layers if other is not layer]) for layer in layers]
    damage = [context.distance(graph) for graph in alone]
    return [layers[at] for at in np.argsort([-d for d in damage], kind="stable")]


class _TooSlowError(Exception):
    """Accuracy control has used up its time."""


def _control(prepared: Prepared, context: RepairContext, max_layers: int) -> tuple[ov.Model | None, str]:
    """NNCF's accuracy control, for so many layers at max_layers: the graph, or None, and what became of it."""
    import nncf

    encoder = context.head(prepared.network.clone())
    names = [port.get_any_name() for port in encoder.inputs]
    try:
        with exact_arithmetic():
            return nncf.quantize_with_accuracy_control(
                encoder,
                nncf.Dataset(context.calibrate, lambda sequence: one_row(sequence, names)),
                nncf.Dataset(list(zip(context.ranking, context.expected, strict=True))),
                _validation(time.monotonic() + _CONTROL_SECONDS),
                max_drop=context.near,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(context.calibrate),
                ignored_scope=nncf.IgnoredScope(names=prepared.keep, patterns=[f"{PREFIX}.*"]),
                advanced_quantization_parameters=parameters(),
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                    max_num_iterations=max_layers, num_ranking_workers=1, ranking_subset_size=len(context.ranking)
                ),
            ), "done"
    except _TooSlowError:
        return None, f"stopped after {_CONTROL_SECONDS:g} seconds"


def _validation(deadline: float) -> Callable[[ov.CompiledModel, Iterable[Any]], tuple[float, list[float]]]:
    """Mean cosine to fp32, and that of each text, in the form that accuracy control asks for."""

    def validate(compiled: ov.CompiledModel, items: Iterable[Any]) -> tuple[float, list[float]]:
        if time.monotonic() > deadline:
            raise _TooSlowError
        sequences, expected = zip(*items, strict=True)
        values = closeness(np.stack(expected), run(compiled, sequences))
        return float(values.mean()), values.tolist()

    return validate
