"""Artefacts are whole or not there, and a damaged or foreign one is refused by name."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nimbed import artefact
from nimbed._types import ModelSpec
from nimbed.artefact import (
    MANIFEST,
    Manifest,
    SourceRecord,
    file_records,
    home,
    is_artefact,
    open_artefact,
    staging,
    write_manifest,
)
from nimbed.errors import ArtefactError, ModelNotFoundError

SPEC = ModelSpec(
    architecture="bert", hidden_size=8, dim=8, pooling="mean", normalize=True, max_length=16,
    prompts={"query": "为: "}, origins={"pooling": "modules.json"},
)  # fmt: skip
FILES = {"model.xml": b"<net/>", "model.bin": bytes(range(256)), "tokenizer.json": b"{}", "extra/notes.txt": b"n"}


def made(folder: Path, **changes: object) -> Path:
    """An artefact's folder by hand; ``changes`` are laid over its manifest."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    values = {
        "engine": "openvino",
        "precision": "int8",
        "source": SourceRecord(id="some/model", revision="abc", file="model.safetensors", sha256="0" * 64),
        "spec": SPEC,
        "key": "k",
        "quality": {"min_cosine": 0.99},
        "files": file_records(folder),
    }
    write_manifest(folder, Manifest(**{**values, **changes}))
    return folder


def refused(folder: Path, *named: str) -> None:
    with pytest.raises(ArtefactError) as caught:
        open_artefact(folder)
    assert isinstance(caught.value, OSError)
    for word in named:
        assert word in str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of the test's own, with nothing else in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def test_what_was_written_is_read(place):
    opened = open_artefact(made(place))
    assert opened.manifest.spec == SPEC
    assert opened.manifest.source.revision == "abc"
    assert opened.manifest.quality == {"min_cosine": 0.99}
    assert set(opened.manifest.files) == set(FILES)
    assert opened.manifest.files["model.bin"].bytes == 256
    assert os.fspath(opened) == str(place)
    assert is_artefact(place)
    assert not is_artefact(place / "extra")


def test_the_digest_follows_the_content_and_not_the_place(place, tmp_path):
    digest = open_artefact(made(place)).manifest.digest
    copied = shutil.copytree(place, tmp_path / "elsewhere" / "renamed")
    assert open_artefact(copied).manifest.digest == digest
    (copied / "model.bin").write_bytes(bytes(256))
    write_manifest(copied, Manifest(**{**vars(open_artefact(place).manifest), "files": file_records(copied)}))
    assert open_artefact(copied).manifest.digest != digest


@given(name=st.sampled_from(sorted(FILES)), data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_is_found(place, name, data):
    made(place)
    content = bytearray(FILES[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (place / name).write_bytes(content)
    refused(place, str(place / name), "CRC-32", "copy or build")


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("content", [b"", b"longer than it was" * 20])
def test_another_size_is_found(place, name, content):
    (made(place) / name).write_bytes(content)
    refused(place, str(place / name), f"{len(content)} bytes", f"{len(FILES[name])}")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_found(place, name):
    (made(place) / name).unlink()
    refused(place, str(place / name), "missing")


def test_a_file_that_cannot_be_read_is_named(place, monkeypatch):
    made(place)

    def denied(*paths):
        raise PermissionError(errno.EACCES, "Permission denied", str(paths[0]))

    monkeypatch.setattr(artefact, "crc32_of", denied)
    refused(place, str(place), "Permission denied")


def test_a_newer_format_says_to_upgrade(place):
    refused(made(place, format=artefact.FORMAT + 1), MANIFEST, "newer", "pip install -U nimbed")


@pytest.mark.parametrize(
    "content", ["[]", "null", '"text"', "{}", '{"format": "1"}', '{"format": 0}', '{"name": "other tool"}']
)
def test_a_foreign_manifest(place, content):
    (place / MANIFEST).write_text(content)
    refused(place, str(place / MANIFEST), "no nimbed artefact")


@pytest.mark.parametrize("content", [b"", b'{"format": 1,', b"\xff\xfe{}", b"\0" * 30])
def test_a_manifest_that_is_no_json(place, content):
    (made(place) / MANIFEST).write_bytes(content)
    refused(place, str(place / MANIFEST), "cannot be read")


@pytest.mark.parametrize("key", ["engine", "precision", "source", "spec", "key", "files"])
def test_an_incomplete_manifest(place, key):
    values = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))
    del values[key]
    (place / MANIFEST).write_text(json.dumps(values))
    refused(place, str(place / MANIFEST), key, "incomplete")


@pytest.mark.parametrize(
    ("key", "value"),
    [("source", {"id": "a"}), ("source", 3), ("spec", []), ("spec", {"dim": 3}), ("files", ["model.xml"]),
     ("files", {"model.xml": {"bytes": 6}}), ("files", {"model.xml": None})],
)  # fmt: skip
def test_a_manifest_with_parts_of_another_form(place, key, value):
    values = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))
    (place / MANIFEST).write_text(json.dumps({**values, key: value}))
    refused(place, str(place / MANIFEST))


def test_no_manifest(place):
    refused(place, str(place / MANIFEST), "missing")


def test_staging_publishes_at_the_end(place):
    target = place / "deep" / "model"
    with staging(target) as folder:
        assert folder.parent == target.parent
        made(folder)
        assert not target.exists()
        itself = folder.stat().st_ino
    assert target.stat().st_ino == itself  # renamed, not copied: nobody sees half of it
    assert open_artefact(target).manifest.spec == SPEC
    assert [p.name for p in target.parent.iterdir()] == ["model"]


def test_others_may_read_what_the_umask_allows(place):
    with staging(place / "model") as folder:
        made(folder)
    (place / "plain").mkdir()
    assert (place / "model").stat().st_mode == (place / "plain").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3), ModelNotFoundError("gone")])
def test_an_exception_leaves_nothing_and_comes_through(place, error):
    def interrupted() -> None:
        with staging(place / "model") as folder:
            made(folder)
            raise error

    with pytest.raises(type(error)) as caught:
        interrupted()
    assert caught.value is error
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", ["model", "model[1]", "a*b"])
def test_what_a_killed_build_left_is_swept(place, name):
    left = staging(place / name)
    made(left.__enter__())
    abandoned = list(place.iterdir())
    assert len(abandoned) == 1
    with staging(place / name) as folder:
        made(folder)
        assert not abandoned[0].exists()
    assert [p.name for p in place.iterdir()] == [name]


def test_a_build_of_another_target_is_left_alone(place):
    with staging(place / "model.v2") as other:
        made(other)
        with staging(place / "model") as folder:
            made(folder)
            assert is_artefact(other)
    assert sorted(p.name for p in place.iterdir()) == ["model", "model.v2"]


def test_a_full_disk_is_named_and_leaves_nothing(place):
    with pytest.raises(ArtefactError, match="No space left") as caught, staging(place / "model"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.bin")
    assert str(place / "model") in str(caught.value)
    assert "NIMBED_HOME" in str(caught.value)
    assert list(place.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is Unix only")
def test_a_file_size_limit_leaves_nothing(place):
    script = f"""
import resource
from pathlib import Path
from nimbed.artefact import staging
from nimbed.errors import ArtefactError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with staging(Path({str(place / "model")!r})) as folder:
        (folder / "model.bin").write_bytes(bytes(5000))
except ArtefactError as err:
    print("refused:", err)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "refused:" in done.stdout
    assert str(place / "model") in done.stdout
    assert list(place.iterdir()) == []


def test_a_file_in_the_way_of_the_parent(place):
    (place / "file").write_text("mine")
    with pytest.raises(ArtefactError, match="cannot be stored"), staging(place / "file" / "model"):
        pytest.fail("there is no place to write")
    assert (place / "file").read_text() == "mine"


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_a_target_that_is_taken_is_left_alone(place, taken):
    target = place / "model"
    keep = target if taken == "file" else target / "keep"
    keep.parent.mkdir(exist_ok=True)
    keep.write_text("mine")
    with pytest.raises(ArtefactError) as caught, staging(target) as folder:
        made(folder)
    assert str(target) in str(caught.value)
    assert keep.read_text() == "mine"
    assert [p.name for p in place.iterdir()] == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no folders, even from root")
def test_a_place_that_cannot_be_written():
    with pytest.raises(ArtefactError, match="/proc/nimbed/model"), staging(Path("/proc/nimbed/model")):
        pytest.fail("there is no place to write")


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("NIMBED_HOME", "~/somewhere")
    assert home() == Path.home() / "somewhere"
    for unset in ("", None):
        monkeypatch.setenv("NIMBED_HOME", unset) if unset is not None else monkeypatch.delenv("NIMBED_HOME")
        assert home().name == "nimbed"
        assert home().is_absolute()
