"""Texts as a model's tokens, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed.server.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed.server.models import Served


def text_of_ids(model: Served, ids: Sequence[int], name: str, *, skip_special: bool = True) -> str:
    """The text that token ids stand for.

    Raises:
        ApiError: an id is none of the model's; ``name`` is the field's.
    """
    tokenizer = model.tokenizer
    size = tokenizer.vocabulary_size
    if not all(0 <= one < size for one in ids):
        raise ApiError("invalid", f"{name}: token ids must be from 0 to {size - 1}", param=name)
    return tokenizer.decode(ids, skip_special=skip_special)


def tokens_of(model: Served, texts: Sequence[str], *, special: bool) -> list[list[dict[str, Any]]]:
    """For each text its tokens: id, text, place in the text, and whether they are special."""
    found = []
    for text in texts:
        encoding = model.tokenizer.encoding(text, special=special)
        rows = zip(encoding.ids, encoding.tokens, encoding.offsets, encoding.special_tokens_mask, strict=True)
        found.append([_token(text, *row) for row in rows])
    return found


def _token(text: str, number: int, token: str, place: tuple[int, int], special: int) -> dict[str, Any]:
    start, stop = place
    if special:
        return {"id": number, "text": token, "special": True, "start": None, "stop": None}
    return {"id": number, "text": text[start:stop], "special": False, "start": start, "stop": stop}
