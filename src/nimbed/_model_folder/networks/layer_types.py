"""Layers that read all of a text, and others that read a window of it: whose they are, and their positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._model_folder.networks.rotary import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nimbed._files.json import Fields

# As transformers calls them.
GLOBAL, LOCAL = "full_attention", "sliding_attention"


def layer_types(config: Fields, pattern: Sequence[str]) -> list[str]:
    """Each layer's type, as the newer configs list them, or the pattern by which the older ones have them.

    Raises:
        SpecError: the list has another length, or other types.
    """
    types = config.get("layer_types")
    if types is None:
        return list(pattern)
    if not isinstance(types, list) or len(types) != len(pattern) or {*map(str, types)} - {GLOBAL, LOCAL}:
        raise config.wrong("layer_types", f"a list of {len(pattern)} times {GLOBAL} or {LOCAL}")
    return types


def turns_of(config: Fields, kind: str, older: Mapping[str, tuple[str, float]], head_dim: int) -> tuple[float, ...]:
    """A type's rotary frequencies; the newer key has settings for each type.

    Args:
        config: of the folder.
        kind: the type.
        older: of each type the older key of its base, and that base.
        head_dim: width of a head.

    Raises:
        SpecError: they are scaled in a way that is not honoured; names file and key.
    """
    (key, default), by_kind = older[kind], config.fields("rope_parameters", default={})
    if not by_kind.keys() <= older.keys():
        raise config.wrong("rope_parameters", f"settings by the names {GLOBAL} and {LOCAL}, and no others")
    theta = config.number(key, default=default, minimum=1)
    return scaled(by_kind.fields(kind, default={}), head_dim, theta)
