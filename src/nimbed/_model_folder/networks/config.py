"""What ``config.json`` says of a network, checked where it is read, and refused where the engine does not honour it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nimbed._files.json import shown
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nimbed._files.json import Fields
    from nimbed._model_folder.networks.description import Function

_FUNCTIONS: dict[str, Function] = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# The keys that change what a network of any family computes, and the values of them by which they do not. A family
# names those that it honours; any other key is bookkeeping, and what it might bring along shows in the tensors.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "attn_type": ("default",),
    "causal": (False,),
    "expert_choice_router": (False,),
    "feed_forward_type": ("original",),
    "head_dim": (),
    "is_causal": (False,),
    "is_decoder": (False,),
    "layer_norm_type": ("layer_norm",),
    "layer_types": (),
    "logn_attention_scale": (False,),
    "lora_adaptations": (),
    "moe_every_n_layers": (-1, 0),
    "num_experts": (0, 1),
    "num_key_value_heads": (),
    "parallel_block": (False,),
    "partial_rotary_factor": (1, 1.0),
    "prenorm": (False,),
    "pruned_heads": ({},),
    "quantization_config": (),
    "rope_parameters": (),
    "rope_scaling": (),
    "rotary_emb_dim": (),
    "rotary_emb_fraction": (0, 0.0),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (),
    "rotary_scaling_factor": (1, 1.0),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "sliding_window": (),
    "use_cross_attention": (False,),
    "use_rms_norm": (False,),
}
# The engine's own limits (native/model.cpp). No row of activations is wider; heads, of 1024 components at most, have
# room in its columns, and layers in its settings.
MAX_WIDTH = 8192
_MAX_COUNT = MAX_HEAD = 1024
_MAX_TOKENS = 1 << 17


def refuse_unhonoured(config: Fields, honoured: Collection[str]) -> None:
    """Refuse a key that changes the network in a way that its family's entry does not know.

    Raises:
        SpecError: there is one; names file, key and the values that are honoured.
    """
    for key, plain in _PLAIN.items():
        if key not in honoured:
            expect(config, key, *plain)


def expect(config: Fields, key: str, *known: object) -> None:
    """Refuse a value that is neither left out nor one of those known.

    Raises:
        SpecError: it is another; names file and key.
    """
    value = config.get(key)
    if value is not None and value not in known:
        only = " or ".join(map(shown, known)) or "leaving it out"
        raise SpecError(f"{config.where}: {key}: {shown(value)} is not honoured by the native engine; {only} is")


def expect_causal(config: Fields) -> None:
    """Refuse ``is_causal`` false or null, by which transformers opens the masks of a causal network.

    Raises:
        SpecError: it is said, and not true.
    """
    if "is_causal" in config and config["is_causal"] is not True:
        said = f"{config.where}: is_causal: {shown(config['is_causal'])}"
        raise SpecError(f"{said} is not honoured by the native engine; true or leaving it out is")


def function_of(config: Fields, key: str, default: str = "gelu") -> Function:
    """The activation that a key names.

    Raises:
        SpecError: the engine has none of that name.
    """
    name = config.text(key, default=default)
    if name not in _FUNCTIONS:
        raise SpecError(f"{config.where}: {key}: the native engine has {', '.join(_FUNCTIONS)}, not {shown(name)}")
    return _FUNCTIONS[name]


def width_of(config: Fields, key: str, default: int | None = None) -> int:
    """A width; one that is missing is an error, unless it has a default.

    Raises:
        SpecError: it is no whole number from 1 on, or larger than the engine has room for.
    """
    return _from_one(config, key, default, MAX_WIDTH)


def count_of(config: Fields, key: str, default: int | None = None) -> int:
    """A number of layers or heads; the rest as for a width."""
    return _from_one(config, key, default, _MAX_COUNT)


def _from_one(config: Fields, key: str, default: int | None, maximum: int) -> int:
    if default is not None:
        return config.whole(key, default=default, minimum=1, maximum=maximum)
    return config.whole(key, minimum=1, maximum=maximum)


def tokens_of(config: Fields, key: str, default: int) -> int:
    """Tokens of the longest text, for each of which the engine keeps what depends on a position.

    Raises:
        SpecError: it is no whole number from 1 on, or larger than that of any text.
    """
    return config.whole(key, default=default, minimum=1, maximum=_MAX_TOKENS)


def head_dim_of(config: Fields, key: str, hidden: int, heads: int) -> int:
    """The width of a head.

    Raises:
        SpecError: the heads, which ``key`` numbers, do not divide the hidden size, or are too wide for the engine.
    """
    if hidden % heads:
        raise config.wrong(key, f"a number of heads that divides the width of {hidden}")
    if hidden // heads > MAX_HEAD:
        raise config.wrong(key, f"enough for the native engine, whose heads have {MAX_HEAD} of {hidden} at most")
    return hidden // heads


def labels_of(config: Fields) -> int:
    """Labels of a classifier; transformers writes their names, and none for its own default of two."""
    names = config.get("id2label")
    return len(names) if isinstance(names, dict) else config.whole("num_labels", default=2, minimum=1)
