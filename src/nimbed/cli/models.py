"""`nimbed models`: the tables of `docs/models.md`, of which each fact stands in one place of the package."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nimbed._model_folder.families import FAMILIES
from nimbed._model_folder.known_models import MODELS, NETWORKS
from nimbed._model_folder.networks import table as networks
from nimbed.backends import BACKENDS
from nimbed.errors import InputError
from nimbed.evaluate.markdown import cell, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from nimbed._model_folder.families import Family
    from nimbed._model_folder.known_models import ModelFacts

    # What one row says, by column.
    Row = Mapping[str, str]

_INSTRUCTED = "Instruct: "
_MAIN = ("model", "pooling", "width", "longest", "licence")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The one that says which models are known."""
    parser = commands.add_parser(
        "models", help="say which models are known: engine, pooling, prompts, widths, longest text, licence"
    )
    parser.add_argument("name", nargs="?", help="all that is known of models and families with this in their name")
    parser.set_defaults(run=_models)


def _models(chosen: argparse.Namespace) -> int:
    if chosen.name is None:
        print(_aligned([_MAIN, *([row[column] for column in _MAIN] for row in model_rows())]))
        print("\nnimbed models NAME says all that is known of one. Others run too: see docs/models.md.")
        return 0
    found = [row for rows in (model_rows(), family_rows()) for row in rows if _is_about(row, chosen.name)]
    if not found:
        raise InputError(
            f"no known model or family has {chosen.name!r} in its name; nimbed doctor MODEL reads a folder"
        )
    print("\n\n".join(_aligned([pair for pair in row.items() if pair[1]]) for row in found))
    return 0


def _is_about(row: Row, name: str) -> bool:
    return name.lower() in next(iter(row.values())).lower()


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(text.ljust(n) for text, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def network_rows() -> list[Row]:
    """What the native engine runs."""
    types = {family.name: family.types for family in networks.FAMILIES}
    return [
        {
            "network": network.title,
            "model_type": ", ".join(types[name]),
            "such as": network.such_as,
            "cross-encoders": "yes" if network.scores else "no",
            "compared with": network.oracle,
        }
        for name, network in NETWORKS.items()
    ]


def family_rows() -> list[Row]:
    """What models have by their names where their folders leave it out."""
    return [
        {
            "family": family.name,
            "names": _readable(family.pattern),
            "pooling": family.pooling or "its modules'",
            "query prompt": _printed(family.query),
            "document prompt": _printed(family.document),
            "widths": _widths(family.dims),
            "tasks": _tasks(family, ()),
        }
        for family in FAMILIES
    ]


def model_rows() -> list[Row]:
    """The models that people use most."""
    return [_model_row(model) for model in MODELS]


def _model_row(model: ModelFacts) -> Row:
    family, native = model.family, BACKENDS["native"]
    pooling = model.pooling or (family.pooling if family is not None else None)
    checked = f"{NETWORKS[model.network].oracle}{', its own weights too' if model.weights_checked else ''}"
    return {
        "model": model.name,
        "network": NETWORKS[model.network].title,
        "engine": f"{native.name}: {', '.join(native.precisions)}",
        "family": family.name if family is not None else "",
        "pooling": pooling or ("none: it scores" if model.width is None else ""),
        "width": _widths((family.dims if family is not None else ()) or (model.width,)),
        "longest": str(model.longest),
        "head": model.head,
        "tasks": _tasks(family, model.adapters),
        "compared with": checked,
        "licence": f"{model.licence}{'; gated' if model.gated else ''}",
    }


def _readable(pattern: str) -> str:
    """A pattern of names as people write them."""
    return re.sub(r"\\d\+?", "*", pattern).replace("\\", "").replace("|", ", ").replace("?", "")


def _printed(prompt: str) -> str:
    return prompt.replace("\n", "\\n")


def _widths(dims: Sequence[int | None]) -> str:
    return ", ".join(str(width) for width in dims if width is not None)


def _tasks(family: Family | None, adapters: Sequence[str]) -> str:
    if adapters or family is None:
        return ", ".join(adapters)
    return "a sentence" if family.query.startswith(_INSTRUCTED) else ", ".join(family.tasks)


def pages() -> dict[str, str]:
    """The tables in Markdown, by the names of their places in `docs/models.md`."""
    rows = {"networks": network_rows(), "families": family_rows(), "models": model_rows()}
    return {name: _markdown(some) for name, some in rows.items()}


_LITERAL = ("model_type", "model", "names", "query prompt", "document prompt")


def _markdown(rows: Sequence[Row]) -> str:
    return table(list(rows[0]), [[_in_markdown(*pair) for pair in row.items()] for row in rows])


def _in_markdown(column: str, text: str) -> str:
    if not text or column not in _LITERAL:
        return cell(text)
    names = text.split(", ") if column == "model_type" else [text]
    return ", ".join(f"`{cell(name)}`" for name in names)
