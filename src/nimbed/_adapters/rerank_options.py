"""What the rerank adapters share: the reranker's options as pydantic fields."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from nimbed._adapters.advice import FLAT, INSTRUCTED, Words, advising_in
from nimbed._adapters.options import OpenOptions, TextPath, Truncate
from nimbed._adapters.translated import MODEL_RULES, settle, translate
from nimbed._types import INSTRUCTION
from nimbed.reranker import RankedDocument, Reranker
from nimbed.spec import SpecOverrides

__all__ = ["RankOptions", "RerankOptions"]

# These adapters have no pooling of their own.
_WORDS: Words = {
    **INSTRUCTED,
    r"(give it|say which is meant): spec=SpecOverrides\((\w+)=([^()]*)\) with": (
        r"give it to nimbed.quantize(model, out, spec=SpecOverrides(\2=\3)), and the artefact here, with"
    ),
    **{pattern: word for pattern, word in FLAT.items() if "SpecOverrides" not in pattern},
}
_RULES = {name: rule for name, rule in MODEL_RULES.items() if rule.becomes != "dim"}


class RankOptions(OpenOptions):
    """How a reranker is opened and asked, in every framework."""

    instruction: str | None = Field(
        default=None, frozen=True, description="Of Qwen3-Reranker: what makes a document a match."
    )
    _reranker: Reranker = PrivateAttr()

    @property
    def reranker(self) -> Reranker:
        """The core behind this adapter: its ``kind``, ``info``, ``stats()`` and ``close()``."""
        return self._reranker

    def _open_reranker(self, spec: SpecOverrides = SpecOverrides()) -> None:  # noqa: B008 (frozen)
        if self.instruction is not None:
            spec = replace(spec, prompts={**spec.prompts, INSTRUCTION: self.instruction})
        with advising_in(self._words):
            self._reranker = Reranker(
                self.model_name,
                backend=self.backend,
                precision=self.precision,
                max_length=self.max_length,
                truncate=self.truncate,
                threads=self.threads,
                spec=spec,
                source=self._source(),
            )

    def _rank(self, query: str, texts: Sequence[str], top_k: int | None) -> list[RankedDocument]:
        with advising_in(self._words):
            return self._reranker.rank(query, texts, top_k=top_k)

    async def _arank(self, query: str, texts: Sequence[str], top_k: int | None) -> list[RankedDocument]:
        with advising_in(self._words):
            return await self._reranker.arank(query, texts, top_k=top_k)


class RerankOptions(RankOptions):
    """The options of :class:`nimbed.Reranker`, flat; the model is opened at once."""

    model_name: TextPath = Field(
        default="BAAI/bge-reranker-base",
        alias="model",
        frozen=True,
        description="Hub id, model folder or artefact folder of a cross-encoder or a sentence-embedding model.",
    )
    truncate: Truncate = Field(
        default="silent",
        frozen=True,
        description='For pairs that are too long: "silent", "warn" or "error"; a bi-encoder also knows "chunk".',
    )
    _words: ClassVar[Words] = _WORDS

    def __init__(self, **data: Any) -> None:  # noqa: ANN401 (the fields have the types)
        fields = type(self).model_fields
        known = {*fields, *(field.alias for field in fields.values())}
        moved = {name: data.pop(name) for name in [*data] if name not in known}
        # What sentence-transformers' CrossEncoder and the frameworks' classes around it take, for those who move over.
        within = moved.pop("model_kwargs", None) or {}
        translated = [*translate(moved, _RULES), *translate(within, _RULES, label="model_kwargs[{!r}]")]
        super().__init__(**{**data, **settle(data, translated, fields)})
        self._open_reranker()

    def _score_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        with advising_in(self._words):
            scores: list[float] = self._reranker.score_pairs(pairs).tolist()
        return scores
