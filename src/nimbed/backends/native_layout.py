"""Where a network's numbers lie in the native engine's arrays: padded widths, heads in groups, panels of 64 outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nimbed._model_folder.networks.description import Network
    from nimbed._types import Float32Array

    Array = np.ndarray[Any, np.dtype[Any]]
    Int64Array = np.ndarray[Any, np.dtype[np.int64]]

PANEL, STRIP = 64, 32
# The products of a layer in order of execution.
PRODUCTS = ("projection", "output", "up", "down")
LINE = 16  # float32 in a cache line


def padded(size: int, step: int = PANEL) -> int:
    """The next multiple of a step."""
    return -(-size // step) * step


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Padded widths. Heads that share keys stay together, and those form a group whose queries fit into a panel.

    Attributes:
        hidden: of a token's vector.
        inner: between the products of a feed-forward block.
        head_dim: of a head.
        queries: heads of queries for one of keys and values.
        group_heads: heads of keys and values in a group.
        head_groups: groups.
    """

    hidden: int
    inner: int
    head_dim: int
    queries: int
    group_heads: int
    head_groups: int

    @classmethod
    def of(cls, network: Network) -> Widths:
        """Those of a network. Rotary positions turn whole vectors of 16 numbers by halves of a head."""
        head_dim = padded(network.head_dim, 2 * LINE if is_rotary(network) else LINE)
        queries = network.heads // network.key_value_heads
        fitting = max(1, PANEL // (head_dim * queries))
        group_heads = max(n for n in range(1, fitting + 1) if network.key_value_heads % n == 0)
        return cls(
            hidden=padded(network.hidden),
            inner=padded(network.intermediate),
            head_dim=head_dim,
            queries=queries,
            group_heads=group_heads,
            head_groups=network.key_value_heads // group_heads,
        )

    @property
    def query_columns(self) -> int:
        """Of a group's queries."""
        return padded(self.group_heads * self.queries * self.head_dim)

    @property
    def key_columns(self) -> int:
        """Of a group's keys, and of its values."""
        return padded(self.group_heads * self.head_dim)

    @property
    def context(self) -> int:
        """Columns of what attention gives."""
        return self.head_groups * self.query_columns


def is_rotary(network: Network) -> bool:
    """Whether positions turn queries and keys in any layer."""
    return any(kind.rotary is not None for kind in network.attention)


class Layout:
    """Where the numbers of a network lie in the engine's arrays."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.widths = widths = Widths.of(network)
        members = widths.group_heads
        self.query_places = self._places(network.heads, members * widths.queries, widths.query_columns)
        self.key_places = self._places(network.key_value_heads, members, widths.key_columns)

    def _places(self, heads: int, members: int, columns: int) -> Int64Array:
        """Where each component of all heads lies, int64 ``[heads * head_dim]``, with ``members`` heads in a group."""
        size, width = self.network.head_dim, self.widths.head_dim
        head, component = np.divmod(np.arange(heads * size), size)
        group, member = np.divmod(head, members)
        places: Int64Array = group * columns + member * width + self._in_head(component)
        return places

    def _in_head(self, component: Int64Array) -> Int64Array:
        """Where a head's components lie in it: where positions turn them, halves apart."""
        size, width = self.network.head_dim, self.widths.head_dim
        return component + (component >= size // 2) * (width - size) // 2 if is_rotary(self.network) else component

    def wide(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Padded from the hidden size."""
        return placed(values, slice(0, self.network.hidden), self.widths.hidden, axis)

    def inner(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Padded from the width between the feed-forward products."""
        return placed(values, slice(0, self.network.intermediate), self.widths.inner, axis)

    def head(self, values: Float32Array) -> Float32Array:
        """Padded from the width of a head."""
        return placed(values, self._in_head(np.arange(self.network.head_dim)), self.widths.head_dim)

    def context(self, values: Float32Array, axis: int = 0) -> Float32Array:
        """Heads of queries apart, in their groups."""
        return placed(values, self.query_places, self.widths.context, axis)

    def projection(self, query: Float32Array, key: Float32Array, value: Float32Array) -> Float32Array:
        """Rows of queries, keys and values as one product: of each group the queries, the keys, then the values."""
        groups, columns = self.widths.head_groups, self.widths.key_columns
        parts = [self.context(query), *(placed(part, self.key_places, groups * columns) for part in (key, value))]
        by_group = [part.reshape(groups, -1, *part.shape[1:]) for part in parts]
        joined = np.concatenate(by_group, axis=1)
        return joined.reshape(-1, *joined.shape[2:])

    def up(self, up: Float32Array, gate: Float32Array | None) -> Float32Array:
        """Rows of the first product of a feed-forward block; a panel of the gate's goes before each of the others'."""
        rows = self.inner(up)
        if gate is None:
            return rows
        both = (self.inner(gate), rows)
        alternating = np.stack([part.reshape(-1, PANEL, *part.shape[1:]) for part in both], axis=1)
        return alternating.reshape(-1, *alternating.shape[3:])


def panels(rows: Array) -> Array:
    """Rows ``[outputs, n, ...]`` as the kernels read them, ``[outputs / 64, n, 64, ...]``."""
    return np.ascontiguousarray(rows.reshape(len(rows) // PANEL, PANEL, *rows.shape[1:]).swapaxes(1, 2))


def panels_in_8_bits(rows: Array) -> Array:
    """Rows int8 ``[outputs, inputs]`` as the kernels read them, ``[outputs / 64, 2, inputs / 4, 32, 4]``."""
    outputs, inputs = rows.shape
    by_columns = rows.reshape(outputs // PANEL, PANEL // STRIP, STRIP, inputs // 4, 4)
    return np.ascontiguousarray(by_columns.swapaxes(2, 3))


def placed(values: Float32Array, places: slice | Int64Array, size: int, axis: int = 0) -> Float32Array:
    """The values at their places on an axis of ``size``, zeros elsewhere; themselves where nothing is to be done."""
    if isinstance(places, slice) and values.shape[axis] == size:
        return values
    shape = list(values.shape)
    shape[axis] = size
    made = np.zeros(shape, np.float32)
    made[(slice(None),) * axis + (places,)] = values
    return made
