"""Lance: a data set with ``id``, ``text`` where it is asked for, and ``vector``. Its parts are Parquet's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._files.whole import writing
from nimbed.bulk.parquet_format import ParquetFormat, schema_of
from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from nimbed.bulk.layout import Layout


class LanceFormat(ParquetFormat):
    """See :class:`nimbed.bulk.layout.Format`."""

    name = "lance"
    folder = False

    def check(self, layout: Layout) -> None:
        """It holds whatever there is, where pylance is installed."""
        try:
            import lance  # noqa: F401
        except ImportError as err:
            raise MissingExtraError('writing Lance needs pylance: pip install "nimbed[lance]"') from err
        super().check(layout)

    def join(self, parts: Iterable[Path], out: Path, layout: Layout) -> None:
        """One version of a data set, written beside the place that it then takes."""
        import lance
        import pyarrow as pa

        fresh = out.with_name(f".{out.name}.tmp")
        schema = schema_of(layout)
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with writing(out):
                reader = pa.RecordBatchReader.from_batches(schema, _batches(parts))
                lance.write_dataset(reader, str(fresh), schema=schema, mode="create")
                put_in_place(fresh, out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def read_output(self, out: Path, layout: Layout) -> npt.NDArray[Any]:
        """All vectors, read rather than mapped."""
        import lance

        try:
            table = lance.dataset(str(out)).to_table(columns=["vector"])
        except (OSError, ValueError) as err:
            raise InputError(f"{out} cannot be read: {err}") from err
        flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, layout.numbers).reshape(-1, layout.width)


def put_in_place(fresh: Path, out: Path) -> None:
    """Give a folder its name; what had that name before is removed."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _batches(parts: Iterable[Path]) -> Any:  # noqa: ANN401 (record batches)
    from pyarrow.parquet import ParquetFile

    for path in parts:
        with ParquetFile(path) as file:
            yield from file.iter_batches()
