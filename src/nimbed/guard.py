"""A guard for vector stores: an index keeps the fingerprint of its vectors and refuses vectors of another one."""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed import Encoder
from nimbed._files.user_paths import expanded, write_whole
from nimbed.errors import FingerprintError, InputError, InputTypeError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["FILE_NAME", "guard", "stamp"]

FILE_NAME = "nimbed-index.json"

_PREFIX = "nimbed_"
_FINGERPRINT, _ACCEPTED, _PROMPT = f"{_PREFIX}fingerprint", f"{_PREFIX}accepted", f"{_PREFIX}prompt_"
# The readable part of what a fingerprint is made of. A stamp holds it, so that a refusal can say what differs.
_FACTS = (
    "model", "revision", "backend", "backend_version", "precision", "instruction_set", "dim", "max_length", "pooling",
    "normalize",
)  # fmt: skip
# Digests of the network that the vectors' artefact was made from, and of the artefact. Stamps of before they were kept
# lack them.
_DIGESTS = ("weights", "digest")
_ENGINE = {"backend", "backend_version"}

_Value = str | int | float | bool


def stamp(embeddings: object) -> dict[str, _Value]:
    """The fingerprint and the facts behind it, as flat metadata; every key begins with ``nimbed_``.

    Args:
        embeddings: an :class:`nimbed.Encoder`, or an embedder of one of the adapters.

    Raises:
        InputTypeError: ``embeddings`` is neither.

    Example:
        >>> stamp(Encoder("any-name", backend="fake", dim=8))["nimbed_dim"]
        8
    """
    info = _encoder(embeddings).info
    facts = {f"{_PREFIX}{name}": value for name in (*_FACTS, *_DIGESTS) if (value := getattr(info, name)) is not None}
    prompts = {f"{_PROMPT}{name}": text for name, text in sorted(info.prompts.items())}
    return {_FINGERPRINT: info.fingerprint, **facts, f"{_PREFIX}windows": info.truncate == "chunk", **prompts}


def guard(
    embeddings: object, index: str | PathLike[str] | MutableMapping[str, Any], *, compatible: bool = False
) -> bool:
    """Refuse an index whose vectors are not comparable with those of ``embeddings``.

    The first call stamps the index: call it when you build the index. Every later call compares.

    Args:
        embeddings: an :class:`nimbed.Encoder`, or an embedder of one of the adapters.
        index: where the stamp is kept: the folder of the index (``nimbed-index.json`` in it), the index's only file (a
            JSON file beside it), a path that ends in ``.json`` (the stamp itself), or a mapping of metadata.
        compatible: you know that the vectors may be compared although the fingerprints differ; the stamp remembers it
            for this fingerprint.

    Returns:
        Whether the stamp was written or changed. If the mapping is only a copy of a store's metadata, you must then
        put it back.

    Raises:
        FingerprintError: the index holds vectors of another fingerprint (the message says what differs and what to
            do), or its stamp is damaged.
        InputTypeError: ``embeddings`` or ``index`` is something else.
        InputError: there is no such folder, or the stamp cannot be read or written.

    Example:
        >>> metadata = {"title": "my index"}
        >>> guard(Encoder("any-name", backend="fake"), metadata)
        True
        >>> guard(Encoder("any-name", backend="fake", dim=8), metadata)
        Traceback (most recent call last):
        nimbed.errors.FingerprintError: ... dim is 384 there and 8 here...
    """
    own = stamp(embeddings)
    if isinstance(index, MutableMapping):
        new = _settled(own, _stamp_in(index, "the index's metadata"), "the index's metadata", compatible=compatible)
        index.update(new)
        return bool(new)
    if not isinstance(index, (str, os.PathLike)):
        raise InputTypeError(
            f"index must be a path or a mapping that can be changed, not {type(index).__name__}; for a store without "
            "metadata yet, give it stamp(embeddings) as its metadata"
        )
    file = _file_of(Path(index))
    old = _read(file)
    new = _settled(own, old, str(file), compatible=compatible)
    if new:
        _write(file, {**old, **new})
    return bool(new)


def _encoder(embeddings: object) -> Encoder:
    encoder = getattr(embeddings, "encoder", embeddings)
    if not isinstance(encoder, Encoder):
        raise InputTypeError(
            f"embeddings must be an Encoder or an embedder of an adapter, not {type(embeddings).__name__}; "
            "of a wrapper such as CacheBackedEmbeddings, give what it wraps"
        )
    return encoder


def _settled(own: dict[str, _Value], old: dict[str, Any], where: str, *, compatible: bool) -> dict[str, _Value]:
    """What must be written: all of a first stamp, a fingerprint that is newly accepted, or nothing."""
    if not old:
        return own
    accepted = [one for one in str(old.get(_ACCEPTED, "")).split(",") if one]
    if own[_FINGERPRINT] in {old[_FINGERPRINT], *accepted}:
        return {}
    if compatible:
        return {_ACCEPTED: ",".join([*accepted, str(own[_FINGERPRINT])])}
    raise FingerprintError(
        f"{where}: the index holds vectors of fingerprint {old[_FINGERPRINT]}, and these embeddings have "
        f"{own[_FINGERPRINT]}: {_difference(old, own)}"
    )


def _difference(old: dict[str, Any], own: dict[str, _Value]) -> str:
    """What changed, by its parts and in detail, and what to do."""
    names = [n.removeprefix(_PREFIX) for n in {**own, **old} if n.startswith(_PREFIX)]
    there, here = ({n: values.get(f"{_PREFIX}{n}") for n in names} for values in (old, own))
    changed = [n for n in names if there[n] != here[n] and f"{_PREFIX}{n}" not in {_FINGERPRINT, _ACCEPTED}]
    known = {n for n in _DIGESTS if there[n] is not None}
    changed = [n for n in changed if n not in _DIGESTS or n in known]
    if "weights" in known and "weights" not in changed:
        changed = [n for n in changed if n not in {"model", "revision"}]  # the same one by another name
    details = [f"{n} is {_shown(there[n])} there and {_shown(here[n])} here" for n in changed if n not in _DIGESTS]
    return f"{'; '.join([*_parts(changed, there, here), *details])}. {_advice(changed, exact='digest' in known)}"


def _parts(changed: list[str], there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What differs, in the order in which it matters."""
    found = []
    if {"weights", "model", "revision"} & set(changed):
        found.append("another model, or other weights of it")
    if _ENGINE & set(changed):
        found.append(f"the engine changed ({_engine(there)} -> {_engine(here)})")
    if "instruction_set" in changed:
        found.append("another kind of CPU")
    if "precision" in changed:
        found.append("another precision")
    if any(name.startswith("prompt_") for name in changed):
        found.append("another prompt")
    if changed == ["digest"]:
        found.append("the artefact was built again, from the same weights: other calibration, tokenizer or modules")
    if not changed:
        found.append("no setting differs, so the model's files (weights, tokenizer or modules) do")
    return found


def _engine(side: dict[str, Any]) -> str:
    name, version = str(side["backend"]), str(side["backend_version"])
    return version if version.startswith(name) else f"{name} {version}"


def _advice(changed: list[str], *, exact: bool) -> str:
    """Vectors of one network in one precision are near to each other, whoever computes them."""
    if changed and set(changed) <= {*_ENGINE, "digest", "instruction_set"} and changed != ["digest"]:
        much = "in their last bits" if exact and "digest" not in changed else "by their rounding"
        return (
            f"Vectors of the same model in the same precision differ {much}: accept them with guard(..., "
            "compatible=True), or embed the texts again into a new index"
        )
    return (
        "Open the model with the settings of the index, or embed its texts again into a new index, or say "
        "guard(..., compatible=True) if you know that the vectors may be compared"
    )


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _stamp_in(values: MutableMapping[str, Any], where: str) -> dict[str, Any]:
    """The keys that are nimbed's; empty where there is no stamp yet."""
    found = {key: value for key, value in values.items() if isinstance(key, str) and key.startswith(_PREFIX)}
    fingerprint = found.get(_FINGERPRINT)
    if found and not (isinstance(fingerprint, str) and fingerprint):
        raise _damaged(where, f"{_FINGERPRINT} is {'missing' if fingerprint is None else 'not a fingerprint'}")
    return found


def _damaged(where: str, reason: str) -> FingerprintError:
    return FingerprintError(
        f"{where} is damaged or no stamp of nimbed's ({reason}), so nobody can tell whose vectors the index holds. "
        "Restore it; or, if you know that these embeddings made the index, remove it and call guard again"
    )


def _file_of(path: Path) -> Path:
    path = expanded(path)
    if path.is_dir():
        return path / FILE_NAME
    if path.suffix != ".json" and path.is_file():
        return path.with_name(f"{path.name}.{FILE_NAME}")
    if path.suffix != ".json" or not path.parent.is_dir():
        # A folder made here for a mistyped path would be stamped, and pass as an index that is all right.
        raise InputError(f"{path}: there is no such index; save the index first, or make the folder that it will be in")
    return path


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes().decode("utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise InputError(f"{file} cannot be read ({err.strerror}); without it the index cannot be checked") from err
    except (ValueError, RecursionError) as err:
        raise _damaged(str(file), f"not JSON: {err}") from err
    if not isinstance(values, dict):
        raise _damaged(str(file), f"a JSON object is wanted, not {type(values).__name__}")
    if not _stamp_in(values, str(file)):
        raise _damaged(str(file), f"{_FINGERPRINT} is missing")
    return values


def _write(file: Path, values: dict[str, Any]) -> None:
    try:
        write_whole(file, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    except OSError as err:
        raise InputError(
            f"{file} cannot be written ({err.strerror}); call guard once where the index may be changed"
        ) from err
