# What src/nimbed/native/module.cpp shows to Python.
import numpy as np
from numpy.typing import NDArray

class Model:
    def __init__(self, settings: dict[str, int | float], arrays: dict[str, NDArray[np.generic]]) -> None: ...

class Session:
    def __init__(self, model: Model, threads: int, bulk: bool, kernels: str = "auto") -> None: ...
    def run(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int32], types: NDArray[np.int32] | None
    ) -> NDArray[np.float32]: ...
    def hidden(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int32], types: NDArray[np.int32] | None, layers: int
    ) -> NDArray[np.float32]: ...

def kernels(name: str = "auto") -> str | None: ...
