from __future__ import annotations

import asyncio
import copy
import importlib
import inspect
import json
import pickle
import sys
from collections import UserDict

import numpy as np
import pytest
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.base.embeddings.base import mean_agg
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.callbacks.schema import EventPayload
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import ValidationError
from tests.adapters.conftest import ANSWERS

from nimbed import Encoder
from nimbed.backends.fake import FakeBackend
from nimbed.errors import InputError, InputTypeError, MissingExtraError
from nimbed.llama_index import NimbedEmbedding


def fake(**options):
    return NimbedEmbedding("any-name", backend="fake", **options)


def rebuilt(embedding):
    return NimbedEmbedding.from_dict(embedding.to_dict())


@pytest.fixture(scope="module")
def minilm(minilm_int8):
    return NimbedEmbedding(model_name=minilm_int8)


async def test_index_and_retriever_find_the_passage(minilm, passages):
    index = VectorStoreIndex.from_documents([Document(text=p) for p in passages], embed_model=minilm)
    retriever = index.as_retriever(similarity_top_k=1)
    for passage, question in ANSWERS.items():
        assert retriever.retrieve(question)[0].text == passage
        assert (await retriever.aretrieve(question))[0].text == passage


def test_settings_take_it(monkeypatch, passages):
    monkeypatch.setattr(Settings, "_embed_model", None)
    Settings.embed_model = fake()
    index = VectorStoreIndex.from_documents([Document(text=p) for p in passages])
    assert index.as_retriever(similarity_top_k=1).retrieve(passages[2])[0].text == passages[2]


async def test_vectors_are_the_cores_own(passages):
    embedding, encoder = fake(), Encoder("any-name", backend="fake")
    documents, query = encoder.encode(passages).tolist(), encoder.encode_query(passages[0]).tolist()
    assert embedding.get_text_embedding_batch(passages) == documents
    assert await embedding.aget_text_embedding_batch(passages) == documents
    assert embedding.get_text_embedding(passages[0]) == documents[0]
    assert await embedding.aget_text_embedding(passages[0]) == documents[0]
    assert embedding.get_query_embedding(passages[0]) == query
    assert await embedding.aget_query_embedding(passages[0]) == query
    assert embedding.get_text_embedding_batch([]) == await embedding.aget_text_embedding_batch([]) == []


async def test_instructions_go_by_role(passages):
    embedding, plain = fake(query_instruction="query: ", text_instruction="passage: "), fake()
    text = passages[0]
    assert embedding.get_query_embedding(text) == plain.get_query_embedding("query: " + text)
    assert await embedding.aget_query_embedding(text) == plain.get_query_embedding("query: " + text)
    assert embedding.get_text_embedding(text) == plain.get_text_embedding("passage: " + text)
    assert await embedding.aget_text_embedding(text) == plain.get_text_embedding("passage: " + text)
    assert embedding.get_text_embedding_batch([text])[0] == plain.get_text_embedding("passage: " + text)


async def test_the_core_sees_whole_lists(monkeypatch):
    seen = []
    encode, aencode = Encoder.encode, Encoder.aencode
    monkeypatch.setattr(Encoder, "encode", lambda s, texts, **kw: seen.append(len(texts)) or encode(s, texts, **kw))
    monkeypatch.setattr(Encoder, "aencode", lambda s, texts, **kw: seen.append(len(texts)) or aencode(s, texts, **kw))
    texts = [f"text {n}" for n in range(300)]
    fake().get_text_embedding_batch(texts)
    await fake().aget_text_embedding_batch(texts)
    fake(embed_batch_size=200).get_text_embedding_batch(texts)
    assert seen == [300, 300, 200, 100]


async def test_async_leaves_the_event_loop_free(held_engine, passages):
    embedding = fake()
    ticker = asyncio.create_task(held_engine.tick())
    vectors = await embedding.aget_text_embedding_batch(passages * 20)
    await ticker
    assert held_engine.ticks == 50
    assert len(vectors) == 20 * len(passages)


async def test_async_query_leaves_the_event_loop_free(held_engine):
    embedding = fake()
    ticker = asyncio.create_task(held_engine.tick())
    assert len(await embedding.aget_query_embedding("a question")) == 384
    await ticker
    assert held_engine.ticks == 50


async def test_progress_bar(passages, capsys):
    shown, plain = fake(show_progress_bar=True), fake()
    assert shown.get_text_embedding_batch(passages) == plain.get_text_embedding_batch(passages)
    assert "5/5" in capsys.readouterr().err
    assert await shown.aget_text_embedding_batch(passages) == plain.get_text_embedding_batch(passages)


async def test_callbacks_tell_of_every_call(passages):
    handler = LlamaDebugHandler(print_trace_on_end=False)
    embedding = fake(callback_manager=CallbackManager([handler]))
    embedding.get_text_embedding_batch(passages)
    await embedding.aget_text_embedding_batch(passages)
    embedding.get_query_embedding("a question")
    pairs = handler.get_event_pairs(CBEventType.EMBEDDING)
    assert [len(end.payload[EventPayload.CHUNKS]) for _, end in pairs] == [5, 5, 1]
    assert [len(end.payload[EventPayload.EMBEDDINGS]) for _, end in pairs] == [5, 5, 1]


@pytest.fixture
def events():
    seen = []

    class Collector(BaseEventHandler):
        def handle(self, event, **kwargs):
            if isinstance(event, (EmbeddingStartEvent, EmbeddingEndEvent)):
                seen.append(event)

    collector, dispatcher = Collector(), get_dispatcher()
    dispatcher.add_event_handler(collector)
    yield seen
    dispatcher.event_handlers.remove(collector)


@pytest.mark.parametrize(
    ("call", "arguments", "chunks"),
    [
        ("get_query_embedding", "a question", [["a question"]]),
        ("get_text_embedding", "a", [["a"]]),
        ("get_text_embedding_batch", ["a", "b", "c"], [["a", "b"], ["c"]]),
        ("get_agg_embedding_from_queries", ["a", "b"], [["a"], ["b"]]),
    ],
)
@pytest.mark.parametrize("way", ["", "a"], ids=["sync", "async"])
@pytest.mark.parametrize("cached", [False, True])
async def test_instrumentation_tells_of_every_call(events, call, arguments, chunks, way, cached):
    embedding = fake(embed_batch_size=2, embeddings_cache=SimpleKVStore() if cached else None)
    for _ in range(2):  # the second time, a cache has it all
        events.clear()
        answer = getattr(embedding, way + call)(arguments)
        vectors = await answer if way else answer
        starts = [e for e in events if isinstance(e, EmbeddingStartEvent)]
        ends = [e for e in events if isinstance(e, EmbeddingEndEvent)]
        assert [e.chunks for e in ends] == chunks
        assert len(starts) == len(chunks)
        assert all(e.model_dict["model_name"] == "any-name" for e in starts)
        told = [vector for e in ends for vector in e.embeddings]
        assert [len(e.embeddings) for e in ends] == [len(c) for c in chunks]
        if "agg" in call:
            assert vectors == mean_agg(told)
        else:
            assert told == (vectors if "batch" in call else [vectors])


@pytest.mark.parametrize(
    "clone",
    [
        copy.copy,
        copy.deepcopy,
        lambda e: pickle.loads(pickle.dumps(e)),
        rebuilt,
        lambda e: NimbedEmbedding.from_json(e.to_json()),
    ],
)
def test_copies_give_equal_vectors(clone, passages):
    embedding = fake(dim=64, query_instruction="query: ", text_instruction="passage: ", embed_batch_size=3)
    cloned = clone(embedding)
    assert cloned.to_dict() == embedding.to_dict()
    assert cloned.get_text_embedding_batch(passages) == embedding.get_text_embedding_batch(passages)
    assert cloned.get_query_embedding(passages[0]) == embedding.get_query_embedding(passages[0])


def test_every_option_is_a_field():
    options = list(inspect.signature(NimbedEmbedding.__init__).parameters)
    assert sorted(NimbedEmbedding.model_fields) == sorted(o for o in options if o not in {"self", "model_kwargs"})


def test_names():
    assert NimbedEmbedding.class_name() == fake().to_dict()["class_name"] == "NimbedEmbedding"
    assert fake().model_name == NimbedEmbedding(model="any-name", backend="fake").model_name == "any-name"
    assert NimbedEmbedding(backend="fake").model_name == "BAAI/bge-small-en"
    assert fake().embed_batch_size == 2048


def test_options_cannot_be_changed_when_the_model_is_open():
    embedding = fake()
    for name, value in (("dim", 8), ("model_name", "other"), ("normalize", None), ("text_instruction", "a")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(embedding, name, value)
    embedding.callback_manager = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    assert len(embedding.callback_manager.handlers) == 1


@pytest.mark.parametrize(
    "options",
    [{"dim": 8}, {"query_instruction": "q: "}, {"text_instruction": "p: "}, {"max_length": 16}, {"truncate": "chunk"}],
)
def test_ingestion_cache_key_follows_the_options(options):
    nodes = [TextNode(text="text")]
    assert get_transformation_hash(nodes, fake(**options)) != get_transformation_hash(nodes, fake())
    assert get_transformation_hash(nodes, fake(**options)) == get_transformation_hash(nodes, fake(**options))


def test_ingestion_cache_key_follows_the_engine(monkeypatch):
    nodes = [TextNode(text="text")]
    before = get_transformation_hash(nodes, fake())
    monkeypatch.setattr(FakeBackend, "version", "fake 2")
    assert get_transformation_hash(nodes, fake()) != before


async def test_ingestion_pipeline(passages):
    documents = [Document(text=p) for p in passages]
    embedding = fake()
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), embedding], cache=IngestionCache()
    )
    wanted = embedding.get_text_embedding_batch(passages)
    assert [n.embedding for n in pipeline.run(documents=documents)] == wanted
    assert [n.embedding for n in await pipeline.arun(documents=documents)] == wanted


def test_ingestion_pipeline_in_several_processes(passages):
    embedding = fake(text_instruction="passage: ", num_workers=2, embeddings_cache=SimpleKVStore())
    nodes = [TextNode(text=p) for p in passages]
    done = IngestionPipeline(transformations=[embedding], disable_cache=True).run(nodes=nodes, num_workers=2)
    wanted = dict(zip(passages, embedding.get_text_embedding_batch(passages), strict=True))
    assert {n.text: n.embedding for n in done} == wanted


async def test_rate_limiter_is_forwarded():
    class Limiter:
        asked = 0

        def acquire(self):
            self.asked += 1

        async def async_acquire(self):
            self.asked += 1

    limiter = Limiter()
    embedding = fake(rate_limiter=limiter, num_workers=2, embed_batch_size=1)
    embedding.get_query_embedding("a")
    await embedding.aget_text_embedding_batch(["a", "b", "c"])
    assert limiter.asked == 4


def test_normalize_goes_to_the_core():
    assert fake().encoder.info.normalize is True
    assert fake(normalize=None).encoder.info.normalize is True
    with pytest.raises(InputError, match="normalize=False"):
        fake(normalize=False)


async def test_what_is_not_text_is_an_error():
    embedding = fake()
    with pytest.raises(InputTypeError, match="item 1"):
        embedding.get_text_embedding_batch(["a", None])
    with pytest.raises(InputTypeError, match="item 1"):
        await embedding.aget_text_embedding_batch(["a", None])
    with pytest.raises(InputTypeError, match="list"):
        embedding.get_query_embedding(["a"])


@pytest.mark.parametrize("texts", ["ab", {"a": "b"}, UserDict(a="b"), np.array([["a"]]), None], ids=repr)
async def test_a_batch_that_does_not_give_its_texts_one_by_one_is_refused(texts):
    embedding = fake()
    with pytest.raises(InputTypeError, match="a list of strings is wanted"):
        embedding.get_text_embedding_batch(texts)
    with pytest.raises(InputTypeError, match="a list of strings is wanted"):
        await embedding.aget_text_embedding_batch(texts)


def test_to_json_is_plain(minilm):
    assert json.loads(minilm.to_json())["fingerprint"] == minilm.fingerprint


def test_missing_llama_index_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_index.core.base.embeddings.base", None)
    monkeypatch.delitem(sys.modules, "nimbed.llama_index")
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[llama-index\]"'):
        importlib.import_module("nimbed.llama_index")
