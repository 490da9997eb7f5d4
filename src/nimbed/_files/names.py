"""What files are, before they are read: names that another file gives, and pointers of Git LFS."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_BYTES = 255  # of a name, on common file systems


def fetch_by_lfs(file: Path) -> str:
    """What to say of a file in whose place a clone without Git LFS has a pointer to it."""
    return (
        f"{file} is a Git LFS pointer, not the file that it stands for; fetch that: git lfs install && git lfs pull, "
        f"in {file.parent}"
    )


def leads_inside(name: str) -> bool:
    """Whether a name, relative to a folder and written in one way only, stays within it on every system."""
    parts = name.split("/")
    short = all(len(part.encode(errors="replace")) <= _MAX_BYTES for part in parts)
    return short and name.isprintable() and not set(name) & {"\\", ":"} and not set(parts) & {"", ".", ".."}


def stays_within(folder: Path, path: Path) -> bool:
    """Whether a folder's file, its links followed, lies in it, or in the store that a hub's folder is links to."""
    place = folder.resolve()
    # models--owner--name/snapshots/<commit>/... beside models--owner--name/blobs
    snapshot = next((part for part in (place, *place.parents) if part.parent.name == "snapshots"), None)
    places = [place] if snapshot is None else [snapshot, snapshot.parent.parent / "blobs"]
    return any(path.resolve().is_relative_to(one) for one in places)


def path_within(folder: Path, name: object) -> Path:
    """The path of a name that a file or a user gives; "" and "." are the folder itself. What it names may be a link.

    Raises:
        ValueError: it is no name, or leads out of the folder.
    """
    plain = PurePosixPath(name).as_posix() if isinstance(name, str) else ".."
    if plain != "." and not leads_inside(plain):
        raise ValueError(f"{name!r:.100} is no name inside the folder")
    path = folder / plain
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as err:
        raise ValueError(f"{name!r:.100} is no name of a file: {err}") from err
    return path
