"""Models from a hub: what is fetched, what is tried again, and what happens without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.fake_hub import COMMIT, OLDER, taken_for_the_hub
from tests.support.graphs import onnx_with

from nimbed._loading.hub import Source, resolve
from nimbed._model_folder.network_file import graph_file
from nimbed.backends import BACKENDS
from nimbed.errors import DownloadError, InputError, ModelNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {
    name: name.encode()  # contents must differ: the cache holds equal ones once
    for name in (
        "config.json",
        "modules.json",
        "tokenizer.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "README.md",
    )
}
NEEDLESS = {
    "pytorch_model.bin": b"pickle",
    "tf_model.h5": b"tf",
    "rust_model.ot": b"rust",
    "2_Dense/pytorch_model.bin": b"pickle",
    "train_script.py": b"code",
    "onnx/ort_config.json": b"ort",
    "checkpoints/1/config.json": b"checkpoint",
    "onnx/model_O4.onnx": onnx_with(),
    "openvino/openvino_model_qint8_quantized.xml": b"<q/>",
    "openvino/openvino_model_qint8_quantized.bin": b"q",
}
SAFETENSORS = {"model.safetensors": b"weights"}
PARTS = {"a": "half.safetensors", "b": "2.safetensors"}
SHARDS = {
    "model.safetensors.index.json": json.dumps({"weight_map": PARTS}).encode(),
    "half.safetensors": b"1",
    "2.safetensors": b"2",
}
STRAY = {"model-00001-of-00003.safetensors": b"of another time", "onnx/model.onnx_data_0": b"likewise"}
PICKLED = {**SETTINGS, "pytorch_model.bin": b"pickle"}
PICKLED_SHARDS = {
    "pytorch_model.bin.index.json": json.dumps({"weight_map": {"a": "one.bin", "b": "two.bin"}}).encode(),
    "one.bin": b"first",
    "two.bin": b"second",
}
ONNX = {"onnx/model.onnx": onnx_with("weights.of.it"), "onnx/weights.of.it": b"weights"}
OPENVINO = {"openvino/openvino_model.xml": b"<net/>", "openvino/openvino_model.bin": b"weights"}
ARTEFACT = {"nimbed.json": b"{}", "model.xml": b"<net/>", "model.bin": b"b", "tokenizer.json": b"{}", "deep/er/x": b"x"}
REPOSITORIES = {
    "some/safetensors": {**SETTINGS, **SAFETENSORS, "pytorch_model.bin": b"pickle"},
    "some/shards": {**SETTINGS, **SHARDS, **STRAY},
    "some/onnx": {**SETTINGS, **SAFETENSORS, **ONNX, **NEEDLESS, **STRAY},
    "some/openvino": {**SETTINGS, **SAFETENSORS, **ONNX, **OPENVINO, **NEEDLESS},
    "some/artefact": ARTEFACT,
    "some/pickle": {**PICKLED, "3_Dense/pytorch_model.bin": b"pickle of a layer"},
    "some/pickled-shards": {**SETTINGS, **PICKLED_SHARDS},
    "sentence-transformers/short": {**SETTINGS, **SAFETENSORS},
}
API = "/api/models/"


@pytest.mark.parametrize(
    "wrong", [{"revision": 3}, {"file": 3}, {"local_files_only": "x"}, {"allow_code": "false"}], ids=str
)
def test_a_source_is_of_strings_and_flags(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=rf"Source\({name}={value!r}\) must be"):
        Source(**wrong)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that huggingface_hub takes for its own; waits between tries take no time."""
    with taken_for_the_hub(REPOSITORIES, tmp_path / "cache", monkeypatch) as served:
        monkeypatch.setattr("time.sleep", lambda _: None)
        yield served


def files_of(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "file", "network"),
    [
        ("some/safetensors", None, SAFETENSORS),
        ("some/shards", None, SHARDS),
        ("some/onnx", None, ONNX),
        ("some/openvino", None, OPENVINO),
        ("some/openvino", "model.safetensors", SAFETENSORS),
        ("some/openvino", "onnx/model_O4.onnx", {"onnx/model_O4.onnx": onnx_with()}),
        (
            "some/openvino",
            "openvino/openvino_model_qint8_quantized.xml",
            {n: b for n, b in NEEDLESS.items() if "qint8" in n},
        ),
    ],
)
def test_only_what_is_needed_is_downloaded(hub, name, file, network):
    source = Source(file=file)
    found = resolve(name, source)
    assert hub.downloaded() == files_of(found.folder) == {*SETTINGS, *network}
    for file_name, content in network.items():
        assert (found.folder / file_name).read_bytes() == content
    assert graph_file(found.folder, source.file, BACKENDS["openvino"]).relative_to(
        found.folder
    ).as_posix() == file or next(iter(network))


@pytest.mark.parametrize("engine", ["auto", "native"])
def test_an_engine_is_chosen_by_settings_and_then_gets_its_network(hub, engine):
    network = SAFETENSORS if engine == "native" else {}
    assert files_of(resolve("some/openvino", Source(), engine).folder) == {*SETTINGS, *network}


def test_the_commit_is_recorded(hub):
    for revision, commit in ((None, COMMIT), ("v1", OLDER), (COMMIT, COMMIT), (OLDER, OLDER), ("main", COMMIT)):
        found = resolve("some/safetensors", Source(revision=revision))
        assert (found.name, found.revision) == ("some/safetensors", commit)


def test_nothing_is_downloaded_twice(hub):
    first = resolve("some/openvino", Source())
    hub.requests.clear()
    assert resolve("some/openvino", Source()) == first
    assert hub.downloaded() == set()


def test_an_artefact_comes_whole(hub):
    assert files_of(resolve("some/artefact", Source()).folder) == set(ARTEFACT)


def test_a_short_name_is_one_of_sentence_transformers(hub):
    assert resolve("short", Source()).name == "sentence-transformers/short"


def test_a_cache_folder_of_ones_own(hub, tmp_path):
    found = resolve("some/safetensors", Source(cache_folder=str(tmp_path / "own")))
    assert tmp_path / "own" in found.folder.parents


@pytest.mark.parametrize("statuses", [(503, 503), (429, 503), (500, 502, 504)])
@pytest.mark.parametrize("place", [API, "/some/safetensors/resolve/"])
def test_transient_faults_are_tried_again(hub, statuses, place):
    hub.fail(place, *statuses)
    found = resolve("some/safetensors", Source())
    assert (found.folder / "model.safetensors").read_bytes() == b"weights"
    assert hub.faults[place] == []


def test_the_first_call_is_tried_as_often_as_it_must(hub):
    hub.fail(API, 503, 429)
    hub.fail("/some/safetensors/resolve/", 404, persistent=True)
    with pytest.raises(DownloadError):
        resolve("some/safetensors", Source())
    assert [path for _, path in hub.requests[:3]] == [f"{API}some/safetensors"] * 3


def test_a_fault_of_the_second_call_is_tried_again(hub):
    hub.fail(f"{API}some/safetensors/revision/", 503, 503)
    assert resolve("some/safetensors", Source()).revision == COMMIT
    assert hub.faults[f"{API}some/safetensors/revision/"] == []


def test_a_lasting_fault_ends_the_tries(hub):
    hub.fail(API, 500, persistent=True)
    with pytest.raises(DownloadError, match=r"some/safetensors.*500") as caught:
        resolve("some/safetensors", Source())
    assert isinstance(caught.value, OSError)
    assert len(hub.requests) == 4


def test_a_hub_that_does_not_answer(hub):
    hub.stop()
    with pytest.raises(DownloadError, match=r"some/safetensors: the hub could not be reached.*local_files_only"):
        resolve("some/safetensors", Source())


@pytest.mark.parametrize(("status", "code"), [(404, "RepoNotFound"), (401, None)])
def test_a_missing_repository_is_not_tried_again(hub, status, code):
    hub.fail(API, status, persistent=True)
    hub.error_code = code
    with pytest.raises(ModelNotFoundError, match=r"some/missing.*hf auth login") as caught:
        resolve("some/missing", Source())
    assert isinstance(caught.value, FileNotFoundError)
    assert len(hub.requests) == 1


def test_a_missing_revision(hub):
    with pytest.raises(ModelNotFoundError, match="some/safetensors has no revision 'v9'"):
        resolve("some/safetensors", Source(revision="v9"))
    assert len(hub.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository(hub, status):
    hub.fail(API, status, persistent=True)
    hub.error_code = "GatedRepo"
    how = r"is gated: accept its terms on http://.*/some/safetensors with your account.*hf auth login, or HF_TOKEN"
    with pytest.raises(DownloadError, match=how):
        resolve("some/safetensors", Source())
    assert len(hub.requests) == 1


def test_a_refusal_is_not_tried_again(hub):
    hub.fail(API, 403, persistent=True)
    with pytest.raises(DownloadError, match="some/safetensors"):
        resolve("some/safetensors", Source())
    assert len(hub.requests) == 1


def test_pickles_are_fetched_where_nothing_else_is(hub):
    assert files_of(resolve("some/pickle", Source()).folder) == {*REPOSITORIES["some/pickle"]}
    assert files_of(resolve("some/pickled-shards", Source(), "native").folder) == {*REPOSITORIES["some/pickled-shards"]}


def test_a_file_that_the_repository_has_not(hub):
    with pytest.raises(InputError, match=r"file='onnx/none\.onnx'.*some/onnx.*onnx/model\.onnx"):
        resolve("some/onnx", Source(file="onnx/none.onnx"))
    assert hub.downloaded() == set()


def test_a_refused_file_is_no_matter_of_the_disk(hub):
    hub.fail("/some/safetensors/resolve/", 403, persistent=True)
    with pytest.raises(DownloadError, match=r"(?s)refused.*403.*HF_TOKEN"):
        resolve("some/safetensors", Source())


def test_a_cache_folder_that_cannot_be_written(hub, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DownloadError, match=r"stored.*cache_folder"):
        resolve("some/safetensors", Source(cache_folder=str(tmp_path / "file")))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("revision", [None, "v1", OLDER])
@pytest.mark.parametrize("switch", ["setting", "environment"])
def test_offline_finds_what_was_fetched_and_asks_nobody(hub, monkeypatch, revision, switch):
    fetched = resolve("some/openvino", Source(revision=revision))
    hub.requests.clear()
    if switch == "environment":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve("some/openvino", Source(revision=revision, local_files_only=switch == "setting")) == fetched
    assert hub.requests == []


@pytest.mark.parametrize("name", ["some/onnx", "short"])
def test_offline_without_a_copy_says_how_to_get_one(hub, name):
    with pytest.raises(ModelNotFoundError, match=rf"offline.*hf download \S*{name}"):
        resolve(name, Source(local_files_only=True))
    assert hub.requests == []


def test_the_environment_alone_keeps_a_process_offline(hub, tmp_path):
    script = "from nimbed._loading.hub import Source, resolve\nresolve('some/onnx', Source())"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60, env=env
    )
    assert done.returncode == 1
    assert "ModelNotFoundError: some/onnx is not in the download cache" in done.stderr
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["./missing", "a/b/c", "/no/such/folder", "with space", "owner/..", "a--b/c", "x/", ""]
)
def test_names_that_are_neither(hub, name):
    with pytest.raises(ModelNotFoundError, match="neither a"):
        resolve(name, Source())
    assert hub.requests == []


def test_a_snapshot_counts_without_the_files_that_nimbed_never_fetches(hub, monkeypatch):
    """As huggingface_hub 2 says it where the repository has more, whatever version is installed."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    fetched = resolve("some/safetensors", Source())
    error = LocalEntryNotFoundError("incomplete")
    error.snapshot_path = str(fetched.folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising(error))
    assert resolve("some/safetensors", Source(local_files_only=True)) == fetched


def test_a_download_that_was_cut_short_is_told_offline(hub, monkeypatch):
    """Without modules.json the model would be another one. huggingface_hub knows what is missing from 2 on."""
    pytest.importorskip("huggingface_hub", minversion="2.0")
    fetched = resolve("some/safetensors", Source())
    assert resolve("some/safetensors", Source(local_files_only=True)) == fetched
    (fetched.folder / "modules.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"in the download cache without modules\.json.*hf download some/safe"):
        resolve("some/safetensors", Source(local_files_only=True))


def raising(*errors):
    """A call that raises one after the other, then the last for ever."""
    left = list(errors)

    def call(*arguments, **options):
        raise left.pop(0) if len(left) > 1 else left[0]

    return call


@pytest.mark.parametrize(
    "module", ["requests.exceptions", "httpx", "httpx2", "httpx2._exceptions", "urllib3.exceptions"]
)
def test_a_client_of_any_release_is_tried_again(hub, module, monkeypatch):
    """huggingface_hub speaks through requests, httpx or httpx2, and passes their errors on."""
    import huggingface_hub

    error = type("ConnectError", (Exception,), {"__module__": module})("refused")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", raising(error))
    with pytest.raises(DownloadError, match=r"some/onnx: the hub could not be reached: refused.*local_files_only"):
        resolve("some/onnx", Source())
    derived = type("Derived", (type(error),), {"__module__": "huggingface_hub.errors"})("refused")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", raising(derived, derived, derived, OSError(28, "full")))
    with pytest.raises(DownloadError, match=r"could not be stored: .*full"):
        resolve("some/onnx", Source())


@pytest.mark.parametrize("error", [RuntimeError("CAS service error"), ValueError("no JSON"), AssertionError("no sha")])
def test_whatever_the_client_raises_is_a_download_error(hub, error, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", raising(error))
    with pytest.raises(DownloadError, match=f"some/onnx: the download failed: {type(error).__name__}: {error}"):
        resolve("some/onnx", Source())


def test_a_file_is_no_model_folder(hub, tmp_path):
    (tmp_path / "model.onnx").write_text("-")
    with pytest.raises(ModelNotFoundError, match=r"model\.onnx: neither a folder nor"):
        resolve(tmp_path / "model.onnx", Source())
    assert hub.requests == []
