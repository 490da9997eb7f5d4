"""The names that requests may use, and the models behind them. Nothing is opened because a request names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nimbed.errors import InputError
from nimbed.server.errors import ApiError
from nimbed.server.models import Embedder, Scorer, open_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nimbed._types import Role
    from nimbed.server.load import Load
    from nimbed.server.settings import Alias, ModelSettings


class Named(NamedTuple):
    """A name that requests may use.

    Attributes:
        name: this one.
        id: the model's own, which labels its metrics.
        model: opened.
        role: of requests that say none.
    """

    name: str
    id: str
    model: Embedder | Scorer
    role: Role


class Catalog:
    """All names. The first model of each kind is that of requests that name none.

    Raises:
        InputError: two models have one name, or an alias names a model that is not served.
        NimbedError: a model could not be opened.
    """

    def __init__(self, models: Sequence[ModelSettings], aliases: Iterable[Alias], load: Load | None = None) -> None:
        self.names: dict[str, Named] = {}
        self.models: list[Named] = []
        by_setting: dict[str, Named] = {}
        try:
            for chosen in models:
                opened = open_model(chosen, load)
                name = chosen.name or opened.info.model
                named = Named(name, name, opened, chosen.role)
                self.models.append(named)
                self._add(named)
                by_setting.setdefault(chosen.model, named)
            for alias in aliases:
                self._add(self._aliased(alias, by_setting))
        except BaseException:
            self.close()
            raise

    def embedder(self, name: str | None) -> tuple[Named, Embedder]:
        """That of a name, or the first.

        Raises:
            ApiError: there is none of that name, or it is no embedder.
        """
        named = self._find(name, Embedder)
        if not isinstance(named.model, Embedder):
            raise ApiError("wrong_kind_of_model", "model is not an embedding model", param="model")
        return named, named.model

    def reranker(self, name: str | None) -> tuple[Named, Scorer]:
        """As :meth:`embedder`, for rerankers."""
        named = self._find(name, Scorer)
        if not isinstance(named.model, Scorer):
            raise ApiError("wrong_kind_of_model", "model is not a re-ranker model", param="model")
        return named, named.model

    def first(self) -> Named:
        """The model that the server was started with, or the first of several."""
        return self.models[0]

    def __iter__(self) -> Iterator[Named]:
        return iter(self.names.values())

    def close(self) -> None:
        """Close all models."""
        for named in self.models:
            named.model.close()

    def _find(self, name: str | None, kind: type[Embedder | Scorer]) -> Named:
        if name is None:
            return next((named for named in self.models if isinstance(named.model, kind)), self.models[0])
        named = self.names.get(name) or self.names.get(name.removesuffix(":latest"))  # as Ollama's clients have it
        if named is None:
            raise ApiError(
                "unknown_model", f"there is no such model here; there are: {', '.join(self.names)}", param="model"
            )
        return named

    def _add(self, named: Named) -> None:
        if named.name in self.names:
            raise InputError(
                f"two models are called {named.name!r}: give each a name of its own (name = ... in the settings file)"
            )
        self.names[named.name] = named

    def _aliased(self, alias: Alias, by_setting: dict[str, Named]) -> Named:
        if alias.model is None and len(self.models) > 1:
            raise InputError(f"alias {alias.name!r}: several models are served; say which: --alias {alias.name}=MODEL")
        target = self.models[0] if alias.model is None else self.names.get(alias.model) or by_setting.get(alias.model)
        if target is None:
            raise InputError(f"alias {alias.name!r}: {alias.model!r} is not among the models that are served")
        return target._replace(name=alias.name, role=alias.role or target.role)
