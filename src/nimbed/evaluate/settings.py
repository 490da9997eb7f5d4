"""What is compared: a model and how it is run, from a word on the command line or from code."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from nimbed._loading.hub import Source
from nimbed.encoder import Encoder
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from nimbed._loading.settings import EncoderStats
    from nimbed._types import Float32Array, Role

Opened_co = TypeVar("Opened_co", covariant=True)

_NUMBERS = ("dim", "max_length", "threads")


def _is_there(text: str) -> bool:
    """Whether it is a path of something; what no path can be is none."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


class Embedder(Protocol):
    """What a setting opens: an :class:`nimbed.Encoder`, or something that embeds as it does."""

    def encode_iter(
        self, texts: Iterable[str], *, role: Role = "document", progress: bool = False
    ) -> Iterator[Float32Array]:
        """As :meth:`nimbed.Encoder.encode_iter`."""

    def stats(self) -> EncoderStats:
        """As :meth:`nimbed.Encoder.stats`; ``truncated`` is read."""


class Opens(Protocol[Opened_co]):
    """A setting: :class:`Setting`, or an object of your own with a label and a way to open what is measured.

    :func:`evaluate` opens an :class:`Embedder`, :func:`nimbed.bench.bench` an :class:`nimbed.bench.Embeds`. It may be
    opened more than once.
    """

    @property
    def label(self) -> str:
        """What reports call it."""

    def open(self, max_length: int | None) -> AbstractContextManager[Opened_co]:
        """Open it; texts are cut, without a warning, at ``max_length`` tokens where it has no limit of its own."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model and how it is run; see :class:`nimbed.Encoder` for the words.

    Attributes:
        model: hub id, model folder or artefact folder.
        name: what reports call it; None takes the text that it was parsed from, or the model.
    """

    model: str
    name: str | None = None
    backend: str = "auto"
    precision: str = "auto"
    dim: int | None = None
    max_length: int | None = None
    threads: int | None = None
    revision: str | None = None
    file: str | None = None

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.name or self.model

    @classmethod
    def parse(cls, text: str) -> Setting:
        """From ``MODEL`` or ``MODEL@key=value,key=value``.

        Options begin at the last ``@`` that a ``key=`` follows: hub ids have no ``@``, and colons, backslashes and
        other ``@`` of paths stay what they are. A folder of the whole name is taken as it is.

        Raises:
            InputError: an option is unknown, comes twice, has no value or one that cannot be.

        Example:
            >>> Setting.parse("BAAI/bge-small-en-v1.5@precision=fp32,dim=128").dim
            128
        """
        found = re.fullmatch(r"(?s)(.+)@([^@=]*=.*)", text)
        if found is None or _is_there(text):
            return cls(model=_model(text))
        options = _options(found[2], text)
        numbers = {key: _number(key, options[key], text) for key in _NUMBERS if key in options}
        words = {key: word for key, word in options.items() if key not in _NUMBERS}
        setting = cls(model=_model(found[1]), **{"name": text, **words}, **numbers)  # type: ignore[arg-type]
        setting._check()
        return setting

    def open(self, max_length: int | None) -> Encoder:
        """An encoder without a cache, so that equal texts are not counted as speed; longer texts are cut."""
        return Encoder(
            self.model,
            backend=self.backend,
            precision=self.precision,  # type: ignore[arg-type] # Settings refuses other words
            max_length=self.max_length or max_length,
            truncate="silent",
            dim=self.dim,
            threads=self.threads,
            cache=None,
            source=Source(revision=self.revision, file=self.file),
        )

    def _check(self) -> None:
        """Refuse at once what an encoder would refuse after the settings before it have run."""
        from nimbed._loading.settings import Settings

        try:
            Settings(
                model=self.model,
                backend=self.backend,
                precision=self.precision,  # type: ignore[arg-type] # that is what is checked
                max_length=self.max_length,
                dim=self.dim,
                threads=self.threads,
            )
        except InputError as err:
            raise InputError(f"setting {self.label!r}: {err}") from err


def settings_of(settings: Sequence[str | Setting | Opens[Opened_co]]) -> list[Setting | Opens[Opened_co]]:
    """Parsed, with labels that differ.

    Raises:
        InputError: there is none, or two have one label.
    """
    parsed = [Setting.parse(setting) if isinstance(setting, str) else setting for setting in settings]
    if not parsed:
        raise InputError("there is no setting to evaluate; name a model or an artefact")
    labels = [setting.label for setting in parsed]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise InputError(f"two settings are called {repeated[0]!r}; tell them apart with @name=...")
    return parsed


def _model(text: str) -> str:
    if not text.strip():
        raise InputError(f"setting {text!r} names no model; write MODEL or MODEL@precision=int8")
    return text


def _options(text: str, whole: str) -> dict[str, str]:
    known = [field.name for field in fields(Setting) if field.name != "model"]
    options: dict[str, str] = {}
    for part in text.split(","):
        key, equals, word = part.partition("=")
        if not equals or not word:
            raise InputError(f"setting {whole!r}: {part!r} is not key=value")
        if key not in known:
            raise InputError(f"setting {whole!r}: {key!r} is not one of {', '.join(known)}")
        if key in options:
            raise InputError(f"setting {whole!r}: {key} comes twice")
        options[key] = word
    return options


def _number(key: str, word: str, whole: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]*", word):
        raise InputError(f"setting {whole!r}: {key}={word} must be a whole number from 1 on")
    return int(word)
