"""Two nodes of one core each, by Ray's own cluster utility: nodes and workers that are killed, and the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nimbed.bulk import Columns
from tests.support.bulk_jobs import open_encoder, records, write_jsonl

FILES, ROWS = 12, 1100  # a batch has 1,024 rows, and a block is of one file


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray._common.usage import usage_lib
    from ray.cluster_utils import Cluster

    usage_lib.set_usage_stats_enabled_via_env_var(False)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.second = made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def inputs(tmp_path):
    rows = records(FILES * ROWS)
    for number in range(FILES):
        write_jsonl(tmp_path / f"{number:02}.jsonl", rows[number::FILES])
    return tmp_path / "*.jsonl"


def read_rows(out):
    from pyarrow import parquet

    return parquet.read_table(out).to_pylist()


def check(made):
    """Every row once, with its vector."""
    rows = records(FILES * ROWS)
    vectors = {row["id"]: row["vector"] for row in made}
    assert len(made) == len(vectors) == len(rows)
    with open_encoder() as encoder:
        wanted = encoder.encode([row["text"] for row in rows])
    np.testing.assert_array_equal(np.float32([vectors[row["id"]] for row in rows]), wanted)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("victim", ["node", "worker"])
def test_what_is_killed_in_mid_run_costs_no_row(victim, cluster, inputs, tmp_path, monkeypatch):
    import nimbed.ray
    from nimbed.ray import EmbedBatches

    class Slow(EmbedBatches):
        def __call__(self, batch):
            import ray

            node = ray.get_runtime_context().get_node_id()
            (tmp_path / f"at-{node}-{os.getpid()}").touch()
            time.sleep(0.3)
            return super().__call__(batch)

    monkeypatch.setattr(nimbed.ray, "EmbedBatches", Slow)
    killed = []

    def kill():
        """Once both nodes work."""
        while len({path.name.split("-")[1] for path in tmp_path.glob("at-*")}) < 2:
            time.sleep(0.02)
        if victim == "node":
            cluster.remove_node(cluster.second, allow_graceful=False)
        else:
            os.kill(int(next(tmp_path.glob("at-*")).name.split("-")[2]), signal.SIGKILL)
        killed.append(victim)

    killer = threading.Thread(target=kill, daemon=True)
    with nimbed.ray.connect(cluster.address):
        killer.start()
        model = nimbed.ray.Model(model="any", backend="fake", dim=8)
        count = nimbed.ray.embed_files([inputs], tmp_path / "out.parquet", model, columns=Columns(id="id"))
    assert killed == [victim]
    assert count == FILES * ROWS
    check(read_rows(tmp_path / "out.parquet"))


def test_the_command_runs_on_a_cluster(cluster, inputs, tmp_path):
    """Again where all rows are there, of which none is written twice; without its checkpoint; and without the rows."""
    out, checkpoint = tmp_path / "out.jsonl", tmp_path / "out.jsonl.checkpoint"
    arguments = [str(inputs), "-o", str(out), "--id-field", "id", "--backend", "fake", "-m", "any"]

    def embed():
        command = [sys.executable, "-m", "nimbed", "embed", *arguments, "--ray", cluster.address]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    for _ in range(2):
        done = embed()
        assert done.returncode == 0, done.stderr
        assert f" {FILES * ROWS} rows" in done.stdout
    checkpoint.rename(tmp_path / "kept")
    refused = embed()
    assert refused.returncode == 1
    assert "would be written twice" in refused.stderr
    (tmp_path / "kept").rename(checkpoint)
    shutil.rmtree(out)
    assert f" {FILES * ROWS} rows" in embed().stdout
    lines = [line for path in (tmp_path / "out.jsonl").glob("*.json*") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(row["id"] for row in records(FILES * ROWS))
