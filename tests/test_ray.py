"""Ray Data, where it is installed (pip install "nimbed[ray]"; it is not among what the tests install)."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest

from nimbed.bulk import Columns
from nimbed.errors import InputError, MissingExtraError
from tests.support.bulk_jobs import open_encoder, records, write_jsonl

COLUMNS = Columns(id="id")


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray", reason="Ray is not installed")
    from ray._common.usage import usage_lib

    usage_lib.set_usage_stats_enabled_via_env_var(False)
    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield found
    found.shutdown()


@pytest.fixture
def nimbed_ray(ray):
    import nimbed.ray

    return nimbed.ray


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "nimbed.ray", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "nimbed\[ray\]"'):
        import nimbed.ray  # noqa: F401


@pytest.mark.parametrize(
    ("cpus", "plan"),
    [([1, 1], (1, 2)), ([16, 24], (8, 5)), ([6], (6, 1)), ([4, 6], (2, 5)), ([96, 96], (8, 24)), ([0, 3], (3, 1))],
)
def test_actors_leave_few_cpus_idle(cpus, plan, nimbed_ray):
    assert nimbed_ray.plan_actors(cpus) == plan


def test_options_that_are_refused(nimbed_ray, tmp_path):
    model = nimbed_ray.Model(model="any", backend="fake")
    with pytest.raises(InputError, match="no CPUs"):
        nimbed_ray.plan_actors([])
    with pytest.raises(InputError, match="is needed"):
        nimbed_ray.embed_dataset(None, model, columns=Columns())
    source = write_jsonl(tmp_path / "in.jsonl", records(3))
    with pytest.raises(InputError, match="all of one kind"):
        nimbed_ray.embed_files([source], tmp_path / "out.npy", model, columns=COLUMNS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("layout", "out"), [("many.jsonl", "out.parquet"), ("one.jsonl", "out.parquet"), ("one.parquet", "out.jsonl")]
)
def test_each_row_comes_once_whatever_the_layout(layout, out, nimbed_ray, tmp_path):
    from pyarrow import Table, parquet

    rows = records(300)
    if layout == "one.parquet":
        parquet.write_table(Table.from_pylist(rows), tmp_path / layout, row_group_size=70)
    elif layout == "one.jsonl":
        write_jsonl(tmp_path / layout, rows)
    else:
        for number in range(3):
            write_jsonl(tmp_path / f"{number}.jsonl", rows[number::3])
    model = nimbed_ray.Model(model="any", backend="fake", dim=8)
    inputs = [tmp_path / ("?.jsonl" if layout == "many.jsonl" else layout)]
    assert nimbed_ray.embed_files(inputs, tmp_path / out, model, columns=COLUMNS) == 300
    if out == "out.parquet":
        made = parquet.read_table(tmp_path / out).to_pylist()
    else:
        lines = [line for path in (tmp_path / out).glob("*.json*") for line in path.read_text().splitlines()]
        made = [json.loads(line) for line in lines]
    vectors = {row["id"]: row["vector"] for row in made}
    assert len(made) == len(vectors) == 300
    with open_encoder() as encoder:
        wanted = encoder.encode([row["text"] for row in rows])
    np.testing.assert_array_equal(np.float32([vectors[row["id"]] for row in rows]), wanted)


def test_ray_that_is_started_here_reports_no_usage(nimbed_ray, monkeypatch):
    started = []
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setattr(
        nimbed_ray.ray,
        "init",
        lambda **named: started.append((named.get("address"), os.environ["RAY_USAGE_STATS_ENABLED"])),
    )
    monkeypatch.setattr(nimbed_ray.ray, "shutdown", lambda: None)
    for address in ("a:6379", None):  # one that is somebody else's is left as it is
        with nimbed_ray.connect(address):
            pass
    assert started == [("a:6379", "1"), (None, "0")]


@pytest.mark.filterwarnings("ignore")
def test_any_fingerprint_may_be_allowed(nimbed_ray, ray, monkeypatch):
    def opened(*_):
        raise AssertionError("the model is opened to know its fingerprint")

    monkeypatch.setattr(nimbed_ray.Model, "open", opened)  # in this process; actors have their own
    dataset = ray.data.from_items([{"id": "a", "text": "one"}])
    model = nimbed_ray.Model(model="any", backend="fake", dim=8)
    with pytest.raises(AssertionError, match="to know its fingerprint"):
        nimbed_ray.embed_dataset(dataset, model, columns=COLUMNS)
    (row,) = nimbed_ray.embed_dataset(dataset, model, columns=COLUMNS, any_fingerprint=True).take_all()
    assert row["id"] == "a"
    assert len(row["vector"]) == 8


@pytest.mark.filterwarnings("ignore")
def test_another_fingerprint_and_a_bad_row_are_named(nimbed_ray, ray, tmp_path):
    model = nimbed_ray.Model(model="any", backend="fake", dim=8)
    dataset = ray.data.from_items([{"id": "a", "text": "one"}, {"id": "b", "text": None}])
    with pytest.raises(Exception, match="the row with id='b'"):
        nimbed_ray.embed_dataset(dataset, model, columns=COLUMNS).take_all()
    good = ray.data.from_items([{"id": "a", "text": "one"}])
    with pytest.raises(Exception, match=r"a node's vectors have fingerprint .*, not another"):
        good.map_batches(
            nimbed_ray.EmbedBatches,
            fn_constructor_args=(model, COLUMNS, "another"),
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
        ).take_all()


def test_an_output_and_its_checkpoint_go_together(nimbed_ray, tmp_path):
    out, checkpoint = tmp_path / "out.parquet", tmp_path / "out.parquet.checkpoint"
    checkpoint.mkdir()
    assert nimbed_ray._checkpoint_of(str(out)) == str(checkpoint)
    assert not checkpoint.exists()  # of an output that was removed
    out.mkdir()
    with pytest.raises(InputError, match="would be written twice"):
        nimbed_ray._checkpoint_of(str(out))
    checkpoint.mkdir()
    assert nimbed_ray._checkpoint_of(str(out)) == str(checkpoint)
    assert checkpoint.exists()


@pytest.mark.filterwarnings("ignore")
def test_a_plan_without_a_checkpoint_is_an_error(nimbed_ray, ray, tmp_path):
    """Ray keeps one only for plans that end in a file."""
    checkpoint = nimbed_ray._checkpoint("id", str(tmp_path))
    with pytest.raises(InputError, match="cannot keep a checkpoint of this plan"), checkpoint:
        ray.data.from_items([{"id": "a"}]).map_batches(lambda batch: batch).materialize()
