"""Three ways in: an OpenVINO graph, an ONNX graph, or safetensors exported by optimum-intel."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.weights import refuse_not_finite
from nimbed.backends.openvino_api import op, ov
from nimbed.errors import BuildError, MissingExtraError, NimbedError, SpecError

if TYPE_CHECKING:
    from nimbed._loading.build import BuildRequest
    from nimbed._types import Task

_TASKS: dict[Task, str] = {"embedding": "feature-extraction", "scoring": "text-classification"}
_FLOATS = {ov.Type.f64, ov.Type.f32, ov.Type.f16, ov.Type.bf16}
_UNLISTED = frozenset({"modernbert"})
# Which input of a ScaledDotProductAttention is its mask.
_MASK = 3


def load_network(request: BuildRequest) -> ov.Model:
    """The network up to its token vectors, or to its logits, in the precision in which the folder has it.

    Raises:
        SpecError: the file is damaged, or lacks weights, or they are not finite.
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
    for node in network.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() in _FLOATS:
            refuse_not_finite(path, {node.get_friendly_name(): node.get_data(dtype=np.float32)})
    return network


def is_quantized(network: ov.Model) -> bool:
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
    """Of safetensors, which are read here and not by optimum-intel, which would look for files of its own choice."""
    traced = _trace_unlisted if request.spec.architecture in _UNLISTED else _trace_listed
    folder = Path(request.folder)
    try:
        from nimbed.backends.torch_parts import load_model

        model = load_model(folder, folder / request.graph, request.spec.task)
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / "openvino_model.xml"
            return traced(model, _TASKS[request.spec.task], path)
    except NimbedError:
        raise
    except ImportError as err:
        raise MissingExtraError(
            f"{request.folder} holds safetensors only, and exporting them needs torch and optimum-intel: "
            'pip install "nimbed[export]" (a folder with openvino/*.xml or onnx/model.onnx needs no torch)'
        ) from err
    except Exception as err:  # whatever transformers, torch or the converter raise
        raise BuildError(f"{folder / request.graph} could not be exported: {_first_line(err)}") from err


def _trace_listed(model: Any, purpose: str, path: Path) -> ov.Model:  # noqa: ANN401 (a transformers model)
    """An architecture that optimum-intel exports itself."""
    from optimum.exporters.openvino import export_from_model

    half = str(model.dtype) in {"torch.float16", "torch.bfloat16"}
    export_from_model(model, path.parent, task=purpose, patch_16bit_model=half)
    network = _read_whole(path)
    network.reshape({port: [-1, -1] for port in network.inputs})
    return network


def _trace_unlisted(model: Any, purpose: str, path: Path) -> ov.Model:  # noqa: ANN401
    """One that optimum-intel refuses by name since nobody tests it there, though its tracer can do it."""
    from optimum.exporters.openvino.convert import export
    from optimum.exporters.openvino.model_configs import DistilBertOpenVINOConfig

    # As DistilBERT's: ids and mask, without token types.
    export(model.float(), DistilBertOpenVINOConfig(model.config, task=purpose), path, stateful=False)
    network = _read_whole(path)
    _finite_masks(network)
    return network


def _read_whole(path: Path) -> ov.Model:
    """A graph in memory, so that its files can go."""
    return ov.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())


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
