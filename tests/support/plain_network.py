"""The forward pass of any network that has a description, in float64 by numpy: slow, and written to be read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._model_folder.networks.description import AttentionKind, Network, NormStep

ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
POOLINGS = {
    "cls": lambda x: x[0],
    "lasttoken": lambda x: x[-1],
    "max": lambda x: x.max(axis=0),
    "mean": lambda x: x.mean(axis=0),
}


class PlainNetwork:
    """A network of a description and the weights that go with it, for one text at a time."""

    def __init__(self, network: Network, weights: Mapping[str, np.ndarray]) -> None:
        self.network = network
        self.weights = {name: np.asarray(values, np.float64) for name, values in weights.items()}

    def vector(self, ids: np.ndarray, types: np.ndarray | None = None) -> np.ndarray:
        """Pooled, and through the head; not normalized."""
        x = POOLINGS[self.network.pooling](self.hidden(ids, types)[-1])
        for i, head in enumerate(self.network.head):
            x = ACTIVATIONS[head.activation](self._linear(x, f"head.{i}"))
            if head.norm is not None:
                x = self._norm(x, f"head.{i}.norm", head.norm)
        return x

    def hidden(self, ids: np.ndarray, types: np.ndarray | None = None) -> list[np.ndarray]:
        """What each layer reads, ``[tokens, hidden]``, and behind them what the pooling reads."""
        network = self.network
        stream, normed = self._step(self._embedded(ids, types), "embedding_norm", network.embedding_norm)
        states = [normed]
        for i in range(network.layers):
            kind, name = network.attention[network.attention_of[i]], f"layers.{i}."
            attended = self._attention(normed, name, kind)
            stream, normed = self._step(stream, f"{name}attention_norm", network.attention_norms[i], attended)
            wide = self._feed_forward(normed, name)
            stream, normed = self._step(stream, f"{name}output_norm", network.output_norms[i], wide)
            states.append(normed)
        return states

    def _embedded(self, ids: np.ndarray, types: np.ndarray | None) -> np.ndarray:
        x = self.weights["words"][ids]
        if self.network.positions is not None:
            counted = ids != self.network.padding
            padding = self.network.padding
            x = x + self.weights["positions"][np.where(counted, np.cumsum(counted) + padding, padding)]
        if self.network.types is not None:
            x = x + self.weights["types"][np.zeros_like(ids) if types is None else types]
        return x

    def _step(
        self, stream: np.ndarray, name: str, step: NormStep, branch: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The residual stream from here on, and what is read of it."""
        norm = self._rms_norm if step.rms else self._norm
        stream = stream + (branch if step.after is None else norm(branch, f"{name}.after", step.after))
        normed = norm(stream, name, step.epsilon)
        return stream if step.keeps else normed, normed

    def _attention(self, x: np.ndarray, name: str, kind: AttentionKind) -> np.ndarray:
        network, tokens = self.network, len(x)
        q, k, v = (self._linear(x, name + part).reshape(tokens, -1, network.head_dim) for part in _QKV)
        if network.head_norm is not None:
            q = self._rms_norm(q, f"{name}query_norm", network.head_norm)
            k = self._rms_norm(k, f"{name}key_norm", network.head_norm)
        if kind.rotary is not None:
            q, k = (_turned(part, np.array(kind.rotary)) for part in (q, k))
        k, v = (part.repeat(network.heads // network.key_value_heads, axis=1) for part in (k, v))
        distance = np.arange(tokens) - np.arange(tokens)[:, None]
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(network.head_dim) + self._added(kind, distance)
        back, ahead = (math.inf if reach is None else reach for reach in (kind.back, kind.ahead))
        scores = np.where((distance >= -back) & (distance <= ahead), scores, -np.inf)
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", powers / powers.sum(axis=-1, keepdims=True), v)
        return self._linear(mixed.reshape(tokens, -1), f"{name}output")

    def _added(self, kind: AttentionKind, distance: np.ndarray) -> np.ndarray | float:
        """By the distance of a key from its query: of MPNet's table, or by ALiBi's slopes."""
        if kind.distances == "buckets":
            return self.weights["distances"][_buckets(distance, len(self.weights["distances"]))].transpose(2, 0, 1)
        if kind.distances == "alibi":
            return -np.array(slopes(self.network.heads))[:, None, None] * np.abs(distance)
        return 0.0

    def _feed_forward(self, x: np.ndarray, name: str) -> np.ndarray:
        activation, up = ACTIVATIONS[self.network.activation], self._linear(x, f"{name}up")
        wide = activation(self._linear(x, f"{name}gate")) * up if self.network.gated else activation(up)
        return self._linear(wide, f"{name}down")

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _rms_norm(self, x: np.ndarray, name: str, epsilon: float) -> np.ndarray:
        size = np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)
        return x / size * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _norm(self, x: np.ndarray, name: str, epsilon: float) -> np.ndarray:
        deviation = np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
        return (x - x.mean(axis=-1, keepdims=True)) / deviation * self.weights[f"{name}.weight"] + self.weights[
            f"{name}.bias"
        ]


_QKV = ("query", "key", "value")


def _turned(x: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Rotary positions, ``[tokens, heads, head_dim]``: the two halves of a head turn against each other."""
    angles = np.arange(len(x))[:, None, None] * turns
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=-1)


def _buckets(distance: np.ndarray, buckets: int) -> np.ndarray:
    """T5's: half of them for keys that come later, half of each for single distances, and then by ratios up to 128."""
    half = buckets // 2
    exact = half // 2
    far = exact + np.log(np.maximum(np.abs(distance), 1) / exact) / math.log(128 / exact) * (half - exact)
    return np.where(np.abs(distance) < exact, np.abs(distance), np.minimum(far.astype(int), half - 1)) + half * (
        distance > 0
    )


def slopes(heads: int) -> list[float]:
    """ALiBi's, as its authors' code finds them for any number of heads."""
    if math.log2(heads).is_integer():
        return [2 ** (-8 * (i + 1) / heads) for i in range(heads)]
    whole = 2 ** math.floor(math.log2(heads))
    return slopes(whole) + slopes(2 * whole)[::2][: heads - whole]
