"""An adapter in files of its own, as PEFT writes it: ``adapters/NAME/`` with its settings and its low-rank factors.

Its base is the network of the same folder. The repository that it names as its base is not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nimbed._files.json import read_json, shown
from nimbed._files.names import path_within, stays_within
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._files.json import Fields

_PLACE = "adapters"
SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ALL = "all-linear"
# What is honoured, and what is for training or for people alone. Any other key changes weights, unless it says nothing.
_HONOURED = frozenset({"lora_alpha", "r", "target_modules", "use_rslora"})
_PASSED_OVER = frozenset(
    {
        "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
        "inference_mode", "loftq_config", "lora_dropout", "megatron_core", "peft_version", "revision", "runtime_config",
        "task_type",
    }
)  # fmt: skip
# Others begin with another base.
_KNOWN = {"bias": ("none",), "init_lora_weights": (True, False, "gaussian"), "peft_type": ("LORA",)}
_NOTHING: tuple[object, ...] = (None, False, {}, [])


@dataclass(frozen=True, kw_only=True)
class PeftAdapter:
    """What is added to each target's weight: ``scale * B A`` (LoRA, Hu et al. 2021).

    Attributes:
        file: that holds ``A`` ``[rank, inputs]`` and ``B`` ``[outputs, rank]`` of each.
        rank: of the product.
        scale: alpha by the rank, or by its root (rsLoRA, Kalajdzievski 2023).
        targets: ends of their names; None: all of the network's products.
    """

    file: Path
    rank: int
    scale: float
    targets: tuple[str, ...] | None

    def has(self, module: str) -> bool:
        """Whether a module of this name is a target."""
        return self.targets is None or any(f".{module}".endswith(f".{target}") for target in self.targets)


def adapter_files(folder: Path, name: str) -> tuple[Path, Path]:
    """An adapter's settings and its weights.

    Raises:
        SpecError: they are missing, or lie outside the model folder.
    """
    try:
        place = path_within(folder, f"{_PLACE}/{name}")
    except ValueError as err:
        raise SpecError(f"{folder / 'config.json'}: task_names: {err}") from err
    for file in (found := (place / SETTINGS, place / WEIGHTS)):
        if not file.is_file():
            raise SpecError(f"{file} is missing, and config.json names the adapter {name!r}; fetch the folder again")
        if not stays_within(folder, file):
            raise SpecError(f"{file} is a link that leads out of the model folder; copy it there")
    return found


def read_adapter(folder: Path, name: str) -> PeftAdapter:
    """An adapter's settings.

    Raises:
        SpecError: it is missing, or does what is not honoured; names file and key.
    """
    settings, weights = adapter_files(folder, name)
    content = read_json(settings)
    for key, value in content.items():
        known = _KNOWN.get(key, _NOTHING)
        if key not in _HONOURED | _PASSED_OVER and value not in known:
            raise SpecError(
                f"{content.where}: {key}: {shown(value)} is not honoured: nimbed adds low-rank products to the weights "
                "of linear layers, and nothing else; merge the adapter with PEFT (merge_and_unload)"
            )
    rank = content.whole("r", minimum=1)
    by = rank**0.5 if content.flag("use_rslora", default=False) else rank
    alpha = content.number("lora_alpha")
    return PeftAdapter(file=weights, rank=rank, scale=alpha / by, targets=_targets(content))


def _targets(content: Fields) -> tuple[str, ...] | None:
    listed = content.get("target_modules")
    if listed == _ALL:
        return None
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) and name for name in listed):
        raise content.wrong("target_modules", f"a list of names, or {_ALL!r}")
    return tuple(listed)
