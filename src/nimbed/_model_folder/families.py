"""What well-known families of models need and their folders often leave out.

A model is matched by its hub id or folder name; nothing else is inferred from the name. Sources: the model cards on
huggingface.co of BAAI/bge-*, intfloat/e5-*, thenlper/gte-*, sentence-transformers/*-MiniLM-*,
nomic-ai/nomic-embed-text-*, nomic-ai/modernbert-embed-base, lightonai/modernbert-embed-large, Alibaba-NLP/gte-*,
ibm-granite/granite-embedding-*, cl-nagoya/ruri-v3-*, jinaai/jina-embeddings-v2-*, -v3 and -v5-text-*,
Snowflake/snowflake-arctic-embed-*, mixedbread-ai/mxbai-embed-large-v1, MongoDB/mdbr-leaf-*, Qwen/Qwen3-Embedding-*,
microsoft/harrier-oss-v1-* and google/embeddinggemma-300m; and what the package mteb (2.26) has for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._files.json import Fields
    from nimbed._types import Pooling

# Architectures whose positions start behind pad_token_id, so that as many fewer are left for tokens.
OFFSET_POSITIONS = frozenset(
    {
        "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
        "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip


# What transformers takes for all of them where config.json names none.
PADDING = 1


def padding_of(config: Fields) -> int | None:
    """The token from whose id on a network of this ``config.json`` counts positions; None where it counts from 0.

    Raises:
        SpecError: pad_token_id is null, or no id.
    """
    if config.get("model_type") not in OFFSET_POSITIONS:
        return None
    if "pad_token_id" in config and config["pad_token_id"] is None:
        raise config.wrong("pad_token_id", "a token's id, behind which this network's positions start")
    # MPNet's network has it fixed.
    return PADDING if config["model_type"] == "mpnet" else config.whole("pad_token_id", default=PADDING)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the models whose name matches ``pattern`` share.

    Attributes:
        name: of the family.
        pattern: of its models' names, whole.
        pooling: where the folder names none; ``normalize`` likewise. None where its modules do more than pooling.
        query: the prompt where the folder has none, ``document`` likewise.
        tasks: prompts by the names of tasks, likewise.
        dims: widths that the models were trained to be cut to (Matryoshka), their own among them; empty where their
            cards name none.
        center_before_cut: whether their card has a vector's mean subtracted before it is cut. (It says layer norm
            without weights, which is that up to a factor above 0.)
    """

    name: str
    pattern: str
    pooling: Pooling | None
    normalize: bool = True
    query: str = ""
    document: str = ""
    tasks: Mapping[str, str] = field(default_factory=dict)
    dims: tuple[int, ...] = ()
    center_before_cut: bool = False


_INSTRUCTED = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_BGE_EN = "Represent this sentence for searching relevant passages: "
_NOMIC = ("search_query: ", "search_document: ")
_BGE_ZH = "为这个句子生成表示以用于检索相关文章："
_GEMMA = {
    name: f"task: {words} | query: "
    for words, names in {
        "search result": ("BitextMining", "Reranking", "Retrieval"),
        "code retrieval": ("InstructionRetrieval",),
        "classification": ("Classification", "MultilabelClassification"),
        "clustering": ("Clustering",),
        "sentence similarity": ("PairClassification", "STS"),
        "summarization": ("Summarization",),
    }.items()
    for name in names
}

FAMILIES = (
    Family(name="bge-en", pattern=r"bge-(small|base|large)-en(-v1\.5)?", pooling="cls", query=_BGE_EN),
    Family(name="bge-zh", pattern=r"bge-(small|base|large)-zh(-v1\.5)?", pooling="cls", query=_BGE_ZH),
    Family(name="bge-m3", pattern=r"bge-m3", pooling="cls"),
    Family(name="e5-instruct", pattern=r"multilingual-e5-large-instruct", pooling="mean", query=f"{_INSTRUCTED} "),
    Family(
        name="e5",
        pattern=r"(multilingual-)?e5-(small|base|large)(-v2)?",
        pooling="mean",
        query="query: ",
        document="passage: ",
    ),
    Family(name="gte", pattern=r"gte-(small|base|large)", pooling="mean"),
    # Of gte-multilingual-base every width from 128 on will do.
    Family(name="gte-cls", pattern=r"gte-(modernbert-base|multilingual-base|(base|large)-en-v1\.5)", pooling="cls"),
    Family(name="minilm", pattern=r"all-MiniLM-L\d+-v\d", pooling="mean"),
    Family(name="nomic-v1", pattern=r"nomic-embed-text-v1", pooling="mean", query=_NOMIC[0], document=_NOMIC[1]),
    Family(
        name="nomic-v1.5",
        pattern=r"nomic-embed-text-v1\.5",
        pooling="mean",
        query=_NOMIC[0],
        document=_NOMIC[1],
        dims=(768, 512, 256, 128, 64),
        center_before_cut=True,
    ),
    Family(
        name="modernbert-embed",
        pattern=r"modernbert-embed-base",
        pooling="mean",
        query=_NOMIC[0],
        document=_NOMIC[1],
        dims=(768, 256),
    ),
    Family(
        name="modernbert-embed-large",
        pattern=r"modernbert-embed-large",
        pooling="mean",
        query=_NOMIC[0],
        document=_NOMIC[1],
        dims=(1024, 256),
    ),
    Family(
        name="granite-311m",
        pattern=r"granite-embedding-311m-multilingual-r2",
        pooling="cls",
        dims=(768, 512, 384, 256, 128),
    ),
    Family(
        name="granite",
        pattern=r"granite-embedding-((97|107|278)m-multilingual|(30|125)m-english|(small-)?english)(-r2)?",
        pooling="cls",
    ),
    Family(name="ruri-v3", pattern=r"ruri-v3-\d+m", pooling="mean", query="検索クエリ: ", document="検索文書: "),
    Family(name="jina-v2", pattern=r"jina-embeddings-v2-(small-en|base-(en|de|es|zh|code))", pooling="mean"),
    Family(
        name="jina-v3",
        pattern=r"jina-embeddings-v3",
        pooling="mean",
        query="Represent the query for retrieving evidence documents: ",
        document="Represent the document for retrieval: ",
        dims=(1024, 768, 512, 256, 128, 64, 32),
    ),
    Family(
        name="jina-v5-nano",
        pattern=r"jina-embeddings-v5-text-nano(-retrieval)?",
        pooling="lasttoken",
        query="Query: ",
        document="Document: ",
        dims=(768, 512, 256, 128, 64, 32),
    ),
    Family(
        name="jina-v5-small",
        pattern=r"jina-embeddings-v5-text-small(-retrieval)?",
        pooling="lasttoken",
        query="Query: ",
        document="Document: ",
        dims=(1024, 768, 512, 256, 128, 64, 32),
    ),
    Family(name="arctic-v1", pattern=r"snowflake-arctic-embed-(xs|s|m|m-long|l)", pooling="cls", query=_BGE_EN),
    Family(
        name="arctic-v1.5", pattern=r"snowflake-arctic-embed-m-v1\.5", pooling="cls", query=_BGE_EN, dims=(768, 256)
    ),
    Family(
        name="arctic-m-v2", pattern=r"snowflake-arctic-embed-m-v2\.0", pooling="cls", query="query: ", dims=(768, 256)
    ),
    Family(
        name="arctic-l-v2", pattern=r"snowflake-arctic-embed-l-v2\.0", pooling="cls", query="query: ", dims=(1024, 256)
    ),
    Family(name="mxbai", pattern=r"mxbai-embed-large-v1", pooling="cls", query=_BGE_EN),
    # Of Qwen3-Embedding every width from 32 on will do.
    Family(name="qwen3-embedding", pattern=r"Qwen3-Embedding-(0\.6|4|8)B", pooling="lasttoken", query=_INSTRUCTED),
    Family(name="harrier", pattern=r"harrier-oss-v1-(270m|0\.6b|27b)", pooling="lasttoken", query=f"{_INSTRUCTED} "),
    Family(
        name="embeddinggemma",
        pattern=r"embeddinggemma-300m(-qat-q[48]_0-unquantized)?",
        pooling=None,
        query=_GEMMA["Retrieval"],
        document="title: none | text: ",
        tasks=_GEMMA,
        dims=(768, 512, 256, 128),
    ),
    Family(name="leaf", pattern=r"mdbr-leaf-(ir|mt)", pooling=None, query=_BGE_EN),
)


def find(name: str) -> Family | None:
    """The family of a hub id or folder name, or None."""
    last = name.rstrip("/").rpartition("/")[2]
    return next((f for f in FAMILIES if re.fullmatch(f.pattern, last, re.IGNORECASE)), None)
