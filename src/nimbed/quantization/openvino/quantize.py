"""Static int8 by NNCF: weights by output channel, activations by tensor, ranges from calibration texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nimbed.errors import MissingExtraError
from nimbed.quantization.calibration import one_row
from nimbed.quantization.openvino.outliers import classifier_layers, split_outliers
from nimbed.quantization.openvino.tables import look_up_before_scaling, small_tables

if TYPE_CHECKING:
    import openvino as ov

    from nimbed._types import Int32Array

# SmoothQuant's migration strength (Xiao et al. 2023, eq. 4). NNCF's own 0.95 leaves more of the outliers in the
# activations; of 0.5 to 0.95, 0.7 came nearest to fp32 on held-out PEP passages and STS-B train sentences.
_SMOOTHNESS = 0.7


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network in fp32 whose outlier channels are split off.

    Attributes:
        network: from token ids to token vectors.
        keep: names of its operations that stay fp32.
    """

    network: ov.Model
    keep: list[str]


def prepare(network: ov.Model, sequences: list[Int32Array]) -> Prepared:
    """Split the outliers that show on these token ids. The network is used up."""
    return Prepared(network=network, keep=_keep(network, sequences))


def _keep(network: ov.Model, sequences: list[Int32Array]) -> list[str]:
    return [*split_outliers(network, sequences), *small_tables(network), *classifier_layers(network)]


def quantize_network(prepared: Prepared, sequences: list[Int32Array]) -> ov.Model:
    """Quantize the linear layers and the word embeddings, calibrated on these token ids.

    The weights are still fp32, each behind the fake quantizer that rounds it; :func:`pack` stores them in int8.

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    try:
        import nncf
    except ImportError as err:
        raise MissingExtraError('quantizing needs NNCF: pip install "nimbed[quantize]"') from err
    names = [port.get_any_name() for port in prepared.network.inputs]
    dataset = nncf.Dataset(sequences, lambda sequence: one_row(sequence, names))
    quantized: ov.Model = nncf.quantize(
        prepared.network.clone(),
        dataset,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(sequences),
        ignored_scope=nncf.IgnoredScope(names=prepared.keep),
        advanced_parameters=parameters(),
    )
    return quantized


def parameters() -> Any:  # noqa: ANN401 (NNCF ships no types)
    """How nimbed has NNCF quantize."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return nncf.AdvancedQuantizationParameters(
        smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHNESS),
        # NNCF's own is the mean of the texts' extremes: it cuts the rare large values of short texts.
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        # Rounding within the extremes has no bias to correct (measured: cosine 0.99885 with and 0.99884 without), and
        # the correction would be computed with kernels that saturate on some CPUs.
        disable_bias_correction=True,
        # A layer that has to go back to fp32 needs its weights.
        backend_params={"compress_weights": False},
    )


def pack(encoder: ov.Model) -> ov.Model:
    """A copy whose quantized weights are stored in int8."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    packed = encoder.clone()
    compress_quantize_weights_transformation(packed)
    look_up_before_scaling(packed)
    return packed
