"""What a fresh process reports: its start and its memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.contenders import Odd

from nimbed.bench import fresh_process
from nimbed.bench.fresh_process import _resident_mb, main


@pytest.mark.skipif(not list(Path("/proc/self/task").glob("*/children")), reason="this system does not list children")
def test_memory_counts_what_a_contender_started():
    before = _resident_mb()
    program = "held = bytearray(range(256)) * 500_000; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        during = _resident_mb()
        child.communicate(b"\n")
    assert during > before + 100


@pytest.fixture
def run(monkeypatch):
    """``main`` in this process, begun at 10 by a clock that stands at 12.5; what it returns, and what it reports."""

    def run(contender: Odd):
        reports = []
        code = main(pickle.dumps((contender, ["a", "b"], 64)), lambda **record: reports.append(record), 10.0)
        return code, reports

    monkeypatch.setattr("nimbed.bench.fresh_process.time.perf_counter", lambda: 12.5)
    return run


def test_one_report_holds_the_start_and_the_memory(run, monkeypatch):
    monkeypatch.setattr(fresh_process, "_resident_mb", lambda: 150.0)
    assert run(Odd(label="odd")) == (0, [{"first vector": 2.5, "resident": 150.0}])


def test_a_system_that_tells_no_memory_leaves_it_out(run, monkeypatch):
    monkeypatch.setattr(fresh_process, "_resident_mb", lambda: None)
    assert run(Odd(label="odd")) == (0, [{"first vector": 2.5}])


def test_the_first_vector_is_that_of_a_query(run):
    with pytest.raises(RuntimeError, match="Already borrowed"):
        run(Odd(label="odd", fails_on_queries=True))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system does not tell of memory")
def test_a_process_that_has_ended_holds_nothing():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert fresh_process._resident_kb(str(ended.pid)) == 0
    assert fresh_process._resident_kb("self") > 1000
