"""What is compared: nimbed's engines on this machine, or anything that embeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from nimbed import _machine
from nimbed._files.user_paths import expanded
from nimbed._loading.artefact import is_artefact
from nimbed._loading.auto import with_its_engine
from nimbed._loading.candidate import find
from nimbed._loading.settings import Settings
from nimbed._model_folder.network_file import WEIGHTS
from nimbed.backends import BACKENDS
from nimbed.evaluate.settings import Opens, Setting, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed._types import Float32Array, Role
    from nimbed.backends import BackendRecord


class Embeds(Protocol):
    """What a contender opens; :class:`nimbed.Encoder` is one."""

    def encode(self, texts: Sequence[str], *, role: Role = "document") -> Float32Array:
        """Vectors ``[len(texts), dim]``, by the engine's own batches."""

    async def aencode(self, texts: Sequence[str], *, role: Role = "document") -> Float32Array:
        """The same for callers on an event loop."""


# Something with a label that can be opened, here and in another process (it is pickled).
Contender: TypeAlias = Opens[Embeds]


def own_contenders(settings: Sequence[str | Setting | Contender]) -> list[Contender]:
    """Settings as they are; a lone model without options stands for the engines and precisions that run it well here.

    The last is the reference: fp32, through PyTorch where that is installed.

    Raises:
        InputError: there is none, or two have one label.
    """
    if len(settings) == 1 and isinstance(settings[0], str):
        only = Setting.parse(settings[0])
        if only.name is None and not is_artefact(expanded(only.model)):
            return list(_engines_of(only.model))
    return list(settings_of(settings))


def _engines_of(model: str) -> list[Setting]:
    """int8 where this CPU multiplies it without overflow; PyTorch where there are weights that it can read."""
    settings = Settings(model=model, precision="int8")
    chosen = with_its_engine(find(settings), settings, lambda candidate: candidate)
    folder, fast = chosen.source.folder, _machine.cpu().fast_int8
    weights = any((folder / name).is_file() for name in WEIGHTS.names)
    return [
        Setting(model=model, backend=record.name, precision=precision, name=f"{record.name} {precision}")
        for record in BACKENDS.values()
        if _runs(record, chosen.engine, weights=weights)
        for precision in record.compared
        if precision != "int8" or fast or record.described
    ]


def _runs(record: BackendRecord, chosen: str, *, weights: bool) -> bool:
    """Whether an engine can run the model here."""
    if record.described:
        return record.name == chosen
    return record.installed and (bool(record.built) or weights)
