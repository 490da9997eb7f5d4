"""LlamaIndex's ``BaseNodePostprocessor`` over :class:`nimbed.Reranker`."""

from contextlib import AbstractContextManager
from typing import Any

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import ConfigDict, Field

from nimbed._adapters.options import TextPath
from nimbed._adapters.rerank_options import RerankOptions
from nimbed.errors import InputError
from nimbed.reranker import RankedDocument

__all__ = ["NimbedRerank"]


class NimbedRerank(RerankOptions, BaseNodePostprocessor):
    """Puts retrieved nodes in order by what a model says of query and node, on the CPU.

    The words of ``SentenceTransformerRerank`` mean here what they mean there, so moving over is a change of import.
    Nodes come back best first, with the new score; those that were handed in stay as they are.

    Args:
        model_name: hub id, model folder or artefact folder of a cross-encoder, or of a sentence-embedding model; also
            ``model``.
        top_n: how many nodes are returned.
        keep_retrieval_score: keep the retriever's score in the metadata, as ``"retrieval_score"``.
        callback_manager: LlamaIndex's own; told of each rerank as an event ``CBEventType.RERANKING``.
        instruction: of Qwen3-Reranker, what makes a document a match.
        backend, precision, max_length, truncate, threads: as in :class:`nimbed.Reranker`.
        revision, local_files_only, cache_folder, file_name (its ``file``), allow_code: as in :class:`nimbed.Source`.

    Raises:
        InputError: an option cannot be used, or is unknown.
        pydantic.ValidationError: an option has the wrong type (a ValueError).
        NimbedError: the model cannot be opened; see :class:`nimbed.Reranker`.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> rerank = NimbedRerank(model="any-name", backend="fake", top_n=1)
        >>> nodes = [NodeWithScore(node=TextNode(text=text)) for text in ("Prices rose.", "The cat sat.")]
        >>> rerank.postprocess_nodes(nodes, query_str="Where is the cat?")[0].text
        'The cat sat.'
    """

    model_config = ConfigDict(extra="forbid")

    model_name: TextPath = Field(
        default="cross-encoder/stsb-distilroberta-base",
        alias="model",
        frozen=True,
        description="Hub id, model folder or artefact folder of a cross-encoder or a sentence-embedding model.",
    )
    top_n: int = Field(default=2, ge=1, description="How many nodes are returned.")
    keep_retrieval_score: bool = Field(
        default=False, description="Whether the retriever's score is kept in the metadata."
    )

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex stores it."""
        return "NimbedRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not nodes:
            return []
        query = _query(query_bundle)
        with self._event(nodes, query) as event:
            chosen = self._chosen(nodes, self._rank(query, _texts(nodes), self.top_n))
            event.on_end(payload={EventPayload.NODES: chosen})
        return chosen

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not nodes:
            return []
        query = _query(query_bundle)
        with self._event(nodes, query) as event:
            chosen = self._chosen(nodes, await self._arank(query, _texts(nodes), self.top_n))
            event.on_end(payload={EventPayload.NODES: chosen})
        return chosen

    def _event(self, nodes: list[NodeWithScore], query: str) -> AbstractContextManager[Any]:
        return self.callback_manager.event(
            CBEventType.RERANKING,
            payload={
                EventPayload.NODES: nodes,
                EventPayload.MODEL_NAME: self.model_name,
                EventPayload.QUERY_STR: query,
                EventPayload.TOP_K: self.top_n,
            },
        )

    def _chosen(self, nodes: list[NodeWithScore], ranked: list[RankedDocument]) -> list[NodeWithScore]:
        return [NodeWithScore(node=self._node(nodes[one.index]), score=one.score) for one in ranked]

    def _node(self, found: NodeWithScore) -> Any:  # noqa: ANN401 (LlamaIndex has several kinds)
        if not self.keep_retrieval_score:
            return found.node
        # A copy: the index may own the node.
        return found.node.model_copy(update={"metadata": {**found.node.metadata, "retrieval_score": found.score}})


def _query(bundle: QueryBundle | None) -> str:
    if bundle is None:
        raise InputError("a rerank needs the query: give query_str=... or query_bundle=...")
    return bundle.query_str


def _texts(nodes: list[NodeWithScore]) -> list[str]:
    return [found.node.get_content(metadata_mode=MetadataMode.EMBED) for found in nodes]
