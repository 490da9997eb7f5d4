"""Millions of texts: from files to a file of vectors, gone on with after any death; and into a vector store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from nimbed._text.rows import Columns
from nimbed.bulk.into import Indexed, Writer, embed_into, index_into
from nimbed.bulk.job import Job
from nimbed.bulk.request import PART_ROWS, Begin, OnError, Request, find_places
from nimbed.bulk.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nimbed import Encoder
    from nimbed._dtypes import Dtype
    from nimbed._types import Role

__all__ = ["Columns", "Indexed", "Summary", "Writer", "embed_files", "embed_into", "index_into"]


def embed_files(  # noqa: PLR0913 (what the command line takes)
    encoder: Encoder,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    columns: Columns = Columns(),  # noqa: B008 (frozen)
    kind: str | None = None,
    role: Role = "document",
    dtype: Dtype = "float32",
    with_text: bool = False,
    part_rows: int = PART_ROWS,
    on_error: OnError = "raise",
    begin: Begin = "resume",
    processes: int | Literal["auto"] = "auto",
) -> Summary:
    """Embed the rows of files into an output that appears when it is complete.

    A run that is killed leaves what it has done in a folder beside the output, ``OUT.partial``, and the same call goes
    on from there: the output has the bytes of an undisturbed run.

    Args:
        encoder: used by nobody else meanwhile.
        inputs: files or patterns (``*``, ``?``, ``**``), plain or packed by gzip or zstd; ``-`` is standard input.
        out: ``.npy`` or ``.jsonl`` (a file), ``.parquet`` (a folder of parts) or ``.lance`` (a data set).
        columns: which fields hold ids and texts.
        kind: "jsonl", "csv", "tsv", "text" or "parquet"; None goes by each file's name.
        role: whose prompt the texts get.
        dtype: of the vectors, as in :meth:`nimbed.Encoder.encode`.
        with_text: whether the texts stand beside the vectors.
        part_rows: rows of a part. Of a killed run the part in the making is lost.
        on_error: "raise" for a bad row, or "skip" it and list it in ``OUT.skipped.jsonl``.
        begin: "resume"; "restart" throws away what there is; "update" takes the vectors of texts that the output had
            before.
        processes: that share the cores; "auto" measures what is fastest where there are more than 8 cores, or several
            sockets or memory nodes, and parts enough. The summary says what was found.

    Returns:
        What was done.

    Raises:
        InputError: an input is missing, has a bad row or has changed since the job was begun; or the output cannot be
            written. What is complete by then is kept.
        FingerprintError: the job was begun with another model or engine.
        MissingExtraError: pyarrow or pylance is not installed.
    """
    patterns = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    found, place = find_places(patterns, out, kind)
    request = Request(
        inputs=found,
        out=place,
        kind=kind,
        columns=columns,
        role=role,
        dtype=dtype,
        with_text=with_text,
        part_rows=part_rows,
        on_error=on_error,
        begin=begin,
        processes=processes,
    )
    return Job(request).run(encoder)
