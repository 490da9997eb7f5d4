"""What lies in nimbed's cache folder, whether this nimbed opens it, and how it is removed.

Only what bears a name that nimbed gives is looked at: whatever else somebody keeps in that folder is left alone. So are
the marks of TorchScript that nimbed wrote, which cannot be made again, and the locks, which are empty.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nimbed._files.user_paths import home
from nimbed._loading.artefact import MANIFEST, check_files
from nimbed._loading.manifest import FORMAT, RECIPE, read_manifest, read_outline
from nimbed._loading.target_lock import target_lock
from nimbed._versions import version_of
from nimbed.backends import BACKENDS
from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from nimbed.backends import BackendRecord

Kind = Literal["artefact", "refusal", "unfinished", "temporary", "profile"]

_ARTEFACT = r"(?P<model>.+)-(?P<engine>[a-z]+)-(?P<precision>int8|fp32|bf16)-[0-9a-f]{16}"
# As make_request, _build_once, unfinished, staging and write_whole, and profile_path name them.
_NAMES: dict[Kind, re.Pattern[str]] = {
    "artefact": re.compile(rf"(?P<target>{_ARTEFACT})"),
    "refusal": re.compile(rf"(?P<target>{_ARTEFACT})(\.r(?P<recipe>\d+))?\.refused"),
    "unfinished": re.compile(rf"(?P<target>{_ARTEFACT}\.unfinished)"),
    "temporary": re.compile(rf"\.(?P<target>{_ARTEFACT})(\.((r\d+\.)?refused|unfinished))?\.[0-9a-z_]{{8}}\.tmp"),
}
_PROFILE = re.compile(r"[0-9a-f]{16}\.json|\.[0-9a-f]{16}\.json\.[0-9a-f]{8}\.tmp")
# Of these kinds, what is said where no build holds them.
_LEFT: dict[Kind, str] = {
    "unfinished": "a build that was stopped; building the model again goes on from here",
    "temporary": "left by a build",
}
BEING_BUILT = "it is being built"


@dataclass(frozen=True, kw_only=True)
class Cached:
    """One thing in the cache folder.

    Attributes:
        path: where it is.
        kind: an artefact, the note of a build that its quality gate refused, what a build has done so far, what a build
            or its end left, a tuning.
        target: what a build of it locks: the artefact that it belongs to, or what is unfinished; None for a tuning.
        model: hub id, or name of the folder; ``revision`` the hub's commit.
        engine: that runs it, in which ``precision``.
        format: of its manifest, or None where that cannot be read.
        bytes: of its files; of a link none.
        built: when, in seconds since 1970.
        used: when it was last read, as far as the file system keeps that (once a day, on Linux).
        fault: why this nimbed does not open it; empty where it does.
        useless: whether no nimbed from this one on will.
    """

    path: Path
    kind: Kind
    target: Path | None
    model: str = ""
    revision: str = ""
    engine: str = ""
    precision: str = ""
    format: int | None = None
    bytes: int = 0
    built: float = 0.0
    used: float | None = None
    fault: str = ""
    useless: bool = False

    def is_of(self, model: str) -> bool:
        """Whether it was made from this model: a hub id, its last part, or the name of a folder."""
        return model in {self.model, self.model.rpartition("/")[2]}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be removed; without a word, what is useless.

    Attributes:
        model: nothing of other models.
        older_than_s: also what was neither built nor used for so many seconds.
        everything: all of it.
    """

    model: str | None = None
    older_than_s: float | None = None
    everything: bool = False

    def takes(self, one: Cached, now: float) -> bool:
        """Whether it is to be removed at this time, in seconds since 1970."""
        if self.model is not None and not one.is_of(self.model):
            return False
        if one.useless or self.everything:
            return True
        if self.older_than_s is not None:
            return now - max(one.built, one.used or 0.0) > self.older_than_s
        return self.model is not None


def cached() -> list[Cached]:
    """All that is nimbed's in the cache folder, by model.

    Raises:
        ArtefactError: there is no such folder for this user, or it cannot be read.
    """
    place = home()
    try:
        found = [one for path in _within(place / "artefacts") if (one := _artefact_or_rest(path)) is not None]
        found += [one for path in _within(place / "profiles") if (one := _profile(path)) is not None]
    except OSError as err:
        raise ArtefactError(f"{place} cannot be read: {err}; choose another place with NIMBED_HOME") from err
    return sorted(found, key=lambda one: (one.model, one.kind, str(one.path)))


def remove(one: Cached) -> str | None:
    """Remove it, whole or not at all for whoever looks; None, or why it is still there.

    Raises:
        ArtefactError: the folder of the locks cannot be written.
    """
    if one.target is None:
        return _removed(one)
    with target_lock(one.target, wait=False) as held:
        return _removed(one) if held else BEING_BUILT


def _removed(one: Cached) -> str | None:
    try:
        if one.path.lstat().st_mtime != one.built:
            return "it was changed meanwhile"
        if one.path.is_symlink() or not one.path.is_dir():
            one.path.unlink()
            return None
        aside = one.path
        if not aside.name.startswith("."):
            aside = one.path.rename(aside.with_name(f".{aside.name}.{secrets.token_hex(4)}.tmp"))
        shutil.rmtree(aside)
    except FileNotFoundError:  # another did it
        return None
    except OSError as err:
        return f"it could not be removed: {err}"
    return None


def _within(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _profile(path: Path) -> Cached | None:
    return _sized(Cached(path=path, kind="profile", target=None)) if _PROFILE.fullmatch(path.name) else None


def _artefact_or_rest(path: Path) -> Cached | None:
    """What its name says, and how it is; None for what is not nimbed's, or is gone by now."""
    kind, match = next(((kind, m) for kind, name in _NAMES.items() if (m := name.fullmatch(path.name))), (None, None))
    if kind is None or match is None:
        return None
    one = _sized(
        Cached(
            path=path,
            kind=kind,
            target=path.with_name(match["target"]),
            model=match["model"].replace("--", "/"),
            engine=match["engine"],
            precision=match["precision"],
        )
    )
    if one is None or one.useless:
        return one
    if kind == "artefact":
        return _judged(one)
    if kind in _LEFT:
        building = _is_being_built(path.with_name(match["target"]))
        return replace(one, fault=BEING_BUILT if building else _LEFT[kind], useless=not building)
    if int(match["recipe"] or 0) < RECIPE:
        return replace(one, fault="refused by the recipe of an older nimbed", useless=True)
    return replace(one, fault="refused by its quality gate")


def _is_being_built(target: Path) -> bool:
    """Whether its lock is held, or cannot be tried."""
    try:
        with target_lock(target, wait=False) as held:
            return not held
    except ArtefactError:
        return True


def _sized(one: Cached) -> Cached | None:
    """With the size and the times of its files, which are those of a link where it is one; None where it is gone.

    A link that leads nowhere opens nothing, whatever its name says.
    """
    whole = one.path.is_dir() and not one.path.is_symlink()
    files = [Path(folder, name) for folder, _, names in os.walk(one.path) for name in names] if whole else [one.path]
    try:
        known = {path: path.lstat() for path in files}
        built = one.path.lstat().st_mtime
    except FileNotFoundError:
        return None
    read = [s.st_atime for path, s in known.items() if path.name != MANIFEST and s.st_atime > s.st_mtime]
    one = replace(one, bytes=sum(s.st_size for s in known.values()), built=built, used=max(read, default=None))
    return replace(one, fault="it is a link that leads nowhere", useless=True) if _leads_nowhere(one.path) else one


def _leads_nowhere(link: Path) -> bool:
    """Whether it is a link to what is not there; what this user may not look at is."""
    try:
        link.stat()
    except OSError as err:
        return err.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP} and link.is_symlink()
    return False


def _judged(one: Cached) -> Cached:
    """With what its manifest says, and why it cannot be opened, if so."""
    if not os.access(one.path, os.R_OK | os.X_OK):
        return replace(one, fault="this user may not read it")
    try:
        outline = read_outline(one.path)
        one = replace(
            one,
            model=outline.model or one.model,
            revision=outline.revision,
            engine=outline.engine or one.engine,
            precision=outline.precision or one.precision,
            format=outline.format,
        )
        manifest = read_manifest(one.path)
        check_files(one.path, manifest)
    except OSError as err:
        fault = str(err).replace(f"{one.path}{os.sep}", "").partition("; ")[0]
        lasting = isinstance(err, ArtefactError) and not isinstance(err.__cause__, OSError)
        return replace(one, fault=fault, useless=lasting and (one.format or 0) <= FORMAT)
    if manifest.recipe < RECIPE:
        return replace(one, fault=f"nimbed has a newer recipe ({RECIPE}, not {manifest.recipe})", useless=True)
    return replace(one, fault=_missing(BACKENDS[manifest.engine]))


def _missing(engine: BackendRecord) -> str:
    there = find_spec("nimbed._native") if engine.compiled else version_of(engine.package or "nimbed")
    return "" if there else f"{engine.name} is not installed: {engine.notice or engine.remedy}"
