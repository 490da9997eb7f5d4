"""From any iterable to any writer, or into the vector store of a framework; gone on with after any death."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nimbed._files.user_paths import expanded
from nimbed._text.checks import check_whole
from nimbed.bulk.checkpoint import Checkpoint, batches
from nimbed.bulk.langchain_store import index_langchain
from nimbed.bulk.llama_index_store import index_llama_index
from nimbed.errors import InputError, InputTypeError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import numpy.typing as npt

    from nimbed import Encoder
    from nimbed._dtypes import Dtype
    from nimbed._types import Role

BATCH_ROWS = 1024
Cleanup = Literal["incremental", "full", "scoped_full"]


class Writer(Protocol):
    """Takes rows for good: when it returns, they need not be given again."""

    def __call__(self, ids: list[str], texts: list[str], vectors: npt.NDArray[Any]) -> object:
        """A batch of them; ``vectors`` are ``[n, dim]``."""


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """What was done with documents.

    Attributes:
        added: documents that were embedded and added.
        skipped: those that were there already.
        deleted: those that were taken out of the store.
    """

    added: int
    skipped: int
    deleted: int = 0


def embed_into(
    encoder: Encoder,
    rows: Iterable[tuple[str, str]],
    writer: Writer,
    *,
    role: Role = "document",
    dtype: Dtype = "float32",
    batch_rows: int = BATCH_ROWS,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Indexed:
    """Embed (id, text) rows of any iterable and hand them to a writer, batch by batch.

    After a death the same call passes over what the writer had taken. A batch that it took in the moment of the death
    is given again, so the writer must put rows by their ids.

    Args:
        encoder: that embeds them.
        rows: any number; after a death, the same in the same order.
        writer: called with ids, texts and vectors ``[n, dim]``; when it returns, they are where they should be.
        role: whose prompt the texts get.
        dtype: of the vectors, as in :meth:`nimbed.Encoder.encode`.
        batch_rows: rows of a batch.
        checkpoint: the file that says what the writer has taken; None keeps nothing.

    Returns:
        How many rows were written, and how many had been before.

    Raises:
        FingerprintError: the checkpoint is of another model or engine.
        InputError: the rows are not those of the checkpoint.
    """
    check_whole(batch_rows, "batch_rows", minimum=1)
    state = Checkpoint(None if checkpoint is None else expanded(checkpoint), encoder.fingerprint)
    before = state.count
    for batch in batches(state.rest(rows, _row_name), batch_rows):
        ids, texts = [row[0] for row in batch], [row[1] for row in batch]
        writer(ids, texts, encoder.encode(texts, role=role, dtype=dtype))
        state.acknowledge(map(_row_name, batch))
    return Indexed(added=state.count - before, skipped=before)


def index_into(
    store: Any,  # noqa: ANN401 (of either framework)
    documents: Iterable[Any],
    *,
    known: Any = None,  # noqa: ANN401 (of either framework)
    embed_model: Any = None,  # noqa: ANN401
    checkpoint: str | os.PathLike[str] | None = None,
    batch_rows: int = BATCH_ROWS,
    cleanup: Cleanup | None = None,
    source_id_key: str | None = None,
) -> Indexed:
    """Add documents to a vector store of LangChain or LlamaIndex in large batches, none of them embedded twice.

    What is known is noted after the store has acknowledged it, never before: a death in between costs a batch that is
    embedded again and takes its own place, since ids come from the documents.

    Args:
        store: a ``VectorStore`` of LangChain, with its own embeddings; or one of LlamaIndex.
        documents: LangChain's documents, or LlamaIndex's nodes.
        known: LangChain's record manager, or LlamaIndex's docstore: what is noted there is not embedded again, in this
            run or in a later one.
        embed_model: of LlamaIndex, whose stores have none.
        checkpoint: a file, for one run over documents in the same order, where there is no ``known``.
        batch_rows: documents of a batch.
        cleanup: as in LangChain's ``index``, with its record manager.
        source_id_key: likewise.

    Returns:
        How many were added, skipped and deleted.

    Raises:
        InputTypeError: the store is of neither framework.
        InputError: options do not go together, or the documents are not those of the checkpoint.
    """
    check_whole(batch_rows, "batch_rows", minimum=1)
    if known is not None and checkpoint is not None:
        raise InputError("checkpoint= and known= both say what is there already; give one of them")
    path = None if checkpoint is None else expanded(checkpoint)
    if hasattr(store, "add_documents"):
        if known is None and (cleanup or source_id_key):
            raise InputError("cleanup= and source_id_key= are those of LangChain's record manager; give it as known=")
        counts = index_langchain(
            store, documents, known, path, batch_rows=batch_rows, cleanup=cleanup, source_id_key=source_id_key
        )
    elif hasattr(store, "add") and hasattr(store, "stores_text"):
        if embed_model is None:
            raise InputError("embed_model= is missing: LlamaIndex's stores do not embed; give NimbedEmbedding(...)")
        counts = index_llama_index(store, documents, known, path, embed_model=embed_model, batch_rows=batch_rows)
    else:
        raise InputTypeError(
            f"store is {type(store).__name__}, no vector store of LangChain or LlamaIndex; use embed_into with a "
            "writer of your own"
        )
    return Indexed(**counts)


def _row_name(row: tuple[str, str]) -> str:
    return f"{len(row[0])}:{row[0]}{row[1]}"
