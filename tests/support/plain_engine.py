"""What the engine computes from its settings and its fp32 arrays, in float64 by numpy: it defines their layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tests.support.plain_network import ACTIVATIONS, POOLINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    Array = np.ndarray[Any, np.dtype[Any]]


class PlainEngine:
    """An opened network, for one text at a time."""

    def __init__(self, settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.settings = settings
        self.arrays = {name: np.asarray(values, np.float64) for name, values in arrays.items()}

    def vector(self, ids: Array, types: Array | None = None) -> Array:
        settings = self.settings
        x = POOLINGS[settings["pooling"]](self.hidden(ids, types))[: settings["size"]]
        for number, head in enumerate(settings["head"]):
            name, wide = f"head.{number}", np.zeros(-(-head["inputs"] // 64) * 64)
            wide[: head["inputs"]] = x
            x = ACTIVATIONS[head["activation"]](self._product(wide, name))[: head["outputs"]]
            if head["norm"] is not None:
                gamma, beta = (self.arrays[f"{name}.norm.{part}"][: head["outputs"]] for part in ("gamma", "beta"))
                x = (x - x.mean()) / np.sqrt(x.var() + head["norm"]) * gamma + beta
        return x / np.linalg.norm(x) if settings["normalize"] else x

    def hidden(self, ids: Array, types: Array | None = None) -> Array:
        """What is pooled, ``[tokens, width]``."""
        stream, normed = self._step(self._embedded(ids, types), "embedding_norm", self.settings["embedding_norm"])
        for number, layer in enumerate(self.settings["layers"]):
            name = f"layers.{number}."
            mixed = self._attention(self._product(normed, f"{name}projection"), number)
            attended = self._product(mixed, f"{name}output")
            stream, normed = self._step(stream, f"{name}attention_norm", layer["attention_norm"], attended)
            wide = self._product(self._activated(self._product(normed, f"{name}up")), f"{name}down")
            stream, normed = self._step(stream, f"{name}output_norm", layer["output_norm"], wide)
        return normed

    def _embedded(self, ids: Array, types: Array | None) -> Array:
        x, padding = self.arrays["words"][ids], self.settings["padding"]
        if self.settings["positions"]:
            counted = ids != padding
            x = x + self.arrays["positions"][np.where(counted, np.cumsum(counted) + padding, padding)]
        if self.settings["types"]:
            x = x + self.arrays["types"][np.zeros_like(ids) if types is None else types]
        return x

    def _product(self, x: Array, name: str) -> Array:
        panels = self.arrays[f"{name}.weights"]
        y = np.stack([x @ panel for panel in panels], axis=-2)
        return y.reshape(*y.shape[:-2], -1) + self.arrays[f"{name}.bias"]

    def _step(
        self, stream: Array, name: str, step: Mapping[str, Any], branch: Array | float = 0.0
    ) -> tuple[Array, Array]:
        if step["after"] is not None:
            branch = self._norm(branch, f"{name}.after", step["after"], rms=step["rms"])
        stream = stream + branch
        normed = self._norm(stream, name, step["epsilon"], rms=step["rms"])
        return stream if step["keeps"] else normed, normed * self.arrays[f"{name}.smooth"]

    def _norm(self, x: Array, name: str, epsilon: float, *, rms: bool) -> Array:
        real = x[..., : self.settings["size"]]
        mean = 0.0 if rms else real.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(((real - mean) ** 2).mean(axis=-1, keepdims=True) + epsilon)
        return (x - mean) / deviation * self.arrays[f"{name}.gamma"] + self.arrays[f"{name}.beta"]

    def _activated(self, x: Array) -> Array:
        activation = ACTIVATIONS[self.settings["activation"]]
        if not self.settings["gated"]:
            return activation(x)
        panels = x.reshape(len(x), -1, 2, 64)
        return (activation(panels[:, :, 0]) * panels[:, :, 1]).reshape(len(x), -1)

    def _attention(self, x: Array, layer: int) -> Array:
        """Of each group of heads its columns of queries, of keys, of values."""
        settings = self.settings
        groups, members, queries = (settings[key] for key in ("head_groups", "group_heads", "queries"))
        dim = settings["head_dim"]
        wide, narrow = (-(-heads * dim // 64) * 64 for heads in (members * queries, members))
        made = np.zeros((len(x), groups * wide))
        for group in range(groups):
            columns = x[:, group * (wide + 2 * narrow) :][:, : wide + 2 * narrow]
            q, k, v = np.split(columns, [wide, wide + narrow], axis=1)
            for member in range(members * queries):
                own, shared = (slice(m * dim, (m + 1) * dim) for m in (member, member // queries))
                number = group * members * queries + member
                query, key = (
                    self._normed(part, layer, name) for part, name in ((q[:, own], "query"), (k[:, shared], "key"))
                )
                mixed = self._head(query, key, v[:, shared], settings["layers"][layer]["attention"], number)
                made[:, group * wide :][:, own] = mixed
        return made

    def _normed(self, x: Array, layer: int, name: str) -> Array:
        norm = self.settings["layers"][layer][f"{name}_norm"]
        if norm is None:
            return x
        size = np.sqrt((x**2).sum(axis=1, keepdims=True) / norm["size"] + norm["epsilon"])
        return x / size * self.arrays[f"layers.{layer}.{name}_norm"]

    def _head(self, q: Array, k: Array, v: Array, kind: int, head: int) -> Array:
        settings, tokens = self.settings["attention"][kind], len(q)
        distance = np.arange(tokens) - np.arange(tokens)[:, None]
        if settings["rotary"]:
            q, k = (self._turned(part, self.arrays[f"attention.{kind}.rotation"]) for part in (q, k))
        scores = q @ k.T
        if settings["distances"]:
            scores = scores + self.arrays[f"attention.{kind}.distances"][head, distance + self.settings["max_length"]]
        back, ahead = (np.inf if settings[way] < 0 else settings[way] for way in ("back", "ahead"))
        scores = np.where((distance >= -back) & (distance <= ahead), scores, -np.inf)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True) @ v

    def _turned(self, x: Array, rotation: Array) -> Array:
        cosines, sines = np.split(rotation[: len(x)], 2, axis=1)
        a, b = np.split(x, 2, axis=1)
        return np.concatenate([a * cosines - b * sines, b * cosines + a * sines], axis=1)
