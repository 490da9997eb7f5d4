"""Run any text task of MTEB on a nimbed encoder.

    import mteb
    from nimbed import Encoder
    from nimbed.mteb import MtebEncoder

    with Encoder("BAAI/bge-small-en-v1.5", truncate="silent", cache=None) as encoder:
        results = mteb.evaluate(MtebEncoder(encoder), mteb.get_tasks(tasks=["SciFact"]))

Needs ``pip install "nimbed[mteb]"``, which brings torch; nimbed itself does not use it here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from mteb.types import PromptType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader

    from nimbed import Encoder
    from nimbed._types import Float32Array, Role

__all__ = ["MtebEncoder"]


class MtebEncoder(AbsEncoder):
    """An encoder in mteb's protocol (``EncoderProtocol`` of mteb 2.26).

    Queries get the model's query prompt, all other texts the document prompt; tasks' own instructions are not used.
    Vectors are compared by cosine.

    Args:
        encoder: an open encoder, which you close yourself.
        name: ``organisation/model``, under which mteb files the results; None makes one from the encoder's model.

    Example:
        >>> from nimbed import Encoder
        >>> MtebEncoder(Encoder("any-name", backend="fake")).mteb_model_meta.name
        'nimbed/any-name'
    """

    def __init__(self, encoder: Encoder, *, name: str | None = None) -> None:
        self.model = encoder
        self.mteb_model_meta = _meta(encoder, name)

    def encode(
        self,
        inputs: DataLoader[BatchedInput],
        *,
        task_metadata: TaskMetadata,  # noqa: ARG002 (the protocol's)
        hf_split: str,  # noqa: ARG002 (the protocol's)
        hf_subset: str,  # noqa: ARG002 (the protocol's)
        prompt_type: PromptType | None = None,
        **kwargs: Any,  # noqa: ANN401 (the protocol's EncodeKwargs)
    ) -> Float32Array:
        """Vectors of the texts in mteb's batches, float32 ``[texts, dim]``.

        ``show_progress_bar`` is honoured; ``batch_size`` is ignored, since nimbed plans its own batches.
        """
        role: Role = "query" if prompt_type is PromptType.query else "document"
        progress = bool(kwargs.get("show_progress_bar", False))
        blocks = list(self.model.encode_iter(_texts(inputs), role=role, progress=progress))
        return np.concatenate(blocks) if blocks else np.zeros((0, self.model.dim), np.float32)


def _texts(batches: DataLoader[BatchedInput]) -> Iterator[str]:
    for batch in batches:
        yield from batch["text"]


def _meta(encoder: Encoder, name: str | None) -> ModelMeta:
    """What mteb records about a model. The revision is the fingerprint, so results of other vectors are kept apart."""
    info = encoder.info
    model = info.model.rstrip("/").rpartition("/")[2] or "model"
    return ModelMeta(
        loader=None,
        name=name or f"nimbed/{model}",
        revision=encoder.fingerprint,
        release_date=None,
        languages=None,
        n_parameters=None,
        memory_usage_mb=None,
        max_tokens=info.max_length,
        embed_dim=info.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[],
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=bool(info.prompts),
        training_datasets=None,
    )
