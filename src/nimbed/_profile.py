"""What `nimbed tune` found for an artefact on this machine: kept beside the artefacts, read when one is opened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nimbed import _machine
from nimbed._places import write_whole
from nimbed._shapes import Tuning
from nimbed.artefact import home
from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from pathlib import Path


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
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        tuning = Tuning(**record["tuning"])
        if not all(isinstance(value, int) and value > 0 for value in asdict(tuning).values()):
            raise ValueError(f"{tuning} has a value that is no number above 0")  # noqa: TRY301
        return Profile(tuning=tuning, measured=dict(record["measured"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise ArtefactError(f"the tuning profile {path} cannot be used ({err}): delete it, or tune again") from err


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
