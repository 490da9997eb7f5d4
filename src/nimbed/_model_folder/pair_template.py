"""The text that a reranker's query and document stand in, with its instruction, as the model was trained.

It is read from the folder's chat template where that has a place for a query and one for a document. No template is
run: a few forms of Jinja are read, and the others refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nimbed._files.json import read_json
from nimbed._types import INSTRUCTION
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# By the card of Qwen/Qwen3-Reranker-0.6B, and the template that the repository has by now.
QWEN3_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
QWEN3_RERANKER = (
    f"<|im_start|>system\n{_JUDGE}<|im_end|>\n<|im_start|>user\n<Instruct>: ",
    "\n<Query>: ",
    "\n<Document>: ",
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
_NAMED = re.compile(r"(?:.*/)?Qwen3-Reranker-[\w.]+(?:-seq-cls)?", re.IGNORECASE)
_FILES = ("chat_template.jinja", "tokenizer_config.json")
_KEY = "chat_template"
_TAG = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
_SET = re.compile(r"set\s+(\w+)\s*=\s*(.+)", re.DOTALL)
_ROLE = re.compile(
    r"messages\s*\|\s*selectattr\(\s*(['\"])role\1\s*,\s*(['\"])eq\2\s*,\s*(['\"])(?P<role>\w+)\3\s*\)\s*\|\s*"
    r"map\(\s*attribute\s*=\s*(['\"])content\5\s*\)\s*\|\s*first"
    r"(?:\s*\|\s*default\(\s*(['\"])(?P<default>[^'\"\\]*)\6\s*\))?"
)
_ROLES = ("system", "query", "document")


def pair_template(folder: Path, name: str, *, asked: bool = False) -> tuple[tuple[str, ...], str]:
    """The texts around a pair, and the instruction that is taken where nobody says another.

    The texts: before the instruction, before the query, before the document, and behind it; without the first where
    the template has no place for an instruction. None at all, where the folder has no such template.

    Args:
        folder: the model folder.
        name: hub id or folder name: that of a Qwen3-Reranker stands for its card, where the folder has no template.
        asked: whether the user wants the Qwen3-Reranker's, where the folder says nothing.

    Raises:
        SpecError: its chat template has a place for a query, and more than is read; names file and key.
    """
    where, source = _chat_template(folder)
    roles = {match["role"] for match in _ROLE.finditer(source)}
    if not roles >= {"query", "document"}:
        return (QWEN3_RERANKER, QWEN3_INSTRUCTION) if asked or _NAMED.fullmatch(name) else ((), "")
    try:
        texts, found, default = _parsed(source)
    except ValueError as err:
        raise SpecError(
            f"{where}: {_KEY}: {err}, which nimbed does not read: it knows text with one place each for the content of "
            "the roles system, query and document"
        ) from err
    if found not in (_ROLES, _ROLES[1:]):
        raise SpecError(f"{where}: {_KEY}: the order of its roles is {', '.join(found)}, not {', '.join(_ROLES)}")
    return texts, default


def needed_template(folder: Path, name: str, *, asked: bool = False) -> tuple[tuple[str, ...], dict[str, str]]:
    """The texts of :func:`pair_template`, and the instruction as a prompt: the folder's default one goes before.

    Raises:
        SpecError: the folder has no such template, or its default prompt is none of its prompts.
    """
    texts, instruction = pair_template(folder, name, asked=asked)
    if not texts:
        raise SpecError(
            f"{folder / _FILES[1]}: {_KEY}: there is none with a place for a query and one for a document, and without "
            "it the scores would be others; if the model was trained as Qwen3-Reranker is, say so: "
            f'spec=SpecOverrides(prompts={{"{INSTRUCTION}": ...}})'
        )
    own = read_json(folder / "config_sentence_transformers.json", missing={})
    if (default := own.text("default_prompt_name", default=None)) is not None:
        instruction = own.fields("prompts").text(default)
    return texts, {INSTRUCTION: instruction} if len(texts) == len(QWEN3_RERANKER) else {}


def _chat_template(folder: Path) -> tuple[str, str]:
    """Where it stands, and its source; empty where there is none."""
    file, settings = (folder / one for one in _FILES)
    if file.is_file():
        try:
            return str(file), file.read_text(encoding="utf-8")
        except (OSError, ValueError) as err:
            raise SpecError(f"{file} cannot be read: {err}; fetch it again") from err
    given = read_json(settings, missing={}).get(_KEY)
    listed = given if isinstance(given, list) else [{"name": "default", "template": given}]
    sources = (one.get("template") for one in listed if isinstance(one, dict) and one.get("name") == "default")
    return str(settings), next((source for source in sources if isinstance(source, str)), "")


def _parsed(source: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """The texts between the places, the places' roles, and the instruction's default."""
    texts, roles, default = [""], [], ""
    names: dict[str, re.Match[str]] = {}
    for text, tag in _pieces(source):
        texts[-1] += text
        if tag.startswith("{#") or not tag:
            continue
        content = tag[2:-2].strip("-").strip()
        setting = _SET.fullmatch(content) if tag.startswith("{%") else None
        if tag.startswith("{%") and setting is None:
            raise ValueError(f"it has {tag}")
        place = _ROLE.fullmatch(setting[2].strip() if setting else content) or names.get(content)
        if place is None or place["role"] not in _ROLES or (place["default"] and place["role"] != "system"):
            raise ValueError(f"it has {tag}")
        if setting:
            names[setting[1]] = place
            continue
        if place["role"] == "system":
            default = place["default"] or ""
        roles.append(place["role"])
        texts.append("")
    return tuple(texts), tuple(roles), default


def _pieces(source: str) -> Iterator[tuple[str, str]]:
    """Each tag with the text before it, without the space that the tags take away.

    As transformers sets Jinja: a block takes the line break behind it and the indentation before it.
    """
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    parts = [*_TAG.split(source.removesuffix("\n")), ""]
    behind, gone = "", "\n"  # the tag before, and what it took away
    for whole, tag in zip(parts[::2], parts[1::2], strict=True):
        text = whole
        if behind.endswith(("-%}", "-}}", "-#}")):
            text = whole.lstrip()
        elif behind.endswith(("%}", "#}")):
            text = whole.removeprefix("\n")
        gone = whole[: len(whole) - len(text)] if behind else gone
        if tag.startswith(("{%-", "{{-", "{#-")):
            text = text.rstrip()
        elif tag.startswith(("{%", "{#")):  # on a line of its own, of which the beginning may be gone
            start = r"(\A|\n)" if gone.endswith("\n") else r"(\n)"
            text = re.sub(rf"{start}[^\S\n]*\Z", r"\1", text)
        yield text, tag
        behind = tag
