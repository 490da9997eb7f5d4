"""LangChain's ``Embeddings`` over :class:`nimbed.Encoder`; its rerankers are in ``_adapters``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nimbed.errors import InputError, MissingExtraError

try:
    from langchain_core.embeddings import Embeddings
except ImportError as err:
    raise MissingExtraError('nimbed.langchain needs langchain-core: pip install "nimbed[langchain]"') from err

from pydantic import ConfigDict, Field

from nimbed._adapters.langchain_rerank import NimbedCrossEncoder, NimbedReranker
from nimbed._adapters.options import ModelOptions, Role, TextPath
from nimbed._adapters.translated import CPU, MODEL_RULES, ONE_PROCESS, Rule, TranslatedOption, settle, translate

__all__ = ["NimbedCrossEncoder", "NimbedEmbeddings", "NimbedReranker"]

_MODEL_RULES = {
    **MODEL_RULES,
    "default_prompt_name": Rule(becomes="prompt_name"),
    "prompts": Rule(becomes="prompts"),
}
_ENCODE_RULES = {
    # nimbed plans its batches itself; their size can't change a vector.
    "batch_size": Rule(harmless=None),
    "chunk_size": ONE_PROCESS,
    "convert_to_numpy": Rule(harmless=(True,), remedy="vectors come as lists of floats; remove it"),
    "convert_to_tensor": Rule(harmless=None),
    "device": CPU,
    # sentence-transformers' False does not undo the normalization that is part of a model.
    "normalize_embeddings": Rule(harmless=(False,), becomes="normalize"),
    "output_value": Rule(harmless=("sentence_embedding",), remedy="nimbed gives sentence vectors only; remove it"),
    "pool": ONE_PROCESS,
    "precision": Rule(
        harmless=("float32",),
        remedy="vectors are float32; quantize them in the vector store (precision=... sets that of the arithmetic)",
    ),
    "prompt": Rule(becomes="prompt"),
    "prompt_name": Rule(becomes="prompt_name"),
    "show_progress_bar": Rule(harmless=(False,), becomes="show_progress"),
    "truncate_dim": Rule(becomes="dim"),
}
_PROMPT_WORDS = {"prompt", "prompt_name", "prompts"}
_INSTRUCTIONS: dict[Role, str] = {"query": "query_instruction", "document": "text_instruction"}
_ROLE_NAMES: dict[Role, tuple[str, ...]] = {
    "query": ("query",),
    "document": ("document", "passage", "corpus", "text"),
}


class NimbedEmbeddings(ModelOptions, Embeddings):
    """Embeddings for LangChain, computed by nimbed on the CPU.

    The arguments of ``HuggingFaceEmbeddings`` mean the same here, so migrating is a change of import. nimbed's own
    options stand beside them, flat. The model is opened at once. The object may be used by many threads and event
    loops, copied and pickled (the copy opens the model when it is first used). Its options can't be changed.

    ``model_kwargs``, ``encode_kwargs`` and ``query_encode_kwargs`` are for those who migrate: what
    sentence-transformers knows is translated (``batch_size`` is accepted without effect, since it can't change a
    vector), or refused by name with what to do instead. A few things differ from ``HuggingFaceEmbeddings``:

    - Prompts depend on the role, as in sentence-transformers' ``encode_query`` and ``encode_document``: unless you give
      one, the folder's own is used, or for well-known families that of the model card. ``query_instruction=""`` and
      ``text_instruction=""`` turn them off. As there, queries follow ``encode_kwargs`` if ``query_encode_kwargs`` is
      empty.
    - Newlines in a text are kept.
    - Documents and queries have one width and one normalization; vectors that ``truncate_dim`` cuts are normalized
      again if the model normalizes.

    ``fingerprint`` is the namespace for LangChain's own cache, which knows neither model nor options::

        CacheBackedEmbeddings.from_bytes_store(
            embeddings, store, namespace=embeddings.fingerprint, key_encoder="sha256"
        )

    That cache has no roles: if the model has prompts, give queries a store of their own
    (``query_embedding_cache=other_store``), never ``query_embedding_cache=True``.

    Args:
        model_name: hub id, model folder or artefact folder; also ``model``.
        cache_folder: the hub's download cache.
        model_kwargs: arguments of ``SentenceTransformer``.
        encode_kwargs: arguments of its ``encode``, for documents.
        query_encode_kwargs: the same for queries.
        multi_process: must be False: nimbed uses the cores with threads.
        show_progress: show a progress bar while documents are embedded.
        backend, precision, max_length, truncate, dim, threads, cache: as in :class:`nimbed.Encoder`.
        task, pooling, normalize: as in :class:`nimbed.SpecOverrides`.
        query_instruction, text_instruction: the prompts, put before queries and documents.
        revision, local_files_only, file_name (its ``file``), allow_code: as in :class:`nimbed.Source`.

    Raises:
        InputError: an option cannot be used, contradicts another, or is unknown in one of the ``*_kwargs``.
        pydantic.ValidationError: an option has the wrong type, or there is none of that name (a ValueError).
        NimbedError: the model cannot be opened; see :class:`nimbed.Encoder`.

    Example:
        >>> embeddings = NimbedEmbeddings(model="any-name", backend="fake")
        >>> vectors = embeddings.embed_documents(["The cat sat.", "A cat was sitting."])
        >>> len(vectors), len(vectors[0])
        (2, 384)
        >>> len(embeddings.embed_query("Where is the cat?"))
        384
    """

    model_config = ConfigDict(extra="forbid")

    model_name: TextPath = Field(
        default="sentence-transformers/all-mpnet-base-v2",
        alias="model",
        frozen=True,
        description="Hub id, model folder or artefact folder.",
    )
    model_kwargs: dict[str, Any] = Field(
        default_factory=dict, frozen=True, description="Arguments of SentenceTransformer."
    )
    encode_kwargs: dict[str, Any] = Field(
        default_factory=dict, frozen=True, description="Arguments of its encode, for documents."
    )
    query_encode_kwargs: dict[str, Any] = Field(
        default_factory=dict, frozen=True, description="Arguments of its encode, for queries."
    )
    multi_process: bool = Field(default=False, frozen=True, description="Must be False: nimbed uses threads.")
    show_progress: bool = Field(default=False, description="Show a progress bar while documents are embedded.")

    def __init__(self, **data: Any) -> None:  # noqa: ANN401 (the fields have the types)
        translated, prompt_names = _translated(data)
        super().__init__(**{**data, **settle(data, translated, type(self).model_fields)})
        self._open(prompt_names)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts with the document prompt: one list of ``dim`` floats for each, in their order.

        Raises:
            InputTypeError: something is not a string; the message names the index.
            InputError: a text is not valid Unicode.
            TruncationError: a text is too long and ``truncate="error"``.
        """
        return self._documents(texts, progress=self.show_progress)

    def embed_query(self, text: str) -> list[float]:
        """Embed one text with the query prompt: ``dim`` floats. Raises as :meth:`embed_documents`."""
        return self._query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As :meth:`embed_documents`, without blocking the event loop."""
        return await self._adocuments(texts, progress=self.show_progress)

    async def aembed_query(self, text: str) -> list[float]:
        """As :meth:`embed_query`, without blocking the event loop."""
        return await self._aquery(text)


def _translated(data: Mapping[str, Any]) -> tuple[list[TranslatedOption], dict[Role, str]]:
    """sentence-transformers' arguments in nimbed's words, and the prompts that only the folder can explain, by role."""
    translated = translate({"multi_process": data.get("multi_process")}, {"multi_process": ONE_PROCESS})
    model = _kwargs(data, "model_kwargs", _MODEL_RULES)
    document = _kwargs(data, "encode_kwargs", _ENCODE_RULES)
    query = _kwargs(data, "query_encode_kwargs", _ENCODE_RULES)
    translated += [one for one in (*model, *document, *query) if one.word not in _PROMPT_WORDS]
    prompts = next((_checked_prompts(one.value) for one in model if one.word == "prompts"), {})
    names: dict[Role, str] = {}
    # Where each role's prompt is looked for. What was not said about this role in particular yields to its instruction.
    places: dict[Role, list[list[TranslatedOption]]] = {
        "document": [document, model],
        "query": [query, model] if data.get("query_encode_kwargs") else [query, document, model],
    }
    for role, lists in places.items():
        alone = data.get(_INSTRUCTIONS[role]) is not None
        picked = next(filter(None, map(_picked_prompt, lists[:1] if alone else lists)), None)
        if (one := _instruction(role, picked, prompts)) is None:
            continue
        if one.word == "prompt_name":
            names[role] = one.value
        else:
            translated.append(one)
    return translated, names


def _kwargs(data: Mapping[str, Any], name: str, rules: Mapping[str, Rule]) -> list[TranslatedOption]:
    given = data.get(name, {})
    # Anything but a dictionary is pydantic's to refuse.
    return translate(given, rules, label=name + "[{!r}]") if isinstance(given, Mapping) else []


def _checked_prompts(prompts: object) -> dict[str, str]:
    if not isinstance(prompts, Mapping) or not all(isinstance(t, (str, type(None))) for t in prompts.values()):
        raise InputError("model_kwargs['prompts'] must be a dictionary of strings")
    return {name: text for name, text in prompts.items() if text is not None}


def _picked_prompt(translated: list[TranslatedOption]) -> TranslatedOption | None:
    picked = [one for one in translated if one.word in {"prompt", "prompt_name"}]
    if len(picked) > 1:
        raise InputError(f"{picked[0].label} and {picked[1].label} exclude each other; keep one")
    return picked[0] if picked else None


def _instruction(role: Role, picked: TranslatedOption | None, prompts: Mapping[str, str]) -> TranslatedOption | None:
    """What was picked as an instruction; as a "prompt_name" still where only the folder knows the name."""
    if picked is None:
        name = next((n for n in _ROLE_NAMES[role] if n in prompts), None)
        if name is None:
            return None
        return TranslatedOption(label="model_kwargs['prompts']", word=_INSTRUCTIONS[role], value=prompts[name])
    if picked.word == "prompt":
        return replace(picked, word=_INSTRUCTIONS[role])
    if picked.value in prompts:
        return replace(picked, word=_INSTRUCTIONS[role], value=prompts[picked.value])
    return picked
