"""The tokens by whose logits a language model scores a pair: those that the folder names, or "yes" and "no"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._files.json import read_json
from nimbed._model_folder.modules import module_folder
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._files.json import Fields

MODULE = "LogitScore"
_WORDS = ("yes", "no")
_READ = "causal_logits"


def read_answers(folder: Path, config: Fields) -> tuple[int, ...]:
    """The token whose logit is the score, and behind it that whose logit is taken from it, if there is one.

    Raises:
        SpecError: the network has no such tokens; names file and key.
    """
    place = module_folder(folder, MODULE)
    if place is None:
        return tuple(_token(folder / "tokenizer.json", word) for word in _WORDS)
    settings = read_json(place / "config.json")
    if settings.text("module_input_name", default=_READ) != _READ:
        raise settings.wrong("module_input_name", f"{_READ!r}")
    most = config.whole("vocab_size", minimum=1) - 1
    yes = settings.whole("true_token_id", maximum=most)
    no = settings.whole("false_token_id", default=None, maximum=most)
    return (yes,) if no is None else (yes, no)


def _token(file: Path, word: str) -> int:
    """A word's id, where it is one token."""
    content = read_json(file)
    listed, vocabulary = content.get("added_tokens"), content.fields("model").get("vocab")
    added = {one.get("content"): one.get("id") for one in listed or () if isinstance(one, dict)}
    known = {**vocabulary, **added} if isinstance(vocabulary, dict) else added
    number = known.get(word)
    if not isinstance(number, int):
        raise SpecError(
            f"{file}: model: {word!r} is no token of its own, and the score of a pair is the logit of 'yes' less that "
            "of 'no'; 1_LogitScore/config.json (sentence-transformers) can name other tokens"
        )
    return number
