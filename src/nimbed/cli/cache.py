"""`nimbed cache list` and `nimbed cache prune`."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from nimbed._files.user_paths import home
from nimbed._loading.cached import BEING_BUILT, Choice, cached, remove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._loading.cached import Cached

_DAY_S = 86400.0
_HEADER = ("MODEL", "ENGINE", "PRECISION", "FORMAT", "SIZE", "BUILT", "USED", "STATE")


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Those of the cache folder."""
    both = commands.add_parser("cache", help="show or remove what nimbed keeps in its cache folder")
    actions = both.add_subparsers(required=True, metavar="ACTION")
    shown = actions.add_parser("list", help="each artefact, and whether this nimbed opens it")
    shown.add_argument("--json", action="store_true", help="print all that is known as JSON")
    shown.set_defaults(run=_list)
    prune = actions.add_parser(
        "prune",
        help="remove what this nimbed will never open",
        description="Without options: artefacts of older formats and recipes, damaged ones, what a build left when it "
        "was stopped or killed, and refusals by older recipes. What is being built is left alone.",
    )
    prune.add_argument("--older-than", type=_days, metavar="DAYS", help="also what was not used for so many days")
    prune.add_argument("--model", help="all of this model (a hub id, or the name of a folder), and nothing of others")
    prune.add_argument("--all", action="store_true", help="all of it, tuning profiles too")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    prune.set_defaults(run=_prune)


def _days(text: str) -> float:
    if not (days := float(text)) >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of days")
    return days


def _list(chosen: argparse.Namespace) -> int:
    found = cached()
    total = sum(one.bytes for one in found)
    if chosen.json:
        entries = [{**asdict(one), "path": str(one.path), "target": one.target and str(one.target)} for one in found]
        print(json.dumps({"place": str(home()), "bytes": total, "entries": entries}, indent=2))
        return 0
    rows = [_row(one) for one in found if one.kind != "profile"]
    if rows:
        print(_table([_HEADER, *rows]))
    profiles = len(found) - len(rows)
    print(f"{home()}: {len(rows)} artefacts and what belongs to them, {profiles} tuning profiles, {_size(total)}")
    if useless := [one for one in found if one.useless]:
        print(f"nimbed cache prune frees {_size(sum(one.bytes for one in useless))}")
    return 0


def _row(one: Cached) -> tuple[str, ...]:
    revision = f"@{one.revision[:12]}" if one.revision else ""
    return (
        _printable(f"{one.model}{revision}"),
        one.engine,
        one.precision,
        "-" if one.format is None else str(one.format),
        _size(one.bytes),
        _day(one.built),
        "-" if one.used is None else _day(one.used),
        _state(one),
    )


def _state(one: Cached) -> str:
    return _printable(one.fault) or "opens"


def _printable(said: object) -> str:
    """Names come from folders, which may be called anything."""
    text = str(said)
    return text if text.isprintable() else ascii(text)[1:-1]


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().date().isoformat()


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _prune(chosen: argparse.Namespace) -> int:
    choice = Choice(
        model=chosen.model,
        older_than_s=None if chosen.older_than is None else chosen.older_than * _DAY_S,
        everything=chosen.all,
    )
    now = time.time()
    freed, status = 0, 0
    for one in [one for one in cached() if choice.takes(one, now)]:
        if (left := None if chosen.dry_run else remove(one)) is not None:
            print(f"left {_printable(one.path)}: {_printable(left)}")
            status = status if left == BEING_BUILT else 1
            continue
        freed += one.bytes
        done = "would remove" if chosen.dry_run else "removed"
        print(f"{done} {_printable(one.path)}: {_size(one.bytes)}, {_state(one)}")
    print(f"{home()}: {_size(freed)} {'would be freed' if chosen.dry_run else 'freed'}")
    return status
