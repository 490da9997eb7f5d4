"""Documents into a vector store of LangChain."""

from __future__ import annotations

import pytest

from nimbed.bulk import index_into

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager
from langchain_core.vectorstores import InMemoryVectorStore

from nimbed.langchain import NimbedEmbeddings


class Counting(NimbedEmbeddings):
    """Counts what it embeds."""

    def embed_documents(self, texts):
        EMBEDDED.extend(texts)
        return super().embed_documents(texts)


EMBEDDED: list[str] = []


@pytest.fixture
def store():
    EMBEDDED.clear()
    return InMemoryVectorStore(Counting(model="any", backend="fake", dim=8))


def documents(count, first=0):
    return [Document(f"passage {n}", metadata={"source": str(n)}) for n in range(first, first + count)]


def dying(store, after):
    """A store that dies in the batch behind so many."""
    add, calls = type(store).add_documents, []

    def add_documents(batch, **options):
        calls.append(len(batch))
        if len(calls) > after:
            raise ConnectionError
        return add(store, batch, **options)

    store.add_documents = add_documents


def test_a_record_manager_keeps_all_from_being_embedded_twice(store):
    manager = InMemoryRecordManager("n")
    manager.create_schema()
    dying(store, 2)
    with pytest.raises(ConnectionError):
        index_into(store, documents(50), known=manager, batch_rows=10)
    del store.add_documents
    EMBEDDED.clear()
    done = index_into(store, documents(50), known=manager, batch_rows=10)
    assert (done.added, done.skipped, done.deleted) == (30, 20, 0)
    assert sorted(EMBEDDED) == sorted(f"passage {n}" for n in range(20, 50))
    changed = index_into(store, documents(45, 5), known=manager, cleanup="full", source_id_key="source")
    assert (changed.added, changed.skipped, changed.deleted) == (0, 45, 5)
    assert len(store.store) == 45


def test_a_checkpoint_does_without_a_record_manager(store, tmp_path):
    dying(store, 3)
    with pytest.raises(ConnectionError):
        index_into(store, documents(50), checkpoint=tmp_path / "state.json", batch_rows=10)
    del store.add_documents
    EMBEDDED.clear()
    done = index_into(store, iter(documents(50)), checkpoint=tmp_path / "state.json", batch_rows=10)
    assert (done.added, done.skipped) == (20, 30)
    assert [f"passage {n}" for n in range(30, 50)] == EMBEDDED
    index_into(store, documents(50))  # the same documents take their own places
    assert len(store.store) == 50
