"""Three ways in: an OpenVINO graph, an ONNX graph, or safetensors exported by optimum-intel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import openvino as ov

from nimbed.errors import BuildError, MissingExtraError, SpecError

if TYPE_CHECKING:
    from nimbed._build import BuildRequest


def load_network(request: BuildRequest) -> ov.Model:
    """The network up to its token vectors, or to its logits, in the precision in which the folder has it.

    Raises:
        SpecError: the file is damaged.
        MissingExtraError: safetensors need the extra "export".
        BuildError: the export failed.
    """
    path = Path(request.folder) / request.graph
    if path.suffix not in {".xml", ".onnx"}:
        return _export(request)
    try:
        network = ov.Core().read_model(path)
    except RuntimeError as err:
        raise SpecError(f"{path} cannot be read: {_first_line(err)}; fetch it again") from err
    known = {"input_ids", "attention_mask"}
    names = {name for port in network.inputs for name in port.get_names()}
    if not known <= names:
        raise SpecError(f"{path}: inputs are {sorted(names)}; {sorted(known)} are needed")
    return network


def is_quantised(network: ov.Model) -> bool:
    """Whether a graph already computes or stores in int8."""
    return any(
        op.get_type_name() == "FakeQuantize"
        or (op.get_type_name() == "Constant" and op.get_element_type() in {ov.Type.i8, ov.Type.u8} and _size(op) > 1)
        for op in network.get_ops()
    )


def _size(constant: ov.Node) -> int:
    size = 1
    for n in constant.get_output_shape(0):
        size *= n
    return size


def _export(request: BuildRequest) -> ov.Model:
    try:
        from optimum.intel import OVModelForFeatureExtraction, OVModelForSequenceClassification
    except ImportError as err:
        raise MissingExtraError(
            f"{request.folder} holds safetensors only, and exporting them needs torch and optimum-intel: "
            'pip install "nimbed[export]" (a folder with openvino/*.xml or onnx/model.onnx needs no torch)'
        ) from err
    try:
        loader = OVModelForSequenceClassification if request.spec.task == "scoring" else OVModelForFeatureExtraction
        model = loader.from_pretrained(
            request.folder, export=True, compile=False, local_files_only=True, trust_remote_code=False
        )
    except Exception as err:  # whatever transformers, torch or the converter raise
        raise BuildError(f"{request.folder}/{request.graph} could not be exported: {_first_line(err)}") from err
    network: ov.Model = model.model
    return network


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
