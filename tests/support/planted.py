"""Tiny models whose int8 can be spoiled: one that is sensitive to rounding, and one with outlier channels planted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.support.graphs import export_onnx

if TYPE_CHECKING:
    from pathlib import Path


def sensitive_model(tiny: Path, folder: Path, *, outliers: bool) -> Path:
    """The tiny BERT with weights so large that its attention matters, as a folder with an ONNX graph.

    ``outliers`` multiplies two channels of the last layer's queries by 2000 and divides those of its keys by as much:
    fp32 computes the same, and one scale for all channels leaves the others few levels.
    """
    import torch
    import transformers

    model = transformers.BertModel.from_pretrained(tiny, add_pooling_layer=False)
    with torch.no_grad():
        for layer in model.encoder.layer:
            attention = layer.attention.self
            for linear, factor in ((attention.query, 12), (attention.key, 12), (attention.value, 10)):
                linear.weight *= factor
            layer.attention.output.dense.weight *= 10
        attention = model.encoder.layer[-1].attention.self
        for channel in (3, 20) if outliers else ():
            for linear, factor in ((attention.query, 2000), (attention.key, 1 / 2000)):
                linear.weight[channel] *= factor
                linear.bias[channel] *= factor
    shutil.copytree(tiny, folder)
    model.save_pretrained(folder)
    export_onnx(folder, folder / "onnx" / "model.onnx")
    return folder
