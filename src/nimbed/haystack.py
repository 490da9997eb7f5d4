"""Haystack's embedders and ranker over :class:`nimbed.Encoder` and ``nimbed.Reranker``."""

import asyncio
from os import PathLike
from typing import Any, Literal

from nimbed import CacheConfig
from nimbed.errors import MissingExtraError

try:
    from haystack import Document, component
except ImportError as err:
    raise MissingExtraError('nimbed.haystack needs haystack-ai: pip install "nimbed[haystack]"') from err

from nimbed._adapters.haystack import (
    Embedding,
    Opening,
    Options,
    Ranking,
    arguments_of,
    check_documents,
    check_text,
    distinct,
    embedded,
)
from nimbed._adapters.options import Pooling, Precision, Truncate

__all__ = ["NimbedDocumentEmbedder", "NimbedRanker", "NimbedTextEmbedder"]

_EMBEDDER, _RANKER = "sentence-transformers/all-mpnet-base-v2", "cross-encoder/ms-marco-MiniLM-L-6-v2"


@component
class NimbedTextEmbedder(Embedding):
    """Embeds a query for retrieval, on the CPU; in place of ``SentenceTransformersTextEmbedder``.

    The model is opened on ``warm_up`` or the first run, and may then be used by any number of threads and event loops.

    Args:
        model: hub id, model folder or artefact folder.
        backend, precision, max_length, truncate, dim, threads, cache: as in :class:`nimbed.Encoder`.
        task, pooling, normalize: as in :class:`nimbed.SpecOverrides`.
        query_instruction, text_instruction: the prompts, put before queries and documents; None is the model's own,
            ``""`` is none. Give both embedders the same ones: an index has one fingerprint.
        revision, local_files_only, cache_folder, file_name (its ``file``): as in :class:`nimbed.Source`.

    Raises:
        pydantic.ValidationError: an option has the wrong type (a ValueError).

    Example:
        >>> embedder = NimbedTextEmbedder("any-name", backend="fake")
        >>> len(embedder.run("Where is the cat?")["embedding"])
        384
    """

    def __init__(  # noqa: PLR0913 (Haystack's way: each option by its name)
        self,
        model: str | PathLike[str] = _EMBEDDER,
        *,
        backend: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        max_length: int | None = None,
        truncate: Truncate = "warn",
        dim: int | None = None,
        threads: int | None = None,
        cache: CacheConfig | int | str | dict[str, Any] | None = CacheConfig(),  # noqa: B008 (frozen)
        task: str | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_instruction: str | None = None,
        text_instruction: str | None = None,
        revision: str | None = None,
        file_name: str | None = None,
        local_files_only: bool = False,
        cache_folder: str | PathLike[str] | None = None,
    ) -> None:
        self._options = Options(**arguments_of(locals()))

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed one text with the query prompt.

        Returns:
            ``embedding``: ``dim`` floats.

        Raises:
            InputTypeError: it is not a string.
            InputError: it is not valid Unicode.
            TruncationError: it is too long and ``truncate="error"``.
        """
        query = check_text(text)
        self.warm_up()
        return {"embedding": self._options.query(query)}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """As :meth:`run`, without blocking the event loop."""
        query = check_text(text)
        await self.warm_up_async()
        return {"embedding": await self._options.aquery(query)}


@component
class NimbedDocumentEmbedder(Embedding):
    """Embeds documents for an index, on the CPU; in place of ``SentenceTransformersDocumentEmbedder``.

    Args:
        model and all others: as in :class:`NimbedTextEmbedder`.
        meta_fields_to_embed: names of metadata fields, put before the content if a document has them; "title" goes into
            the prompt instead where the model's has a place for it (EmbeddingGemma).
        embedding_separator: what separates them from the content.
        progress_bar: show a progress bar.

    Raises:
        pydantic.ValidationError: an option has the wrong type (a ValueError).

    Example:
        >>> embedder = NimbedDocumentEmbedder("any-name", backend="fake", meta_fields_to_embed=["title"])
        >>> [found] = embedder.run([Document(content="The cat sat.", meta={"title": "Cats"})])["documents"]
        >>> len(found.embedding)
        384
    """

    def __init__(  # noqa: PLR0913 (Haystack's way: each option by its name)
        self,
        model: str | PathLike[str] = _EMBEDDER,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        progress_bar: bool = False,
        backend: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        max_length: int | None = None,
        truncate: Truncate = "warn",
        dim: int | None = None,
        threads: int | None = None,
        cache: CacheConfig | int | str | dict[str, Any] | None = CacheConfig(),  # noqa: B008 (frozen)
        task: str | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_instruction: str | None = None,
        text_instruction: str | None = None,
        revision: str | None = None,
        file_name: str | None = None,
        local_files_only: bool = False,
        cache_folder: str | PathLike[str] | None = None,
    ) -> None:
        self._options = Options(**arguments_of(locals()))

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed documents with the document prompt.

        Returns:
            ``documents``: copies with their ``embedding`` of ``dim`` floats, in their order.

        Raises:
            InputTypeError: it is not a list of documents; names the item.
            InputError: a text is not valid Unicode; names the item.
            TruncationError: a text is too long and ``truncate="error"``; names the item.
        """
        checked = check_documents(documents)
        self.warm_up()
        return {"documents": embedded(documents, self._options.documents(checked))}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """As :meth:`run`, without blocking the event loop."""
        checked = check_documents(documents)
        await self.warm_up_async()
        vectors = await self._options.adocuments(checked)
        return {"documents": await asyncio.to_thread(embedded, documents, vectors)}


@component
class NimbedRanker(Opening):
    """Ranks documents by a model's score of query and document, on the CPU.

    In place of ``SentenceTransformersSimilarityRanker``. The model may be a cross-encoder, whose scores are those of
    ``nimbed.Reranker``, or a sentence-embedding model: then the score is the similarity of query and document.

    Args:
        model: hub id, model folder or artefact folder of a cross-encoder or a sentence-embedding model.
        top_k: how many documents are returned.
        score_threshold: documents with a lower score are left out; None keeps all.
        meta_fields_to_embed: names of metadata fields, put before the content if a document has them.
        embedding_separator: what separates them from the content.
        backend, precision, max_length, truncate, threads: as in ``nimbed.Reranker``.
        task, pooling, normalize, query_instruction, text_instruction: of a sentence-embedding model.
        instruction: of Qwen3-Reranker, what makes a document a match.
        revision, local_files_only, cache_folder, file_name (its ``file``): as in :class:`nimbed.Source`.

    Raises:
        pydantic.ValidationError: an option has the wrong type, or ``top_k`` is below 1 (a ValueError).
    """

    _options: Ranking

    def __init__(  # noqa: PLR0913 (Haystack's way: each option by its name)
        self,
        model: str | PathLike[str] = _RANKER,
        *,
        top_k: int = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        backend: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        max_length: int | None = None,
        truncate: Truncate = "silent",
        threads: int | None = None,
        task: str | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        query_instruction: str | None = None,
        text_instruction: str | None = None,
        instruction: str | None = None,
        revision: str | None = None,
        file_name: str | None = None,
        local_files_only: bool = False,
        cache_folder: str | PathLike[str] | None = None,
    ) -> None:
        self._options = Ranking(**arguments_of(locals()))

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None, score_threshold: float | None = None
    ) -> dict[str, Any]:
        """Rank documents; of documents that share an id, one is kept.

        Args:
            query: the question.
            documents: any number.
            top_k: for this run, instead of the component's own.
            score_threshold: likewise.

        Returns:
            ``documents``: copies with their ``score``, best first; equal scores keep their order.

        Raises:
            InputTypeError: the query is not a string, or documents are not a list of documents; names the item.
            InputError: ``top_k`` is below 1, or a text is not valid Unicode.
            TruncationError: a pair is too long and ``truncate="error"``.
        """
        if not (candidates := distinct(check_documents(documents))):
            return {"documents": []}
        self.warm_up()
        ranked = self._options.rank(query, self._options.texts(candidates), top_k)
        return {"documents": self._options.scored(candidates, ranked, score_threshold)}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None, score_threshold: float | None = None
    ) -> dict[str, Any]:
        """As :meth:`run`, without blocking the event loop."""
        if not (candidates := distinct(check_documents(documents))):
            return {"documents": []}
        await self.warm_up_async()
        ranked = await self._options.arank(query, self._options.texts(candidates), top_k)
        return {"documents": self._options.scored(candidates, ranked, score_threshold)}

    @property
    def reranker(self) -> Any:  # noqa: ANN401 (a Reranker)
        """The reranker itself, with its ``kind``, ``info`` and ``stats()``. Opens the model if it is not open."""
        self.warm_up()
        return self._options.reranker
