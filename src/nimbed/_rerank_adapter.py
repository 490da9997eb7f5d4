"""What the rerank adapters share: the reranker's options as pydantic fields."""

from typing import Any

from pydantic import Field, PrivateAttr

from nimbed._adapter import MODEL_RULES, OpenOptions, TextPath, Truncate, settle, translate
from nimbed.reranker import Reranker

__all__ = ["RerankOptions"]


class RerankOptions(OpenOptions):
    """The options of :class:`nimbed.Reranker`, flat; the model is opened at once."""

    model_name: TextPath = Field(
        default="BAAI/bge-reranker-base",
        alias="model",
        frozen=True,
        description="Hub id, model folder or artefact folder of a cross-encoder or a sentence-embedding model.",
    )
    truncate: Truncate = Field(
        default="silent",
        frozen=True,
        description='For pairs that are too long: "silent", "warn" or "error"; a bi-encoder also knows "chunk".',
    )
    _reranker: Reranker = PrivateAttr()

    def __init__(self, **data: Any) -> None:  # noqa: ANN401 (the fields have the types)
        fields = type(self).model_fields
        known = {*fields, *(field.alias for field in fields.values())}
        moved = {name: data.pop(name) for name in [*data] if name not in known}
        # What sentence-transformers' CrossEncoder and the frameworks' classes around it take, for those who move over.
        within = moved.pop("model_kwargs", None) or {}
        said = [*translate(moved, MODEL_RULES), *translate(within, MODEL_RULES, label="model_kwargs[{!r}]")]
        super().__init__(**{**data, **settle(data, said, fields)})
        self._reranker = Reranker(
            self.model_name,
            backend=self.backend,
            precision=self.precision,
            max_length=self.max_length,
            truncate=self.truncate,
            threads=self.threads,
            source=self._source(),
        )

    @property
    def reranker(self) -> Reranker:
        """The core behind this adapter: its ``kind``, ``info``, ``stats()`` and ``close()``."""
        return self._reranker
