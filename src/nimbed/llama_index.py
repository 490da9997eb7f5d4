"""LlamaIndex's ``BaseEmbedding`` over :class:`nimbed.Encoder`."""

from os import PathLike
from typing import Any, Literal

from nimbed import CacheConfig
from nimbed.errors import MissingExtraError

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.callbacks import CallbackManager
except ImportError as err:
    raise MissingExtraError('nimbed.llama_index needs llama-index-core: pip install "nimbed[llama-index]"') from err

from pydantic import Field
from typing_extensions import Self

from nimbed._adapter import (
    MODEL_RULES,
    ONE_PROCESS,
    ModelOptions,
    Pooling,
    Precision,
    Rule,
    TextPath,
    Truncate,
    settle,
    translate,
)

__all__ = ["NimbedEmbedding"]

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

    The words of ``HuggingFaceEmbedding`` mean here what they mean there, so moving over is a change of import. The
    model is opened at once. The object may be used by many threads and event loops, copied, pickled, and made again
    from ``to_dict``; the options of the model can't be changed. It differs from ``HuggingFaceEmbedding`` in this:

    - Where no instruction is given, the folder's own prompts are used, or for well-known families those of the model
      card; ``""`` turns one off.
    - ``normalize=False`` gives vectors as they come from the pooling, also where the model folder normalises;
      ``normalize=None`` takes the folder's word.
    - Models are downloaded to the hub's own cache; ``cache_folder=llama_index.core.utils.get_cache_dir()`` finds those
      that ``HuggingFaceEmbedding`` fetched.

    ``IngestionPipeline.run(num_workers=n)`` opens the model in each of ``n`` processes: give each its share of the
    cores with ``threads``, or leave the work to one process, which takes them all.

    LlamaIndex keys its own ``embeddings_cache`` on the text alone: share one neither between models nor, where the
    model has prompts, between queries and documents.

    Args:
        model_name: hub id, model folder or artefact folder; also ``model``.
        max_length, backend, precision, truncate, dim, threads, cache: as in :class:`nimbed.Encoder`.
        query_instruction, text_instruction: put before queries and documents, as they are.
        pooling, normalize: as in :class:`nimbed.SpecOverrides`.
        revision, local_files_only, cache_folder, file_name (its ``file``): as in :class:`nimbed.Source`.
        embed_batch_size: texts that LlamaIndex hands over at once; batches are planned over all of them.
        callback_manager, num_workers, embeddings_cache, rate_limiter: LlamaIndex's own.
        show_progress_bar: show a progress bar while documents are embedded.
        model_kwargs: arguments of ``SentenceTransformer``, for those who move over: translated, or refused by name.

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
        pooling: Pooling | None = None,
        revision: str | None = None,
        file_name: str | None = None,
        local_files_only: bool = False,
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

        LlamaIndex's ingestion cache looks vectors up by this: the same options give other vectors where ``"auto"``
        chooses otherwise or the model's files have changed, and the fingerprint tells.
        """
        return {**super().to_dict(**kwargs), "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:  # noqa: ANN401 (LlamaIndex's signature)
        """An embedding with the options of :meth:`to_dict`; its fingerprint is its own."""
        return super().from_dict({name: value for name, value in data.items() if name != "fingerprint"}, **kwargs)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._query(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aquery(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._documents([text], progress=False)[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._adocuments([text], progress=False))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._documents(texts, progress=self.show_progress_bar)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._adocuments(texts, progress=self.show_progress_bar)
