"""What `nimbed tune` found for an artefact on this machine: kept beside the artefacts, read when one is opened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nimbed import _machine
from nimbed._files.json import read_json, shown
from nimbed._files.user_paths import write_whole
from nimbed._loading.artefact import home
from nimbed.backends.shapes import Tuning
from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path


_REMEDY = "delete it, or tune again"
_MOST_TOKENS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A tuning, and what it was measured with.

    Attributes:
        tuning: what the engine shall do.
        measured: conditions and figures, for people to read.
    """

    tuning: Tuning
    measured: dict[str, Any]

    @property
    def reason(self) -> str:
        """Why the shapes are what they are."""
        chosen = ", ".join(f"{name}={value}" for name, value in asdict(self.tuning).items())
        return f"{chosen}: tuned here with {self.measured['engine']}"


def profile_path(digest: str, threads: int) -> Path:
    """Where the profile of an artefact is, for this CPU and so many threads."""
    cpu = _machine.cpu()
    key = json.dumps([digest, cpu.model, cpu.features, threads])
    return home() / "profiles" / f"{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.json"


def read_profile(digest: str, threads: int) -> Profile | None:
    """None where this artefact was never tuned here.

    Raises:
        ArtefactError: the file cannot be used.
    """
    try:
        path = profile_path(digest, threads)
    except ArtefactError:  # there is no place where one could be
        return None
    record = read_json(path, missing=None, error=ArtefactError, remedy=_REMEDY)
    if record is None:
        return None
    tuned, measured = record.fields("tuning"), record.fields("measured")
    if tuned.keys() != (names := asdict(Tuning()).keys()):
        raise ArtefactError(f"{tuned.where}: {', '.join(names)} are wanted, not {shown(list(tuned))}; {_REMEDY}")
    measured.text("engine")
    tuning = Tuning(**{name: tuned.whole(name, minimum=1, maximum=_MOST_TOKENS) for name in names})
    return Profile(tuning=tuning, measured=dict(measured))


def write_profile(profile: Profile, digest: str, threads: int) -> Path:
    """Put it where an opened artefact finds it.

    Raises:
        ArtefactError: it cannot be written.
    """
    path = profile_path(digest, threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(profile), indent=2) + "\n")
    except OSError as err:
        raise ArtefactError(f"{path} cannot be written: {err}; choose another place with NIMBED_HOME") from err
    return path
