"""Seeded networks whose int8 can fail, as folders that look like the hub's, for each family that people embed with.

A network as it is drawn barely uses its branches: what attention and feed-forward add to the residual stream is so
small that even 4-bit weights leave the vectors as they are. So each branch is scaled until it is as large as the
residual that it joins, and the planted variant has outliers where trained networks have them
(`tests.support.planted_outliers`).
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from tests.conftest import write_modules
from tests.support import task_adapters
from tests.support.plain_encoder import Anatomy, PlainEncoder, shapes
from tests.support.planted_outliers import plant_channels, plant_massive
from tests.support.rotary_families import FAMILIES
from tests.support.tiny_models import TinyModel, write_tokenizer

from nimbed.quantization.calibration import read_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import tokenizers
    from tests.support.network_families import Family

    Tensors = dict[str, torch.Tensor]

Size = Literal["tiny", "real"]
Variant = Literal["drawn", "plain", "planted"]
_TINY = {"width": 96, "layers": 3, "heads": 6, "inner": 160}
SPECTRUM, QUERY_GAIN, ALIGNED = 32.0, 1.0, 0.2
# How large a branch is beside the residual that it joins. The first tokens of a causal network see few others, with
# whom their noise would be averaged: larger branches make it chaotic there, and then everywhere.
JOINING, CAUSAL_JOINING = 1.0, 0.5
_VOCABULARY = {"tiny": 1200, "real": 8192}
_MEASURED = {"tiny": (12, 48), "real": (12, 128)}  # texts that scale the branches, and tokens of each


def write_folder(
    family: str,
    path: Path,
    *,
    size: Size = "tiny",
    layers: int | None = None,
    variant: Variant = "plain",
    seed: int = 0,
) -> Path:
    """A model folder of the family, the same bytes for the same arguments.

    Args:
        family: key of `tests.support.rotary_families.FAMILIES`.
        path: created where it is missing.
        size: "real" has a published model's width and depth; only its tokens are fewer.
        layers: another depth.
        variant: "plain" has branches as large as the residuals that they join, "planted" outliers as well,
            "drawn" neither.
        seed: of the weights. Families of one network in two names hold the same weights for the same seed.
    """
    chosen = FAMILIES[family]
    path.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(chosen, path, size)
    config = config_of(chosen, size, layers)
    (path / "config.json").write_text(json.dumps(config, indent=2))
    if not chosen.scores:
        _write_modules(chosen, path)
    anatomy = chosen.anatomy(config)
    tensors = draw(anatomy, seed)
    if variant != "drawn":
        ids = [one[: _MEASURED[size][1]] for one in token_ids(path, real_texts(_MEASURED[size][0]))]
        make_demanding(anatomy, tensors, ids, planted=variant == "planted", pooled_first=chosen.pooling == "cls")
    write_tensors(chosen, anatomy, tensors, config, path)
    return path


def config_of(family: Family, size: Size, layers: int | None = None) -> dict[str, Any]:
    """``config.json``: the family's, with sizes."""
    sizes = dict(_TINY) if size == "tiny" else dict(vars(family.real))
    sizes |= {"vocabulary": _VOCABULARY[size], **({"layers": layers} if layers else {})}
    tiny = family.tiny if size == "tiny" else {}
    return {**family.config, **{family.keys[name]: value for name, value in sizes.items()}, **tiny}


def draw(anatomy: Anatomy, seed: int) -> Tensors:
    """Weights that keep the size of what they are given, biases and norms as after some training, branches small.

    All tables and matrices share one decaying spectrum of the residual stream, as those of trained ones decay (Martin
    and Mahoney 2021): what is written is what is read, so that noise which is alike in all directions fades. Without
    that a deep random network is chaotic, and no rounding whatever keeps its vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.empty(anatomy.width, anatomy.width).normal_(generator=generator))
    sizes = (1 + torch.arange(anatomy.width) * SPECTRUM / anatomy.width) ** -0.5
    sizes /= sizes.square().mean().sqrt()
    stream = basis * sizes @ basis.T
    reading = stream / sizes.pow(4).mean().sqrt()

    def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        values = torch.empty(shape).normal_(generator=generator)
        if name.endswith((".output.bias", ".down.bias")):
            return values.mul_(0.01)
        if len(shape) == 1:
            return values.mul_(0.1).add_(("norm.weight" in name) * (1 - anatomy.norm_offset))
        if name.startswith(("word.", "position.", "type.")):
            return values.mul_(1.0 if name.startswith("word.") else 0.3) @ stream
        if name.startswith(("distances.", "head.")):
            return values.mul_(1.0 if name.startswith("distances.") else shape[1] ** -0.5)
        if name.endswith((".output.weight", ".down.weight")):
            return stream @ values.mul_(0.1 / shape[1] ** 0.5)
        # Attention that looks at all tokens alike would leave every text the same.
        return values.mul_((QUERY_GAIN if ".query." in name else 1.0) / shape[1] ** 0.5) @ reading

    tensors = {name: drawn(name, shape) for name, shape in shapes(anatomy).items()}
    for layer in range(anatomy.layers):
        _align(anatomy, tensors, f"layers.{layer}.")
    return tensors


def _align(anatomy: Anatomy, tensors: Tensors, layer: str) -> None:
    """Half of what a layer writes lies where it read."""
    for written, read in (("output", "value"), ("down", "up"), ("gate", "up")):
        if f"{layer}{written}.weight" in tensors:
            own, other = tensors[f"{layer}{written}.weight"], tensors[f"{layer}{read}.weight"]
            if written == "output":  # heads of queries share one of values
                shares = anatomy.heads // (anatomy.key_heads or anatomy.heads)
                other = other.unflatten(0, (-1, anatomy.head_size)).repeat_interleave(shares, 0).flatten(0, 1)
            other = other if written == "gate" else other.T
            shared = other * (own.norm() / other.norm())
            own.mul_((1 - ALIGNED) ** 0.5).add_(shared, alpha=ALIGNED**0.5)


@torch.no_grad()
def make_demanding(
    anatomy: Anatomy, tensors: Tensors, ids: Sequence[Sequence[int]], *, planted: bool, pooled_first: bool
) -> None:
    """Scales each branch to the residual that it joins, on these texts, layer by layer; plants outliers if asked.

    Args:
        anatomy: of the network.
        tensors: changed in place.
        ids: token ids of real texts.
        planted: whether outliers are planted, before the branches are measured.
        pooled_first: whether the first token is the vector, so that the last one carries the massive activations.
    """
    encoder = PlainEncoder(anatomy, tensors)
    if planted:
        plant_channels(anatomy, tensors)
    states = [encoder.embed(one) for one in ids]
    for layer in range(anatomy.layers):
        _scale(encoder, layer, "output", states, [encoder.attention_written(layer, one) for one in states])
        states = [encoder.add_attention(layer, one) for one in states]
        _scale(encoder, layer, "down", states, [encoder.feed_forward_written(layer, one) for one in states])
        if planted and layer == anatomy.layers // 2:
            plant_massive(encoder, layer, states, token=-1 if pooled_first else 0)
        states = [encoder.add_feed_forward(layer, one) for one in states]


def _scale(
    encoder: PlainEncoder, layer: int, product: str, residual: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]
) -> None:
    """Makes what the product writes as large as the residual, and without what all tokens share.

    That would grow from layer to layer until all texts were one. Of a causal attention it would take most of what the
    first token says, which sees itself alone.
    """
    anatomy = encoder.anatomy
    name = f"layers.{layer}.{product}"
    weight = encoder.tensors[f"{name}.weight"]
    shared = torch.nn.functional.normalize(torch.cat(list(inputs)).mean(0), dim=0)
    if not (anatomy.causal and product == "output"):
        weight -= (weight @ shared)[:, None] * shared
    gain = CAUSAL_JOINING if anatomy.causal else JOINING
    gain *= typical(residual) / typical([encoder.branch(layer, product, one) for one in inputs])
    if anatomy.branch_norms:
        offset = anatomy.norm_offset
        encoder.tensors[f"{name}_branch_norm.weight"].add_(offset).mul_(gain).sub_(offset)
        return
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in encoder.tensors:
            encoder.tensors[f"{name}.{kind}"].mul_(gain)


def typical(states: Sequence[torch.Tensor]) -> float:
    """The size of a token's vector (root mean square over its channels) that half of the tokens exceed."""
    return float(torch.cat(list(states)).square().mean(1).sqrt().median())


def branch_sizes(anatomy: Anatomy, tensors: Mapping[str, torch.Tensor], ids: Sequence[Sequence[int]]) -> list[float]:
    """Of each branch in order, how large it is beside the residual that it joins."""
    encoder = PlainEncoder(anatomy, tensors)
    sizes, states = [], [encoder.embed(one) for one in ids]
    for layer in range(anatomy.layers):
        sizes.append(typical([encoder.attention_branch(layer, one) for one in states]) / typical(states))
        states = [encoder.add_attention(layer, one) for one in states]
        sizes.append(typical([encoder.feed_forward_branch(layer, one) for one in states]) / typical(states))
        states = [encoder.add_feed_forward(layer, one) for one in states]
    return sizes


def real_texts(count: int) -> list[str]:
    """Of those that nimbed ships for calibration, at equal distances."""
    texts = read_texts(None)
    return [texts[at * len(texts) // count] for at in range(count)]


def token_ids(folder: Path, texts: Sequence[str], *, longest: int | None = None) -> list[list[int]]:
    """As the folder's tokenizer splits the texts, special tokens included, cut so that the end token stays."""
    made = read_tokenizer(folder)
    made.no_padding()
    if longest is None:
        made.no_truncation()
    else:
        made.enable_truncation(longest)
    return [encoding.ids for encoding in made.encode_batch(list(texts))]


def read_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _modules(family: Family, anatomy: Anatomy) -> Iterator[tuple[str, list[str]]]:
    """Modules by their names in the file, each with those of the plain encoder that it holds, row by row."""
    for name, parts in family.naming.items():
        prefix = "" if parts.startswith("head") else family.prefix
        for number in range(anatomy.layers) if "{n}" in name else [None]:
            own = "" if number is None else f"layers.{number}."
            yield prefix + name.format(n=number), [own + part for part in parts.split("+")]


def file_tensors(family: Family, anatomy: Anatomy, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors by the names that the family's folders have."""
    found = {}
    for name, parts in _modules(family, anatomy):
        for kind in ("weight", "bias"):
            stored = [tensors[f"{part}.{kind}"] for part in parts if f"{part}.{kind}" in tensors]
            if stored:
                found[f"{name}.{kind}"] = torch.cat(stored) if stored[1:] else stored[0]
    return found


def plain_tensors(family: Family, anatomy: Anatomy, stored: Mapping[str, torch.Tensor]) -> Tensors:
    """The way back: what `file_tensors` was given."""
    found = {}
    for name, parts in _modules(family, anatomy):
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in stored:
                chunks = stored[f"{name}.{kind}"].float().chunk(len(parts))
                found |= {f"{part}.{kind}": chunk for part, chunk in zip(parts, chunks, strict=True)}
    return found


def write_tensors(
    family: Family, anatomy: Anatomy, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], path: Path
) -> None:
    """``model.safetensors``, with what published folders hold beside the network."""
    from safetensors.torch import save_file

    stored = file_tensors(family, anatomy, tensors)
    generator = torch.Generator().manual_seed(1)
    for name in family.unused:
        square = torch.empty(anatomy.width, anatomy.width).normal_(0, 0.02, generator=generator)
        stored |= {f"{family.prefix}{name}.weight": square, f"{family.prefix}{name}.bias": torch.zeros(anatomy.width)}
    if family.adapters:
        stored = task_adapters.with_adapters(stored, config)
    save_file({name: one.contiguous() for name, one in stored.items()}, path / "model.safetensors", {"format": "pt"})


def _write_tokenizer(family: Family, path: Path, size: Size) -> None:
    made = _tokenizer(family.tokenizer, family.frame, _VOCABULARY[size])
    for name, content in made.items():
        (path / name).write_text(content)


@functools.cache
def _tokenizer(kind: str, frame: tuple[str, str], vocabulary: int) -> dict[str, str]:
    """Its files: training one takes longer than writing a tiny network."""
    import tempfile
    from pathlib import Path

    model = TinyModel(
        architecture="", config={}, tokenizer=kind, frame=([frame[0]], [frame[1]]), pooling="", vocabulary=vocabulary
    )
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), model, real_texts(240))
        return {file.name: file.read_text() for file in Path(folder).iterdir()}


def _write_modules(family: Family, path: Path) -> None:
    write_modules(path, pooling=family.pooling, normalize=True)
    if family.adapters:  # as published: a module of the folder's own code, which takes the task
        modules = json.loads((path / "modules.json").read_text())
        modules[0] |= {"type": "custom_st.Transformer", "kwargs": ["task"]}
        (path / "modules.json").write_text(json.dumps(modules))


def family_of(config: Mapping[str, Any]) -> Family:
    """The first family whose marks the config bears, with the naming that this folder's file has."""
    marks = (
        "model_type",
        "position_embedding_type",
        "feed_forward_type",
        "activation_function",
        "architectures",
        "use_bidirectional_attention",
    )
    for family in FAMILIES.values():
        if all(config.get(mark) == family.config.get(mark) for mark in marks):
            return replace(family, config=config)
    raise KeyError(f"no family has a config like { ({mark: config.get(mark) for mark in marks}) }")
