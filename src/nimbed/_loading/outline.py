"""What a manifest of any format says an artefact is, as far as it can be read, and the command that builds it again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nimbed._model_folder.task_adapters import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BY_HAND = "set by the user"
_DEFAULT_FILE = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Nothing of it was checked but its types; what is missing, or of another type, is empty.

    Attributes:
        model: hub id, or the name of the folder that it was made from.
        revision: commit of the hub repository.
        file: the network's file within the model folder.
        engine: that runs it, and ``precision`` in which.
        format: of the manifest, or None where it has none.
        options: of `nimbed quantize`, besides those of the fields above.
        by_hand: what the user had set that the command has no options for, as ``SpecOverrides`` takes it.
    """

    model: str = ""
    revision: str = ""
    file: str = ""
    engine: str = ""
    precision: str = ""
    format: int | None = None
    options: tuple[str, ...] = ()
    by_hand: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Outline:
        """That of a manifest's values."""
        source = _part(values, "source")
        number = values.get("format")
        return cls(
            model=_text(source, "id"),
            revision=_text(source, "revision"),
            file=_text(source, "file"),
            engine=_text(values, "engine"),
            precision=_text(values, "precision"),
            format=number if type(number) is int else None,
            options=(
                *_spoken(_part(values, "spec")),
                *_calibration(values),
                *(["--force"] if values.get("forced") is True else []),
            ),
            by_hand=_by_hand(_part(values, "spec")),
        )

    def rebuilding(self, folder: Path) -> str:
        """How the same artefact is built again in a folder: a command, and what must be said besides."""
        # Without the dot a folder could be taken for a name on the hub.
        model = self.model if "/" in self.model else f"./{self.model}"
        if not (self.model and self.engine and self.precision) or model.startswith("-"):
            return "build it again from its model with `nimbed quantize`"
        words = ["nimbed", "quantize", model, "-o", str(folder), "--backend", self.engine]
        words += ["--precision", self.precision]
        words += ["--revision", self.revision] if self.revision else []
        words += ["--file", self.file] if self.file not in {"", _DEFAULT_FILE} else []
        said = [f"build it again: {shlex.join([*words, *self.options])}"]
        if model != self.model:
            said.append(f"{model} is the model's folder, wherever it is now")
        if "--calibrate" in self.options:
            said.append("FILE is that of your calibration texts")
        if self.by_hand:
            said.append(f"in Python: spec=SpecOverrides({_arguments(self.by_hand)})")
        command, *remarks = said
        return f"{command} ({'; '.join(remarks)})" if remarks else command


def _arguments(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    """A text that can be shown in a terminal and typed into one."""
    text = values.get(name)
    return text if isinstance(text, str) and text.isprintable() else ""


def _texts(part: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for name in part if (text := _text(part, name))}


def _spoken(spec: Mapping[str, Any]) -> list[str]:
    """What the user had set that the command has options for."""
    task = task_of(_texts(_part(spec, "adapters"))) or _text(spec, "prompt_task")
    said = {"pooling": _text(spec, "pooling"), "task": task}
    by_hand = [name for name in said if _part(spec, "origins").get(name) == _BY_HAND and said[name]]
    return [word for name in by_hand for word in (f"--{name}", said[name])]


def _calibration(values: Mapping[str, Any]) -> list[str]:
    """Texts that the user gave; a count and a seed that are not the command's own."""
    record = _part(values, "calibration")
    own = ["--calibrate", "FILE"] if record.get("origin") == "the user's texts" else []
    numbers = [(name, record.get(name)) for name, usual in (("count", 128), ("seed", 0)) if record.get(name) != usual]
    return own + [word for name, number in numbers if type(number) is int for word in (f"--{name}", str(number))]


def _by_hand(spec: Mapping[str, Any]) -> dict[str, object]:
    origins, prompts = _part(spec, "origins"), _part(spec, "prompts")
    found: dict[str, object] = {}
    if origins.get("normalize") == _BY_HAND and isinstance(spec.get("normalize"), bool):
        found["normalize"] = spec["normalize"]
    own = {name: text for name, text in prompts.items() if origins.get(f"prompt {name}") == _BY_HAND}
    return found | ({"prompts": own} if own else {})
