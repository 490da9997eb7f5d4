"""Text to ragged token ids, and the truncation policy.

The tokenizer's own padding and truncation are switched off once, at load: setting them per call is what makes
tokenizers fail with "Already borrowed" under threads. Ids are cut here.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._model_folder.tokenizer_file import frame_of, lay_over
from nimbed._model_folder.weights import refuse_pointer
from nimbed._text.checks import excerpt
from nimbed._text.tokenizer_errors import TOKENIZING
from nimbed._types import prompt_and_text
from nimbed.errors import InputError, SpecError, TruncationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nimbed._types import Float32Array, Int32Array, ModelSpec, PromptedText, Truncate

# Windows of a long text share an eighth of their tokens, so that no sentence is seen only in halves.
_OVERLAP = 8
# So few are tokenized in well under a millisecond.
FEW_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class TokenizedTexts:
    """Token ids of some texts, ready to run.

    Attributes:
        sequences: one int32 array for each text, or several where a long text was cut in windows: ids, for pairs with
            their segments' ids beside them (see :meth:`TokenBatch.from_sequences`).
        owners: int32 ``[len(sequences)]``, the index of the text that a sequence belongs to.
        weights: float32 ``[len(sequences)]``, a window's share of its text; 1 for a text in one piece.
        texts: how many texts there were.
        cut: int32 ``[texts]``, for a text that lost tokens how many it had, special tokens included; else 0.
    """

    sequences: list[Int32Array]
    owners: Int32Array
    weights: Float32Array
    texts: int
    cut: Int32Array

    @property
    def windowed(self) -> bool:
        """Whether some text has more than one sequence."""
        return len(self.sequences) != self.texts

    @property
    def lengths(self) -> list[int]:
        """The tokens of each text, in all of its sequences."""
        lengths = list(map(len, self.sequences))
        if self.windowed:
            lengths = np.bincount(self.owners, lengths, self.texts).astype(int).tolist()
        return lengths


class Tokenizer:
    """A model's tokenizer with a fixed maximum length and truncation policy. Usable from many threads.

    Args:
        tokenizer: of the package tokenizers.
        spec: of the model.
        max_length: tokens that a sequence keeps, special tokens included.
        truncate: what happens to longer ones.
    """

    _instead = '"chunk", "warn" or "silent"'
    _keeping = '"chunk" keeps it, "silent" says nothing'

    def __init__(self, tokenizer: Any, spec: ModelSpec, *, max_length: int, truncate: Truncate) -> None:  # noqa: ANN401
        # A text of no tokens has no vector: where no special tokens stand around it, one of padding is its token.
        with TOKENIZING:
            self._padding = tokenizer.padding and np.array([tokenizer.padding["pad_id"]], np.int32)
            tokenizer.no_padding()
            tokenizer.no_truncation()
            if spec.lowercase:
                _lower_first(tokenizer)
        self._tokenizer = tokenizer
        self._side = spec.truncation_side
        self.truncate = truncate
        self.max_length = max_length

    def _room_beside(self, special: int, *, minimum: int) -> int:
        room = self.max_length - special
        if room < minimum:
            raise InputError(f"max_length={self.max_length} leaves no room beside {special} special tokens")
        return room

    def refuse_cut(self, cut: Int32Array, items: Sequence[int]) -> None:
        """Raise where a text lost tokens and the policy is "error".

        Raises:
            TruncationError: names the first such item.
        """
        if self.truncate == "error" and cut.any():
            say = self._describe(cut, items)
            error = TruncationError(f"{say}; split them, or choose truncate={self._instead}")
            error.items = tuple(items[int(index)] for index in np.flatnonzero(cut))
            raise error

    def warn_cut(self, cut: Int32Array, items: Sequence[int], *, stacklevel: int) -> None:
        """Say once for all of them that texts lost tokens, if the policy is "warn"."""
        if self.truncate == "warn" and cut.any():
            say = self._describe(cut, items)
            warnings.warn(f"{say}; the rest was cut off. truncate={self._keeping}", stacklevel=stacklevel)

    @property
    def vocabulary_size(self) -> int:
        """How many ids it has, added ones included."""
        return int(self._tokenizer.get_vocab_size())

    def encoding(self, text: str, *, special: bool) -> Any:  # noqa: ANN401
        """A text as the package tokenizers has it, whole and without a prompt."""
        with TOKENIZING:
            return self._tokenizer.encode_batch([text], add_special_tokens=special)[0]  # which gives up the GIL

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """The text that ids stand for."""
        with TOKENIZING:
            return str(self._tokenizer.decode_batch([list(ids)], skip_special_tokens=skip_special)[0])

    def _encodings(self, inputs: Sequence[Any], characters: int, *, special: bool = True) -> list[Any]:
        with TOKENIZING:
            if characters <= FEW_CHARACTERS:
                given = [one if isinstance(one, tuple) else (one,) for one in inputs]
                return [self._tokenizer.encode(*one, add_special_tokens=special) for one in given]
            # The batch call gives up the GIL, the single one does not; but it wakes a thread pool.
            encodings: list[Any] = self._tokenizer.encode_batch_fast(inputs, add_special_tokens=special)
            return encodings

    def _describe(self, cut: Int32Array, items: Sequence[int]) -> str:
        where = np.flatnonzero(cut)
        return (
            f"{len(where)} of the texts (first: item {items[int(where[0])]}) have more than "
            f"max_length={self.max_length} tokens, the longest {cut.max()}"
        )


class TextTokenizer(Tokenizer):
    """For texts one by one."""

    def __init__(self, tokenizer: Any, spec: ModelSpec, *, max_length: int, truncate: Truncate) -> None:  # noqa: ANN401
        super().__init__(tokenizer, spec, max_length=max_length, truncate=truncate)
        with TOKENIZING:
            self._prefix, self._suffix = (np.array(ids, np.int32) for ids in frame_of(tokenizer))
        self._room = self._room_beside(len(self._prefix) + len(self._suffix), minimum=1)

    def __call__(
        self, texts: Sequence[str | PromptedText], prompt: str = "", *, items: Sequence[int] | None = None
    ) -> TokenizedTexts:
        """Tokenize texts, each behind the prompt or its own; ``items`` are their numbers in messages, else from 0 on.

        Raises:
            InputError: a text cannot be encoded as UTF-8 (lone surrogates), or has no token.
            TruncationError: a text is too long and the policy is "error".
        """
        numbers = range(len(texts)) if items is None else items
        encodings = self._encode(texts, prompt, numbers)
        with TOKENIZING:
            ids = [np.array(encoding.ids, np.int32) for encoding in encodings]
        if not all(map(len, ids)):
            ids = self._padded(ids, numbers)
        too_long = [index for index, sequence in enumerate(ids) if len(sequence) > self.max_length]
        cut = np.zeros(len(ids), np.int32)
        if self.truncate != "chunk":
            cut[too_long] = [len(ids[index]) for index in too_long]
        self.refuse_cut(cut, numbers)
        if not too_long:
            own = np.arange(len(ids), dtype=np.int32)
            whole = np.ones(len(ids), np.float32)
            return TokenizedTexts(sequences=ids, owners=own, weights=whole, texts=len(ids), cut=cut)
        shortened = {i: self._shorten(ids[i], *prompt_and_text(texts[i], prompt)) for i in too_long}
        pieces = [shortened.get(index, ([sequence], [1.0])) for index, sequence in enumerate(ids)]
        return TokenizedTexts(
            sequences=[sequence for sequences, _ in pieces for sequence in sequences],
            owners=np.repeat(np.arange(len(pieces), dtype=np.int32), [len(weights) for _, weights in pieces]),
            weights=np.array([weight for _, weights in pieces for weight in weights], np.float32),
            texts=len(texts),
            cut=cut,
        )

    def _encode(self, texts: Sequence[str | PromptedText], prompt: str, items: Sequence[int]) -> list[Any]:
        full = ["".join(prompt_and_text(text, prompt)) for text in texts]
        try:
            return self._encodings(full, sum(map(len, full)))
        except (TypeError, UnicodeEncodeError) as err:
            named = {f"item {i}": "".join(prompt_and_text(text, "")) for i, text in zip(items, texts, strict=True)}
            raise unencodable(named, err) from err

    def _padded(self, ids: list[Int32Array], items: Sequence[int]) -> list[Int32Array]:
        """With a token of padding for what has none."""
        if self._padding is None:
            item = next(item for item, sequence in zip(items, ids, strict=True) if not len(sequence))
            raise InputError(f"item {item} is empty: this model's tokenizer makes no token of it; leave it out")
        return [sequence if len(sequence) else self._padding for sequence in ids]

    def _shorten(self, ids: Int32Array, prompt: str, text: str) -> tuple[list[Int32Array], list[float]]:
        if self.truncate == "chunk":
            return self._windows(prompt + text, prompt)
        body = ids[len(self._prefix) : len(ids) - len(self._suffix)]
        body = body[: self._room] if self._side == "right" else body[-self._room :]
        return [self._framed(body)], [1.0]

    def _windows(self, text: str, prompt: str) -> tuple[list[Int32Array], list[float]]:
        """Overlapping windows over the text's tokens, each with the prompt's tokens and the special tokens."""
        with TOKENIZING:
            encoding = self._tokenizer.encode_batch([text], add_special_tokens=False)[0]
            body = np.array(encoding.ids, np.int32)
        # A token belongs to the prompt where it ends within it; one character may be several tokens.
        split = sum(1 for _ in takewhile(lambda span: span[1] <= len(prompt), encoding.offsets)) if prompt else 0
        head, body = body[:split], body[split:]
        room = self._room - len(head)
        if room < 1:
            raise InputError(f"the prompt's {len(head)} tokens leave no room in max_length={self.max_length}")
        step = max(1, room - room // _OVERLAP)
        starts = range(0, max(1, len(body) - room + step), step)
        windows = [body[start : start + room] for start in starts]
        total = sum(len(window) for window in windows)
        return [self._framed(np.concatenate([head, w])) for w in windows], [len(w) / total for w in windows]

    def _framed(self, body: Int32Array) -> Int32Array:
        return np.concatenate([self._prefix, body, self._suffix])


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401 (tokenizers has no types)
    """The tokenizer of an artefact, or of a model folder, where files beside ``tokenizer.json`` have a say.

    Raises:
        SpecError: the file is missing or damaged, or the others contradict it.
    """
    import tokenizers

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise SpecError(
            f"{path} is missing; make it with transformers: "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    refuse_pointer(path)
    try:
        with TOKENIZING:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except (SpecError, TypeError, ValueError) as err:
        raise SpecError(f"{path} cannot be read: {err.__cause__ or err}; fetch it again") from err
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None  # it is for training (Provilkov et al. 2020): ids would be drawn by lot
    # An artefact's is whole, and nothing lies beside it.
    with TOKENIZING:
        return lay_over(tokenizer, folder) if (folder / "config.json").is_file() else tokenizer


def save_tokenizer(folder: Path, target: Path) -> None:
    """Write a model folder's whole tokenizer as the ``tokenizer.json`` of another: that file itself, if it is whole.

    Raises as :func:`load_tokenizer`.
    """
    from tokenizers import Tokenizer

    whole, path = load_tokenizer(folder), folder / "tokenizer.json"
    if whole.to_str() == Tokenizer.from_file(str(path)).to_str():
        shutil.copyfile(path, target / path.name)
    else:
        whole.save(str(target / path.name))


def _lower_first(tokenizer: Any) -> None:  # noqa: ANN401
    """``do_lower_case`` as sentence-transformers heeds it: special tokens of the text are taken out before."""
    from tokenizers.normalizers import Lowercase, Sequence

    steps = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    if type(tokenizer.normalizer).__name__ == "Sequence":
        steps = list(tokenizer.normalizer)
    if not any(isinstance(step, Lowercase) for step in steps):
        tokenizer.normalizer = Sequence([Lowercase(), *steps])


def unencodable(texts: Mapping[str, str], cause: Exception) -> InputError:
    """The error for the first text that is not Unicode; ``texts`` are by the names that they have in messages."""
    for name, text in texts.items():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as err:
            return InputError(
                f"{name} is not valid Unicode text ({err.reason} at character {err.start}): {excerpt(text)}; "
                'mend it with text.encode("utf-8", "replace").decode()'
            )
    return InputError(f"the tokenizer refused the texts: {cause}")
