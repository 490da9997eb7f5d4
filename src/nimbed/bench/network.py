"""The network that all contenders run: how its texts are counted, and how much arithmetic they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nimbed._loading.artefact import is_artefact
from nimbed._loading.manifest import read_manifest
from nimbed._text.tokenizer import load_tokenizer
from nimbed.bench.operations import Operations, count_operations
from nimbed.errors import InputError
from nimbed.evaluate.settings import Setting
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed.bench.contenders import Contender


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a bench knows of its model.

    Attributes:
        tokenizer: of the model; prompts are not counted.
        longest: tokens that the network takes.
        operations: in its matrix products, or None where no contender runs a graph that can be counted.
    """

    tokenizer: Any
    longest: int
    operations: Operations | None

    def lengths(self, texts: Sequence[str], max_length: int) -> list[int]:
        """Tokens of each text, special ones included, cut at ``max_length``."""
        return [min(len(found.ids), max_length) for found in self.tokenizer.encode_batch(list(texts))]

    def exact(self, tokens: int, count: int, documents: Sequence[str]) -> list[str]:
        """``count`` texts of exactly ``tokens`` tokens, of words from the documents; no two alike, if they allow it.

        Raises:
            InputError: the documents' words do not add up to such a text.
        """
        words = " ".join(documents).split()
        texts: dict[str, None] = {}
        for start in range(0, len(words), max(1, tokens // 4)):
            if (text := self._stretch(words[start : start + tokens], tokens)) is not None:
                texts[text] = None
            if len(texts) == count:
                break
        if not texts:
            raise InputError(f"no text of exactly {tokens} tokens could be made of these documents; give longer ones")
        made = list(texts)
        return [made[number % len(made)] for number in range(count)]

    def _stretch(self, words: Sequence[str], tokens: int) -> str | None:
        """The first of the words, as many as make exactly so many tokens; None where one more is too many."""
        low, high = 0, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._count(words[:middle]) <= tokens else (low, middle - 1)
        return " ".join(words[:low]) if self._count(words[:low]) == tokens else None

    def _count(self, words: Sequence[str]) -> int:
        return len(self.tokenizer.encode(" ".join(words)).ids)


def network_of(contenders: Sequence[Contender]) -> Network:
    """Read from one of nimbed's own settings among them: fp32 through OpenVINO, if there is one.

    Raises:
        InputError: there is no setting of nimbed's among the contenders.
    """
    own = sorted(_own(contenders), key=lambda s: (s.backend == "torch", s.precision != "fp32"))
    if not own:
        raise InputError("a bench needs one of nimbed's own settings, to count tokens with")
    with own[0].open(None) as encoder:
        folder = Path(encoder.info.artefact)
    spec = read_manifest(folder).spec if is_artefact(folder) else read_spec(folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Network(
        tokenizer=tokenizer,
        longest=spec.positions or spec.max_length,
        operations=count_operations(folder),
    )


def _own(contenders: Sequence[Contender]) -> Iterator[Setting]:
    return (contender for contender in contenders if isinstance(contender, Setting))
