"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import nimbed
from nimbed._files.user_paths import expanded
from nimbed.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

TASK = "what the vectors are for: a name or an instruction that the model knows (default: its own, mostly retrieval)"


def to_path(text: str) -> Path:
    """An argument that names a file or folder: a path that can exist on this system."""
    try:
        return expanded(text)
    except InputError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def source_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a model's files come from."""
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--file", help="the network within the model folder, such as openvino/openvino_model.xml")
    parser.add_argument("--offline", action="store_true", help="never touch the network")
    parser.add_argument("--allow-code", action="store_true", help="run TorchScript from another machine (ipex)")


def source_of(chosen: argparse.Namespace) -> nimbed.Source:
    """What was said of that."""
    return nimbed.Source(
        revision=chosen.revision,
        local_files_only=chosen.offline,
        file=chosen.file,
        allow_code=chosen.allow_code,
    )
