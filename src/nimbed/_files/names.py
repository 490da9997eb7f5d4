"""What files are, before they are read: names that another file gives, and pointers of Git LFS."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def fetch_by_lfs(file: Path) -> str:
    """What to say of a file in whose place a clone without Git LFS has a pointer to it."""
    return (
        f"{file} is a Git LFS pointer, not the file that it stands for; fetch that: git lfs install && git lfs pull, "
        f"in {file.parent}"
    )


_LONGEST = 255  # bytes of a name that file systems take


def leads_inside(name: str) -> bool:
    """Whether a name, relative to a folder, stays within it on every system."""
    parts = name.split("/")
    short = all(len(part.encode(errors="replace")) <= _LONGEST for part in parts)
    return short and name.isprintable() and not set(name) & {"\\", ":"} and not set(parts) & {"", ".", ".."}
