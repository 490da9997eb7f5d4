"""Artefacts are whole or not there, and a damaged or foreign one is refused by name."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.artefacts import FILES, QUALITY, SPEC, made, refused, rewrite

from nimbed._files.digests import Unchanged
from nimbed._loading import artefact
from nimbed._loading.artefact import file_records, home, is_artefact, open_artefact, staging, verify_artefact
from nimbed._loading.manifest import Manifest, write_manifest
from nimbed.errors import ArtefactError, ModelNotFoundError


def test_what_was_written_is_read(place):
    opened = open_artefact(made(place))
    assert opened.manifest.spec == SPEC
    assert opened.manifest.source.revision == "abc"
    assert opened.manifest.quality == QUALITY
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


@pytest.mark.parametrize("name", ["ranges.npy", "tokenizer_config.json", "model.pt", "extra/more.bin"])
def test_a_file_that_might_be_read_and_is_not_listed(place, name):
    (made(place) / name).write_bytes(b"x")
    refused(place, str(place / name), "does not list it")


@pytest.mark.parametrize("name", ["README.md", ".gitattributes", ".cache/huggingface/model.xml.json"])
def test_what_the_hub_adds_is_left_alone(place, name):
    (made(place) / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(b"x")
    open_artefact(place)


@pytest.mark.skipif(sys.platform == "win32", reason="links are not for everybody there")
def test_a_link_may_lead_to_the_hubs_blobs_and_nowhere_else(place, tmp_path):
    digest = open_artefact(made(place)).manifest.digest
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "c0ffee", tmp_path / "models--a--b" / "blobs"
    shutil.copytree(place, snapshot)
    blobs.mkdir()
    (snapshot / "model.bin").rename(blobs / "1")
    (snapshot / "model.bin").symlink_to("../../blobs/1")
    assert open_artefact(snapshot).manifest.digest == digest
    (snapshot / "model.bin").unlink()
    (snapshot / "model.bin").symlink_to(place / "model.bin")
    refused(snapshot, str(snapshot / "model.bin"), "leads out")


def test_a_digest_cannot_be_kept_by_other_files_that_pass(place):
    """Other weights, with the CRC-32 that is theirs and the sha256 that was the old ones'."""
    genuine = open_artefact(made(place)).manifest
    (place / "model.bin").write_bytes(bytes(256))
    forged = {name: vars(record) for name, record in file_records(place).items()}
    forged["model.bin"]["sha256"] = genuine.files["model.bin"].sha256
    rewrite(place, files=forged)
    assert open_artefact(place).manifest.digest != genuine.digest
    with pytest.raises(ArtefactError, match=r"model\.bin is not the file that was built"):
        verify_artefact(place)


def test_verify_passes_what_was_built(place):
    assert verify_artefact(made(place)) == open_artefact(place)


def test_what_is_written_into_an_open_file_is_noticed(place):
    path = made(place) / "model.bin"
    os.utime(path, (0, 0))
    was = Unchanged.of([path])
    was.check(replaced=False)
    path.write_bytes(path.read_bytes())
    for replaced in (False, True):
        with pytest.raises(ArtefactError, match=r"model\.bin was written into"):
            was.check(replaced=replaced)


def test_a_file_that_another_took_the_name_of_is_still_the_old_one(place):
    path = made(place) / "model.bin"
    was = Unchanged.of([path])
    (place / "new").write_bytes(bytes(256))
    (place / "new").replace(path)
    was.check()
    with pytest.raises(ArtefactError):
        was.check(replaced=False)
    path.unlink()
    was.check()


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
from nimbed._loading.artefact import staging
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


def test_an_artefact_gives_way_to_its_successor(place):
    made(place)
    with staging(place) as folder:
        made(folder, key="new")
        assert open_artefact(place).manifest.key == "k"
    assert open_artefact(place).manifest.key == "new"
    assert list(place.parent.iterdir()) == [place]


def test_an_artefact_stays_if_its_successor_cannot_be_put_there(place, monkeypatch):
    made(place)

    def refuse(*_):
        raise OSError("no room")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ArtefactError, match="no room"), staging(place) as folder:
        made(folder, key="new")
    assert open_artefact(place).manifest.key == "k"
    assert list(place.parent.iterdir()) == [place]


def test_a_link_to_an_artefact_leads_to_its_successor(place, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(made(place))
    with staging(link) as folder:
        made(folder, key="new")
    assert link.is_symlink()
    assert open_artefact(place).manifest.key == "new"
