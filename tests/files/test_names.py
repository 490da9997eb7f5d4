"""Names that files give stay inside their folder, on every system."""

from __future__ import annotations

import pytest

from nimbed._files.names import LFS_POINTER, fetch_by_lfs, leads_inside, path_within

OUTSIDE = ["../a", "a/../../b", "/etc/passwd", "n" * 300, "a\0b", "C:a", "..\\a", "a\nb", "\ud800"]


@pytest.mark.parametrize("name", ["a", "1_Pooling/config.json", "文/模型.onnx", "n" * 255, "..a", "a..", "a b"])
def test_a_name_within_the_folder(name, tmp_path):
    assert leads_inside(name)
    assert path_within(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_or_is_none(name, tmp_path):
    assert not leads_inside(name)
    with pytest.raises(ValueError, match="is no name inside the folder"):
        path_within(tmp_path, name)


@pytest.mark.parametrize("name", [7, None, ["a"], {"a": 1}, "x" * 10_000])
def test_what_is_no_name_is_shown_in_brief(name, tmp_path):
    with pytest.raises(ValueError, match="is no name inside the folder") as caught:
        path_within(tmp_path, name)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_the_folder_itself_is_a_path_but_no_name(name, tmp_path):
    assert not leads_inside(name)
    assert path_within(tmp_path, name) == tmp_path


@pytest.mark.parametrize("name", ["./a", "a/", "a//b", "a/./b"])
def test_one_file_has_one_name(name, tmp_path):
    """A manifest lists files by name: two names of one file would be two entries."""
    assert not leads_inside(name)
    assert path_within(tmp_path, name) == tmp_path / name


def test_a_link_is_a_name(tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")  # as the hub's cache holds its files
    assert path_within(tmp_path, "link") == tmp_path / "link"


def test_a_path_longer_than_the_system_takes(tmp_path):
    with pytest.raises(ValueError, match="is no name of a file"):
        path_within(tmp_path, "n/" * 5000 + "n")


def test_a_pointer_says_what_fetches_the_file(tmp_path):
    assert LFS_POINTER + b"v1\n" == b"version https://git-lfs.github.com/spec/v1\n"
    assert fetch_by_lfs(tmp_path / "model.safetensors").endswith(f"git lfs install && git lfs pull, in {tmp_path}")
