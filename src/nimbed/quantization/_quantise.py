"""Static int8 by NNCF: weights by output channel, activations by tensor, ranges from calibration texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.errors import MissingExtraError
from nimbed.quantization._calibrate import one_row
from nimbed.quantization._outliers import classifier_layers, split_outliers
from nimbed.quantization._tables import look_up_before_scaling, small_tables

if TYPE_CHECKING:
    import openvino as ov

    from nimbed._types import Int32Array

# SmoothQuant's migration strength (Xiao et al. 2023, eq. 4). NNCF's own 0.95 leaves more of the outliers in the
# activations; of 0.5 to 0.95, 0.7 came nearest to fp32 on held-out PEP passages and STS-B train sentences.
_SMOOTHNESS = 0.7


def quantise(network: ov.Model, sequences: list[Int32Array]) -> ov.Model:
    """Quantise the linear layers and the word embeddings, calibrated on these token ids. The network is used up.

    Raises:
        MissingExtraError: NNCF is not installed.
    """
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as err:
        raise MissingExtraError('quantising needs NNCF: pip install "nimbed[quantize]"') from err
    names = [port.get_any_name() for port in network.inputs]
    kept = [*split_outliers(network, sequences), *small_tables(network), *classifier_layers(network)]
    quantised: ov.Model = nncf.quantize(
        network,
        nncf.Dataset(sequences, lambda sequence: one_row(sequence, names)),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(sequences),
        ignored_scope=nncf.IgnoredScope(names=kept),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_SMOOTHNESS),
            # NNCF's own is the mean of the texts' extremes: it cuts the rare large values of short texts.
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )
    look_up_before_scaling(quantised)
    return quantised
