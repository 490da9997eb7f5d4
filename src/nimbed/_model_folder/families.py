"""What well-known families of models need and their folders often leave out.

A model is matched by its hub id or folder name; nothing else is inferred from the name. Sources: the model cards of
BAAI/bge-*, intfloat/e5-*, thenlper/gte-* and sentence-transformers/*-MiniLM-*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    """Pooling, normalization and prompts shared by the models whose name matches ``pattern``."""

    name: str
    pattern: str
    pooling: Pooling
    normalize: bool = True
    query: str = ""
    document: str = ""


_E5_TASK = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
_BGE_EN = "Represent this sentence for searching relevant passages: "
_BGE_ZH = "为这个句子生成表示以用于检索相关文章："

FAMILIES = (
    Family(name="bge-en", pattern=r"bge-(small|base|large)-en(-v1\.5)?", pooling="cls", query=_BGE_EN),
    Family(name="bge-zh", pattern=r"bge-(small|base|large)-zh(-v1\.5)?", pooling="cls", query=_BGE_ZH),
    Family(name="bge-m3", pattern=r"bge-m3", pooling="cls"),
    Family(name="e5-instruct", pattern=r"multilingual-e5-large-instruct", pooling="mean", query=_E5_TASK),
    Family(
        name="e5",
        pattern=r"(multilingual-)?e5-(small|base|large)(-v2)?",
        pooling="mean",
        query="query: ",
        document="passage: ",
    ),
    Family(name="gte", pattern=r"gte-(small|base|large)", pooling="mean"),
    Family(name="minilm", pattern=r"all-MiniLM-L\d+-v\d", pooling="mean"),
)


def find(name: str) -> Family | None:
    """The family of a hub id or folder name, or None."""
    last = name.rstrip("/").rpartition("/")[2]
    return next((f for f in FAMILIES if re.fullmatch(f.pattern, last, re.IGNORECASE)), None)
