"""How long a text may be: what the folder asks for, and never more positions than its network has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbed._files.json import read_json
from nimbed._model_folder.families import padding_of
from nimbed._model_folder.modules import transformer_settings
from nimbed._model_folder.networks.table import family_of
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._files.json import Fields


def max_length_of(folder: Path, config: Fields) -> tuple[int, str]:
    """The longest sequence in tokens, and where that is said.

    Raises:
        SpecError: no file says it, or one does not say it in numbers.
    """
    positions, (key, _) = positions_of(config), _said(config)
    given = config.get(key) is not None
    origin = f"config.json: {key}" if given else f"the network's own: config.json has no {key}"
    tokenizer = folder / "tokenizer_config.json"
    for path, values, name in (
        (*transformer_settings(folder), "max_seq_length"),
        (tokenizer, read_json(tokenizer, missing={}), "model_max_length"),
    ):
        value = values.get(name)
        # Tokenizers without a limit say 1e30.
        if value is None or (isinstance(value, (int, float)) and value >= 1e9):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1:
            raise SpecError(f"{path}: {name}: {value!r} is no number of tokens")
        if positions is not None and value > positions:
            return positions, f"{origin} (below {path.name}: {name})"
        return int(value), f"{path.name}: {name}"
    if positions is None or not given:
        raise SpecError(f"{folder}: no max_seq_length, model_max_length or {key} in its files")
    return positions, origin


def positions_of(config: Fields) -> int | None:
    """The longest sequence that the network takes, or None where it has no limit that is known.

    Raises:
        SpecError: its padding leaves none.
    """
    key, default = _said(config)
    value = default if config.get(key) is None else config[key]
    # XLNet says -1: it has no limit.
    if not isinstance(value, int) or value < 1:
        return None
    if (padding := padding_of(config)) is None:
        return value
    if value <= padding + 1:
        raise config.wrong(key, f"more than pad_token_id + 1 = {padding + 1}, where texts begin")
    return value - padding - 1


def _said(config: Fields) -> tuple[str, int | None]:
    """The key of the network's positions, and their number without it."""
    if (family := family_of(config)) is not None:
        return family.longest(config)
    key = "max_position_embeddings"
    return (key if key in config or "n_positions" not in config else "n_positions"), None
