from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
import sys
import threading
import uuid

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import ValidationError
from tests.adapters.conftest import ANSWERS

from nimbed import Encoder
from nimbed._adapters import options
from nimbed.errors import InputError, InputTypeError, MissingExtraError
from nimbed.langchain import NimbedEmbeddings


def fake(**options):
    return NimbedEmbeddings(model="any-name", backend="fake", **options)


class TestUnit(EmbeddingsUnitTests):
    embeddings_class = NimbedEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": "any-name", "backend": "fake"}


class TestIntegration(EmbeddingsIntegrationTests):
    embeddings_class = NimbedEmbeddings

    @pytest.fixture(autouse=True)
    def artefact(self, minilm_int8):
        self.folder = minilm_int8

    @property
    def embedding_model_params(self):
        return {"model": self.folder}


@pytest.fixture(scope="module")
def minilm(minilm_int8):
    return NimbedEmbeddings(model=minilm_int8)


def in_memory(passages, embeddings):
    return InMemoryVectorStore.from_texts(passages, embeddings)


def faiss(passages, embeddings):
    from langchain_community.vectorstores import FAISS

    return FAISS.from_texts(passages, embeddings)


def chroma(passages, embeddings):
    from chromadb.config import Settings
    from langchain_chroma import Chroma

    quiet = Settings(anonymized_telemetry=False, is_persistent=False)
    return Chroma.from_texts(passages, embeddings, collection_name=f"c{uuid.uuid4().hex}", client_settings=quiet)


@pytest.mark.filterwarnings("ignore:`langchain-community` is being sunset:DeprecationWarning")
@pytest.mark.parametrize("make_store", [in_memory, faiss, chroma])
async def test_vector_stores_find_the_passage(make_store, minilm, passages):
    store = make_store(passages, minilm)
    for passage, question in ANSWERS.items():
        assert store.similarity_search(question, k=1)[0].page_content == passage
        assert (await store.asimilarity_search(question, k=1))[0].page_content == passage


def test_vectors_are_the_cores_own(passages):
    embeddings, encoder = fake(), Encoder("any-name", backend="fake")
    assert embeddings.embed_documents(passages) == encoder.encode(passages).tolist()
    assert embeddings.embed_query(passages[0]) == encoder.encode_query(passages[0]).tolist()
    assert embeddings.embed_documents([]) == []
    assert embeddings.fingerprint == encoder.fingerprint == embeddings.encoder.fingerprint


async def test_async_and_progress_give_the_same(passages, capsys):
    plain, shown = fake(), fake(show_progress=True)
    texts = [f"{passage} {n}" for n in range(150) for passage in passages]
    wanted = plain.embed_documents(texts)
    assert capsys.readouterr().err == ""
    assert await plain.aembed_documents(texts) == wanted
    assert shown.embed_documents(texts) == wanted
    assert "750/750" in capsys.readouterr().err
    assert await shown.aembed_documents(texts) == wanted
    assert await plain.aembed_query(texts[3]) == plain.embed_query(texts[3])
    assert await plain.aembed_documents([]) == []


@pytest.mark.parametrize("progress", [False, True])
async def test_async_leaves_the_event_loop_free(held_engine, progress, passages):
    embeddings = fake(show_progress=progress)
    ticker = asyncio.create_task(held_engine.tick())
    vectors = await embeddings.aembed_documents(passages * 20)
    await ticker
    assert held_engine.ticks == 50
    assert len(vectors) == 20 * len(passages)


async def test_async_query_leaves_the_event_loop_free(held_engine):
    embeddings = fake()
    ticker = asyncio.create_task(held_engine.tick())
    assert len(await embeddings.aembed_query("a question")) == 384
    await ticker
    assert held_engine.ticks == 50


@pytest.mark.parametrize(("texts", "elsewhere"), [(64, False), (65, True)])
async def test_many_rows_become_lists_off_the_event_loop(monkeypatch, texts, elsewhere):
    threads = []
    to_lists = options.to_lists
    monkeypatch.setattr(options, "to_lists", lambda v: threads.append(threading.get_ident()) or to_lists(v))
    await fake().aembed_documents(["text"] * texts)
    assert [t != threading.get_ident() for t in threads] == [elsewhere]


def test_lists_are_made_of_few_rows_at_a_time():
    rows = []

    class Counted(np.ndarray):
        def tolist(self):
            rows.append(len(self))
            return super().tolist()

    vectors = np.arange(300, dtype=np.float32).reshape(150, 2)
    assert options.to_lists(vectors.view(Counted)) == vectors.tolist()
    assert rows == [64, 64, 22]
    assert type(options.to_lists(vectors)[0][0]) is float


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_copies_give_equal_vectors(clone, passages):
    embeddings = fake(dim=64, query_instruction="query: ", encode_kwargs={"prompt": "passage: "})
    cloned = clone(embeddings)
    assert cloned.embed_documents(passages) == embeddings.embed_documents(passages)
    assert cloned.embed_query(passages[0]) == embeddings.embed_query(passages[0])
    assert cloned.model_dump() == embeddings.model_dump()


def test_options_make_the_same_model_again(passages):
    embeddings = fake(
        model_kwargs={"truncate_dim": 32, "prompts": {"passage": "passage: "}},
        encode_kwargs={"normalize_embeddings": True},
        query_encode_kwargs={"prompt": "query: "},
    )
    again = NimbedEmbeddings(**embeddings.model_dump())
    assert again.fingerprint == embeddings.fingerprint


def test_options_cannot_be_changed_when_the_model_is_open():
    embeddings = fake()
    with pytest.raises(ValidationError, match="frozen"):
        embeddings.dim = 8
    embeddings.show_progress = True
    assert embeddings.show_progress


def cache_backed(embeddings, store, **options):
    return CacheBackedEmbeddings.from_bytes_store(
        embeddings, store, namespace=embeddings.fingerprint, key_encoder="sha256", **options
    )


async def test_fingerprint_is_the_namespace_of_cache_backed_embeddings(monkeypatch, passages):
    store, queries, embeddings = InMemoryByteStore(), InMemoryByteStore(), fake(query_instruction="query: ")
    wanted, question = embeddings.embed_documents(passages), embeddings.embed_query(passages[0])
    cached = cache_backed(embeddings, store, query_embedding_cache=queries)
    assert cached.embed_documents(passages) == wanted
    assert cached.embed_query(passages[0]) == question
    assert all(key.startswith(embeddings.fingerprint) for key in store.yield_keys())
    monkeypatch.setattr(Encoder, "encode", None)
    monkeypatch.setattr(Encoder, "aencode", None)
    # The same options in another object, as after a restart.
    again = cache_backed(fake(query_instruction="query: "), store, query_embedding_cache=queries)
    assert again.embed_documents(passages) == await again.aembed_documents(passages) == wanted
    assert again.embed_query(passages[0]) == await again.aembed_query(passages[0]) == question != wanted[0]


@pytest.mark.parametrize(
    "options",
    [{"max_length": 8}, {"dim": 8}, {"query_instruction": "q: "}, {"text_instruction": "p: "}, {"truncate": "chunk"}],
)
def test_other_options_have_another_namespace(options, passages):
    store, embeddings, other = InMemoryByteStore(), fake(truncate="silent"), fake(**{"truncate": "silent", **options})
    cache_backed(embeddings, store).embed_documents(passages)
    assert embeddings.fingerprint != other.fingerprint
    assert cache_backed(other, store).embed_documents(passages) == other.embed_documents(passages)
    assert len(list(store.yield_keys())) == 2 * len(passages)


async def test_async_retrievers_at_once(minilm, passages):
    store = await InMemoryVectorStore.afrom_texts(passages, minilm)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    found = await asyncio.gather(*(retriever.ainvoke(question) for question in ANSWERS.values()))
    assert [document.page_content for (document,) in found] == passages


async def test_what_is_not_text_is_an_error():
    embeddings = fake()
    with pytest.raises(InputTypeError, match="item 1"):
        embeddings.embed_documents(["a", None])
    with pytest.raises(InputTypeError, match="item 1"):
        await embeddings.aembed_documents(["a", None])
    with pytest.raises(InputTypeError, match="list"):
        embeddings.embed_query(["a"])


def test_missing_langchain_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core.embeddings", None)
    monkeypatch.delitem(sys.modules, "nimbed.langchain")
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[langchain\]"'):
        importlib.import_module("nimbed.langchain")


def test_file_name_chooses_the_graph(tiny_onnx):
    embeddings = NimbedEmbeddings(model=tiny_onnx, file_name="onnx/model.onnx", precision="fp32")
    assert embeddings.encoder.info.reasons["artefact"] == "built from onnx/model.onnx"
    with pytest.raises(InputError, match=r"file_name='onnx/other.onnx'.*no such file"):
        NimbedEmbeddings(model=tiny_onnx, file_name="onnx/other.onnx", precision="fp32")
