"""Outliers where trained transformers have them, planted into a seeded one.

- Two or three channels of the residual stream are large in all tokens and layers, through the weights and biases of
  LayerNorm at the same places of all layers (Kovaleva et al. 2021, "BERT Busters"; Dettmers et al. 2022 find the like
  in decoders), and the rows of the products that write the stream are large there.
- A few channels behind the activation are far larger than the others, which rounding by token feels (SmoothQuant,
  Xiao et al. 2023; for gated feed-forwards Fishman et al. 2024).
- The first token, or a delimiter, carries activations many times the usual size in two channels, which the
  feed-forward of some middle layer writes once and later layers keep (Sun et al. 2024, "Massive Activations");
  attention sinks there (Xiao et al. 2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.plain_encoder import Anatomy, PlainEncoder

RESIDUAL_CHANNELS, RESIDUAL_FACTOR = 3, 8.0
# What the products that read those channels make of that: trained ones have small columns there.
READ_FACTOR = {"post-norm": 2.0, "pre-norm": 1.0}
INNER_CHANNELS, INNER_FACTOR = 4, 12.0
_READING = ("query.weight", "key.weight", "value.weight", "up.weight", "gate.weight")
MASSIVE_CHANNELS = 2  # of those
# Times the usual size: a norm behind every branch keeps a token's vector at one length, and more would be all of it.
MASSIVE_FACTOR = {"post-norm": 15.0, "pre-norm": 30.0}


def residual_channels(width: int) -> list[int]:
    return [width * (at + 1) // (RESIDUAL_CHANNELS + 1) + at for at in range(RESIDUAL_CHANNELS)]


def plant_channels(anatomy: Anatomy, tensors: dict[str, torch.Tensor]) -> None:
    """Large channels of the residual stream, the same in all layers, and large channels behind the activation."""
    channels = residual_channels(anatomy.width)
    # A pre-norm stream is large there by itself; a post-norm one is what its norms make it.
    norms, rows = (1.0, RESIDUAL_FACTOR) if anatomy.pre_norm else (RESIDUAL_FACTOR, RESIDUAL_FACTOR / 2)
    for name, one in tensors.items():
        if name.endswith(("query_norm.weight", "key_norm.weight")):
            continue
        if "branch_norm." in name:
            one[channels] = (one[channels] + anatomy.norm_offset) * rows - anatomy.norm_offset
        elif name == "word.weight" and anatomy.rms:
            one[:, channels] *= RESIDUAL_FACTOR
        elif "norm." in name and not name.startswith("head"):
            one[channels] *= RESIDUAL_FACTOR if name.startswith("embedding") else norms
        elif name.endswith(("output.weight", "down.weight")) and not anatomy.branch_norms:
            one[channels] *= rows  # a branch with a norm of its own has them there: twice, and they would be all of it
        elif name.endswith(_READING):
            one[:, channels] *= READ_FACTOR["pre-norm" if anatomy.pre_norm else "post-norm"] / RESIDUAL_FACTOR
    for layer in range(anatomy.layers):
        inner = [(anatomy.inner * at // INNER_CHANNELS + 7 * layer) % anatomy.inner for at in range(INNER_CHANNELS)]
        tensors[f"layers.{layer}.up.weight"][inner] *= INNER_FACTOR
        tensors[f"layers.{layer}.down.weight"][:, inner] /= INNER_FACTOR


def _massive_size(
    encoder: PlainEncoder, layer: int, states: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]
) -> float:
    """What the unit writes where it fires.

    A norm of the branch brings that to the stream's size: what is many times the branch before it would be all of it,
    also at tokens where the unit hardly fires. So there it is as much as all other channels together.
    """
    anatomy = encoder.anatomy
    if anatomy.branch_norms:
        down = encoder.tensors[f"layers.{layer}.down.weight"]
        usual, factor = encoder.activated(layer, torch.cat(list(inputs))) @ down.T, anatomy.width**0.5
        factor /= MASSIVE_CHANNELS**0.5
    else:
        usual, factor = torch.cat(list(states)), MASSIVE_FACTOR["pre-norm" if anatomy.pre_norm else "post-norm"]
    return float(usual.square().mean(1).sqrt().median()) * factor


def plant_massive(encoder: PlainEncoder, layer: int, states: Sequence[torch.Tensor], *, token: int) -> None:
    """An inner channel of this layer's feed-forward that fires at one token and writes two channels of the stream.

    Args:
        encoder: whose tensors are changed.
        layer: whose feed-forward fires.
        states: hidden states that the feed-forward joins, of real texts.
        token: which one of each text: 0 the first, -1 the last.
    """
    anatomy, tensors = encoder.anatomy, encoder.tensors
    inputs = [encoder.feed_forward_inputs(layer, one) for one in states]
    chosen = torch.stack([one[token] for one in inputs]).mean(0)
    others = torch.cat([torch.cat([one[:token], one[token + 1 :] if token >= 0 else one[:0]]) for one in inputs])
    # The direction that the token has and the others' mean lacks, told from their spread (Fisher's discriminant).
    spread = others.T @ others / len(others)
    direction = torch.linalg.solve(spread + 0.1 * spread.diagonal().mean() * torch.eye(anatomy.width), chosen)
    direction *= 30 / (direction @ chosen)
    unit = anatomy.inner // 2 + 1
    for part in ("gate", "up"):
        if f"layers.{layer}.{part}.weight" in tensors:
            tensors[f"layers.{layer}.{part}.weight"][unit] = direction
        if f"layers.{layer}.{part}.bias" in tensors:
            tensors[f"layers.{layer}.{part}.bias"][unit] = 0
    fired = encoder.activated(layer, chosen[None])[0, unit]
    down = tensors[f"layers.{layer}.down.weight"]
    down[:, unit] = 0
    size = _massive_size(encoder, layer, states, inputs)
    for at, channel in enumerate(residual_channels(anatomy.width)[:MASSIVE_CHANNELS]):
        down[channel, unit] = size / fired * (-1) ** at
