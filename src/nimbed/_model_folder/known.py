"""Which networks are computed by what their settings and tensors say, whatever code a folder names for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimbed._files.json import Fields


def knows(config: Fields) -> bool:  # noqa: ARG001 (the table of networks has the answer as soon as it is there)
    """Whether the native engine has the network of this ``config.json``."""
    return False
