"""Parquet: a folder of parts with ``id``, ``text`` where it is asked for, and ``vector``, a list of fixed size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy.typing as npt

    from nimbed.bulk.layout import Block, Layout

# Where row groups end must depend on the rows alone, so that a part has the same bytes in whatever blocks it comes.
_GROUP_ROWS = 4096


class ParquetFormat:
    """See :class:`nimbed.bulk.layout.Format`."""

    name = "parquet"
    part_suffix = ".parquet"
    folder = True
    readable = True

    def check(self, layout: Layout) -> None:  # noqa: ARG002
        """It holds whatever there is, where pyarrow is installed."""
        try:
            import pyarrow  # noqa: F401
        except ImportError as err:
            raise MissingExtraError('writing Parquet needs pyarrow: pip install "nimbed[parquet]"') from err

    def open_part(self, path: Path, layout: Layout) -> ParquetPart:
        """Its file."""
        return ParquetPart(path, layout)

    def join(self, parts: Iterable[Path], out: Path, layout: Layout) -> None:
        """The folder of the parts is the output."""
        raise NotImplementedError

    def read_part(self, path: Path, layout: Layout) -> npt.NDArray[Any]:
        """The column ``vector``.

        Raises:
            InputError: the file cannot be read, or holds something else.
        """
        import pyarrow as pa
        from pyarrow import parquet

        try:
            column = parquet.read_table(path, columns=["vector"]).column("vector").combine_chunks()
            flat = column.flatten().to_numpy(zero_copy_only=False)
        except (OSError, pa.ArrowException, KeyError) as err:
            raise InputError(f"{path} cannot be read: {err}") from err
        return np.asarray(flat, layout.numbers).reshape(-1, layout.width)

    def read_output(self, out: Path, layout: Layout) -> npt.NDArray[Any]:
        """Its parts are read one by one."""
        raise NotImplementedError


class ParquetPart:
    """See :class:`nimbed.bulk.layout.PartWriter`."""

    def __init__(self, path: Path, layout: Layout) -> None:
        from pyarrow import parquet

        self._layout = layout
        self._schema = schema_of(layout)
        # Floats do not get smaller by packing. Parquet has no numbers below 32 bits, but a dictionary's are as narrow.
        paths = {"vector": "vector.list.element"}
        narrow = [paths["vector"]] if layout.numbers.itemsize == 1 else False
        self._writer = parquet.ParquetWriter(
            path,
            self._schema,
            compression={paths.get(name, name): "none" if name in paths else "zstd" for name in self._schema.names},
            use_dictionary=narrow,
            write_statistics=["id"],
        )
        self._ids: list[str | int] = []
        self._texts: list[str] = []
        self._values: list[npt.NDArray[Any]] = []

    def write(self, block: Block) -> None:
        """Kept until they fill a row group."""
        for first in range(0, len(block.ids), _GROUP_ROWS):
            rows = slice(first, first + _GROUP_ROWS)
            self._ids += block.ids[rows]
            self._texts += block.texts[rows] if self._layout.with_text else []
            self._values.append(block.values[rows])
            while len(self._ids) >= _GROUP_ROWS:
                self._write_group(_GROUP_ROWS)

    def close(self) -> None:
        """The last row group, and the file."""
        if self._ids:
            self._write_group(len(self._ids))
        self._writer.close()

    def _write_group(self, rows: int) -> None:
        values = self._values[0] if len(self._values) == 1 else np.concatenate(self._values)
        columns: dict[str, Any] = {"id": self._ids[:rows], "text": self._texts[:rows], "vector": values[:rows]}
        self._writer.write_table(table_of(columns, self._layout, self._schema), row_group_size=rows)
        self._ids, self._texts = self._ids[rows:], self._texts[rows:]
        self._values = [values[rows:]] if len(values) > rows else []


def schema_of(layout: Layout) -> Any:  # noqa: ANN401 (pyarrow has no types)
    """Columns and their types; the model's facts stand in the schema's metadata, under ``nimbed``."""
    import pyarrow as pa

    text = [pa.field("text", pa.string(), nullable=False)] if layout.with_text else []
    fields = [
        pa.field("id", pa.string() if layout.own_ids else pa.int64(), nullable=False),
        *text,
        pa.field("vector", _vector_type(layout)),
    ]
    return pa.schema(fields, metadata={"nimbed": json.dumps(dict(layout.facts), sort_keys=True)})


def _vector_type(layout: Layout) -> Any:  # noqa: ANN401
    import pyarrow as pa

    numbers = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "ubinary": pa.uint8()}
    return pa.list_(pa.field("element", numbers[layout.dtype], nullable=False), layout.width)


def vector_array(vectors: npt.NDArray[Any], layout: Layout) -> Any:  # noqa: ANN401
    """A column of lists of fixed size, of vectors ``[n, width]``."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, layout.numbers).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_vector_type(layout))


def table_of(columns: dict[str, Any], layout: Layout, schema: Any) -> Any:  # noqa: ANN401
    """Of ids, texts and vectors."""
    import pyarrow as pa

    made = {"vector": vector_array(columns["vector"], layout)}
    arrays = [
        made.get(name) if name in made else pa.array(columns[name], schema.field(name).type) for name in schema.names
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
