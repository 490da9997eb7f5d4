"""Documents into a vector store of LangChain."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

from nimbed.bulk.checkpoint import Checkpoint, batches

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nimbed.bulk.into import Cleanup


def index_langchain(
    store: Any,  # noqa: ANN401 (VectorStore)
    documents: Iterable[Any],
    record_manager: Any,  # noqa: ANN401 (RecordManager, or None)
    checkpoint: Path | None,
    *,
    batch_rows: int,
    cleanup: Cleanup | None,
    source_id_key: str | None,
) -> dict[str, int]:
    """By LangChain's own ``index``, which notes what the store has taken; without a record manager by a checkpoint."""
    if record_manager is not None:
        from langchain_core.indexing import index

        done = index(
            documents,
            record_manager,
            store,
            batch_size=batch_rows,
            cleanup=cleanup,
            source_id_key=source_id_key,
            key_encoder="blake2b",
        )
        return {
            "added": done["num_added"] + done["num_updated"],
            "skipped": done["num_skipped"],
            "deleted": done["num_deleted"],
        }
    state = Checkpoint(checkpoint, str(getattr(getattr(store, "embeddings", None), "fingerprint", "")))
    before = state.count
    for batch in batches(state.rest(documents, document_id), batch_rows):
        ids = [document_id(document) for document in batch]
        store.add_documents(batch, ids=ids)
        state.acknowledge(ids)
    return {"added": state.count - before, "skipped": before}


def document_id(document: Any) -> str:  # noqa: ANN401
    """Its own, or one of its content: the same document takes its own place when it comes again."""
    if document.id is not None:
        return str(document.id)
    said = json.dumps([document.page_content, document.metadata], sort_keys=True, default=str)
    return str(uuid.UUID(bytes=hashlib.blake2b(said.encode(), digest_size=16).digest()))
