"""What users hand in, checked: every error names the item, what it is, and what would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed.errors import InputTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# encode_iter holds two blocks of at most this many texts and characters.
_BLOCK_TEXTS, _BLOCK_CHARACTERS = 512, 4_000_000


def check_texts(texts: object, *, remedy: str = "for an iterator, use Encoder.encode_iter") -> Sequence[str]:
    """The texts themselves, if they are a list-like of strings; ``remedy`` is what else an iterator may be given to.

    Raises:
        InputTypeError: names the first item that is not a string, or says what the whole is.
    """
    if isinstance(texts, (str, bytes)):
        raise InputTypeError(f"a list of strings is wanted, not one {type(texts).__name__}; put it in a list")
    if isinstance(texts, (dict, set, frozenset)) or not (hasattr(texts, "__len__") and hasattr(texts, "__iter__")):
        raise InputTypeError(f"a list of strings is wanted, not {type(texts).__name__}; {remedy}")
    try:
        items: list[str] = list(texts)
    except TypeError as err:  # an array of no dimension has a length, but only in name
        raise InputTypeError(f"a list of strings is wanted, not this {type(texts).__name__}: {err}") from err
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise InputTypeError(f"item {index} is {type(item).__name__}, not a string: {excerpt(item)}")
    return items


def text_blocks(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Lists of bounded size, read from the iterable as they are needed, each with the number of its first item."""
    block: list[str] = []
    characters = first = 0
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(f"item {index} is {type(text).__name__}, not a string")
        block.append(text)
        characters += len(text)
        if len(block) == _BLOCK_TEXTS or characters >= _BLOCK_CHARACTERS:
            yield first, block
            block, characters, first = [], 0, index + 1
    if block:
        yield first, block


def check_text(text: object) -> str:
    """The text itself, if it is a string."""
    if not isinstance(text, str):
        raise InputTypeError(
            f"one string is wanted, not {type(text).__name__}; for a list, use encode(texts, role='query')"
        )
    return text


def check_model(model: object) -> str:
    """A hub id or folder as a string."""
    if isinstance(model, str):
        return model
    if hasattr(model, "__fspath__"):
        return str(model.__fspath__())
    raise InputTypeError(f"model must be a hub id or a folder, not {type(model).__name__}")


def excerpt(item: object) -> str:
    """The beginning of an item, in ASCII, for an error message."""
    text = ascii(item)
    return text if len(text) <= 60 else f"{text[:57]}..."
