"""A model on its way from choosing through resolving to opening: what was found out about it goes along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed._files.user_paths import expanded
from nimbed._loading.artefact import is_artefact
from nimbed._loading.hub import ModelSource, resolve
from nimbed._loading.manifest import read_manifest
from nimbed.errors import SpecError
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from nimbed._loading.manifest import Manifest
    from nimbed._loading.settings import Settings
    from nimbed._model_folder.networks.description import Network
    from nimbed._types import ModelSpec


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is known of a model before it is opened.

    Attributes:
        source: where its files are.
        spec: the folder's or artefact's, with the user's words laid over it.
        manifest: of an artefact; None for a model folder.
        engine: that shall run it, once it is chosen.
        reason: for that choice.
        refused: why int8 was refused, where it was.
        network: the network's description, where the engine runs only what it describes.
    """

    source: ModelSource
    spec: ModelSpec
    manifest: Manifest | None = None
    engine: str = ""
    reason: str = ""
    refused: str = ""
    network: Network | None = None


def find(settings: Settings) -> Candidate:
    """The model, from its settings files alone: nothing is chosen, built or opened.

    Raises:
        ModelNotFoundError: no such folder or hub model.
        InputError: it has no such task.
        SpecError: it is neither a cross-encoder nor a sentence-embedding model, or cannot be honoured.
        ArtefactError: its manifest is damaged.
    """
    if is_built_in(settings):
        from nimbed.backends import fake

        spec = settings.spec.apply(fake.SPEC, settings.model)
        return Candidate(source=ModelSource(name=settings.model, folder=Path()), spec=spec)
    source = resolve(settings.model, settings.source, settings.backend)
    if is_artefact(source.folder):
        manifest = read_manifest(source.folder)
        return Candidate(source=source, spec=settings.spec.apply(manifest.spec, manifest.source.id), manifest=manifest)
    return Candidate(source=source, spec=read_spec(source.folder, name=source.name, overrides=settings.spec))


def is_built_in(settings: Settings) -> bool:
    """Whether the stand-in for tests is meant, without a model folder."""
    return settings.backend == "fake" and not expanded(settings.model).is_dir()


def check_task(settings: Settings, found: Candidate) -> None:
    """Refuse a model that is for something else than what is opened.

    Raises:
        SpecError: it is one.
    """
    if found.spec.task == settings.task:
        return
    if found.spec.task == "scoring":
        raise SpecError(
            f"{found.source.folder} is a cross-encoder: it scores pairs of texts and has no vectors; open it with "
            "nimbed.Reranker"
        )
    raise SpecError(f"{found.source.folder} is a sentence-embedding model and scores no pairs")
