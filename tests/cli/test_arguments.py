"""Arguments that several commands take."""

from __future__ import annotations

import argparse

import pytest

import nimbed
from nimbed.cli.arguments import source_arguments, source_of, to_path


def test_a_source_in_flags():
    parser = argparse.ArgumentParser()
    source_arguments(parser)
    assert source_of(parser.parse_args([])) == nimbed.Source()
    chosen = parser.parse_args(["--revision", "main", "--file", "a.onnx", "--offline", "--allow-code"])
    wanted = nimbed.Source(revision="main", file="a.onnx", local_files_only=True, allow_code=True)
    assert source_of(chosen) == wanted


def test_a_path_that_no_file_could_have_is_an_argument_error(tmp_path):
    assert to_path(str(tmp_path)) == tmp_path
    with pytest.raises(argparse.ArgumentTypeError, match="no path of a file or folder"):
        to_path("a\0b")
