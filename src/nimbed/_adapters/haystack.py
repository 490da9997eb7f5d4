"""What Haystack's components share: options as pydantic fields, a model that is opened late, and inputs checked."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from haystack import Document, default_from_dict, default_to_dict
from pydantic import ConfigDict, Field, PrivateAttr
from typing_extensions import Self

from nimbed import Encoder
from nimbed._adapters.advice import HAYSTACK, Words
from nimbed._adapters.options import ModelOptions, Role, TextPath, Truncate
from nimbed._adapters.rerank_options import RankOptions
from nimbed._text.checks import excerpt, plain
from nimbed._text.titles import TitledText, takes_titles
from nimbed.errors import InputTypeError
from nimbed.reranker import RankedDocument

__all__ = [
    "Embedding",
    "Opening",
    "Options",
    "Ranking",
    "arguments_of",
    "check_documents",
    "check_text",
    "distinct",
    "embedded",
]

# Threads that run one cold component open its model once.
_OPENING = threading.Lock()
# The metadata field of a document's title.
_TITLE = "title"


class Options(ModelOptions):
    """A component's options, and its model once it is open.

    The component is no pydantic model itself: Haystack's metaclass and pydantic's exclude each other.
    """

    model_config = ConfigDict(extra="forbid")

    model_name: TextPath = Field(alias="model", frozen=True, description="Hub id, model folder or artefact folder.")
    meta_fields_to_embed: list[str] | None = Field(default=None, description="Metadata put before the content.")
    embedding_separator: str = Field(default="\n", description="Between metadata and content.")
    progress_bar: bool = Field(default=False, description="Show a progress bar while documents are embedded.")
    _is_open: bool = PrivateAttr(default=False)
    _words: ClassVar[Words] = HAYSTACK

    def open(self) -> None:
        with _OPENING:
            if not self._is_open:
                self._open()
                self._is_open = True

    async def aopen(self) -> None:
        if not self._is_open:
            await asyncio.to_thread(self.open)

    def close(self) -> None:
        with _OPENING:
            if self._is_open:
                self._is_open = False
                self._close()

    def texts(self, documents: Sequence[Document]) -> list[str]:
        """What stands for each document: the metadata that was asked for, then its content."""
        return [self._text(one, self.meta_fields_to_embed or ()) for one in documents]

    def titled(self, documents: Sequence[Document]) -> list[str | TitledText]:
        """As :meth:`texts`, but a title that was asked for goes where the open model's prompt has a place for one."""
        fields = self.meta_fields_to_embed or ()
        if _TITLE not in fields or not takes_titles(self.encoder.info.prompts.get("document", "")):
            return list(self.texts(documents))
        others = [name for name in fields if name != _TITLE]
        return [TitledText(text=self._text(one, others), title=str(one.meta.get(_TITLE) or "")) for one in documents]

    def query(self, text: str) -> list[float]:
        return self._query(text)

    async def aquery(self, text: str) -> list[float]:
        return await self._aquery(text)

    def documents(self, documents: Sequence[Document]) -> list[list[float]]:
        return self._documents(self.titled(documents), progress=self.progress_bar)

    async def adocuments(self, documents: Sequence[Document]) -> list[list[float]]:
        return await self._adocuments(self.titled(documents), progress=self.progress_bar)

    def _text(self, document: Document, fields: Sequence[str]) -> str:
        values = (document.meta.get(name) for name in fields)
        found = [str(value) for value in values if value is not None]
        return self.embedding_separator.join([*found, document.content or ""])

    def _close(self) -> None:
        self._encoder.close()


class Ranking(Options, RankOptions):
    """The options of a ranker."""

    truncate: Truncate = Field(default="silent", frozen=True, description="For pairs that are too long.")
    top_k: int = Field(default=10, ge=1, description="Documents that are returned.")
    score_threshold: float | None = Field(default=None, description="Documents with a lower score are left out.")

    def rank(self, query: str, texts: Sequence[str], top_k: int | None) -> list[RankedDocument]:
        return self._rank(query, texts, self.limit(top_k))

    async def arank(self, query: str, texts: Sequence[str], top_k: int | None) -> list[RankedDocument]:
        return await self._arank(query, texts, self.limit(top_k))

    def _open(self, prompt_names: Mapping[Role, str] | None = None) -> None:  # noqa: ARG002 (the base's signature)
        instructions = {"query": self.query_instruction, "document": self.text_instruction}
        prompts = {role: text for role, text in instructions.items() if text is not None}
        self._open_reranker(self._spec(prompts))

    def _close(self) -> None:
        self._reranker.close()

    def limit(self, top_k: int | None) -> int:
        """How many documents a run returns."""
        return self.top_k if top_k is None else top_k

    def scored(self, documents: Sequence[Document], ranked: Sequence[Any], threshold: float | None) -> list[Document]:
        """Copies of what was ranked, with their scores, without those below the threshold of this run or the own."""
        minimum = self.score_threshold if threshold is None else threshold
        kept = (one for one in ranked if minimum is None or one.score >= minimum)
        return [replace(documents[one.index], score=one.score) for one in kept]


class Opening:
    """What the three have in common. Options are checked at once, the model is opened on ``warm_up``."""

    _options: Options

    def warm_up(self) -> None:
        """Open the model, unless it is open. Where its artefact must be built first, that takes half a minute.

        Raises:
            NimbedError: the model cannot be opened; see :class:`nimbed.Encoder`.
        """
        self._options.open()

    async def warm_up_async(self) -> None:
        """As :meth:`warm_up`; the event loop stays free."""
        await self._options.aopen()

    def close(self) -> None:
        """Give the model's memory back; the next run opens it again."""
        self._options.close()

    def to_dict(self) -> dict[str, Any]:
        """The model's name and the options that differ from their defaults; no user name or password of a cache."""
        options = self._options.model_dump(by_alias=True, exclude_defaults=True)
        return default_to_dict(self, **options)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """A component with the options of :meth:`to_dict`; its model is not open yet."""
        return default_from_dict(cls, data)


class Embedding(Opening):
    """A component with vectors."""

    @property
    def encoder(self) -> Encoder:
        """The core behind it: its ``info``, ``stats()``. Opens the model where it is not open."""
        self.warm_up()
        return self._options.encoder

    @property
    def fingerprint(self) -> str:
        """Hash over all that can change a vector: an index may be used with vectors of its own fingerprint only."""
        return self.encoder.fingerprint


def arguments_of(words: Mapping[str, Any]) -> dict[str, Any]:
    """A constructor's arguments, from its ``locals()``."""
    return {name: value for name, value in words.items() if name != "self"}


def check_text(text: object) -> str:
    """The text as a plain string, if it is one string."""
    if not issubclass(type(text), str):
        raise InputTypeError(
            f"one string is wanted, not {type(text).__name__}: {excerpt(text)}; documents go to NimbedDocumentEmbedder"
        )
    return plain(text, "the text")


def check_documents(documents: object) -> list[Document]:
    """The documents themselves, if they are a list of documents.

    Raises:
        InputTypeError: names the first item that is not a document, or says what the whole is.
    """
    if not isinstance(documents, list):
        raise InputTypeError(
            f"a list of Documents is wanted, not {type(documents).__name__}: {excerpt(documents)}; "
            "one string goes to NimbedTextEmbedder"
        )
    for index, one in enumerate(documents):
        if not isinstance(one, Document):
            raise InputTypeError(f"item {index} is {type(one).__name__}, not a Document: {excerpt(one)}")
    return documents


def embedded(documents: Sequence[Document], vectors: Sequence[list[float]]) -> list[Document]:
    """Copies with their vectors."""
    return [replace(one, embedding=vector) for one, vector in zip(documents, vectors, strict=True)]


def distinct(documents: Sequence[Document]) -> list[Document]:
    """Each id once, in the order in which they come; of those that share one, the first that scored highest."""
    best: dict[str, Document] = {}
    for one in documents:
        if _score(one) > _score(best.get(one.id)) or one.id not in best:
            best[one.id] = one
    return list(best.values())


def _score(document: Document | None) -> float:
    return float("-inf") if document is None or document.score is None else document.score
