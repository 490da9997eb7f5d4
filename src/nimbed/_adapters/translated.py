"""sentence-transformers' arguments, for those who move over: translated into nimbed's options, or refused by name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from nimbed.backends import BACKENDS
from nimbed.errors import InputError

__all__ = ["CPU", "MODEL_RULES", "ONE_PROCESS", "Rule", "TranslatedOption", "settle", "translate"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How an argument that is not nimbed's own is translated. None always means that it was not given.

    Attributes:
        harmless: values that cannot change what nimbed does; None means all.
        becomes: the flat word that takes any other value, or None where any other is refused.
        only: the values that it takes, or None for all.
        remedy: why the rest is refused, and what to do.
    """

    harmless: tuple[object, ...] | None = ()
    becomes: str | None = None
    only: tuple[object, ...] | None = None
    remedy: str = ""


CPU = Rule(harmless=("cpu",), remedy='nimbed computes on the CPU; remove it, or say "cpu"')
_NO_TOKEN = Rule(remedy="nimbed takes no secrets as arguments; run `hf auth login` once, or set HF_TOKEN")
_NO_LOADER = Rule(
    harmless=({},),
    remedy="it is for transformers, which nimbed does not load; remove it (nimbed's own words are backend, precision, "
    "max_length, truncate, pooling)",
)
ONE_PROCESS = Rule(
    harmless=(False,),
    remedy="nimbed uses the cores with threads of one process; remove it (threads=... sets their number)",
)
_NO_OBJECTS = Rule(remedy="nimbed reads a model folder, not objects; save it, and give the folder as model_name")

MODEL_RULES: dict[str, Rule] = {
    "backend": Rule(
        becomes="backend",
        only=("auto", *BACKENDS),
        remedy=f"nimbed's engines are {', '.join(BACKENDS)} (openvino also reads a folder's ONNX file); remove it, and "
        "the fastest is taken",
    ),
    "cache_folder": Rule(becomes="cache_folder"),
    "config_kwargs": _NO_LOADER,
    "device": CPU,
    "local_files_only": Rule(harmless=(False,), becomes="local_files_only"),
    "model_card_data": _NO_OBJECTS,
    "model_kwargs": _NO_LOADER,
    "modules": _NO_OBJECTS,
    "processor_kwargs": _NO_LOADER,
    "revision": Rule(becomes="revision"),
    "similarity_fn_name": Rule(harmless=None),
    "token": _NO_TOKEN,
    "tokenizer_kwargs": _NO_LOADER,
    "truncate_dim": Rule(becomes="dim"),
    "trust_remote_code": Rule(
        harmless=(False,),
        remedy="nimbed never runs a repository's own code; remove it: NomicBERT, GTE, EuroBERT and Jina's networks "
        "need none here, and others can be read from an OpenVINO or ONNX file",
    ),
    "use_auth_token": _NO_TOKEN,
}


@dataclass(frozen=True, kw_only=True)
class TranslatedOption:
    """An argument translated into a flat option; ``label`` is how the user wrote the argument."""

    label: str
    word: str
    value: Any


def translate(
    arguments: Mapping[str, Any], rules: Mapping[str, Rule], *, label: str = "{}=..."
) -> list[TranslatedOption]:
    """The flat options that arguments become.

    Raises:
        InputError: an argument is unknown, or asks for what nimbed does not do; names it and not its value.
    """
    translated = []
    for name, value in arguments.items():
        written = label.format(name)
        if (rule := rules.get(name)) is None:
            raise InputError(f"{written} is not known to nimbed; remove it (known: {', '.join(sorted(rules))})")
        if value is None or rule.harmless is None or value in rule.harmless:
            continue
        if rule.becomes is None or not (rule.only is None or value in rule.only):
            raise InputError(f"{written} cannot be honoured: {rule.remedy}")
        translated.append(TranslatedOption(label=written, word=rule.becomes, value=value))
    return translated


def settle(
    flat: Mapping[str, Any], translated: Iterable[TranslatedOption], fields: Mapping[str, FieldInfo]
) -> dict[str, Any]:
    """One value for each flat option that was translated.

    Args:
        flat: nimbed's own options, as the user gave them.
        translated: options that other arguments became.
        fields: of the adapter; a flat option with its default counts as not given.

    Raises:
        InputError: two of them contradict each other.
    """
    settled: dict[str, Any] = {}
    for one in translated:
        default = fields[one.word].default
        other = settled.get(one.word, flat.get(one.word, default))
        if other not in {default, one.value}:
            raise InputError(f"{one.label} means {one.word}={one.value!r}, but {one.word}={other!r} was given too")
        settled[one.word] = one.value
    return settled
