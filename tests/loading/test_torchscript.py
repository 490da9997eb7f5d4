"""TorchScript is code: what runs is what nimbed wrote on this machine, or what the user allows."""

from __future__ import annotations

import pickle
import zipfile

import pytest

from nimbed._loading.hub import Source
from nimbed._loading.torchscript import check_allowed, is_torchscript, remember
from nimbed.errors import InputError


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))


def test_a_changed_file_is_not_the_one_that_was_written(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"as written")
    remember(path)
    check_allowed(path, Source())
    path.write_bytes(b"as changed")
    with pytest.raises(InputError, match="allow_code"):
        check_allowed(path, Source())


def test_a_strangers_file_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"somebody's")
    with pytest.raises(InputError, match=r"model\.pt is TorchScript, which is code.*otherwise build the artefact here"):
        check_allowed(path, Source())
    check_allowed(path, Source(allow_code=True))
    assert not (tmp_path / "home").exists()  # a permission is not remembered


def test_content_counts_and_not_the_place(tmp_path):
    path, moved = tmp_path / "model.pt", tmp_path / "moved.pt"
    path.write_bytes(b"as written")
    remember(path)
    remember(path)
    path.rename(moved)
    check_allowed(moved, Source())


def test_what_another_home_wrote_is_a_strangers(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    path.write_bytes(b"as written")
    remember(path)
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "another"))
    with pytest.raises(InputError, match="allow_code"):
        check_allowed(path, Source())


@pytest.mark.parametrize(
    ("names", "has_code"),
    [
        (["model/code/__torch__.py", "model/data.pkl"], True),
        (["model/data.pkl", "model/data/0"], False),
        (["code/x.py"], False),  # the archive's own folder comes first
        (["model/encode/x.py"], False),
        ([], False),
    ],
)
def test_an_archive_is_code_where_it_holds_some(names, has_code, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    assert is_torchscript(tmp_path / "model.pt") is has_code


@pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps({"weights": 1})])
def test_what_is_no_archive_is_no_torchscript(content, tmp_path):
    (tmp_path / "model.bin").write_bytes(content)
    assert not is_torchscript(tmp_path / "model.bin")
