"""LangChain's ``BaseDocumentCompressor`` and ``BaseCrossEncoder`` over :class:`nimbed.Reranker`."""

from collections.abc import Sequence

from langchain_core.callbacks import Callbacks
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from nimbed._adapters.rerank_options import RerankOptions
from nimbed.reranker import RankedDocument

__all__ = ["NimbedCrossEncoder", "NimbedReranker"]


class NimbedReranker(RerankOptions, BaseDocumentCompressor):
    """Puts retrieved documents in order by what a model says of query and document, on the CPU.

    For ``ContextualCompressionRetriever(base_compressor=NimbedReranker(...), base_retriever=...)``. Documents come back
    as copies, best first, with their score in the metadata as ``"relevance_score"``.

    Args:
        model_name: hub id, model folder or artefact folder of a cross-encoder, or of a sentence-embedding model; also
            ``model``.
        top_n: how many documents are kept; None keeps all.
        score_threshold: documents with a lower score are left out; None leaves out none.
        instruction: of Qwen3-Reranker, what makes a document a match.
        backend, precision, max_length, truncate, threads: as in :class:`nimbed.Reranker`.
        revision, local_files_only, cache_folder, file_name (its ``file``), allow_code: as in :class:`nimbed.Source`.

    Raises:
        InputError: an option cannot be used, or is unknown.
        pydantic.ValidationError: an option has the wrong type (a ValueError).
        NimbedError: the model cannot be opened; see :class:`nimbed.Reranker`.

    Example:
        >>> reranker = NimbedReranker(model="any-name", backend="fake", top_n=1)
        >>> documents = [Document("Prices rose in May."), Document("The cat sat on the mat.")]
        >>> [found] = reranker.compress_documents(documents, "Where is the cat?")
        >>> found.page_content, sorted(found.metadata)
        ('The cat sat on the mat.', ['relevance_score'])
    """

    model_config = ConfigDict(extra="forbid")

    top_n: int | None = Field(default=3, ge=1, description="How many documents are kept; None keeps all.")
    score_threshold: float | None = Field(
        default=None, description="Documents with a lower score are left out; None leaves out none."
    )

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 (LangChain's signature)
    ) -> list[Document]:
        """The best documents as copies, best first. Raises as :meth:`nimbed.Reranker.scores`."""
        ranked = self._rank(query, [document.page_content for document in documents], self.top_n)
        return self._chosen(documents, ranked)

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 (LangChain's signature)
    ) -> list[Document]:
        """As :meth:`compress_documents`; the event loop stays free."""
        texts = [document.page_content for document in documents]
        return self._chosen(documents, await self._arank(query, texts, self.top_n))

    def _chosen(self, documents: Sequence[Document], ranked: list[RankedDocument]) -> list[Document]:
        minimum = float("-inf") if self.score_threshold is None else self.score_threshold
        return [_scored(documents[one.index], one.score) for one in ranked if one.score >= minimum]


class NimbedCrossEncoder(RerankOptions, BaseCrossEncoder):
    """Scores pairs of texts; in place of ``HuggingFaceCrossEncoder``, for LangChain's ``CrossEncoderReranker``.

    Takes the options of :class:`NimbedReranker`, apart from ``top_n`` and ``score_threshold``.

    Example:
        >>> encoder = NimbedCrossEncoder(model="any-name", backend="fake")
        >>> len(encoder.score([("Where is the cat?", "The cat sat."), ("Where is the cat?", "Prices rose.")]))
        2
    """

    model_config = ConfigDict(extra="forbid")

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One score for each pair of query and document. Raises as :meth:`nimbed.Reranker.score_pairs`."""
        return self._score_pairs(text_pairs)


def _scored(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})
