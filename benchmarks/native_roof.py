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

from nimbed._encoder_shape import EncoderShape
from nimbed._machine import thread_plan
from nimbed._markdown import table
from nimbed._native import Model, Session, kernels, testing
from nimbed.bench.roof import Roof
from nimbed.quantization._packed import Widths, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nimbed._types import Float32Array

ROWS, TOKENS, BATCH = 48, 256, 32
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
    parser.add_argument("--rounds", type=int, default=5, help="turns of each that count")
    parser.add_argument("--plot", action="store_true", help="a chart beside the JSON file")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    threads = thread_plan().threads
    roof = max(_chain(threads, rounds), panel_roof(threads, rounds))
    parts = parts_of(shape_of("MiniLM"), rounds)
    whole = {name: network_gops(shape_of(name), threads, rounds) for name in NETWORKS}
    one = network_gops(shape_of("MiniLM"), 1, rounds)
    print(f"roof: {roof:.0f} GOPS on {threads} threads; kernels: {kernels()}\n")
    print(table(["MiniLM, one layer, one token", "operations", "ns", "GOPS, one thread"], _rows(parts)))
    print()
    rows = [[name, f"{found:.0f}", f"{found / roof:.0%}"] for name, found in whole.items()]
    print(
        table(
            [f"{BATCH} texts of {TOKENS} tokens", "GOPS", "of the roof"],
            [*rows, ["MiniLM, one thread", f"{one:.0f}", ""]],
        )
    )
    if options.plot:
        plot(parts, roof / threads, options.out / "native_roof.png")
    record = {
        "roof_gops": roof,
        "parts": [{"name": p.name, "operations": p.operations, "ns": p.nanoseconds} for p in parts],
        "networks": {name: {"gops": found, "share": found / roof} for name, found in whole.items()},
        "conditions": _common.conditions(kernels=kernels(), rounds=rounds),
    }
    gates = {f"{name}: at least {least:.0%} of the roof": whole[name] >= least * roof for name, least in GATES.items()}
    return _common.finish(options, "native_roof", record, gates)


def shape_of(name: str) -> EncoderShape:
    hidden, layers, heads, intermediate = NETWORKS[name]
    return EncoderShape(
        architecture="bert", hidden=hidden, heads=heads, layers=layers, intermediate=intermediate, activation="gelu",
        epsilon=1e-12, padding=-1,
    )  # fmt: skip


def _chain(threads: int, rounds: int) -> float:
    return max(Roof("int8", threads).gops() for _ in range(rounds))


def panel_roof(threads: int, rounds: int) -> float:
    """One panel of 384 inputs by 48 rows again and again, on each thread."""
    rng = np.random.default_rng(0)
    inputs, calls = _linear_inputs(rng, 12 * ROWS, 384), 200

    def work() -> None:
        testing.linear(kernels(), *inputs, 0, calls)

    def all_threads() -> None:
        running = [threading.Thread(target=work) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    return 2.0 * 12 * ROWS * 384 * 64 * calls * threads / min(_common.seconds(all_threads) for _ in range(rounds)) / 1e9


def parts_of(shape: EncoderShape, rounds: int) -> list[Part]:
    """Each kernel alone on one thread, as often as a token needs it in one layer."""
    rng = np.random.default_rng(0)
    hidden, wide = shape.hidden, shape.intermediate
    return [
        _product("queries, keys, values", hidden, 3 * hidden, 0, rounds, rng),
        _attention(shape, rounds, rng),
        _rounding("rounding what attention gives", hidden, rounds, rng),
        _product("output", hidden, hidden, 0, rounds, rng),
        _norm(hidden, rounds, rng),
        _product("up, with GELU", hidden, wide, 1, rounds, rng),
        _rounding("rounding what GELU gives", wide, rounds, rng),
        _product("down", wide, hidden, 0, rounds, rng),
        _norm(hidden, rounds, rng),
    ]


def _product(name: str, inputs: int, outputs: int, activation: int, rounds: int, rng: np.random.Generator) -> Part:
    arrays = _linear_inputs(rng, 12 * ROWS, inputs)
    took = (
        _best(lambda times: testing.linear(kernels(), *arrays, activation, times), rounds) / (12 * ROWS) * outputs / 64
    )
    return Part(name, 2.0 * inputs * outputs, took)


def _attention(shape: EncoderShape, rounds: int, rng: np.random.Generator) -> Part:
    dim = shape.hidden // shape.heads
    q, k, v = (rng.standard_normal((TOKENS, 64)).astype(np.float32) for _ in range(3))
    took = _best(lambda times: testing.attend(kernels(), q, k, v, dim, None, times), rounds) / TOKENS * shape.heads
    return Part(f"attention, {TOKENS} tokens", 4.0 * TOKENS * shape.hidden, took)


def _rounding(name: str, width: int, rounds: int, rng: np.random.Generator) -> Part:
    x = rng.standard_normal(width).astype(np.float32)
    return Part(name, 0, _best(lambda times: testing.quantise(kernels(), x, times), rounds))


def _norm(width: int, rounds: int, rng: np.random.Generator) -> Part:
    x, ones = rng.standard_normal(width).astype(np.float32), np.ones(width, np.float32)
    took = _best(lambda times: testing.add_norm(kernels(), x, x, width, ones, ones, ones, 1e-12, times), rounds)
    return Part("sum, LayerNorm, rounding", 0, took)


def _linear_inputs(rng: np.random.Generator, rows: int, inputs: int) -> tuple[Any, ...]:
    a = rng.integers(0, 256, (rows, inputs), np.uint8)
    weights = rng.integers(-127, 128, (inputs // 4, 64, 4), np.int8)
    ones = np.ones(64, np.float32)
    return a, np.ones(rows, np.float32), np.ones(rows, np.float32), weights, ones, ones, ones


def _best(call: Callable[[int], object], rounds: int, times: int = 200) -> float:
    """Nanoseconds of one run of a kernel, of the best of some rounds."""
    call(times)
    return min(_common.seconds(lambda: call(times)) for _ in range(3 * rounds)) / times * 1e9


def network_gops(shape: EncoderShape, threads: int, rounds: int) -> float:
    """10^9 operations a second in the products of 32 texts of 256 tokens; the median of the rounds."""
    model = Model(*seeded(shape))
    session = Session(model, threads, bulk=False)
    ids = np.random.default_rng(0).integers(0, _VOCABULARY, BATCH * TOKENS, np.int32)
    offsets = np.arange(0, BATCH * TOKENS + 1, TOKENS, dtype=np.int32)
    session.run(ids, offsets, None)
    took = float(np.median([_common.seconds(lambda: session.run(ids, offsets, None)) for _ in range(rounds)]))
    per_token = shape.layers * (8 * shape.hidden**2 + 4 * shape.hidden * shape.intermediate + 4 * TOKENS * shape.hidden)
    return BATCH * TOKENS * per_token / took / 1e9


def seeded(shape: EncoderShape) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and arrays of a network with random weights."""
    rng, widths = np.random.default_rng(0), Widths.of(shape)

    def real(*size: int) -> Float32Array:
        return (rng.standard_normal(size) * 0.02).astype(np.float32)

    def norm(name: str) -> dict[str, Any]:
        return {f"{name}.{part}": np.ones(widths.hidden, np.float32) for part in ("gamma", "smooth")} | {
            f"{name}.beta": real(widths.hidden)
        }

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Any]:
        weights = rng.integers(-127, 128, (outputs // 64, inputs // 4, 64, 4), np.int8)
        scale = np.full(outputs, 0.02 / 74, np.float32)
        return {
            f"{name}.weights": weights,
            f"{name}.scale": scale,
            f"{name}.sum": real(outputs),
            f"{name}.bias": real(outputs),
        }

    arrays = {
        "words": real(_VOCABULARY, widths.hidden),
        "positions": real(512, widths.hidden),
        "types": real(2, widths.hidden),
    }
    settings = settings_of(shape, pooling="mean", normalize=True, tables={name: len(arrays[name]) for name in arrays})
    arrays |= norm("norm")
    for i in range(shape.layers):
        name = f"layers.{i}."
        arrays |= linear(name + "projection", widths.hidden, 3 * widths.context)
        arrays |= linear(name + "output", widths.context, widths.hidden)
        arrays |= linear(name + "up", widths.hidden, widths.intermediate)
        arrays |= linear(name + "down", widths.intermediate, widths.hidden)
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
