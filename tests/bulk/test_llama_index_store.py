"""Nodes into a vector store of LlamaIndex."""

from __future__ import annotations

import pytest

from nimbed.bulk import index_into

pytest.importorskip("llama_index.core")

from llama_index.core.schema import TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore

from nimbed.llama_index import NimbedEmbedding


@pytest.fixture(scope="module")
def embed_model():
    return NimbedEmbedding("any", backend="fake", dim=8)


def nodes(count, first=0):
    return [TextNode(id_=f"n{n}", text=f"passage {n}") for n in range(first, first + count)]


class Dying(SimpleVectorStore):
    """Takes some batches, and then none."""

    def add(self, given, **options):
        if len(self.data.embedding_dict) >= 20:
            raise ConnectionError
        return super().add(given, **options)


def test_the_docstore_knows_what_the_store_has_taken_and_no_more(embed_model):
    store, docstore = Dying(), SimpleDocumentStore()
    options = {"known": docstore, "embed_model": embed_model, "batch_rows": 10}
    with pytest.raises(ConnectionError):
        index_into(store, nodes(50), **options)
    assert len(docstore.docs) == len(store.data.embedding_dict) == 20
    whole = SimpleVectorStore(data=store.data)
    done = index_into(whole, nodes(50), **options)
    assert (done.added, done.skipped, done.deleted) == (30, 20, 0)
    changed = nodes(50)
    changed[7] = TextNode(id_="n7", text="another text")
    done = index_into(whole, changed, **options)
    assert (done.added, done.skipped, done.deleted) == (1, 49, 1)
    assert whole.get("n7") == embed_model.get_text_embedding("another text")
    assert len(whole.data.embedding_dict) == 50


def test_a_checkpoint_does_without_a_docstore(embed_model, tmp_path):
    store = Dying()
    options = {"checkpoint": tmp_path / "state.json", "embed_model": embed_model, "batch_rows": 10}
    with pytest.raises(ConnectionError):
        index_into(store, nodes(50), **options)
    done = index_into(SimpleVectorStore(data=store.data), nodes(50), **options)
    assert (done.added, done.skipped) == (30, 20)
