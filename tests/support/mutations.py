"""Seeded damage to files: what a hand, a disk or an attacker makes of settings, tables and weights.

By hand, thousands at a time: NIMBED_MUTATIONS=5000 NIMBED_MUTATIONS_SEED=1 pytest tests/test_damaged_files.py
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import traceback
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.errors import NimbedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SEED = int(os.environ.get("NIMBED_MUTATIONS_SEED", "0"))
HUGE = 10**400
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.0, 1e30, -1e30, 2**31, 2**63, 2**64, -(2**63), HUGE, -HUGE,
    float("nan"), float("inf"), float("-inf"), "", "a", "0", "True", "\0", "../..", "/etc/passwd", "x" * 300,
    "\U0001f600", "\ud800", [], [None], [[]], [1, 2], ["a"], {}, {"a": None}, {"": {}},
)  # fmt: skip
TEXTS = ("The cat sat on the mat.", "", "caf\u00e9 \u4e16\u754c [SEP] x", "word " * 90)


@dataclass
class Findings:
    """What came out of the examples of one surface.

    Attributes:
        refused: how often nimbed's own error came.
        worked: how often there were finite vectors.
        raw: "file, damage: what was raised instead", and where.
    """

    refused: int = 0
    worked: int = 0
    raw: list[str] = field(default_factory=list)

    def check(self, examples: int) -> None:
        """All examples are told apart, and none is a raw error."""
        by_place: dict[str, list[str]] = {}
        for one in sorted(self.raw):
            by_place.setdefault(": ".join(one.split(": ")[:2]), []).append(one)
        shown = [f"{len(some)} times {some[0]}" for some in by_place.values()]
        assert not self.raw, f"{len(self.raw)} raw errors of {examples}:\n" + "\n".join(shown)
        assert self.refused + self.worked == examples
        assert self.refused
        assert self.worked


def count(examples: int) -> int:
    """How many examples a test takes: as many as are quick, or what NIMBED_MUTATIONS says."""
    return int(os.environ.get("NIMBED_MUTATIONS", examples))


def attack(
    original: Path, files: list[str], use: Callable[[Path], object], scratch: Path, *, examples: int, after: Any = None
) -> Findings:
    """Damage one file of a fresh copy of the folder, then use it; ``after`` is called with the damaged copy before."""
    found = Findings()
    for number in range(examples):
        rng = random.Random(f"{SEED} {number} {original.name} {files}")
        folder = scratch / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder, copy_function=os.link)
        name = files[number % len(files)]
        what = damage(folder / name, rng)
        if after is not None:
            after(folder)
        note(found, f"{name}, {what}", lambda folder=folder: use(folder))
    return found


def note(found: Findings, what: str, use: Callable[[], object]) -> None:
    """Count how it went; nimbed's own errors and finite vectors alone are right."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vectors = use()
        if isinstance(vectors, np.ndarray) and not np.isfinite(vectors).all():
            found.raw.append(f"{what}: vectors that are not finite")
            return
        found.worked += 1
    except NimbedError as err:
        str(err).encode()  # so that it can be printed
        found.refused += 1
    except KeyboardInterrupt:
        raise
    except BaseException as err:  # noqa: BLE001 (tokenizers' PanicException is no Exception)
        places = [f for f in traceback.extract_tb(err.__traceback__) if "/nimbed/" in f.filename]
        at = f"{places[-1].filename.rpartition('/nimbed/')[2]}:{places[-1].lineno}" if places else "?"
        found.raw.append(f"{at}: {type(err).__name__}: {str(err)[:150]!r} <- {what}")


def damage(path: Path, rng: random.Random) -> str:
    """Replace a file by a damaged one, or something else; says what was done."""
    content = path.read_bytes()
    path.unlink()
    kinds = [_raw] if path.suffix != ".json" else [_raw, _json, _json, _json, _json]
    what, damaged = rng.choice(kinds)(content, rng)
    while what == "a pipe" and path.suffix not in {".json", ".npy", ".safetensors"}:  # texts may come by a pipe
        what, damaged = _raw(content, rng)
    if damaged is None:
        if what == "a folder":
            path.mkdir()
        elif what == "a link to itself":
            path.symlink_to(path.name)
        elif what == "a pipe":
            os.mkfifo(path)
    else:
        path.write_bytes(damaged)
    return what


def _raw(content: bytes, rng: random.Random) -> tuple[str, bytes | None]:
    at = rng.randrange(len(content)) if content else 0
    flipped = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 4, 40))):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    byte = bytes([rng.randrange(256)])
    return rng.choice((
        ("missing", None), ("a folder", None), ("a link to itself", None), ("a pipe", None),
        ("empty", b""), (f"cut at {at}", content[:at]), ("bits flipped", bytes(flipped)),
        ("bits flipped", bytes(flipped)), (f"cut out at {at}", content[:at] + content[at + rng.randrange(1, 200) :]),
        (f"no UTF-8 at {at}", content[:at] + b"\xff\xfe" + content[at:]), ("with a BOM", b"\xef\xbb\xbf" + content),
        (f"{byte!r} at {at}", content[:at] + byte * 3 + content[at:]), ("doubled", content * 2),
        (f"NUL at {at}", content[:at] + b"\0" + content[at:]), ("zeros", b"\0" * len(content)),
        ("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"),
    ))  # fmt: skip


def _json(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One to three values of a JSON text are others, or keys are gone, new or doubled."""
    values = json.loads(content)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        done.append(_change(values, rng))
    text = json.dumps(values)
    if rng.random() < 0.1 and isinstance(values, dict) and values:
        key = rng.choice(list(values))
        text = f"{text[:-1]}, {json.dumps(key)}: {json.dumps(rng.choice(VALUES))}}}"
        done.append(f"a second {key}")
    if rng.random() < 0.05:
        deep = rng.choice((70, 900, 200_000))
        text = rng.choice((f"{'[' * deep}{']' * deep}", f'{text[:-1]}, "deep": {"[" * deep}{"]" * deep}}}'))
        done.append(f"{deep} levels")
    return "; ".join(done), text.encode()


def _change(values: Any, rng: random.Random) -> str:
    places = list(_places(values))
    if not places:
        return "nothing"
    holder, key, path = rng.choice(places)
    action = rng.choice(("delete", "value", "value", "value", "wrap", "key", "neighbour"))
    if action == "delete":
        del holder[key]
    elif action == "wrap":
        holder[key] = [holder[key]] if rng.random() < 0.5 else {"a": holder[key]}
    elif action == "key" and isinstance(holder, dict):
        holder[rng.choice(("", "x", "../a", "a\0", "k" * 300, "dtype"))] = holder.pop(key)
    elif action == "neighbour":
        holder[key] = copy.deepcopy(rng.choice(places)[0])
    else:
        holder[key] = _value(holder[key], rng)
        return f"{path} = {json.dumps(holder[key])[:60]}"
    return f"{action} {path}"


def _value(old: Any, rng: random.Random) -> Any:
    if rng.random() < 0.3:
        if isinstance(old, bool):
            return not old
        if isinstance(old, int) and abs(old) < HUGE:
            return rng.choice((old + 1, old - 1, -old, old * 2, old // 2, float(old), str(old), old + 0.5))
        if isinstance(old, str):
            return rng.choice((old + "x", old.upper(), old * 100, old[:1], [old], old + "\0"))
    return copy.deepcopy(rng.choice(VALUES))


def _places(values: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every value: its holder, its key, and where it is; of long lists the first and last alone."""
    items = list(values.items() if isinstance(values, dict) else enumerate(values))
    for key, value in items if len(items) <= 60 else items[:30] + items[-30:]:
        yield values, key, f"{path}/{str(key)[:30]}"
        if isinstance(value, (dict, list)):
            yield from _places(value, f"{path}/{str(key)[:30]}")
