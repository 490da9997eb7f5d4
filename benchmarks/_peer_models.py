"""The models that are compared: a real one, or a seeded one of another shape; and what peers make of them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from _common import ROOT

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

sys.path.insert(0, str(ROOT))

# hidden size, layers, heads, width of the feed-forward layer
SHAPES = {
    "bge-small": (384, 12, 12, 1536),
    "bge-base": (768, 12, 12, 3072),
    "bge-large": (1024, 24, 16, 4096),
}
# By published models of that width and depth: families of tests/support/networks.py.
NETWORKS = {"modernbert-base": "modernbert", "qwen3-0.6b": "qwen3", "embeddinggemma-300m": "gemma3-both"}


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a run compares.

    Attributes:
        folder: of the model.
        name: of a seeded one, with the layers where they are not all there; None where the weights are real.
        network: whether it is one of `NETWORKS`, which fewer peers run.
    """

    folder: Path
    name: str | None = None
    network: bool = False


def chosen(options: Namespace, tokenizer_of: str) -> Model:
    """By ``--model`` and ``--layers``: a folder, or the name of a seeded model, which is written where it is missing.

    Weights of `SHAPES` are as fast as real ones, and good for nothing else; `NETWORKS` tell texts apart.
    """
    name = options.model
    if name not in {*SHAPES, *NETWORKS}:
        return Model(folder=Path(name))
    called = f"{name}-{options.layers}-layers" if options.layers else name
    target = options.work / (f"{called}-seeded" if name in NETWORKS else called)  # a name of which no prompts are known
    if not (target / "modules.json").is_file():
        part = target.with_name(f"{called}.part")
        shutil.rmtree(part, ignore_errors=True)
        if name in SHAPES:
            _write_bert(name, options.layers, Path(tokenizer_of), part)
        else:
            _write_network(name, options.layers, part)
        part.rename(target)
    return Model(folder=target, name=called, network=name in NETWORKS)


def _write_network(name: str, layers: int | None, target: Path) -> None:
    from tests.support import networks

    networks.write_folder(NETWORKS[name], target, size="real", layers=layers)
    _set_width(target, json.loads((target / "config.json").read_text(encoding="utf-8"))["hidden_size"])
    prompts = {"prompts": {"query": "", "document": ""}}  # of which some peers know nothing
    (target / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")


def _write_bert(shape: str, depth: int | None, tokenizer_of: Path, target: Path) -> None:
    hidden, layers, heads, width = SHAPES[shape]
    shutil.copytree(tokenizer_of, target, ignore=shutil.ignore_patterns("*.safetensors", "openvino", "onnx"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=hidden, num_hidden_layers=depth or layers, num_attention_heads=heads, intermediate_size=width
    )
    transformers.BertModel(config, add_pooling_layer=False).eval().save_pretrained(target)
    _set_width(target, hidden)


def _set_width(target: Path, width: int) -> None:
    pooling = target / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text(encoding="utf-8"))
    key = "embedding_dimension" if "pooling_mode" in settings else "word_embedding_dimension"
    pooling.write_text(json.dumps({**settings, key: width}), encoding="utf-8")


def with_peers_graphs(model: Path, target: Path, texts: Sequence[str]) -> Path:
    """A copy of the model folder with sentence-transformers' int8 OpenVINO graph and ONNX Runtime's in it."""
    if not target.is_dir():
        shutil.copytree(model, target)
    if not (target / "openvino" / "openvino_model_qint8_quantized.xml").is_file():
        _openvino_int8(target, texts)
    if not (target / "onnx" / "model_int8.onnx").is_file():
        onnx_int8(target)
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


def onnx_int8(target: Path) -> None:
    """ONNX Runtime's dynamic quantization, with 7-bit weights where the CPU would overflow with 8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from tests.support.graphs import export_onnx

    from nimbed import _machine

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
