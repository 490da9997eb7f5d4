"""Paths of this user: with ~ filled in, the folder of the artefacts, and files that are put in their place whole."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from nimbed.errors import ArtefactError, InputError


def expanded(path: str | os.PathLike[str], instead: str = "write the path without ~") -> Path:
    """The path with ``~`` filled in.

    Raises:
        InputError: there is no such home folder, where the message ends with what to do instead; or the path is none
            that a file could have: too long, a circle of links, with NUL or half a surrogate pair in it.
    """
    try:
        found = Path(path).expanduser()
        found.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return found
    except RuntimeError as err:
        raise InputError(f"{os.fspath(path)}: ~ stands for a home folder that is not known here; {instead}") from err
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise InputError(f"{ascii(os.fspath(path))[:80]} is no path of a file or folder: {reason}") from err
    return found


def home() -> Path:
    """Where artefacts are kept: NIMBED_HOME, or "nimbed" in the user's cache folder.

    Raises:
        ArtefactError: this user has no home folder.
    """
    import platformdirs

    try:
        chosen = os.environ.get("NIMBED_HOME") or platformdirs.user_cache_dir("nimbed", appauthor=False)
        return Path(chosen).expanduser().absolute()
    except RuntimeError as err:
        raise ArtefactError(
            "there is no place for artefacts, since this user's home folder is not known: set NIMBED_HOME to a folder "
            "that may be written (or HOME)"
        ) from err


def write_whole(path: Path, text: str) -> None:
    """Put a file in its place at once: whoever reads meanwhile, or writes it too, sees one or the other.

    A pipe or a device, such as /dev/stdout, is written to instead.

    Raises:
        OSError: it cannot be written.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
