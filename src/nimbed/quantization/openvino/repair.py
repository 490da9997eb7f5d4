"""What happens when int8 outputs are too far from the fp32 ones: layers go back to fp32 until they are not.

NNCF's accuracy control goes first. It takes layers back by what each of them gains alone, which finds a single culprit
and misses several that hide one another; so what it leaves is repaired by what each layer spoils alone.
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

# An artefact that computes more than half of its layers in fp32 is no int8 artefact: fp32 serves better.
_MOST = 0.5
_CONTROL_SECONDS = 120.0
# Standard deviations by which scores may differ on average: normal ones have a Kendall tau of 0.95 there.
_NEAR_SCORES = 0.06


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What a repair needs.

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
    encoder: ov.Model, measured: dict[str, Any], prepared: Prepared, shop: Workshop
) -> tuple[ov.Model, dict[str, Any], dict[str, Any]]:
    """Put layers back to fp32 until the gate passes or half of them are.

    Args:
        encoder: the quantised graph with its head, weights not packed.
        measured: its quality report.
        prepared: the network that it was made from.
        shop: texts, gate and measure.

    Returns:
        The repaired graph (or the last attempt), its quality report, and the record for the manifest.
    """
    original, layers = encoder, layers_of(encoder)
    most = max(1, int(len(layers) * _MOST))
    record: dict[str, Any] = {"before": measured, "quantised_layers": len(layers)}
    controlled, record["accuracy_control"] = _control(prepared, shop, most)
    if controlled is not None:
        attempt = shop.measure(controlled)
        first = "mean_cosine" if "mean_cosine" in attempt else "kendall_tau"
        record["accuracy_control"] += f": {first} {attempt[first]}"
        if attempt[first] > measured[first]:
            encoder, measured = controlled, attempt
    if shop.gate.failures(measured):
        left = layers_of(encoder)
        encoder, measured = _put_back(encoder, measured, shop, most - (len(layers) - len(left)))
    still = {name for layer in layers_of(encoder) for name in layer.operations}
    record["fp32_layers"] = [n for layer in layers for n in layer.operations if n not in still]
    middle = sorted(shop.ranking, key=len)[len(shop.ranking) // 2]
    record.update(latency_cost(pack(original), pack(encoder), middle))
    return encoder, measured, record


def _put_back(
    encoder: ov.Model, measured: dict[str, Any], shop: Workshop, most: int
) -> tuple[ov.Model, dict[str, Any]]:
    """Layers by what each spoils when it alone is quantised, the worst first."""
    ranked = _by_damage(encoder, shop)
    for count in range(1, min(most, len(ranked)) + 1):
        candidate = in_fp32(encoder, ranked[:count])
        last = count == min(most, len(ranked))
        if not last and shop.distance(candidate) > shop.near:
            continue
        attempt = shop.measure(candidate)
        if last or not shop.gate.failures(attempt):
            return candidate, attempt
    return encoder, measured


def _by_damage(encoder: ov.Model, shop: Workshop) -> list[Layer]:
    layers = layers_of(encoder)
    alone = [in_fp32(encoder, [other for other in layers if other is not layer]) for layer in layers]
    damage = [shop.distance(graph) for graph in alone]
    return [layers[at] for at in np.argsort([-d for d in damage], kind="stable")]


class _TooSlowError(Exception):
    """Accuracy control has had its time."""


def _control(prepared: Prepared, shop: Workshop, most: int) -> tuple[ov.Model | None, str]:
    """NNCF's accuracy control, for so many layers at most: the graph, or None, and what became of it."""
    import nncf

    encoder = shop.head(prepared.network.clone())
    names = [port.get_any_name() for port in encoder.inputs]
    try:
        with exact_arithmetic():
            return nncf.quantize_with_accuracy_control(
                encoder,
                nncf.Dataset(shop.calibrate, lambda sequence: one_row(sequence, names)),
                nncf.Dataset(list(zip(shop.ranking, shop.expected, strict=True))),
                _validation(time.monotonic() + _CONTROL_SECONDS),
                max_drop=shop.near,
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(shop.calibrate),
                ignored_scope=nncf.IgnoredScope(names=prepared.keep, patterns=[f"{PREFIX}.*"]),
                advanced_quantization_parameters=parameters(),
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                    max_num_iterations=most, num_ranking_workers=1, ranking_subset_size=len(shop.ranking)
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
