"""Three ways in: an OpenVINO graph, an ONNX graph, or safetensors exported by optimum-intel."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from nimbed.backends._openvino_api import op, ov
from nimbed.errors import BuildError, MissingExtraError, SpecError

if TYPE_CHECKING:
    from nimbed._build import BuildRequest
    from nimbed._types import Task

_UNLISTED = frozenset({"modernbert"})
# Which input of a ScaledDotProductAttention is its mask.
_MASK = 3


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
        node.get_type_name() == "FakeQuantize"
        or (
            node.get_type_name() == "Constant"
            and node.get_element_type() in {ov.Type.i8, ov.Type.u8}
            and _size(node) > 1
        )
        for node in network.get_ops()
    )


def _size(constant: ov.Node) -> int:
    size = 1
    for n in constant.get_output_shape(0):
        size *= n
    return size


def _export(request: BuildRequest) -> ov.Model:
    traced = _trace_unlisted if request.spec.architecture in _UNLISTED else _trace_listed
    try:
        return traced(request.folder, request.spec.task)
    except ImportError as err:
        raise MissingExtraError(
            f"{request.folder} holds safetensors only, and exporting them needs torch and optimum-intel: "
            'pip install "nimbed[export]" (a folder with openvino/*.xml or onnx/model.onnx needs no torch)'
        ) from err
    except Exception as err:  # whatever transformers, torch or the converter raise
        raise BuildError(f"{request.folder}/{request.graph} could not be exported: {_first_line(err)}") from err


def _trace_listed(folder: str, task: Task) -> ov.Model:
    """An architecture that optimum-intel exports itself."""
    from optimum.intel import OVModelForFeatureExtraction, OVModelForSequenceClassification

    loader = OVModelForSequenceClassification if task == "scoring" else OVModelForFeatureExtraction
    model = loader.from_pretrained(folder, export=True, compile=False, local_files_only=True, trust_remote_code=False)
    network: ov.Model = model.model
    return network


def _trace_unlisted(folder: str, task: Task) -> ov.Model:
    """One that optimum-intel refuses by name since nobody tests it there, though its tracer can do it."""
    from optimum.exporters.openvino.convert import export
    from optimum.exporters.openvino.model_configs import DistilBertOpenVINOConfig
    from transformers import AutoModel, AutoModelForSequenceClassification

    loader, purpose = (
        (AutoModelForSequenceClassification, "text-classification")
        if task == "scoring"
        else (AutoModel, "feature-extraction")
    )
    model = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
    # As DistilBERT's: ids and mask, without token types.
    inputs = DistilBertOpenVINOConfig(model.config, task=purpose)
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.xml"
        export(model.float().eval(), inputs, path, stateful=False)
        # Read into memory whole, so that the files can go.
        network = ov.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    _finite_masks(network)
    return network


def _finite_masks(network: ov.Model) -> None:
    """Boolean attention masks as numbers, in place.

    A padded token far from the text sees nothing within its sliding window: with a mask of -inf the softmax of
    nothing is NaN, which the next layer spreads over the whole text.
    """
    for node in network.get_ordered_ops():
        if node.get_type_name() == "ScaledDotProductAttention" and node.get_input_size() > _MASK:
            mask = node.input_value(_MASK)
            if mask.get_element_type() == ov.Type.boolean:
                numbers = op.select(mask, op.constant(np.float32(0)), op.constant(np.float32(-1e9)))
                node.input(_MASK).replace_source_output(numbers.output(0))
    network.validate_nodes_and_infer_types()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
