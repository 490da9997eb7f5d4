"""The models that peers run, made by their own tools; and seeded models of other shapes."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers

if TYPE_CHECKING:
    from collections.abc import Sequence

# hidden size, layers, heads, width of the feed-forward layer
SHAPES = {
    "bge-small": (384, 12, 12, 1536),
    "bge-base": (768, 12, 12, 3072),
    "bge-large": (1024, 24, 16, 4096),
}


def seeded_model(shape: str, tokenizer_of: Path, target: Path) -> Path:
    """A BERT of that shape with random weights: as fast as the real one, and good for nothing else."""
    if (target / "modules.json").is_file():
        return target
    hidden, layers, heads, width = SHAPES[shape]
    shutil.copytree(tokenizer_of, target, ignore=shutil.ignore_patterns("*.safetensors", "openvino", "onnx"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=width
    )
    transformers.BertModel(config, add_pooling_layer=False).eval().save_pretrained(target)
    pooling = target / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({**json.loads(pooling.read_text()), "word_embedding_dimension": hidden}))
    return target


def with_peers_graphs(model: Path, target: Path, texts: Sequence[str]) -> Path:
    """A copy of the model folder with sentence-transformers' int8 OpenVINO graph and ONNX Runtime's in it."""
    if not target.is_dir():
        shutil.copytree(model, target)
    if not (target / "openvino" / "openvino_model_qint8_quantized.xml").is_file():
        _openvino_int8(target, texts)
    if not (target / "onnx" / "model_int8.onnx").is_file():
        _onnx_int8(target)
    return target


def _openvino_int8(target: Path, texts: Sequence[str]) -> None:
    """As sentence-transformers' documentation does it, calibrated on these texts in the place of a hub's data set."""
    from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

    data = target / "calibration"
    data.mkdir(exist_ok=True)
    (data / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    model = SentenceTransformer(str(target), backend="openvino")
    model.save_pretrained(str(target))
    export_static_quantized_openvino_model(
        model,
        None,
        str(target),
        dataset_name=str(data),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )


def _onnx_int8(target: Path) -> None:
    """ONNX Runtime's dynamic quantization, with 7-bit weights where the CPU would overflow with 8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from nimbed import _machine

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.support.graphs import export_onnx

    plain = target / "onnx" / "model.onnx"
    export_onnx(target, plain)
    reduced = not _machine.cpu().fast_int8
    quantize_dynamic(
        str(plain),
        str(plain.with_name("model_int8.onnx")),
        per_channel=True,
        reduce_range=reduced,
        weight_type=QuantType.QInt8,
    )
