"""Which packages are installed."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def version_of(package: str) -> str | None:
    """The installed version, or None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    return {name: found for name in packages if (found := version_of(name)) is not None}
