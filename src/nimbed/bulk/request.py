"""What a job is asked for, and where its files lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nimbed._files.user_paths import expanded
from nimbed._text.checks import check_whole
from nimbed.bulk.formats import DENSE, format_of
from nimbed.bulk.inputs import find_inputs
from nimbed.bulk.layout import Layout
from nimbed.errors import InputError
from nimbed.guard import stamp

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from nimbed import Encoder
    from nimbed._dtypes import Dtype
    from nimbed._text.rows import Columns
    from nimbed._types import Role
    from nimbed.bulk.layout import Format

Begin = Literal["resume", "restart", "update"]
OnError = Literal["raise", "skip"]
PART_ROWS = 16_384
_MAX_PART_ROWS = 2**31 - 1
_MAX_PROCESSES = 1024


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a job is asked for; see :func:`nimbed.bulk.embed_files`."""

    inputs: tuple[str, ...]
    out: Path
    columns: Columns
    kind: str | None = None
    role: Role = "document"
    dtype: Dtype = "float32"
    with_text: bool = False
    part_rows: int = PART_ROWS
    on_error: OnError = "raise"
    begin: Begin = "resume"
    processes: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_whole(self.part_rows, "part_rows", minimum=1, maximum=_MAX_PART_ROWS)
        if self.processes != "auto":
            check_whole(self.processes, "processes", minimum=1, maximum=_MAX_PROCESSES)
        for name, allowed in (("begin", get_args(Begin)), ("on_error", get_args(OnError))):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")

    @property
    def form(self) -> Format:
        """The output's format."""
        return format_of(self.out)

    @property
    def work(self) -> Path:
        """The folder of the parts until the output is complete."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def records(self) -> Path:
        """The folder by which an update knows the texts of the output."""
        return self.out if self.form.folder else self.out.with_name(f"{self.out.name}.nimbed")

    def layout(self, encoder: Encoder) -> Layout:
        """Of the output's rows."""
        return Layout(
            width=encoder.dim // 8 if self.dtype == "ubinary" else encoder.dim,
            dtype=self.dtype,
            own_ids=self.columns.id is not None,
            with_text=self.with_text,
            facts=stamp(encoder),
        )

    def key(self, layout: Layout) -> dict[str, Any]:
        """What parts must have in common to stand in one output."""
        return {
            "computes": DENSE,
            "format": self.form.name,
            "fingerprint": layout.facts["nimbed_fingerprint"],
            "role": self.role,
            "dtype": self.dtype,
            "width": layout.width,
            "columns": {**asdict(self.columns), "text": list(self.columns.text)},
            "with_text": self.with_text,
            "part_rows": self.part_rows,
        }


def find_places(
    inputs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], kind: str | None
) -> tuple[tuple[str, ...], Path]:
    """The input files, with patterns filled in, and the output.

    Raises:
        InputError: there is no such input, or the output is one of them or has no place.
    """
    found, place = find_inputs(inputs, kind), expanded(out)
    if not place.parent.is_dir():
        raise InputError(f"{place} cannot be written: there is no folder {place.parent}")
    for path in found:
        if place.is_file() and Path(path).exists() and place.samefile(path):
            raise InputError(f"{place} is the file that is read; the vectors need another name")
    return tuple(found), place
