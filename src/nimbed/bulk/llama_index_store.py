"""Nodes into a vector store of LlamaIndex."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed.bulk.checkpoint import Checkpoint, batches

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def index_llama_index(
    store: Any,  # noqa: ANN401 (BasePydanticVectorStore)
    nodes: Iterable[Any],
    docstore: Any,  # noqa: ANN401 (BaseDocumentStore, or None)
    checkpoint: Path | None,
    *,
    embed_model: Any,  # noqa: ANN401 (BaseEmbedding)
    batch_rows: int,
) -> dict[str, int]:
    """The docstore is told of a node when the store has taken it.

    LlamaIndex's ``IngestionPipeline`` tells it before, so that what a death leaves out is taken for known ever after.
    """
    state = Checkpoint(checkpoint, str(getattr(embed_model, "fingerprint", "")))
    counts = {"added": 0, "skipped": state.count, "deleted": 0}
    for batch in batches(state.rest(nodes, _name), batch_rows):
        latest = list({node.node_id: node for node in batch}.values())
        new = [node for node in latest if docstore is None or _hash_in(docstore, node) != node.hash]
        if changed := [node.node_id for node in new if docstore is not None and _hash_in(docstore, node) is not None]:
            store.delete_nodes(changed)
            counts["deleted"] += len(changed)
        if new:
            store.add(_with_vectors(new, embed_model))
        if docstore is not None and new:
            docstore.add_documents(new, allow_update=True)
        state.acknowledge(map(_name, batch))
        counts["added"] += len(new)
        counts["skipped"] += len(batch) - len(new)
    return counts


def _with_vectors(nodes: list[Any], embed_model: Any) -> list[Any]:  # noqa: ANN401
    from llama_index.core.schema import MetadataMode

    texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    vectors = embed_model.get_text_embedding_batch(texts)
    return [node.model_copy(update={"embedding": vector}) for node, vector in zip(nodes, vectors, strict=True)]


def _hash_in(docstore: Any, node: Any) -> str | None:  # noqa: ANN401
    found: str | None = docstore.get_document_hash(node.node_id)
    return found


def _name(node: Any) -> str:  # noqa: ANN401
    return f"{node.node_id} {node.hash}"
