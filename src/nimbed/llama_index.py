"""LlamaIndex's ``BaseEmbedding`` over :class:`nimbed.Encoder`; its reranker is in ``_adapters``."""

import asyncio
import hashlib
import multiprocessing
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from os import PathLike
from typing import Annotated, Any, Literal

from nimbed import CacheConfig
from nimbed.errors import MissingExtraError

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
except ImportError as err:
    raise MissingExtraError('nimbed.llama_index needs llama-index-core: pip install "nimbed[llama-index]"') from err

from pydantic import BeforeValidator, Field
from typing_extensions import Self

from nimbed._adapters.advice import advising_in
from nimbed._adapters.llama_index_rerank import NimbedRerank
from nimbed._adapters.llama_index_store import COLLECTION, KeyedStore
from nimbed._adapters.options import ModelOptions, Pooling, Precision, Role, TextPath, Truncate
from nimbed._adapters.translated import MODEL_RULES, ONE_PROCESS, Rule, settle, translate
from nimbed._machine import thread_share
from nimbed._text.checks import check_text, check_texts

__all__ = ["NimbedEmbedding", "NimbedRerank"]

_VECTOR = "vector"

_INSTRUCTIONS = Rule(remedy="say query_instruction=... and text_instruction=...")
_NO_OBJECTS = Rule(harmless=("deprecated",), remedy="nimbed reads the tokenizer of the model folder; remove it")
_RULES = {
    **MODEL_RULES,
    "default_prompt_name": _INSTRUCTIONS,
    "model": Rule(harmless=("deprecated",), becomes="model_name"),
    "parallel_process": ONE_PROCESS,
    "prompts": _INSTRUCTIONS,
    "target_devices": ONE_PROCESS,
    "tokenizer": _NO_OBJECTS,
    "tokenizer_name": _NO_OBJECTS,
}


class NimbedEmbedding(ModelOptions, BaseEmbedding):
    """Embeddings for LlamaIndex, computed by nimbed on the CPU.

    The arguments of ``HuggingFaceEmbedding`` mean the same here, so migrating is a change of import. The model is
    opened at once. The object may be used by many threads and event loops, copied, pickled, and made again from
    ``to_dict``. The options of the model can't be changed. It differs from ``HuggingFaceEmbedding`` as follows:

    - If you give no instruction, the folder's own prompts are used, or for well-known families those of the model card;
      ``""`` turns one off.
    - ``normalize=False`` gives vectors as they come from the pooling, even if the model folder normalizes;
      ``normalize=None`` does what the folder says.
    - Models are downloaded to the hub's own cache; ``cache_folder=llama_index.core.utils.get_cache_dir()`` finds those
      that ``HuggingFaceEmbedding`` fetched.

    ``IngestionPipeline.run(num_workers=n)`` opens the model in each of ``n`` processes. Give ``num_workers=n`` here
    too: if ``threads`` is None, an embedding that is opened in a child process then takes one n-th of the cores, and
    ``encoder.info.reasons["threads"]`` says so. A single process, which takes all cores, is as fast.

    One ``embeddings_cache`` may serve several models, and queries and documents: its keys (in the store's collection
    ``"embeddings"``) name the fingerprint, the role and a hash of the text. The field is a view of the store that you
    gave, which is ``embeddings_cache.store``.

    Args:
        model_name: hub id, model folder or artefact folder; also ``model``.
        max_length, backend, precision, truncate, dim, threads, cache: as in :class:`nimbed.Encoder`.
        query_instruction, text_instruction: the prompts, put before queries and documents as they are.
        task, pooling, normalize: as in :class:`nimbed.SpecOverrides`.
        revision, local_files_only, cache_folder, file_name (its ``file``), allow_code: as in :class:`nimbed.Source`.
        embed_batch_size: how many texts LlamaIndex hands over at once; batches are planned over all of them.
        callback_manager, rate_limiter: LlamaIndex's own.
        num_workers: workers of LlamaIndex's asynchronous calls, and the processes that share the cores (see above).
        embeddings_cache: a LlamaIndex store for vectors, such as ``SimpleKVStore``.
        show_progress_bar: show a progress bar while documents are embedded.
        model_kwargs: arguments of ``SentenceTransformer``, for those who migrate: translated, or refused by name.

    Raises:
        InputError: an option cannot be used, contradicts another, or is unknown.
        pydantic.ValidationError: an option has the wrong type (a ValueError).
        NimbedError: the model cannot be opened; see :class:`nimbed.Encoder`.

    Example:
        >>> embedding = NimbedEmbedding("any-name", backend="fake")
        >>> vectors = embedding.get_text_embedding_batch(["The cat sat.", "A cat was sitting."])
        >>> len(vectors), len(vectors[0])
        (2, 384)
        >>> len(embedding.get_query_embedding("Where is the cat?"))
        384
    """

    model_name: TextPath = Field(
        default="BAAI/bge-small-en", frozen=True, description="Hub id, model folder or artefact folder."
    )
    normalize: bool | None = Field(
        default=True, frozen=True, description="Whether vectors have L2 norm 1; None takes the model folder's word."
    )
    embeddings_cache: Annotated[Any, BeforeValidator(KeyedStore.of)] = Field(
        default=None, frozen=True, description="A store for vectors, by fingerprint, role and text; None has none."
    )
    show_progress_bar: bool = Field(default=False, description="Show a progress bar while documents are embedded.")

    def __init__(  # noqa: PLR0913 (LlamaIndex's way: each field by its name)
        self,
        model_name: str | PathLike[str] = "BAAI/bge-small-en",
        *,
        max_length: int | None = None,
        query_instruction: str | None = None,
        text_instruction: str | None = None,
        normalize: bool | None = True,
        embed_batch_size: int = 2048,
        cache_folder: str | PathLike[str] | None = None,
        callback_manager: CallbackManager | None = None,
        num_workers: int | None = None,
        embeddings_cache: Any | None = None,  # noqa: ANN401 (LlamaIndex types it so)
        rate_limiter: Any | None = None,  # noqa: ANN401 (LlamaIndex types it so)
        show_progress_bar: bool = False,
        backend: str = "auto",
        precision: Precision | Literal["auto"] = "auto",
        truncate: Truncate = "warn",
        dim: int | None = None,
        threads: int | None = None,
        cache: CacheConfig | int | str | None = CacheConfig(),  # noqa: B008 (frozen)
        task: str | None = None,
        pooling: Pooling | None = None,
        revision: str | None = None,
        file_name: str | None = None,
        local_files_only: bool = False,
        allow_code: bool = False,
        **model_kwargs: Any,  # noqa: ANN401 (what those who move over bring)
    ) -> None:
        words = {name: value for name, value in locals().items() if name in type(self).model_fields}
        words |= settle(words, translate(model_kwargs, _RULES), type(self).model_fields)
        super().__init__(**words)
        self._open()

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex stores it."""
        return "NimbedEmbedding"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 (LlamaIndex's signature)
        """The options, and the fingerprint.

        LlamaIndex's ingestion cache looks vectors up by this. The same options give other vectors if ``"auto"`` chooses
        differently or the model's files have changed; the fingerprint tells them apart.
        """
        return {**super().to_dict(**kwargs), "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:  # noqa: ANN401 (LlamaIndex's signature)
        """An embedding with the options of :meth:`to_dict`; its fingerprint is computed again."""
        return super().from_dict({name: value for name, value in data.items() if name != "fingerprint"}, **kwargs)

    def get_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,
        **kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> list[list[float]]:
        """One vector for each text. Raises as :meth:`nimbed.Encoder.encode`."""
        return super().get_text_embedding_batch(self._listed(texts), show_progress, **kwargs)

    async def aget_text_embedding_batch(
        self,
        texts: list[str],
        show_progress: bool = False,
        **kwargs: Any,  # noqa: ANN401 (LlamaIndex's signature)
    ) -> list[list[float]]:
        """As :meth:`get_text_embedding_batch`, without blocking the event loop."""
        return await super().aget_text_embedding_batch(self._listed(texts), show_progress, **kwargs)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._cached([self._asked(query)], "query", lambda texts: [self._query(texts[0])])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        async def compute(texts: Sequence[str]) -> list[list[float]]:
            return [await self._aquery(texts[0])]

        return (await self._acached([self._asked(query)], "query", compute))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._cached([text], "document", partial(self._documents, progress=False))[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._acached([text], "document", partial(self._adocuments, progress=False)))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._cached(texts, "document", partial(self._documents, progress=self.show_progress_bar))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._acached(texts, "document", partial(self._adocuments, progress=self.show_progress_bar))

    def _listed(self, texts: object) -> list[str]:
        """Checked before the base class, which iterates over whatever it is given."""
        with advising_in(self._words):
            return check_texts(texts)

    def _asked(self, query: str) -> str:
        with advising_in(self._words):
            return check_text(query)

    def _cached(
        self, texts: list[str], role: Role, compute: Callable[[Sequence[str]], list[list[float]]]
    ) -> list[list[float]]:
        if self.embeddings_cache is None:
            return compute(texts)
        texts = check_texts(texts)
        store, keys = self.embeddings_cache.store, self._keys(texts, role)
        found = {key: self._vector(store.get(key, collection=COLLECTION)) for key in dict.fromkeys(keys)}
        if missing := {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}:
            for key, vector in zip(missing, compute(list(missing.values())), strict=True):
                store.put(key, {_VECTOR: vector}, collection=COLLECTION)
                found[key] = vector
        return [list(found[key] or ()) for key in keys]

    async def _acached(
        self, texts: list[str], role: Role, compute: Callable[[Sequence[str]], Awaitable[list[list[float]]]]
    ) -> list[list[float]]:
        if self.embeddings_cache is None:
            return await compute(texts)
        texts = check_texts(texts)
        store, keys = self.embeddings_cache.store, await asyncio.to_thread(self._keys, texts, role)
        found = {key: self._vector(await store.aget(key, collection=COLLECTION)) for key in dict.fromkeys(keys)}
        if missing := {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}:
            for key, vector in zip(missing, await compute(list(missing.values())), strict=True):
                await store.aput(key, {_VECTOR: vector}, collection=COLLECTION)
                found[key] = vector
        return [list(found[key] or ()) for key in keys]

    def _keys(self, texts: list[str], role: Role) -> list[str]:
        # truncate="error" must not be given the vector of a text that another policy has cut.
        owner = f"nimbed:{self.fingerprint}:{self.truncate}:{role}:"
        bodies = [text.encode("utf-8", "surrogatepass") for text in texts]
        return [owner + hashlib.sha256(body).hexdigest() for body in bodies]

    def _vector(self, entry: dict[str, Any] | None) -> list[float] | None:
        vector = (entry or {}).get(_VECTOR)
        return vector if isinstance(vector, list) and len(vector) == self.encoder.info.dim else None

    def _threads(self) -> int | None:
        if self.threads is None and (self.num_workers or 1) > 1 and multiprocessing.parent_process() is not None:
            return thread_share(self.num_workers or 1)
        return self.threads
