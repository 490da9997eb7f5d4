"""Documents with titles, for models whose documents' prompt has a place for one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nimbed._text.checks import blocks, excerpt, listed, plain
from nimbed._types import PromptedText
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nimbed._types import Role

# EmbeddingGemma's.
_SLOT = re.compile(r"(title: )none( \| text: )")


@dataclass(frozen=True, kw_only=True)
class TitledText:
    """A document with a title, which goes into its prompt (``title: ... | text: ``) instead of "none".

    ``Encoder.encode`` and its kin take it in the place of a string, from models whose prompt for documents has a place
    for a title, such as EmbeddingGemma.

    Attributes:
        text: of the document.
        title: one line; an empty one is none.

    Raises:
        InputTypeError: one of them is not a string.
        InputError: the title has a line break, or " | text:", so that the text would seem to begin within it.
    """

    text: str
    title: str

    def __post_init__(self) -> None:
        for name in ("text", "title"):
            object.__setattr__(self, name, plain(getattr(self, name), name))
        if self.title.splitlines() not in ([], [self.title]):
            raise InputError(f"title={excerpt(self.title)} must be one line: give it as ' '.join(title.split())")
        if "| text:" in self.title:
            raise InputError(f"title={excerpt(self.title)} has '| text:', behind which the text would seem to begin")

    def __len__(self) -> int:
        return len(self.title) + len(self.text)


def takes_titles(prompt: str) -> bool:
    """Whether a prompt for documents has a place for a title."""
    return _SLOT.fullmatch(prompt) is not None


def check_items(texts: object) -> list[str | TitledText]:
    """As :func:`nimbed._text.checks.check_texts`, where some may have titles."""
    return list(_checked(listed(texts)))


def item_blocks(texts: Iterable[object]) -> Iterator[tuple[int, list[str | TitledText]]]:
    """:func:`nimbed._text.checks.blocks` of such texts."""
    return blocks(_checked(texts))


def _checked(texts: Iterable[object]) -> Iterator[str | TitledText]:
    for index, item in enumerate(texts):
        yield item if type(item) is str or isinstance(item, TitledText) else plain(item, f"item {index}")


def with_titles(items: Sequence[str | TitledText], role: Role, prompt: str) -> list[str | PromptedText]:
    """What stands for each in the model: a text with the role's prompt, or with one of its own.

    Raises:
        InputError: the role's prompt has no place for a title.
    """
    return [item if isinstance(item, str) else _prompted(item, role, prompt) for item in items]


def _prompted(item: TitledText, role: Role, prompt: str) -> str | PromptedText:
    if role != "document" or (slot := _SLOT.fullmatch(prompt)) is None:
        raise InputError(
            f"title={excerpt(item.title)}: the model's prompt for role={role!r} is {excerpt(prompt)} and has no place "
            "for a title; put it before the text"
        )
    return PromptedText(prompt=slot[1] + item.title + slot[2], text=item.text) if item.title.strip() else item.text
