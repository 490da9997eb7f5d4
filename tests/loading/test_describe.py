"""An artefact in words."""

from __future__ import annotations

from pathlib import Path

from tests.support.artefacts import manifest

from nimbed._files.digests import Unchanged
from nimbed._loading.artefact import Artefact
from nimbed._loading.describe import describe
from nimbed._loading.manifest import FileRecord


def lines(**changes):
    files = {name: FileRecord(bytes=1_250_000, sha256="", crc32=0) for name in ("model.bin", "model.xml")}
    folder = Path("models", "small")
    artefact = Artefact(folder=folder, manifest=manifest(files=files, **changes), unchanged=Unchanged.of(()))
    first, *others = describe(artefact).splitlines()
    assert first == str(folder)
    return others


def test_place_size_origin_and_spec():
    assert lines() == [
        "  int8 for openvino, 2.5 MB",
        "  from some/model (model.safetensors)",
        "  mean pooling, normalize=True, 8 dimensions",
    ]


def test_each_measure_stands_beside_its_threshold():
    quality = {
        "texts": 9,
        "min_cosine": 0.98765,
        "own_measure": 1,
        "mean_cosine": 0.5,
        "thresholds": {"min_cosine": 0.99, "own_measure": 0.5},
        "missed": ("min_cosine",),
    }
    assert lines(quality=quality)[3:] == [
        "  against fp32 on 9 held-out texts:",
        "    worst cosine      0.9877 (at least 0.99, MISSED)",
        "    own_measure       1.0000 (at least 0.5)",
    ]


def test_what_was_forced_is_said_where_there_was_a_gate():
    quality = {"texts": 9, "min_cosine": 0.5, "thresholds": {"min_cosine": 0.9}, "missed": ("min_cosine",)}
    assert lines(quality=quality, forced=True)[-1].startswith("  FORCED: ")
    assert not any("FORCED" in line for line in lines(quality=quality))


def test_a_repair_tells_what_it_cost():
    repair = {
        "before": {"min_cosine": 0.8, "kendall_tau": 0.75, "top": 1},
        "accuracy_control": "3 layers",
        "fp32_layers": ("layer.0", "layer.7"),
        "latency_ratio": 1.234,
        "latency": "64 tokens",
    }
    assert lines(repair=repair)[3:] == [
        "  repaired, before: worst cosine 0.8000, Kendall's tau 0.7500",
        "    accuracy control: 3 layers",
        "    time: 1.23 times as long as without (64 tokens)",
        "    back in fp32 (2 operations):",
        "      layer.0",
        "      layer.7",
    ]
    assert "    time: not measured" in lines(repair={**repair, "latency_ratio": None, "latency": "not measured"})
