"""What users hand in, checked: every error names the item, what it is, and what would do."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from numbers import Integral
from typing import TYPE_CHECKING, TypeVar, cast

from nimbed.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item", bound=Sized)

# A block ends with the text that makes it this many texts or characters. It is tokenized at a stretch, and the engine
# begins with the first while the next is prepared. encode_iter holds two of them.
_BLOCK_TEXTS, _BLOCK_CHARACTERS = 512, 1_000_000
_STREAM = "for an iterator, use Encoder.encode_iter"


def check_texts(texts: object, *, remedy: str = _STREAM) -> list[str]:
    """Plain strings, if the texts are a list-like of strings; ``remedy`` is what else an iterator may be given to.

    Raises:
        InputTypeError: names the first item that is not a string, or says what the whole is.
    """
    items = listed(texts, remedy=remedy)
    return [item if type(item) is str else plain(item, f"item {index}") for index, item in enumerate(items)]


def listed(texts: object, *, remedy: str = _STREAM) -> list[object]:
    """The items of what is like a list. Raises as :func:`check_texts`, but for the items."""
    if type(texts) is not list:  # as it mostly is, and a lone query waits for each look
        if not hasattr(texts, "__len__"):
            raise InputTypeError(f"a list of strings is wanted, not {type(texts).__name__}; {remedy}")
        check_rows(texts)
    return list(cast("Iterable[object]", texts))


def check_rows(texts: object) -> None:
    """Refuse what does not give one text after another when it is iterated over.

    Raises:
        InputTypeError: says what it is, and how its texts are had.
    """
    remedy = None
    shape = getattr(texts, "shape", (1,))
    if isinstance(texts, (str, bytes)):
        remedy = "put it in a list"
    elif isinstance(texts, (set, frozenset)):
        remedy = "it has no order: make a list of it"
    elif getattr(getattr(texts, "dtype", None), "names", None) or (isinstance(shape, tuple) and len(shape) != 1):
        remedy = 'it has rows and columns: give one column, such as texts["text"]'
    elif isinstance(texts, Mapping) or (_is_keyed(texts) and not hasattr(texts, "shape")):
        remedy = "give its texts, such as list(texts.values())"
    elif not hasattr(texts, "__iter__"):
        remedy = "put texts in a list"
    if remedy is not None:
        raise InputTypeError(f"a list of strings is wanted, not one {type(texts).__name__}; {remedy}")


def blocks(items: Iterable[Item]) -> Iterator[tuple[int, list[Item]]]:
    """Lists of bounded size, read from the iterable as they are needed, each with the number of its first item."""
    block: list[Item] = []
    characters = first = 0
    for index, item in enumerate(items):
        block.append(item)
        characters += len(item)
        if len(block) == _BLOCK_TEXTS or characters >= _BLOCK_CHARACTERS:
            yield first, block
            block, characters, first = [], 0, index + 1
    if block:
        yield first, block


def check_text(text: object) -> str:
    """The text as a plain string, if it is a string."""
    if not issubclass(type(text), str):
        raise InputTypeError(
            f"one string is wanted, not {type(text).__name__}; for a list, use encode(texts, role='query')"
        )
    return plain(text, "the text")


def plain(item: object, name: str) -> str:
    """A string's own characters: a subclass may have other ideas of its length, equality or encoding.

    Raises:
        InputTypeError: it is no string; ``name`` is its name in the message.
    """
    if type(item) is str:
        return item
    if issubclass(type(item), str):
        return str.__str__(cast("str", item))
    raise InputTypeError(f"{name} is {type(item).__name__}, not a string: {excerpt(item)}")


def _is_keyed(texts: object) -> bool:
    return hasattr(texts, "keys") and hasattr(texts, "__getitem__")


def check_model(model: object) -> str:
    """A hub id or folder as a string."""
    if isinstance(model, str):
        return model
    if hasattr(model, "__fspath__"):
        return str(model.__fspath__())
    raise InputTypeError(f"model must be a hub id or a folder, not {type(model).__name__}")


def check_whole(value: object, name: str, *, minimum: int, maximum: int = 2**63) -> None:
    """Refuse what is no whole number from ``minimum`` to ``maximum``.

    Raises:
        InputError: ``name`` is its name in the message.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not minimum <= int(value) <= maximum:
        raise InputError(f"{name}={excerpt(value)} must be a whole number from {minimum} to {maximum}")


def excerpt(item: object) -> str:
    """The beginning of an item, in ASCII, for an error message."""
    try:
        text = ascii(item)
    except Exception:  # noqa: BLE001 (of the item's own)
        text = f"<{type(item).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."
