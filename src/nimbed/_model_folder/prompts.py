"""The prompts of a model folder, by role and by the folder's own names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._files.json import read_json, shown
from nimbed._model_folder.task_adapters import DEFAULT, task_of
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nimbed._files.json import Fields
    from nimbed._model_folder.families import Family

# sentence-transformers' names for a document's prompt, in the order in which it looks for them; "text" is LlamaIndex's.
DOCUMENT_NAMES = ("document", "passage", "corpus", "text")


def read_prompts(
    folder: Path, config: Fields, family: Family | None, adapters: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The folder's prompts by role, as sentence-transformers' ``encode_query`` and ``encode_document`` choose them.

    An empty prompt is one, and ``default_prompt_name`` is for neither. A role that the folder leaves out is the
    family's, and so are both where it has empty prompts alone: sentence-transformers writes these for a model of none.
    A prompt that has an adapter's name is that of the roles which have the adapter.

    Returns:
        The prompts that are not empty, by role and by the folder's other names; and where those by role come from.

    Raises:
        SpecError: they are no strings, or the default's name is none of theirs.
    """
    path = folder / "config_sentence_transformers.json"
    given = _given_prompts(path, read_json(path, missing={}))
    if adapters:
        given = {**_texts(config.where, "task_instructions", config), **given}
        family = family if task_of(adapters) == DEFAULT else None
    names = {"query": "query", "document": next((name for name in DOCUMENT_NAMES if name in given), "document")}
    names |= {role: name for role, name in adapters.items() if name in given}
    prompts, origins = {name: text for name, text in given.items() if text}, {}
    said = set(given) if prompts else set()
    for role, name in names.items():
        if name in said:
            text, origins[f"prompt {role}"] = given[name], path.name
        elif text := getattr(family, role, ""):
            origins[f"prompt {role}"] = f"family table: {getattr(family, 'name', '')}"
        if text:
            prompts[role] = text
    return prompts, origins


def _given_prompts(path: Path, config: Fields) -> dict[str, str]:
    """Those in the file."""
    prompts = _texts(str(path), "prompts", config)
    default = config.text("default_prompt_name", default=None)
    if default is not None and default not in {*prompts, "query", "document"}:
        raise SpecError(f"{path}: default_prompt_name: {default!r} is none of the prompts ({', '.join(prompts)})")
    return prompts


def _texts(where: str, key: str, config: Fields) -> dict[str, str]:
    texts = config.get(key) or {}
    if not isinstance(texts, dict) or not all(isinstance(text, (str, type(None))) for text in texts.values()):
        raise SpecError(f"{where}: {key}: names with strings are wanted, not {shown(texts)}")
    return {name: text or "" for name, text in texts.items()}
