"""Text embeddings that are fast and trustworthy on CPUs.

>>> from nimbed import Encoder
>>> encoder = Encoder("any-name", backend="fake")  # doctest stand-in; a real one: Encoder("BAAI/bge-small-en-v1.5")
>>> encoder.encode(["one text", "another"]).shape
(2, 384)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimbed._loading.hub import Source
    from nimbed._loading.settings import CacheConfig
    from nimbed.encoder import Encoder
    from nimbed.errors import NimbedError
    from nimbed.quantization import Calibration, quantize
    from nimbed.reranker import Reranker
    from nimbed.spec import SpecOverrides

__all__ = ["CacheConfig", "Calibration", "Encoder", "NimbedError", "Reranker", "Source", "SpecOverrides", "quantize"]
__version__ = "0.1.0"

_HOMES = {
    "CacheConfig": "nimbed._loading.settings",
    "Calibration": "nimbed.quantization",
    "Encoder": "nimbed.encoder",
    "NimbedError": "nimbed.errors",
    "Reranker": "nimbed.reranker",
    "Source": "nimbed._loading.hub",
    "SpecOverrides": "nimbed.spec",
    "quantize": "nimbed.quantization",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nimbed' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
