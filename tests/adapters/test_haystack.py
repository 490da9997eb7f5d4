from __future__ import annotations

import asyncio
import copy
import importlib
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import DeserializationError, PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from pydantic import ValidationError

from nimbed import CacheConfig, Encoder, SpecOverrides
from nimbed._adapters import rerank_options
from nimbed.errors import (
    ClosedError,
    InputError,
    InputTypeError,
    MissingExtraError,
    ModelNotFoundError,
    TruncationError,
)
from nimbed.guard import guard
from nimbed.haystack import NimbedDocumentEmbedder, NimbedRanker, NimbedTextEmbedder

EMBEDDERS = [NimbedTextEmbedder, NimbedDocumentEmbedder]
COMPONENTS = [*EMBEDDERS, NimbedRanker]
PEPS = Path(__file__).parents[2] / "examples" / "data" / "peps"
QUESTIONS = {
    "What happens when the iterables given to zip differ in length?": "pep-0618.rst",
    "How can a generator delegate part of its operations to another generator?": "pep-0380.rst",
    "How does a single-file script declare its dependencies?": "pep-0723.rst",
}


def text_embedder(**options):
    return NimbedTextEmbedder("any-name", backend="fake", **options)


def document_embedder(**options):
    return NimbedDocumentEmbedder("any-name", backend="fake", **options)


def documents_of(texts):
    return [Document(content=text) for text in texts]


def embeddings(found):
    return [document.embedding for document in found["documents"]]


@pytest.fixture(scope="module")
def paragraphs():
    """The first paragraphs of three PEPs, each with the name of its file."""
    return [
        Document(content=text, meta={"source": name})
        for name in QUESTIONS.values()
        for text in [p for p in (PEPS / name).read_text(encoding="utf-8").split("\n\n") if len(p.split()) > 8][:15]
    ]


def indexing(model, store):
    pipeline = Pipeline()
    pipeline.add_component("embedder", NimbedDocumentEmbedder(model))
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


def asking(model, store):
    pipeline = Pipeline()
    pipeline.add_component("embedder", NimbedTextEmbedder(model))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=3))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    return pipeline


def sources(found):
    return [document.meta["source"] for document in found["retriever"]["documents"]]


@pytest.fixture(scope="module")
def indexed(minilm_fp32, paragraphs):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    written = indexing(minilm_fp32, store).run({"embedder": {"documents": paragraphs}})
    assert written == {"writer": {"documents_written": len(paragraphs)}}
    return store


def test_pipelines_index_and_find(minilm_fp32, indexed):
    pipeline = asking(minilm_fp32, indexed)
    for question, source in QUESTIONS.items():
        assert sources(pipeline.run({"embedder": {"text": question}}))[0] == source
    pipeline.close()
    # What was closed is opened again when it is run.
    assert sources(pipeline.run({"embedder": {"text": question}}))[0] == source


async def test_async_pipelines_index_and_find(minilm_fp32, paragraphs, indexed):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    await indexing(minilm_fp32, store).run_async({"embedder": {"documents": paragraphs}})
    pipeline = asking(minilm_fp32, store)
    found = await asyncio.gather(*(pipeline.run_async({"embedder": {"text": question}}) for question in QUESTIONS))
    assert [sources(one)[0] for one in found] == list(QUESTIONS.values())
    ours, others = ({one.id: one.embedding for one in made.filter_documents()} for made in (store, indexed))
    assert min(np.dot(vector, others[key]) for key, vector in ours.items()) >= 0.9999


def test_a_pipeline_is_the_same_after_yaml(minilm_fp32, paragraphs):
    store = InMemoryDocumentStore()
    pipeline, texts = indexing(minilm_fp32, store), paragraphs[:5]
    yaml = pipeline.dumps()
    with pytest.raises(DeserializationError, match="nimbed"):
        Pipeline.loads(yaml)
    again = Pipeline.loads(yaml, allowed_modules=["nimbed.*"])
    assert again.dumps() == yaml
    wanted = pipeline.get_component("embedder").run(texts)
    assert embeddings(again.get_component("embedder").run(texts)) == embeddings(wanted)


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_dictionary_has_what_the_user_said(kind, tmp_path):
    assert kind(tmp_path).to_dict() == {
        "type": f"nimbed.haystack.{kind.__name__}",
        "init_parameters": {"model": str(tmp_path)},
    }
    assert kind().to_dict()["init_parameters"]["model"]  # a later default must not change a stored pipeline
    words = {"model": "m", "backend": "fake", "max_length": 8, "query_instruction": "", "local_files_only": True}
    assert kind(**words).to_dict()["init_parameters"] == words
    assert kind.from_dict(kind(**words).to_dict()).to_dict() == kind(**words).to_dict()


def test_every_option_survives_a_dictionary(tmp_path):
    words = {
        "model": "m", "backend": "fake", "precision": "fp32", "max_length": 9, "truncate": "chunk", "dim": 8,
        "threads": 1, "cache": None, "pooling": "mean", "normalize": True, "query_instruction": "q: ",
        "text_instruction": "t: ", "revision": "main", "file_name": "f.xml", "local_files_only": True,
        "cache_folder": str(tmp_path),
    }  # fmt: skip
    of_documents = {"meta_fields_to_embed": ["title"], "embedding_separator": " ", "progress_bar": True}
    of_ranker = {"meta_fields_to_embed": ["title"], "embedding_separator": " ", "top_k": 2, "score_threshold": 0.5}
    shared = {name: value for name, value in words.items() if name not in {"cache", "dim"}}
    for made in (
        NimbedTextEmbedder(**words),
        NimbedDocumentEmbedder(**words, **of_documents),
        NimbedRanker(**{**shared, **of_ranker}),
    ):
        data = made.to_dict()
        assert type(made).from_dict(data).to_dict() == data
    assert NimbedTextEmbedder(**words).to_dict()["init_parameters"] == words
    assert NimbedDocumentEmbedder(**words, **of_documents).to_dict()["init_parameters"] == {**words, **of_documents}
    assert NimbedRanker(**{**shared, **of_ranker}).to_dict()["init_parameters"] == {**shared, **of_ranker}


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_a_password_is_not_in_the_dictionary(kind):
    made = kind("m", backend="fake", cache="redis://me:s3cret-word@127.0.0.1:1/0")
    pipeline = Pipeline()
    pipeline.add_component("embedder", made)
    assert "s3cret-word" not in f"{made!r} {made.to_dict()} {pipeline.dumps()} {pipeline!r}"
    assert "redis://127.0.0.1:1/0" in pipeline.dumps()
    assert kind.from_dict(made.to_dict()).to_dict() == made.to_dict()


def test_a_cache_survives_yaml(tmp_path):
    pipeline = Pipeline()
    pipeline.add_component("embedder", text_embedder(cache=CacheConfig(url=f"sqlite:///{tmp_path}/v.db", ttl_s=60.0)))
    vector = pipeline.run({"embedder": {"text": "one"}})["embedder"]["embedding"]
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["nimbed.*"])
    pipeline.close()
    assert again.run({"embedder": {"text": "one"}})["embedder"]["embedding"] == vector
    assert again.get_component("embedder").encoder.stats().cache.tier.hits == 1


def test_vectors_are_the_cores_own_by_role(passages):
    prompts = {"query": "query: ", "document": "passage: "}
    encoder = Encoder("any-name", backend="fake", dim=64, spec=SpecOverrides(prompts=prompts))
    options = {"dim": 64, "query_instruction": "query: ", "text_instruction": "passage: "}
    text, document = text_embedder(**options), document_embedder(**options)
    assert text.run(passages[0]) == {"embedding": encoder.encode_query(passages[0]).tolist()}
    found = document.run(documents_of(passages))
    assert embeddings(found) == encoder.encode(passages).tolist()
    assert [one.content for one in found["documents"]] == passages
    assert text.fingerprint == document.fingerprint == encoder.fingerprint
    assert document.run([]) == {"documents": []}


async def test_async_gives_the_same(passages):
    text, document = text_embedder(), document_embedder()
    many = documents_of(f"{passage} {n}" for n in range(40) for passage in passages)
    assert embeddings(await document.run_async(many)) == embeddings(document.run(many))
    assert await text.run_async("a question") == text.run("a question")
    assert await document.run_async([]) == {"documents": []}


async def test_async_leaves_the_event_loop_free(held_engine, passages):
    ticker = asyncio.create_task(held_engine.tick())
    assert len((await document_embedder().run_async(documents_of(passages * 20)))["documents"]) == 100
    assert len((await text_embedder().run_async("a question"))["embedding"]) == 384
    await ticker


async def test_a_model_is_opened_off_the_event_loop(monkeypatch):
    threads = []
    opened = Encoder.__init__

    def init(self, *args, **options):
        threads.append(threading.get_ident())
        opened(self, *args, **options)

    monkeypatch.setattr(Encoder, "__init__", init)
    embedder = text_embedder()
    assert threads == []
    await asyncio.gather(*(embedder.run_async(f"question {n}") for n in range(8)))
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    embedder.warm_up()
    assert len(threads) == 1


def test_threads_that_run_a_cold_component_open_its_model_once(monkeypatch):
    opened, start = [], threading.Barrier(8)
    init = Encoder.__init__
    monkeypatch.setattr(Encoder, "__init__", lambda self, *a, **o: opened.append(self) or init(self, *a, **o))
    embedder = document_embedder()

    def work():
        start.wait(10)
        embedder.run([Document(content="one")])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1


def test_closing_gives_the_model_back():
    embedder = text_embedder()
    embedder.close()
    first = embedder.encoder
    vector = embedder.run("one")
    embedder.close()
    embedder.close()
    with pytest.raises(ClosedError):
        first.encode_query("two")
    assert embedder.run("one") == vector
    assert embedder.encoder is not first


def test_metadata_comes_before_the_content():
    documents = [
        Document(content="body", meta={"title": "Title", "year": 2024, "other": "no"}),
        Document(content="body", meta={"title": None}),
        Document(content=None, meta={"year": 0}),
        Document(content="body"),
    ]
    before = copy.deepcopy(documents)
    found = document_embedder(meta_fields_to_embed=["title", "year"], embedding_separator=" | ").run(documents)
    wanted = Encoder("any-name", backend="fake").encode(["Title | 2024 | body", "body", "0 | ", "body"])
    assert embeddings(found) == wanted.tolist()
    assert documents == before
    assert [one.id for one in found["documents"]] == [one.id for one in documents]
    default = document_embedder(meta_fields_to_embed=["title"]).run(documents[:1])
    assert embeddings(default) == Encoder("any-name", backend="fake").encode(["Title\nbody"]).tolist()


def test_progress_is_shown_where_wanted(passages, capsys):
    plain = document_embedder().run(documents_of(passages))
    assert capsys.readouterr().err == ""
    shown = document_embedder(progress_bar=True).run(documents_of(passages))
    assert "5/5" in capsys.readouterr().err
    assert embeddings(shown) == embeddings(plain)


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ("a string", "list of Documents.*NimbedTextEmbedder"),
        ([Document(content="a"), "b"], "item 1 is str, not a Document"),
        (Document(content="a"), "list of Documents"),
        ((Document(content="a"),), "list of Documents"),
    ],
)
async def test_what_is_not_a_document_is_named(documents, says):
    for kind in (document_embedder(), NimbedRanker("any-name")):
        arguments = {"query": "q"} if isinstance(kind, NimbedRanker) else {}
        with pytest.raises(TypeError, match=says) as caught:
            kind.run(documents=documents, **arguments)
        assert isinstance(caught.value, InputTypeError)
        with pytest.raises(InputTypeError, match=says):
            await kind.run_async(documents=documents, **arguments)


async def test_what_is_not_a_text_is_named():
    for wrong in (["a"], None, Document(content="a")):
        with pytest.raises(TypeError, match=r"one string is wanted.*NimbedDocumentEmbedder"):
            text_embedder().run(wrong)
        with pytest.raises(InputTypeError, match="one string is wanted"):
            await text_embedder().run_async(wrong)


def test_errors_of_the_core_name_the_item():
    with pytest.raises(TruncationError, match="item 1"):
        document_embedder(truncate="error", max_length=8).run(documents_of(["short", "long " * 50]))
    pipeline = Pipeline()
    pipeline.add_component("embedder", document_embedder())
    with pytest.raises(PipelineRuntimeError, match="item 1"):
        pipeline.run({"embedder": {"documents": [Document(content="fine"), Document(id="b", content="\ud800")]}})


def test_options_are_checked_when_they_are_said():
    with pytest.raises(ValidationError, match="dim"):
        text_embedder(dim="eight")
    with pytest.raises(ValidationError, match="top_k"):
        NimbedRanker("m", top_k=0)
    with pytest.raises(TypeError, match="batch_size"):
        document_embedder(batch_size=3)
    with pytest.raises(ValidationError, match="cache"):
        text_embedder(cache=-1)
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        NimbedTextEmbedder(PEPS).warm_up()


def test_the_guard_knows_both_embedders():
    metadata = {}
    assert guard(document_embedder(), metadata)
    assert not guard(text_embedder(), metadata)


def test_missing_haystack_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "haystack", None)
    monkeypatch.delitem(sys.modules, "nimbed.haystack")
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[haystack\]"'):
        importlib.import_module("nimbed.haystack")


class StubReranker:
    """Stands for nimbed.Reranker in the tests of what the ranker does around it: the score counts shared words."""

    made: list[dict[str, object]] = []  # noqa: RUF012

    def __init__(self, model, **options):
        self.made.append({"model": model, **options})
        self.threads = set()

    def rank(self, query, documents, *, top_k=None):
        self.threads.add(threading.get_ident())
        scores = [len(set(query.split()) & set(text.split())) / 10 for text in documents]
        order = sorted(range(len(documents)), key=lambda n: -scores[n])[:top_k]
        return [type("Ranked", (), {"index": n, "score": scores[n]}) for n in order]

    async def arank(self, query, documents, *, top_k=None):
        return self.rank(query, documents, top_k=top_k)

    def close(self):
        pass


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(StubReranker, "made", [])
    monkeypatch.setattr(rerank_options, "Reranker", StubReranker)
    return StubReranker


CANDIDATES = [
    Document(content="nothing here", score=0.9),
    Document(content="one two", meta={"title": "three"}, score=0.1),
    Document(content="one two three four"),
]


def contents(found):
    return [document.content for document in found["documents"]]


def test_ranker_puts_copies_in_order(stub):
    before = copy.deepcopy(CANDIDATES)
    ranker = NimbedRanker("m", backend="fake", threads=1, query_instruction="q: ", revision="main")
    found = ranker.run("one two three four", CANDIDATES)
    assert [(d.content, d.score) for d in found["documents"]] == [
        ("one two three four", 0.4), ("one two", 0.2), ("nothing here", 0.0),
    ]  # fmt: skip
    assert before == CANDIDATES
    [said] = stub.made
    assert said["model"] == "m"
    assert (said["backend"], said["threads"], said["truncate"]) == ("fake", 1, "silent")
    assert said["spec"].prompts == {"query": "q: "}
    assert said["source"].revision == "main"


async def test_ranker_limits(stub):
    ranker = NimbedRanker("m", top_k=2, score_threshold=0.1, meta_fields_to_embed=["title"], embedding_separator=" ")
    query = "one two three four"
    assert [one.score for one in ranker.run(query, CANDIDATES)["documents"]] == [0.4, 0.3]
    assert contents(ranker.run(query, CANDIDATES, top_k=1)) == ["one two three four"]
    assert contents(ranker.run(query, CANDIDATES, score_threshold=0.4)) == ["one two three four"]
    assert len(ranker.run(query, CANDIDATES, top_k=3, score_threshold=0.0)["documents"]) == 3
    assert ranker.run(query, []) == {"documents": []} == await ranker.run_async(query, [])
    assert await ranker.run_async(query, CANDIDATES) == ranker.run(query, CANDIDATES)
    assert len(stub.made) == 1


def test_ranker_keeps_one_of_those_that_share_an_id(stub):
    documents = [
        Document(id="a", content="one", meta={"from": "bm25"}, score=0.1),
        Document(id="b", content="one two"),
        Document(id="a", content="one", meta={"from": "vectors"}, score=0.8),
        Document(id="b", content="one two", meta={"from": "later"}),
    ]
    found = NimbedRanker("m").run("one two", documents)["documents"]
    assert [(one.id, one.meta) for one in found] == [("b", {}), ("a", {"from": "vectors"})]


async def test_ranker_with_the_fake_backend(passages):
    ranker = NimbedRanker("any-name", backend="fake", top_k=2)
    found = ranker.run(passages[2], documents_of(passages))
    assert contents(found)[0] == passages[2]
    assert found["documents"][0].score == pytest.approx(1, abs=1e-5)
    assert len(found["documents"]) == 2
    assert await ranker.run_async(passages[2], documents_of(passages)) == found
    with pytest.raises(InputTypeError, match="query"):
        ranker.run(None, documents_of(passages))
    with pytest.raises(InputError, match="top_k"):
        ranker.run("q", documents_of(passages), top_k=0)
    ranker.close()
    assert contents(ranker.run(passages[2], documents_of(passages))) == contents(found)


async def test_ranking_pipeline_after_yaml(minilm_fp32, paragraphs):
    pipeline = Pipeline()
    pipeline.add_component("ranker", NimbedRanker(minilm_fp32, top_k=3, meta_fields_to_embed=["source"]))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["nimbed.*"])
    question, source = next(iter(QUESTIONS.items()))
    data = {"ranker": {"query": question, "documents": paragraphs[::3]}}
    found = pipeline.run(data)["ranker"]["documents"]
    assert found[0].meta["source"] == source
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert again.run(data)["ranker"]["documents"] == found
    assert (await again.run_async(data))["ranker"]["documents"] == found


def test_nothing_is_sent_from_here():
    from haystack.telemetry import _telemetry

    assert _telemetry.telemetry is None
