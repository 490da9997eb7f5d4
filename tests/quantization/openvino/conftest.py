"""Networks whose int8 is spoiled, and one of them prepared and quantized in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import openvino as ov
import pytest
from tests.support.planted import sensitive_model

from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
from nimbed.quantization.calibration import choose, read_texts
from nimbed.quantization.openvino.head import append_head
from nimbed.quantization.openvino.quantize import prepare, quantize_network
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from nimbed.quantization.calibration import CalibrationSet
    from nimbed.quantization.openvino.quantize import Prepared


class Quantized(NamedTuple):
    """A network in fp32 and in int8, and the texts that it was calibrated with."""

    prepared: Prepared
    rounded: ov.Model
    texts: CalibrationSet


@pytest.fixture(scope="package")
def sensitive(tiny_folder, tmp_path_factory):
    return sensitive_model(tiny_folder, tmp_path_factory.mktemp("models") / "sensitive", outliers=False)


@pytest.fixture(scope="package")
def planted(tiny_folder, tmp_path_factory):
    return sensitive_model(tiny_folder, tmp_path_factory.mktemp("models") / "planted", outliers=True)


@pytest.fixture(scope="package")
def quantized(planted) -> Quantized:
    """The planted network, prepared and quantized in this process, with its calibration."""
    tokenizer = TextTokenizer(load_tokenizer(planted), read_spec(planted), max_length=64, truncate="silent")
    texts = choose(read_texts(None), lambda some: tokenizer(some).sequences, count=16, seed=0, origin="test")
    prepared = prepare(ov.Core().read_model(planted / "onnx" / "model.onnx"), texts.calibrate)
    return Quantized(prepared, quantize_network(prepared, texts.calibrate), texts)


@pytest.fixture(scope="package")
def pooled(planted) -> Any:
    """Appends a head to a copy of a network: the mean of the token vectors."""
    spec = read_spec(planted)
    return lambda network: append_head(network.clone(), spec, planted)
