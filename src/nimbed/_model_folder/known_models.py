"""What is known of networks and models beyond what their folders say: for people who choose one; no vector needs it.

Pooling, prompts and widths are those of :mod:`nimbed._model_folder.families`, ``model_type`` those of the table of
networks; nothing of that is repeated here. Licences and longest texts are those of the model cards and settings files
on huggingface.co, November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nimbed._model_folder import families

if TYPE_CHECKING:
    from nimbed._model_folder.families import Family
    from nimbed._types import Pooling

_APACHE, _MIT, _NC = "Apache-2.0", "MIT", "CC BY-NC 4.0: no commercial use"
_TRANSFORMERS = "transformers' class"
_SMALL = f"{_TRANSFORMERS}, at small widths"
_JINA_TASKS = ("retrieval", "text-matching", "classification", "separation")
_JINA_V5_TASKS = ("retrieval", "text-matching", "clustering", "classification")


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What is known of a network of the table.

    Attributes:
        title: what people call it.
        such_as: models that are one, and what is left out.
        oracle: whose vectors ours are compared with, of seeded weights.
        scores: whether its cross-encoders are run too.
    """

    title: str
    such_as: str
    oracle: str = _TRANSFORMERS
    scores: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of a model.

    Attributes:
        name: on the hub.
        network: its entry in the table of networks.
        width: of its vectors; None for a cross-encoder.
        longest: text, in tokens, by its card or its settings.
        licence: of its weights.
        gated: whether the hub asks for consent to its terms first.
        pooling: where its family has none.
        head: what is behind the pooling.
        adapters: for tasks, by name.
        weights_checked: whether its own weights were compared, and not its network's alone.
    """

    name: str
    network: str
    width: int | None
    longest: int
    licence: str = _APACHE
    gated: bool = False
    pooling: Pooling | None = None
    head: str = ""
    adapters: tuple[str, ...] = ()
    weights_checked: bool = False

    @property
    def family(self) -> Family | None:
        """The family whose pooling, prompts and widths it has."""
        return families.find(self.name)


NETWORKS = {
    "bert": NetworkFacts(
        title="BERT", such_as="MiniLM, BGE, E5, GTE v1, mxbai, Arctic, LEAF; ms-marco-MiniLM", scores=True
    ),
    "roberta": NetworkFacts(
        title="RoBERTa, XLM-R, CamemBERT", such_as="bge-m3, multilingual-e5; bge-reranker", scores=True
    ),
    "distilbert": NetworkFacts(title="DistilBERT", such_as="multi-qa-distilbert, msmarco-distilbert", scores=True),
    "mpnet": NetworkFacts(title="MPNet", such_as="all-mpnet-base-v2, multi-qa-mpnet", scores=True),
    "electra": NetworkFacts(title="ELECTRA", such_as="ms-marco-electra; not with narrower embeddings", scores=True),
    "modernbert": NetworkFacts(
        title="ModernBERT",
        such_as="gte-modernbert, granite r2, ruri-v3, modernbert-embed; gte-reranker-modernbert",
        scores=True,
    ),
    "nomic_bert": NetworkFacts(title="NomicBERT", such_as="nomic-embed-text v1 and v1.5; not its mixture of experts"),
    "gte": NetworkFacts(
        title="GTE",
        such_as="gte-multilingual-base, gte-base-en-v1.5, arctic-m-v2 (`new` is Alibaba's); its cross-encoders are "
        "read, and their scores were not compared yet",
        scores=True,
    ),
    "jina_bert_v2": NetworkFacts(
        title="JinaBERT v2, with ALiBi", such_as="jina-embeddings-v2", oracle="a module written from its paper"
    ),
    "jina_v3": NetworkFacts(
        title="jina-v3, with rotary positions",
        such_as="jina-embeddings-v3",
        oracle=f"{_TRANSFORMERS}; its adapters: a module written from its paper",
    ),
    "eurobert": NetworkFacts(title="EuroBERT", such_as="EuroBERT-210m, 610m and what is trained from them"),
    "qwen3": NetworkFacts(title="Qwen3", such_as="Qwen3-Embedding, harrier-0.6b; Qwen3-Reranker", scores=True),
    "jina-v5-nano": NetworkFacts(
        title="jina-v5 nano",
        such_as="jina-embeddings-v5-text-nano: EuroBERT with adapters",
        oracle=_SMALL,
    ),
    "jina-v5-small": NetworkFacts(
        title="jina-v5 small",
        such_as="jina-embeddings-v5-text-small: Qwen3 with adapters",
        oracle=_SMALL,
    ),
    "gemma3": NetworkFacts(title="Gemma 3, text", such_as="EmbeddingGemma, harrier-270m"),
}

_MINILM = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
MODELS = (
    ModelFacts(
        name="sentence-transformers/all-MiniLM-L6-v2", network="bert", width=384, longest=256, weights_checked=True
    ),
    ModelFacts(
        name="sentence-transformers/all-mpnet-base-v2",
        network="mpnet",
        width=768,
        longest=384,
        pooling="mean",
    ),
    ModelFacts(name=_MINILM, network="bert", width=384, longest=128, pooling="mean"),
    ModelFacts(name="BAAI/bge-small-en-v1.5", network="bert", width=384, longest=512, licence=_MIT),
    ModelFacts(name="BAAI/bge-base-en-v1.5", network="bert", width=768, longest=512, licence=_MIT),
    ModelFacts(name="BAAI/bge-large-en-v1.5", network="bert", width=1024, longest=512, licence=_MIT),
    ModelFacts(
        name="BAAI/bge-m3",
        network="roberta",
        width=1024,
        longest=8192,
        licence=_MIT,
        head="dense vectors alone, not its sparse and ColBERT heads",
    ),
    ModelFacts(name="intfloat/multilingual-e5-small", network="bert", width=384, longest=512, licence=_MIT),
    ModelFacts(name="intfloat/multilingual-e5-base", network="roberta", width=768, longest=512, licence=_MIT),
    ModelFacts(name="intfloat/multilingual-e5-large", network="roberta", width=1024, longest=512, licence=_MIT),
    ModelFacts(
        name="intfloat/multilingual-e5-large-instruct", network="roberta", width=1024, longest=512, licence=_MIT
    ),
    ModelFacts(name="mixedbread-ai/mxbai-embed-large-v1", network="bert", width=1024, longest=512),
    ModelFacts(name="Snowflake/snowflake-arctic-embed-m-v2.0", network="gte", width=768, longest=8192),
    ModelFacts(name="Snowflake/snowflake-arctic-embed-l-v2.0", network="roberta", width=1024, longest=8192),
    ModelFacts(name="nomic-ai/nomic-embed-text-v1.5", network="nomic_bert", width=768, longest=8192),
    ModelFacts(name="nomic-ai/modernbert-embed-base", network="modernbert", width=768, longest=8192),
    ModelFacts(name="Alibaba-NLP/gte-modernbert-base", network="modernbert", width=768, longest=8192),
    ModelFacts(name="Alibaba-NLP/gte-multilingual-base", network="gte", width=768, longest=8192),
    ModelFacts(name="ibm-granite/granite-embedding-english-r2", network="modernbert", width=768, longest=8192),
    ModelFacts(
        name="ibm-granite/granite-embedding-311m-multilingual-r2", network="modernbert", width=768, longest=32768
    ),
    ModelFacts(name="cl-nagoya/ruri-v3-310m", network="modernbert", width=768, longest=8192),
    ModelFacts(name="jinaai/jina-embeddings-v2-base-en", network="jina_bert_v2", width=768, longest=8192),
    ModelFacts(
        name="jinaai/jina-embeddings-v3",
        network="jina_v3",
        width=1024,
        longest=8192,
        licence=_NC,
        adapters=_JINA_TASKS,
    ),
    ModelFacts(
        name="jinaai/jina-embeddings-v5-text-nano",
        network="jina-v5-nano",
        width=768,
        longest=8192,
        licence=_NC,
        adapters=_JINA_V5_TASKS,
    ),
    ModelFacts(
        name="jinaai/jina-embeddings-v5-text-small",
        network="jina-v5-small",
        width=1024,
        longest=32768,
        licence=_NC,
        adapters=_JINA_V5_TASKS,
    ),
    ModelFacts(
        name="google/embeddinggemma-300m",
        network="gemma3",
        width=768,
        longest=2048,
        licence="Gemma's terms of use",
        gated=True,
        pooling="mean",
        head="two dense layers",
    ),
    ModelFacts(name="Qwen/Qwen3-Embedding-0.6B", network="qwen3", width=1024, longest=32768),
    ModelFacts(name="microsoft/harrier-oss-v1-270m", network="gemma3", width=640, longest=32768, licence=_MIT),
    ModelFacts(name="microsoft/harrier-oss-v1-0.6b", network="qwen3", width=1024, longest=32768, licence=_MIT),
    ModelFacts(
        name="MongoDB/mdbr-leaf-ir", network="bert", width=768, longest=512, pooling="mean", head="one dense layer"
    ),
    ModelFacts(
        name="Qwen/Qwen3-Reranker-0.6B",
        network="qwen3",
        width=None,
        longest=40960,
        head="the answer: yes or no",
    ),
    ModelFacts(name="cross-encoder/ms-marco-MiniLM-L6-v2", network="bert", width=None, longest=512, head="classifier"),
    ModelFacts(name="BAAI/bge-reranker-v2-m3", network="roberta", width=None, longest=8192, head="classifier"),
    ModelFacts(
        name="Alibaba-NLP/gte-reranker-modernbert-base",
        network="modernbert",
        width=None,
        longest=8192,
        head="classifier",
    ),
    ModelFacts(
        name="ibm-granite/granite-embedding-reranker-english-r2",
        network="modernbert",
        width=None,
        longest=8192,
        head="classifier",
    ),
)
