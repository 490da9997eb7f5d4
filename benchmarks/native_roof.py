"""Where the native engine's time goes: each kernel beside the CPU's int8 roof, and the whole network.

The roof is the best that a product of 8 bits reaches here: a chain of large products through OpenVINO, or one panel of
the engine's own, whose weights and activations lie in the cache. Networks of BGE's shapes have random weights: only
their speed is measured. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import _common
import numpy as np
from _peer_models import SHAPES

from nimbed._machine import thread_plan
from nimbed._model_folder.networks.description import Network, NormStep
from nimbed._native import Model, Session, kernels, testing
from nimbed._types import ModelSpec
from nimbed.backends.native_layout import Widths
from nimbed.backends.native_packed import GROUP, settings_of
from nimbed.bench.roof import Roof
from nimbed.evaluate.markdown import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import Float32Array

ROWS, TOKENS, BATCH = 576, 256, 32
# Least share of the roof for 32 texts of 256 tokens.
GATES = {"MiniLM": 0.45, "bge-base": 0.55, "bge-large": 0.55}
NETWORKS = {"MiniLM": (384, 6, 12, 1536), **{name: SHAPES[name] for name in ("bge-base", "bge-large")}}
_VOCABULARY = 1000


@dataclass(frozen=True)
class Part:
    """One kernel's work for a token: operations (a product and its addition are two), and what they took."""

    name: str
    operations: float
    nanoseconds: float

    @property
    def gops(self) -> float:
        """Operations a nanosecond."""
        return self.operations / self.nanoseconds if self.operations else 0.0


def main() -> int:
    parser = _common.parser(__doc__)
    parser.add_argument("--kernels", default=kernels(), help="avx2, avx512_vnni, ... (default: the best here)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--plot", action="store_true", help="a chart beside the JSON file")
    options = parser.parse_args()
    threads = thread_plan().threads
    by = Measure(options.kernels, 1 if options.quick else options.rounds)
    roof = max(chain_roof(threads, by.rounds), by.panel_roof(threads))
    parts = by.parts(shape_of("MiniLM"))
    whole = {name: by.network_gops(shape_of(name), threads) for name in (["MiniLM"] if options.quick else NETWORKS)}
    report(by, parts, whole, roof, threads)
    name = "native_roof" if options.kernels == kernels() else f"native_roof-{options.kernels}"
    if options.plot:
        plot(parts, roof / threads, options.out / f"{name}.png")
    record = {
        "roof_gops": roof,
        "parts": [{"name": p.name, "operations": p.operations, "ns": p.nanoseconds} for p in parts],
        "networks": {name: {"gops": found, "share": found / roof} for name, found in whole.items()},
        "conditions": _common.conditions(kernels=by.kernels, rounds=by.rounds),
    }
    gates = {f"{net}: at least {GATES[net]:.0%} of the roof": got >= GATES[net] * roof for net, got in whole.items()}
    return _common.finish(options, name, record, gates)


def report(by: Measure, parts: list[Part], whole: dict[str, float], roof: float, threads: int) -> None:
    """Both tables."""
    print(f"roof: {roof:.0f} GOPS on {threads} threads; kernels: {by.kernels}\n")
    print(table(["MiniLM, one layer, one token", "operations", "ns", "GOPS, one thread"], _rows(parts)))
    rows = [[name, f"{found:.0f}", f"{found / roof:.0%}"] for name, found in whole.items()]
    rows.append(["MiniLM, one thread", f"{by.network_gops(shape_of('MiniLM'), 1):.0f}", ""])
    print("\n" + table([f"{BATCH} texts of {TOKENS} tokens", "GOPS", "of the roof"], rows))


def shape_of(name: str) -> Network:
    hidden, layers, heads, intermediate = NETWORKS[name]
    norm = NormStep(epsilon=1e-12)
    return Network(
        family="bert", hidden=hidden, heads=heads, key_value_heads=heads, head_dim=hidden // heads, layers=layers,
        intermediate=intermediate, activation="gelu", vocabulary=_VOCABULARY, positions=512, types=2, max_length=512,
        attention_of=(0,) * layers, embedding_norm=norm, attention_norms=(norm,) * layers,
        output_norms=(norm,) * layers, pooling="mean",
    )  # fmt: skip


def chain_roof(threads: int, rounds: int) -> float:
    """10^9 operations a second of OpenVINO's chain of products."""
    return max(Roof("int8", threads).gops() for _ in range(rounds))


@dataclass(frozen=True)
class Measure:
    """One set of kernels, each measured in the best of some rounds."""

    kernels: str
    rounds: int

    def panel_roof(self, threads: int) -> float:
        """10^9 operations a second of one panel of 384 inputs by many rows again and again, on each thread."""
        inputs, calls = _linear_inputs(384), 200

        def work() -> None:
            testing.linear(self.kernels, *inputs, 0, calls)

        def all_threads() -> None:
            running = [threading.Thread(target=work) for _ in range(threads)]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()

        took = min(_common.seconds(all_threads) for _ in range(self.rounds))
        return 2.0 * ROWS * 384 * 64 * calls * threads / took / 1e9

    def parts(self, shape: Network) -> list[Part]:
        """Each kernel alone on one thread, as often as a token needs it in one layer."""
        hidden, wide = shape.hidden, shape.intermediate
        return [
            self._product("queries, keys, values", hidden, 3 * hidden, 0, group=GROUP),
            self._attention(shape),
            self._rounding("rounding what attention gives", hidden, group=GROUP),
            self._product("output", hidden, hidden, 0, group=GROUP),
            self._norm(hidden),
            self._rounding("rounding what LayerNorm gives", hidden, group=GROUP),
            self._product("up, with GELU", hidden, wide, 1, group=GROUP),
            self._rounding("rounding what GELU gives", wide, group=GROUP),
            self._product("down", wide, hidden, 0, group=GROUP),
            self._norm(hidden),
            self._rounding("rounding what LayerNorm gives", hidden, group=GROUP),
        ]

    def _product(self, name: str, inputs: int, outputs: int, activation: int, group: int | None = None) -> Part:
        group = min(group or inputs, inputs)
        arrays = _linear_inputs(group)
        took = self._best(lambda times: testing.linear(self.kernels, *arrays, activation, times))
        return Part(name, 2.0 * inputs * outputs, took / ROWS * inputs / group * outputs / 64)

    def _attention(self, shape: Network) -> Part:
        dim = shape.hidden // shape.heads
        q, k, v = (_random(TOKENS, 64) for _ in range(3))
        took = self._best(lambda times: testing.attend(self.kernels, q, k, v, dim, None, times))
        return Part(f"attention, {TOKENS} tokens", 4.0 * TOKENS * shape.hidden, took / TOKENS * shape.heads)

    def _rounding(self, name: str, width: int, group: int | None = None) -> Part:
        group = min(group or width, width)
        x = _random(group)
        return Part(name, 0, self._best(lambda times: testing.quantize(self.kernels, x, times)) * width / group)

    def _norm(self, width: int) -> Part:
        x, ones = _random(width), np.ones(width, np.float32)
        took = self._best(lambda times: testing.add_norm(self.kernels, x, x, width, ones, ones, ones, 1e-12, times))
        return Part("sum, LayerNorm", 0, took)

    def _best(self, call: Callable[[int], object], times: int = 200) -> float:
        """Nanoseconds of one run of a kernel."""
        call(times)
        return min(_common.seconds(lambda: call(times)) for _ in range(3 * self.rounds)) / times * 1e9

    def network_gops(self, shape: Network, threads: int) -> float:
        """10^9 operations a second in the products of 32 texts of 256 tokens; the median of the rounds."""
        session = Session(Model(*seeded(shape)), threads, bulk=False, kernels=self.kernels)
        ids = np.random.default_rng(0).integers(0, _VOCABULARY, BATCH * TOKENS, np.int32)
        offsets = np.arange(0, BATCH * TOKENS + 1, TOKENS, dtype=np.int32)
        session.run(ids, offsets, None)
        took = np.median([_common.seconds(lambda: session.run(ids, offsets, None)) for _ in range(self.rounds)])
        hidden = shape.hidden
        per_token = shape.layers * (8 * hidden**2 + 4 * hidden * shape.intermediate + 4 * TOKENS * hidden)
        return BATCH * TOKENS * per_token / float(took) / 1e9


def _random(*size: int) -> Float32Array:
    return np.random.default_rng(0).standard_normal(size, np.float32)


def _linear_inputs(inputs: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (1, ROWS, inputs), np.uint8)
    weights = rng.integers(-127, 128, (2, inputs // 4, 32, 4), np.int8)
    rows, columns = np.ones((1, 1, ROWS), np.float32), np.ones((1, 64), np.float32)
    return a, rows, rows, weights, columns, columns, columns


def seeded(shape: Network) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and arrays of a network with random weights."""
    rng, widths = np.random.default_rng(0), Widths.of(shape)

    def real(*size: int) -> Float32Array:
        return (rng.standard_normal(size) * 0.02).astype(np.float32)

    def norm(name: str) -> dict[str, Any]:
        return {f"{name}.{part}": np.ones(widths.hidden, np.float32) for part in ("gamma", "smooth")} | {
            f"{name}.beta": real(widths.hidden)
        }

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Any]:
        weights = rng.integers(-127, 128, (outputs // 64, 2, inputs // 4, 32, 4), np.int8)
        groups = -(-inputs // GROUP)
        return {
            f"{name}.weights": weights,
            f"{name}.scale": np.full((outputs // 64, groups, 64), 0.02 / 74, np.float32),
            f"{name}.sum": real(outputs // 64, groups, 64),
            f"{name}.bias": real(outputs),
        }

    arrays = {
        "words": real(_VOCABULARY, widths.hidden),
        "positions": real(512, widths.hidden),
        "types": real(2, widths.hidden),
    }
    spec = ModelSpec(
        architecture="bert", hidden_size=shape.hidden, dim=shape.hidden, pooling="mean", normalize=True, max_length=512
    )
    settings = settings_of(shape, spec, precision="int8")
    arrays |= norm("embedding_norm")
    for i in range(shape.layers):
        name = f"layers.{i}."
        arrays |= linear(name + "projection", widths.hidden, 3 * widths.context)
        arrays |= linear(name + "output", widths.context, widths.hidden)
        arrays |= linear(name + "up", widths.hidden, widths.inner)
        arrays |= linear(name + "down", widths.inner, widths.hidden)
        arrays |= norm(name + "attention_norm") | norm(name + "output_norm")
    return settings, arrays


def _rows(parts: list[Part]) -> list[list[str]]:
    rows = [
        [part.name, f"{part.operations:.0f}", f"{part.nanoseconds:.0f}", f"{part.gops:.0f}" if part.operations else ""]
        for part in parts
    ]
    return [
        *rows,
        ["together", f"{sum(p.operations for p in parts):.0f}", f"{sum(p.nanoseconds for p in parts):.0f}", ""],
    ]


def plot(parts: list[Part], roof: float, path: Path) -> None:
    """Bars as wide as a part takes, as high as it computes; the roof above them."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4))
    left = 0.0
    for part in parts:
        axes.bar(left, part.gops or roof * 0.01, part.nanoseconds, align="edge", edgecolor="white", label=part.name)
        left += part.nanoseconds
    axes.axhline(roof, color="black", linestyle="--", label="int8 roof, one thread")
    axes.set(
        xlabel="nanoseconds of one token in one layer", ylabel="GOPS", title="Where the time goes: MiniLM, one thread"
    )
    axes.legend(fontsize="x-small", loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
