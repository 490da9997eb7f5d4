"""The fp32 engine's arrays in 8 bits: weights rounded for the inputs that real texts give them.

A product's panels ``[panels, inputs, 64]`` are rounded as they lie; nothing here knows of heads or families.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.backends.native_layout import PRODUCTS, padded, panels, panels_in_8_bits
from nimbed.errors import BuildError
from nimbed.quantization.native.rounding import rounded, scales_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nimbed._types import Float32Array
    from nimbed.quantization.native.observed import Seen

    Array = np.ndarray[Any, np.dtype[Any]]
    Settings = Mapping[str, Any]

# The products that read a norm, whose channels can be made alike.
_BEHIND_NORMS = ("projection", "up")


class LayerRounder:
    """Rounds the products of one layer, for the inputs that were seen."""

    def __init__(self, arrays: Mapping[str, Array], settings: Settings, number: int, seen: Mapping[str, Seen]) -> None:
        self._arrays = arrays
        self._settings = settings
        self._name = f"layers.{number}."
        self._groups = settings["layers"][number]
        self._seen = seen
        self._norms = {
            "projection": f"layers.{number - 1}.output_norm" if number else "embedding_norm",
            "up": f"layers.{number}.attention_norm",
        }

    def arrays(self, threads: int) -> Iterator[tuple[str, Array]]:
        """The products in 8 bits, and the factors of the norms that they read."""
        for product in PRODUCTS:
            weights = _by_output(self._arrays[f"{self._name}{product}.weights"])
            moments = self._seen[product].moments
            if product in _BEHIND_NORMS:
                factors = self._factors(product, weights)
                weights, moments = weights / factors, moments * factors * factors[:, None]
                yield f"{self._norms[product]}.smooth", factors
            yield from self._product(product, weights, moments, threads)

    def _factors(self, product: str, weights: Float32Array) -> Float32Array:
        """SmoothQuant (Xiao et al. 2023, https://arxiv.org/abs/2211.10438) with alpha 0.5, ``[inputs]``.

        The values' weights alone say how much of an input's rounding reaches the vector: what it does to queries and
        keys goes through softmax, which takes most of it away.
        """
        largest = np.abs(weights[self._counting(product)]).max(axis=0)
        ratio = np.maximum(largest, 1e-8) / np.maximum(self._seen[product].largest, 1e-8)
        padding = (largest == 0) & (self._seen[product].largest == 0)
        factors: Float32Array = np.where(padding, 1, np.sqrt(ratio)).astype(np.float32)
        return factors

    def _counting(self, product: str) -> slice | Array:
        """The outputs whose weights say how the inputs are smoothed."""
        if product != "projection":
            return slice(None)
        columns = self._settings["group_heads"] * self._settings["head_dim"]
        values = padded(columns)
        group = padded(columns * self._settings["queries"]) + 2 * values
        outputs = np.arange(self._settings["head_groups"] * group)
        counting: Array = outputs % group >= group - values
        return counting

    def _product(
        self, product: str, weights: Float32Array, moments: Array, threads: int
    ) -> Iterator[tuple[str, Array]]:
        """``weights`` ``[panels, 2, inputs / 4, 32, 4]``, ``scale`` and ``sum`` ``[panels, groups, 64]``, ``bias``."""
        name, inputs = f"{self._name}{product}", weights.shape[1]
        groups = np.arange(inputs) // self._groups[product]["group"]
        scale = scales_of(weights, groups)
        try:
            whole = rounded(weights, scale, groups, np.ascontiguousarray(moments), threads)
        except ValueError as err:
            raise BuildError(
                f"{name}: its inputs have no second moments that weights could be rounded for ({err}): the weights "
                "before it are damaged, or overflow float32"
            ) from err
        sums = np.stack([whole[:, groups == g].sum(axis=1, dtype=np.int64) for g in range(scale.shape[1])], axis=1)
        yield f"{name}.weights", panels_in_8_bits(whole)
        yield f"{name}.scale", panels(scale)
        yield f"{name}.sum", panels(scale * sums.astype(np.float32))
        yield f"{name}.bias", self._arrays[f"{name}.bias"]


def _by_output(packed: Float32Array) -> Float32Array:
    """``[panels, inputs, 64]`` as ``[outputs, inputs]``."""
    return np.ascontiguousarray(packed.swapaxes(1, 2)).reshape(-1, packed.shape[1])
