"""The rerankers inside the frameworks' own retrievers."""

from __future__ import annotations

import pickle

import pytest

pytest.importorskip("langchain_classic")
pytest.importorskip("llama_index.core")

from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import QueryBundle, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from tests.support.cross_encoders import write_cross_encoder
from tests.support.qwen3_rerankers import write_reranker

from nimbed import Reranker, SpecOverrides
from nimbed.errors import InputError, InputTypeError, SpecError
from nimbed.langchain import NimbedCrossEncoder, NimbedEmbeddings, NimbedReranker
from nimbed.llama_index import NimbedEmbedding, NimbedRerank

QUERY = "The cat sat on the mat, they say."
TEXTS = ["Prices rose in May.", "A mutex lets one thread in.", "The cat sat on the mat.", "A cat was sitting there."]


@pytest.fixture(scope="module")
def compressor():
    return NimbedReranker(model="any-name", backend="fake", top_n=2)


@pytest.fixture(scope="module")
def rerank():
    return NimbedRerank(model="any-name", backend="fake")


def documents() -> list[Document]:
    return [Document(text, id=str(n), metadata={"source": f"{n}.txt"}) for n, text in enumerate(TEXTS)]


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=str(n)), score=n / 10) for n, text in enumerate(TEXTS)]


async def test_langchains_compression_retriever(compressor):
    store = InMemoryVectorStore.from_documents(documents(), NimbedEmbeddings(model="any-name", backend="fake"))
    retriever = ContextualCompressionRetriever(
        base_compressor=compressor, base_retriever=store.as_retriever(search_kwargs={"k": 4})
    )
    found = retriever.invoke(QUERY)
    assert [document.page_content for document in found] == [TEXTS[2], TEXTS[3]]
    assert found[0].metadata["source"] == "2.txt"
    scores = compressor.reranker.scores(QUERY, [TEXTS[2], TEXTS[3]])
    assert [document.metadata["relevance_score"] for document in found] == scores.tolist()
    assert await retriever.ainvoke(QUERY) == found


def test_langchain_documents_are_copied(compressor):
    given = documents()
    found = compressor.compress_documents(given, QUERY)
    assert given == documents()
    assert [document.id for document in found] == ["2", "3"]
    assert compressor.compress_documents([], QUERY) == []


def test_langchain_threshold_and_all(compressor):
    every = NimbedReranker(model="any-name", backend="fake", top_n=None)
    ranked = every.compress_documents(documents(), QUERY)
    assert len(ranked) == 4
    least = ranked[0].metadata["relevance_score"]
    high = NimbedReranker(model="any-name", backend="fake", top_n=None, score_threshold=least)
    assert high.compress_documents(documents(), QUERY) == ranked[:1]


def test_langchains_own_reranker_takes_the_cross_encoder():
    encoder = NimbedCrossEncoder(model_name="any-name", backend="fake", model_kwargs={"device": "cpu"})
    scores = encoder.score([(QUERY, text) for text in TEXTS])
    assert all(isinstance(score, float) for score in scores)
    found = CrossEncoderReranker(model=encoder, top_n=1).compress_documents(documents(), QUERY)
    assert found[0].page_content == TEXTS[2]
    assert encoder.score([]) == []


async def test_the_event_loop_stays_free(tmp_path, held_engine):
    folder = write_cross_encoder(tmp_path / "cross")
    compressor = NimbedReranker(model=folder, backend="fake")
    rerank = NimbedRerank(model=folder, backend="fake")
    import asyncio

    found, chosen, _ = await asyncio.gather(
        compressor.acompress_documents(documents(), QUERY),
        rerank.apostprocess_nodes(nodes(), query_str=QUERY),
        held_engine.tick(),
    )
    assert held_engine.ticks == 50
    assert found == compressor.compress_documents(documents(), QUERY)
    assert chosen == rerank.postprocess_nodes(nodes(), query_str=QUERY)


@pytest.mark.parametrize("adapter", [NimbedReranker, NimbedCrossEncoder, NimbedRerank])
def test_options_are_checked(adapter):
    with pytest.raises(InputError, match=r"top_m=\.\.\. is not known to nimbed"):
        adapter(model="any-name", backend="fake", top_m=3)
    with pytest.raises(InputError, match=r"trust_remote_code=\.\.\. cannot be honoured"):
        adapter(model="any-name", backend="fake", trust_remote_code=True)
    with pytest.raises(InputError, match=r"model_kwargs\['device'\] cannot be honoured"):
        adapter(model="any-name", backend="fake", model_kwargs={"device": "cuda"})
    made = adapter(model="any-name", backend="fake", max_length=64, device="cpu")
    assert made.reranker.info.max_length == 64
    assert pickle.loads(pickle.dumps(made)).reranker.fingerprint == made.reranker.fingerprint


def test_llama_indexs_query_engine(rerank):
    index = VectorStoreIndex([found.node for found in nodes()], embed_model=NimbedEmbedding("any-name", backend="fake"))
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=4), llm=MockLLM(), node_postprocessors=[rerank]
    )
    sources = engine.query(QUERY).source_nodes
    assert [found.text for found in sources] == [TEXTS[2], TEXTS[3]]
    assert [found.score for found in sources] == rerank.reranker.scores(QUERY, TEXTS)[[2, 3]].tolist()


def test_llama_index_nodes_stay_as_they_are(rerank):
    given = nodes()
    chosen = rerank.postprocess_nodes(given, query_bundle=QueryBundle(QUERY))
    assert given == nodes()
    assert [found.node_id for found in chosen] == ["2", "3"]
    assert rerank.postprocess_nodes([], query_str=QUERY) == []
    with pytest.raises(ValueError, match="needs the query"):
        rerank.postprocess_nodes(given)


def test_llama_index_keeps_the_retrievers_score():
    rerank = NimbedRerank(model="any-name", backend="fake", top_n=1, keep_retrieval_score=True)
    given = nodes()
    [found] = rerank.postprocess_nodes(given, query_str=QUERY)
    assert found.node.metadata["retrieval_score"] == 0.2
    assert found.score != 0.2
    assert given == nodes()


async def test_llama_index_is_told_of_each_rerank():
    seen = LlamaDebugHandler(print_trace_on_end=False)
    rerank = NimbedRerank(model="any-name", backend="fake", callback_manager=CallbackManager([seen]))
    rerank.postprocess_nodes(nodes(), query_str=QUERY)
    await rerank.apostprocess_nodes(nodes(), query_str=QUERY)
    pairs = seen.get_event_pairs(CBEventType.RERANKING)
    assert len(pairs) == 2
    for start, end in pairs:
        assert start.payload[EventPayload.QUERY_STR] == QUERY
        assert start.payload[EventPayload.MODEL_NAME] == "any-name"
        assert start.payload[EventPayload.TOP_K] == 2
        assert len(start.payload[EventPayload.NODES]) == 4
        assert len(end.payload[EventPayload.NODES]) == 2


def test_llama_index_makes_it_again_from_its_options(rerank):
    said = rerank.to_dict()
    assert said["class_name"] == "NimbedRerank"
    again = NimbedRerank.from_dict(said)
    assert again.reranker.fingerprint == rerank.reranker.fingerprint
    assert again.postprocess_nodes(nodes(), query_str=QUERY) == rerank.postprocess_nodes(nodes(), query_str=QUERY)


async def test_bad_input_is_named(compressor, rerank):
    with pytest.raises(InputTypeError, match="the query must be one string"):
        compressor.compress_documents(documents(), None)
    with pytest.raises(InputTypeError, match="the query must be one string"):
        await compressor.acompress_documents(documents(), 3)


@pytest.mark.usefixtures("native")
def test_the_instruction_of_a_language_model(tmp_path):
    pytest.importorskip("haystack")
    from haystack import Document as HaystackDocument

    from nimbed.haystack import NimbedRanker

    folder, mine = write_reranker(tmp_path / "judge"), "Find what contradicts the query"
    plain = {"backend": "native", "precision": "fp32"}
    with Reranker(folder, **plain, spec=SpecOverrides(prompts={"instruction": mine})) as reranker:
        scores = reranker.scores(QUERY, TEXTS)
    options = {"model": str(folder), "instruction": mine, **plain}
    assert NimbedCrossEncoder(**options).score([(QUERY, text) for text in TEXTS]) == scores.tolist()
    found = NimbedRerank(**options, top_n=4).postprocess_nodes(
        [NodeWithScore(node=TextNode(text=text)) for text in TEXTS], QueryBundle(QUERY)
    )
    best = sorted(scores.tolist(), reverse=True)
    assert [node.score for node in found] == best
    ranked = NimbedRanker(**options).run(QUERY, [HaystackDocument(content=text) for text in TEXTS])
    assert [document.score for document in ranked["documents"]] == best


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("adapter", [NimbedReranker, NimbedRerank])
def test_what_is_said_of_an_instruction_can_be_typed(adapter, tmp_path):
    folder = write_reranker(tmp_path / "judge")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(SpecError, match=r"give a reranker instruction=\.\.\.$"):
        adapter(model=str(folder))
    with pytest.raises(InputError, match=r"^instruction=\.\.\.: any-name is a sentence-embedding model"):
        adapter(model="any-name", backend="fake", instruction="one")
