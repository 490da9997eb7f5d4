"""How many processes make a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed.bulk.processes import SCALES_TO, Speed, choose, counts_to_try

CORES = st.lists(st.integers(1, 96), min_size=1, max_size=8)


def no_measurement(count):
    raise AssertionError(f"{count} processes were measured")


@given(cores=CORES)
def test_the_cores_are_shared_evenly(cores):
    counts = counts_to_try(cores)
    assert counts[0] == 1
    assert all(sum(cores) % count == 0 for count in counts)
    assert any(sum(cores) // count <= SCALES_TO for count in counts)
    assert len(counts) <= 3


@pytest.mark.parametrize(
    ("cores", "counts"),
    [([2], [1]), ([16], [1, 2]), ([32, 32], [1, 2, 8]), ([48] * 4, [1, 4, 24]), ([5, 6], [1, 11]), ([7, 7], [1, 2])],
)
def test_one_process_one_a_place_and_one_for_eight_cores(cores, counts):
    assert counts_to_try(cores) == counts


@given(cores=CORES, parts=st.integers(0, 2000), rates=st.lists(st.floats(1, 1e6), min_size=96, max_size=96))
def test_the_best_that_was_measured_is_taken(cores, parts, rates):
    made = []

    def make(count):
        made.append(count)
        return [Speed(int(rates[count % 96] * 1000), 1000.0 * count)] * count

    choice = choose(cores, sum(cores), parts, make)
    assert sum(cores) % choice.processes == 0
    assert sum(made) * 4 <= parts
    if not made:
        assert choice.processes == 1
        return
    assert made == counts_to_try(cores)
    assert rates[choice.processes % 96] * 1.06 + 1 >= max(rates[count % 96] for count in made)
    assert choice.reason.startswith("measured on the first parts, in tokens a second: 1 process ")


def test_what_is_said_of_a_measurement():
    speeds = {1: 1000.0, 2: 1500.0, 8: 1540.0}
    choice = choose([32, 32], 64, 44, lambda count: [Speed(300, 300 * count / speeds[count])] * count)
    assert choice.processes == 2  # eight are hardly faster
    said = "measured on the first parts, in tokens a second: 1 process 1,000, 2 processes 1,500, 8 processes 1,540"
    assert choice.reason == said


@pytest.mark.parametrize(
    ("cores", "threads", "parts", "spoiled", "says"),
    [
        ([8], 8, 1000, None, "one process uses the 8 cores of this machine"),
        ([1], 1, 1000, None, "one process uses the 1 core of this machine"),
        ([32, 32], 64, 43, None, "not measured: 43 parts, of 44 that measuring asks for"),
        ([32, 32], 8, 1000, None, "the encoder was opened with 8 threads for 64 cores"),
        ([4, 4], 8, 1000, "the input can be read only once", "not measured: the input can be read only once"),
    ],
)
def test_where_nothing_is_measured(cores, threads, parts, spoiled, says):
    choice = choose(cores, threads, parts, no_measurement, spoiled)
    assert (choice.processes, choice.reason) == (1, says)
