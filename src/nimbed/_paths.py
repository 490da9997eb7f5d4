"""Names of files that another file gives."""

from __future__ import annotations


def leads_inside(name: str) -> bool:
    """Whether a name, relative to a folder, stays within it on every system."""
    return name.isprintable() and not set(name) & {"\\", ":"} and not set(name.split("/")) & {"", ".", ".."}
