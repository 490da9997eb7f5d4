"""What the models' authors publish, where a folder leaves it out."""

from __future__ import annotations

import pytest
from tests.support.model_folders import BERT, refused, write

from nimbed._model_folder import families
from nimbed.spec import SpecOverrides, read_spec

BGE_EN = "Represent this sentence for searching relevant passages: "
WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query"
BGE_ZH = "为这个句子生成表示以用于检索相关文章\uff1a"


def prompts_of(folder, **options) -> tuple[str, str]:
    spec = read_spec(folder, **options)
    return spec.prompt("query"), spec.prompt("document")


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("BAAI/bge-small-en-v1.5", BGE_EN, ""),
        ("BAAI/bge-large-en", BGE_EN, ""),
        ("BAAI/bge-large-zh-v1.5", BGE_ZH, ""),
        ("BAAI/bge-small-zh", BGE_ZH, ""),
        ("BAAI/bge-m3", "", ""),
        ("intfloat/multilingual-e5-base", "query: ", "passage: "),
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("intfloat/e5-large", "query: ", "passage: "),
        ("thenlper/gte-small", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("nomic-ai/nomic-embed-text-v1", "search_query: ", "search_document: "),
        ("nomic-ai/modernbert-embed-base", "search_query: ", "search_document: "),
        ("Alibaba-NLP/gte-modernbert-base", "", ""),
        ("ibm-granite/granite-embedding-small-english-r2", "", ""),
        ("cl-nagoya/ruri-v3-310m", "検索クエリ: ", "検索文書: "),
        ("jinaai/jina-embeddings-v2-base-de", "", ""),
        (
            "jinaai/jina-embeddings-v3",
            "Represent the query for retrieving evidence documents: ",
            "Represent the document for retrieval: ",
        ),
        ("Snowflake/snowflake-arctic-embed-m-v1.5", BGE_EN, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("mixedbread-ai/mxbai-embed-large-v1", BGE_EN, ""),
        ("MongoDB/mdbr-leaf-ir", BGE_EN, ""),
        ("Qwen/Qwen3-Embedding-0.6B", f"{WEB_SEARCH}\nQuery:", ""),
        ("Qwen/Qwen3-Embedding-8B", f"{WEB_SEARCH}\nQuery:", ""),
        ("microsoft/harrier-oss-v1-270m", f"{WEB_SEARCH}\nQuery: ", ""),
        ("microsoft/harrier-oss-v1-0.6b", f"{WEB_SEARCH}\nQuery: ", ""),
        ("intfloat/multilingual-e5-large-instruct", f"{WEB_SEARCH}\nQuery: ", ""),
        ("google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("google/embeddinggemma-300m-qat-q4_0-unquantized", "task: search result | query: ", "title: none | text: "),
        ("someone/bge-small-en-v1.5-finetuned", "", ""),
        ("someone/not-e5-small", "", ""),
    ],
)
def test_families(tmp_path, name, query, document):
    assert prompts_of(write(tmp_path), name=name) == (query, document)


@pytest.mark.parametrize("name", ["bge-small-en-v1.5", "BGE-Small-EN-v1.5"])
def test_a_folder_is_known_by_its_own_name(tmp_path, name):
    spec = read_spec(write(tmp_path / name, []))
    assert (spec.pooling, spec.normalize, spec.prompt("query")) == ("cls", True, BGE_EN)
    assert spec.origins["prompt query"] == spec.origins["pooling"] == "family table: bge-en"


@pytest.mark.parametrize("name", ["bge-large-zh-v1.5", "multilingual-e5-base"])
def test_an_empty_string_turns_a_familys_prompt_off(tmp_path, name):
    spec = read_spec(write(tmp_path / name), overrides=SpecOverrides(prompts={"query": ""}))
    assert spec.prompt("query") == ""
    assert spec.origins["prompt query"] == "set by the user"


@pytest.mark.parametrize(
    ("name", "family", "pooling", "dims", "centered"),
    [
        ("nomic-embed-text-v1.5", "nomic-v1.5", "mean", (768, 512, 256, 128, 64), True),
        ("nomic-embed-text-v1", "nomic-v1", "mean", (), False),
        ("modernbert-embed-base", "modernbert-embed", "mean", (768, 256), False),
        ("modernbert-embed-large", "modernbert-embed-large", "mean", (1024, 256), False),
        ("gte-multilingual-base", "gte-cls", "cls", (), False),
        ("gte-large-en-v1.5", "gte-cls", "cls", (), False),
        ("gte-large", "gte", "mean", (), False),
        ("granite-embedding-english-r2", "granite", "cls", (), False),
        ("granite-embedding-97m-multilingual-r2", "granite", "cls", (), False),
        ("granite-embedding-125m-english", "granite", "cls", (), False),
        ("granite-embedding-311m-multilingual-r2", "granite-311m", "cls", (768, 512, 384, 256, 128), False),
        ("ruri-v3-30m", "ruri-v3", "mean", (), False),
        ("jina-embeddings-v2-base-code", "jina-v2", "mean", (), False),
        ("jina-embeddings-v3", "jina-v3", "mean", (1024, 768, 512, 256, 128, 64, 32), False),
        ("snowflake-arctic-embed-m-long", "arctic-v1", "cls", (), False),
        ("snowflake-arctic-embed-m-v2.0", "arctic-m-v2", "cls", (768, 256), False),
        ("Qwen3-Embedding-4B", "qwen3-embedding", "lasttoken", (), False),
        ("harrier-oss-v1-27b", "harrier", "lasttoken", (), False),
    ],
)
def test_what_else_is_known_of_a_family(tmp_path, name, family, pooling, dims, centered):
    spec = read_spec(write(tmp_path / name, []))
    assert (spec.pooling, spec.dims, spec.center_before_cut) == (pooling, dims, centered)
    assert spec.origins["pooling"] == f"family table: {family}"


@pytest.mark.parametrize(
    "name",
    [
        "granite-embedding-reranker-english-r2",
        "gte-reranker-modernbert-base",
        "ruri-small",
        "Qwen3-Reranker-0.6B",
        "embeddinggemma-300m-ONNX",
    ],
)
def test_others_are_of_no_family(name):
    assert families.find(name) is None


def test_the_folders_own_widths_go_before_the_familys(tmp_path):
    config = {**BERT, "matryoshka_dimensions": [8, 32, 16, 16]}
    assert read_spec(write(tmp_path / "jina-embeddings-v3", files={"config.json": config})).dims == (32, 16, 8)
    for wrong in ("8", [8, "x"], [0], [True], {}):
        folder = write(tmp_path / "wrong", files={"config.json": {**BERT, "matryoshka_dimensions": wrong}})
        refused(folder, "config.json", "matryoshka_dimensions", "a list of widths")


def test_a_family_whose_modules_do_more_than_pooling_has_none(tmp_path):
    """EmbeddingGemma has two dense layers and LEAF has one, which a folder without modules lacks."""
    for name in ("embeddinggemma-300m", "mdbr-leaf-mt"):
        refused(write(tmp_path / name, []), "modules.json names no pooling", "of no family whose pooling")
    spec = read_spec(write(tmp_path / "embeddinggemma-300m"))
    assert spec.dims == (768, 512, 256, 128)


def test_named_tasks_are_those_of_embeddinggemmas_folder():
    assert families.find("google/embeddinggemma-300m").tasks == {
        "BitextMining": "task: search result | query: ",
        "Classification": "task: classification | query: ",
        "Clustering": "task: clustering | query: ",
        "InstructionRetrieval": "task: code retrieval | query: ",
        "MultilabelClassification": "task: classification | query: ",
        "PairClassification": "task: sentence similarity | query: ",
        "Reranking": "task: search result | query: ",
        "Retrieval": "task: search result | query: ",
        "STS": "task: sentence similarity | query: ",
        "Summarization": "task: summarization | query: ",
    }
