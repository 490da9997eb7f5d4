"""The extension of src/nimbed/native."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nimbed._types import Float32Array, Int32Array

REVISION: int

class Model:
    """A network, with the arrays that it reads.

    ``words_mapped``: the array "words" is part of a read-only file's mapping, and few of its pages stay resident.
    """

    def __init__(self, settings: dict[str, Any], arrays: dict[str, Any], words_mapped: bool = False) -> None: ...

class Session:
    """Batches through the network on some threads; used by one caller at a time."""

    def __init__(self, model: Model, threads: int, bulk: bool, kernels: str = "auto") -> None: ...
    @property
    def threads(self) -> int:
        """How many it has: fewer than were asked for where the system gave no more."""

    def expect(self) -> None:
        """Wake the threads for a batch that is about to come, from any thread."""

    def run(
        self, ids: Int32Array, offsets: Int32Array, types: Int32Array | None = None, keys: Int32Array | None = None
    ) -> Float32Array:
        """Vectors or scores ``[texts, dim]``, or where nothing is pooled the tokens' ``[tokens, hidden]``.

        ``keys``: of each text, how many of its first tokens are read by the others. RuntimeError where another thread
        is using the session.
        """

    def hidden(self, ids: Int32Array, offsets: Int32Array, types: Int32Array | None, layers: int) -> Float32Array:
        """Token vectors ``[tokens, hidden]`` after so many layers, for tests."""

class Trace:
    """Texts through a network in fp32, a layer at a time."""

    def __init__(
        self,
        model: Model,
        ids: Int32Array,
        offsets: Int32Array,
        types: Int32Array | None,
        threads: int,
        kernels: str = "auto",
    ) -> None: ...
    def next(self) -> dict[str, Float32Array]:
        """What the next layer's products read, by product, ``[tokens, inputs]``."""

    def state(self) -> dict[str, Float32Array]:
        """What the next layer is given: "hidden", the residual stream, and "normed", ``[tokens, width]`` each."""

    def resume(self, layer: int, hidden: Float32Array, normed: Float32Array) -> None:
        """Go on from there, where another trace of the same texts was."""

    @property
    def layer(self) -> int:
        """The next one's number."""

def kernels(name: str = "auto") -> str | None:
    """The name of the best kernels here, or of those asked for; None where this CPU cannot run them."""

class rounding:  # noqa: N801 (a submodule)
    """The builder's arithmetic: the same bits on any CPU and any number of threads."""

    @staticmethod
    def second_moments(x: Float32Array, sums: npt.NDArray[np.float64], threads: int, kernels: str = "auto") -> None: ...
    @staticmethod
    def gptq(
        weights: Float32Array,
        steps: Float32Array,
        groups: npt.NDArray[np.int64],
        moments: npt.NDArray[np.float64],
        threads: int,
        kernels: str = "auto",
    ) -> npt.NDArray[np.int8]: ...
    @staticmethod
    def kernels(name: str = "auto") -> str | None:
        """As above, of the kernels for matrices."""
