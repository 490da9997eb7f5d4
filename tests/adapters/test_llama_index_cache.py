from __future__ import annotations

import copy
import pickle

import pytest
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import ValidationError

from nimbed import Encoder
from nimbed.errors import InputError, InputTypeError, TruncationError
from nimbed.llama_index import NimbedEmbedding


def fake(**options):
    return NimbedEmbedding("any-name", backend="fake", **options)


def rebuilt(embedding):
    return NimbedEmbedding.from_dict(embedding.to_dict())


def test_embeddings_cache_is_of_the_frameworks_type():
    assert fake().embeddings_cache is None
    with pytest.raises(TypeError, match="embeddings_cache"):
        fake(embeddings_cache="not a store")
    with pytest.raises(ValidationError, match="frozen"):
        fake().embeddings_cache = SimpleKVStore()


@pytest.fixture
def computed(monkeypatch):
    """The texts that reached the core, in the order in which they did."""
    texts = []
    encode, aencode = Encoder.encode, Encoder.aencode
    monkeypatch.setattr(Encoder, "encode", lambda s, t, **kw: texts.extend(t) or encode(s, t, **kw))
    monkeypatch.setattr(Encoder, "aencode", lambda s, t, **kw: texts.extend(t) or aencode(s, t, **kw))
    return texts


async def test_embeddings_cache_spares_the_core(computed):
    store = SimpleKVStore()
    embedding, plain = fake(embeddings_cache=store), fake()
    wanted = plain.get_text_embedding_batch(["b", "c", "c", "a"])
    computed.clear()
    assert embedding.get_text_embedding_batch(["a", "b", "a"]) == [wanted[3], wanted[0], wanted[3]]
    assert computed == ["a", "b"]
    assert await embedding.aget_text_embedding_batch(["b", "c", "c", "a"]) == wanted
    assert await embedding.aget_text_embedding("c") == embedding.get_text_embedding("c") == wanted[1]
    assert embedding.get_query_embedding("a") == await embedding.aget_query_embedding("a")
    assert await embedding.aget_query_embedding("d") == embedding.get_query_embedding("d")
    assert computed == ["a", "b", "c", "a", "d"]
    assert len(store.get_all(collection="embeddings")) == len(embedding.embeddings_cache.get_all()) == 5
    assert embedding.embeddings_cache.store is store


PROMPTS = {"query_instruction": "query: ", "text_instruction": "passage: "}


@pytest.mark.parametrize("first", ["query", "text"])
async def test_embeddings_cache_keeps_roles_apart(first):
    embedding, plain = fake(embeddings_cache=SimpleKVStore(), **PROMPTS), fake(**PROMPTS)
    query, document = plain.get_query_embedding("a"), plain.get_text_embedding("a")
    assert query != document
    if first == "query":
        assert embedding.get_query_embedding("a") == query
    for _ in range(2):
        assert embedding.get_text_embedding("a") == await embedding.aget_text_embedding("a") == document
        assert embedding.get_text_embedding_batch(["a"]) == await embedding.aget_text_embedding_batch(["a"])
        assert embedding.get_query_embedding("a") == await embedding.aget_query_embedding("a") == query
    assert embedding.get_text_embedding_batch(["a"]) == [document]


@pytest.mark.parametrize("options", [{"dim": 8}, {"max_length": 8}, PROMPTS, {"truncate": "chunk"}])
async def test_embeddings_cache_keeps_models_apart(options):
    store, text = SimpleKVStore(), "one two three four five six seven eight nine ten " * 60
    store.put("a", {"by LlamaIndex's own key": [0.0] * 384}, collection="embeddings")
    embedding, other = (
        fake(embeddings_cache=store, truncate="silent"),
        fake(embeddings_cache=store, **{"truncate": "silent", **options}),
    )
    plain = fake(**{"truncate": "silent", **options})
    embedding.get_text_embedding_batch([text, "a"])
    embedding.get_query_embedding("a")
    assert other.get_text_embedding_batch([text, "a"]) == plain.get_text_embedding_batch([text, "a"])
    assert other.get_text_embedding_batch([text, "a"]) != embedding.get_text_embedding_batch([text, "a"])
    assert await other.aget_query_embedding("a") == plain.get_query_embedding("a")


def test_embeddings_cache_does_not_hide_errors():
    store, long = SimpleKVStore(), "word " * 1000
    fake(embeddings_cache=store, truncate="silent").get_text_embedding(long)
    strict = fake(embeddings_cache=store, truncate="error")
    strict.get_text_embedding_batch(["a", "None"])
    with pytest.raises(TruncationError):
        strict.get_text_embedding_batch([long])
    with pytest.raises(InputTypeError, match="item 1"):
        strict.get_text_embedding_batch(["a", None])
    with pytest.raises(InputTypeError, match="list"):
        strict.get_query_embedding(["a"])
    with pytest.raises(InputError, match="Unicode"):
        strict.get_text_embedding("\ud800")


def test_entries_that_are_no_vectors_are_computed_again():
    store = SimpleKVStore()
    embedding = fake(embeddings_cache=store)
    wanted = embedding.get_text_embedding("a")
    (key,) = store.get_all(collection="embeddings")
    for value in ({}, {"vector": None}, {"vector": wanted[:-1]}):
        store.put(key, value, collection="embeddings")
        assert embedding.get_text_embedding("a") == wanted
        assert store.get(key, collection="embeddings") == {"vector": wanted}


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), rebuilt])
def test_copies_keep_the_embeddings_cache(clone, computed):
    embedding = fake(embeddings_cache=SimpleKVStore(), dim=64)
    wanted = embedding.get_text_embedding("a")
    cloned = clone(embedding)
    assert cloned.get_text_embedding("a") == wanted
    assert computed == ["a"]
    assert isinstance(cloned.embeddings_cache.store, SimpleKVStore)
    nodes = [TextNode(text="text")]
    assert get_transformation_hash(nodes, cloned) == get_transformation_hash(nodes, embedding)


async def test_embeddings_cache_can_be_persisted(tmp_path, computed):
    store = SimpleKVStore()
    wanted = fake(embeddings_cache=store).get_query_embedding("a")
    store.persist(str(tmp_path / "store.json"))
    again = fake(embeddings_cache=SimpleKVStore.from_persist_path(str(tmp_path / "store.json")))
    assert await again.aget_query_embedding("a") == wanted
    assert computed == ["a"]


def test_deleting_from_the_embeddings_cache(computed):
    embedding = fake(embeddings_cache=SimpleKVStore())
    embedding.get_text_embedding("a")
    (key,) = embedding.embeddings_cache.get_all()
    assert embedding.embeddings_cache.delete(key) is True
    embedding.get_text_embedding("a")
    assert computed == ["a", "a"]
