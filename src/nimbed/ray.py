"""Ray Data, where one machine is outgrown: actors that hold a model each, with threads for the CPUs that they have.

``pip install "nimbed[ray]"``. See docs/bulk.md.
"""

from __future__ import annotations

import os
import shutil
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from nimbed import Encoder, Source, SpecOverrides
from nimbed._text.checks import check_whole
from nimbed._text.rows import Columns, Fault
from nimbed._text.text_files import kind_of
from nimbed.bulk.inputs import find_inputs
from nimbed.bulk.layout import Layout
from nimbed.bulk.parquet_format import vector_array
from nimbed.errors import FingerprintError, InputError, MissingExtraError

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext
except ImportError as err:
    raise MissingExtraError('nimbed.ray needs Ray Data: pip install "nimbed[ray]"') from err

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._dtypes import Dtype
    from nimbed._types import Precision, Role, Truncate

__all__ = ["EmbedBatches", "Model", "connect", "embed_dataset", "embed_files", "plan_actors"]

BATCH_ROWS = 1024
_MOST_CPUS = 8  # of an actor: what one process scales to everywhere


@dataclass(frozen=True, kw_only=True)
class Model:
    """What every actor opens: the arguments of :class:`nimbed.Encoder`, but for threads and cache."""

    model: str
    backend: str = "auto"
    precision: Precision | Literal["auto"] = "auto"
    max_length: int | None = None
    truncate: Truncate = "silent"
    dim: int | None = None
    spec: SpecOverrides = field(default_factory=SpecOverrides)
    source: Source = field(default_factory=Source)

    def open(self, threads: int) -> Encoder:
        """With so many threads of the engine."""
        return Encoder(**vars(self), threads=threads, cache=None)


class EmbedBatches:
    """A callable class for ``Dataset.map_batches(..., batch_format="pyarrow")``.

    An actor opens the model before its first batch, with one thread for each CPU that Ray has given it.

    Args:
        model: to open.
        columns: which hold ids and texts; the id goes on under its own name.
        fingerprint: that the vectors must have; None allows any.
        role: whose prompt the texts get.
        dtype: of the vectors.
        with_text: whether the columns of the text go on beside the vector.

    Raises:
        FingerprintError: this node's vectors would be others.
    """

    def __init__(
        self,
        model: Model,
        columns: Columns,
        fingerprint: str | None = None,
        *,
        role: Role = "document",
        dtype: Dtype = "float32",
        with_text: bool = False,
    ) -> None:
        given = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        self._encoder = model.open(max(1, int(given)))
        if fingerprint is not None and self._encoder.fingerprint != fingerprint:
            raise FingerprintError(
                f"a node's vectors have fingerprint {self._encoder.fingerprint}, not {fingerprint}: it has other "
                'files of the model, or its CPU other instructions; take backend="native", whose vectors have the same '
                "bits on every CPU, or allow them with any_fingerprint=True"
            )
        self._columns, self._role, self._with_text = columns, role, with_text
        width = self._encoder.dim // 8 if dtype == "ubinary" else self._encoder.dim
        self._layout = Layout(width=width, dtype=dtype)
        self._read = columns.reader()
        self._encoder.encode(["warm"], role=role)

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401 (pyarrow.Table)
        """The batch's ids and vectors."""
        texts = [self._text(row) for row in batch.select(self._columns.wanted).to_pylist()]
        vectors = self._encoder.encode(texts, role=self._role, dtype=self._layout.dtype)
        kept = [name for name in self._columns.wanted if self._with_text or name == self._columns.id]
        return batch.select(kept).append_column("vector", vector_array(vectors, self._layout))

    def _text(self, row: dict[str, Any]) -> str:
        try:
            return self._read(row)[0]
        except Fault as err:
            name = self._columns.id
            raise InputError(f"the row with {name}={row.get(str(name))!r}: {err.reason}") from err


@contextmanager
def connect(address: str | None = None) -> Iterator[None]:
    """A cluster, left when the block ends.

    Args:
        address: of its head; None starts Ray on this machine, with its reports of usage off.
    """
    if address is None:
        from ray._common.usage import usage_lib

        usage_lib.set_usage_stats_enabled_via_env_var(False)
        ray.init(include_dashboard=False, log_to_driver=False)
    else:
        ray.init(address=address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def plan_actors(cpus: Sequence[int], most: int = _MOST_CPUS) -> tuple[int, int]:
    """(CPUs of an actor, actors) that leave as few CPUs idle as can be, and then have few actors.

    Args:
        cpus: of each node.
        most: CPUs of an actor.
    """
    if not any(cpus):
        raise InputError("Ray's nodes have no CPUs")
    best = max(range(1, most + 1), key=lambda size: (sum(node // size * size for node in cpus), size))
    return best, sum(node // best for node in cpus)


def embed_dataset(
    dataset: Any,  # noqa: ANN401 (ray.data.Dataset)
    model: Model | str,
    *,
    columns: Columns,
    role: Role = "document",
    dtype: Dtype = "float32",
    with_text: bool = False,
    batch_rows: int = BATCH_ROWS,
    cpus_per_actor: int | None = None,
    spare_cpus: int = 1,
    any_fingerprint: bool = False,
) -> Any:  # noqa: ANN401 (ray.data.Dataset)
    """A dataset of ids and vectors. The rows have no order but that of their ids.

    Args:
        dataset: of Ray Data.
        model: to open; also the name alone.
        columns: which hold ids and texts; an id is needed.
        role: whose prompt the texts get.
        dtype: of the vectors.
        with_text: whether the columns of the text go on beside the vector.
        batch_rows: rows of a batch.
        cpus_per_actor: CPUs, and threads, of an actor; None lets as few CPUs idle as can be, with 8 at most.
        spare_cpus: of the cluster, which actors leave to Ray's own tasks, such as listing files: these would wait for
            ever for one that an actor holds.
        any_fingerprint: whether nodes may make vectors that differ from those of this machine.

    Raises:
        InputError: there is no id.
    """
    if columns.id is None:
        raise InputError("columns=Columns(id=...) is needed: Ray's rows have no order, and are told apart by their ids")
    check_whole(batch_rows, "batch_rows", minimum=1)
    model = Model(model=model) if isinstance(model, str) else model
    fingerprint = None
    if not any_fingerprint:
        with model.open(1) as encoder:
            fingerprint = encoder.fingerprint
    nodes = sorted(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    if sum(nodes) > spare_cpus:
        nodes[-1] = max(0, nodes[-1] - spare_cpus)
    size, actors = plan_actors(nodes) if cpus_per_actor is None else _actors_of(nodes, cpus_per_actor)
    return dataset.map_batches(
        EmbedBatches,
        fn_constructor_args=(model, columns, fingerprint),
        fn_constructor_kwargs={"role": role, "dtype": dtype, "with_text": with_text},
        batch_size=batch_rows,
        batch_format="pyarrow",
        # All of them at once: a pool that may grow does so an actor at a time, and its first actor takes all.
        compute=ActorPoolStrategy(size=actors),
        num_cpus=size,
    )


def embed_files(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    model: Model,
    *,
    columns: Columns,
    role: Role = "document",
    dtype: Dtype = "float32",
    with_text: bool = False,
) -> int:
    """From Parquet or JSON lines to a folder of the same, ``OUT``, on the cluster that Ray is connected to.

    Ray's own checkpoint, ``OUT.checkpoint``, keeps which ids were written, also when all are: the same call goes on
    after a death, or adds what is new, with each row exactly once if ids are unique. Both must be in a place that all
    nodes share, and go together: without the output the checkpoint means nothing and is made anew.

    Returns:
        How many rows the output has.

    Raises:
        InputError: a file is of another kind, the output has no checkpoint, so that rows might be written twice, or Ray
            cannot keep a checkpoint of this plan.
    """
    paths, place = find_inputs(inputs), os.path.abspath(os.fspath(out))
    kinds = {kind_of(path) for path in paths}
    writers = {".parquet": "write_parquet", ".jsonl": "write_json"}
    suffix = os.path.splitext(place)[1]
    if len(kinds) != 1 or not kinds <= {"parquet", "jsonl"} or suffix not in writers:
        raise InputError("on Ray inputs are .parquet or .jsonl, all of one kind, and the output is .parquet or .jsonl")
    if columns.id is None:
        raise InputError("columns=Columns(id=...) is needed: Ray's checkpoint tells rows apart by their ids")
    # Nothing but actors takes a CPU, so that they have all of them.
    with _checkpoint(columns.id, _checkpoint_of(place)), _early_listing():
        if kinds == {"parquet"}:
            dataset = ray.data.read_parquet(paths, columns=columns.wanted, num_cpus=0)
        else:
            dataset = ray.data.read_json(paths, num_cpus=0)
        made = embed_dataset(dataset, model, columns=columns, role=role, dtype=dtype, with_text=with_text, spare_cpus=0)
        # pandas writes JSON with ten decimals unless it is told of more.
        precise = {} if suffix == ".parquet" else {"double_precision": 15}
        getattr(made, writers[suffix])(place, ray_remote_args={"num_cpus": 0}, **precise)
    read = ray.data.read_parquet if suffix == ".parquet" else ray.data.read_json
    return int(read(place).count())


def _checkpoint_of(place: str) -> str:
    """Where the checkpoint of an output is, or will be."""
    path = f"{place}.checkpoint"
    if not os.path.lexists(place):
        shutil.rmtree(path, ignore_errors=True)
    elif not os.path.isdir(path):
        raise InputError(
            f"{place} is there and {path} is not, so rows that it has would be written twice: remove it, or write to "
            "another place"
        )
    return path


@contextmanager
def _checkpoint(id_column: str, path: str) -> Iterator[None]:
    """Ray warns where it can keep none, and goes on without: that is an error here."""
    from ray.data.checkpoint import CheckpointConfig

    context = DataContext.get_current()
    before = context.checkpoint_config
    context.checkpoint_config = CheckpointConfig(
        id_column=id_column, checkpoint_path=path, delete_checkpoint_on_success=False
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="You've enabled checkpointing, but")
            yield
    except UserWarning as err:
        raise InputError(f"Ray cannot keep a checkpoint of this plan: {err}") from err
    finally:
        context.checkpoint_config = before


@contextmanager
def _early_listing() -> Iterator[None]:
    """Ray's second reader lists files by tasks of the plan itself, which take a CPU each whatever they are told."""
    context = DataContext.get_current()
    before = context.use_datasource_v2
    context.use_datasource_v2 = False
    try:
        yield
    finally:
        context.use_datasource_v2 = before


def _actors_of(nodes: Sequence[int], size: int) -> tuple[int, int]:
    check_whole(size, "cpus_per_actor", minimum=1)
    if not (actors := sum(node // size for node in nodes)):
        raise InputError(f"cpus_per_actor={size} is more than any node has: {max(nodes, default=0)}")
    return size, actors
