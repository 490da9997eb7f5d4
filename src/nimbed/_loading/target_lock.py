"""One builder at a time for a target; a dead process leaves no lock behind."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nimbed._files.user_paths import home
from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def target_lock(target: Path, *, wait: bool = True) -> Iterator[bool]:
    """Whether it is held within the block: always, unless another holds it and it was not to be waited for.

    Raises:
        ArtefactError: the folder of the locks cannot be written.
    """
    import filelock

    name = hashlib.blake2b(str(target.absolute()).encode(), digest_size=8).hexdigest()
    folder = home() / "locks"
    held = True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock")
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        held = False
    except OSError as err:
        raise ArtefactError(f"{folder} cannot be written: {err}; choose another place with NIMBED_HOME") from err
    try:
        yield held
    finally:
        if held:
            lock.release()
