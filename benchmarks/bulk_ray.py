"""A job on a Ray cluster of two nodes with a core each, beside one process on both cores, over the same passages.

The whole of both is timed, Ray's actors and their start too, but not the start of the cluster. Needs two cores, and the
environment of ``make cluster-env``: ``make bench-ray``. Exits with 1 where a gate fails.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common

from nimbed import Encoder
from nimbed.bulk import Columns, embed_files

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

FILES = 16
COLUMNS = Columns(id="id")
MIN_SHARE = 0.80


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--rows", type=int, default=60_000, help="passages (default: 60,000)")
    options = parser.parse_args()
    if options.quick:
        options.rows = 1_600
    record = {"conditions": _common.conditions(rows=options.rows)}
    with tempfile.TemporaryDirectory() as folder:
        record |= measure(options, Path(folder))
    gate = f"two nodes of a core each have {MIN_SHARE:.0%} of the rows a second of one process on both"
    return _common.finish(options, "bulk_ray", record, {gate: record["share"] >= MIN_SHARE})


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of both ways, in turn, after checking that the rows are the same."""
    import nimbed.ray

    write_inputs(options, folder)
    source, pairs = folder / "*.parquet", 1 if options.quick else 2
    one, two = folder / "one.parquet", folder / "two.parquet"
    model = nimbed.ray.Model(model=options.model)
    with two_nodes() as address, Encoder(options.model, cache=None, truncate="silent") as encoder:

        def alone() -> float:
            shutil.rmtree(one, ignore_errors=True)
            return _common.seconds(lambda: embed_files(encoder, source, one, columns=COLUMNS))

        def on_ray() -> float:
            for path in (two, folder / "two.parquet.checkpoint"):
                shutil.rmtree(path, ignore_errors=True)
            with nimbed.ray.connect(address):
                return _common.seconds(lambda: nimbed.ray.embed_files([source], two, model, columns=COLUMNS))

        seconds = _common.alternate("one process beside Ray", alone, on_ray, pairs)
    assert rows_of(one) == rows_of(two)
    return {
        "one_process_s": seconds[0],
        "ray_s": seconds[1],
        "share": sum(seconds[0]) / sum(seconds[1]),
        "rows_per_s": [options.rows * pairs / sum(taken) for taken in seconds],
    }


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster by Ray's own utility."""
    from ray._common.usage import usage_lib
    from ray.cluster_utils import Cluster

    usage_lib.set_usage_stats_enabled_via_env_var(False)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


def write_inputs(options: argparse.Namespace, folder: Path) -> None:
    """Passages that all differ, in several files."""
    import pyarrow as pa
    from pyarrow import parquet

    whole = itertools.chain.from_iterable(_common.iter_passages(options.data) for _ in itertools.count())
    texts = [f"{n}: {text}" for n, text in zip(range(options.rows), whole, strict=False)]
    for number in range(FILES):
        table = pa.table({"id": [str(n) for n in range(options.rows)][number::FILES], "text": texts[number::FILES]})
        parquet.write_table(table, folder / f"{number:02}.parquet")


def rows_of(out: Path) -> list[tuple[str, bytes]]:
    """Ids and vectors, by id."""
    import numpy as np
    from pyarrow import parquet

    table = parquet.read_table(out, columns=["id", "vector"])
    vectors = np.array(table.column("vector").to_pylist(), np.float32)
    return sorted(zip(table.column("id").to_pylist(), map(bytes, vectors), strict=True))


if __name__ == "__main__":
    sys.exit(main())
