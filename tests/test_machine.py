"""Threads follow affinity, hyperthreads and the cgroup quota; instruction sets are read from the system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import _machine
from nimbed._machine import Cpu, cpu, thread_plan

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx_vnni avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: another one
flags\t\t: fpu
"""
HASWELL = "model name\t: Intel(R) Core(TM) i7-4770\nflags\t\t: fpu sse4_2 fma avx avx2\n"
ATOM = "model name\t: Intel(R) Atom(TM)\nflags\t\t: fpu sse2 ssse3\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes crc32 asimddp sve\nCPU implementer\t: 0x41\n"
PI = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32\nCPU part\t: 0xd08\n"


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A Linux of our own: ``linux(cpus=..., files={path: content})``, where a path is as the system has it."""

    def made(cpus=range(8), files=()):
        for path, content in dict(files).items():
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        real_read = _machine._read

        def read(path):
            inside = tmp_path in path.parents
            return real_read(path if inside else tmp_path / str(path).lstrip("/"))

        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cpus), raising=False)
        monkeypatch.setattr(_machine, "_read", read)

    cpu.cache_clear()
    yield made
    cpu.cache_clear()


def siblings(pairs) -> dict[str, str]:
    return {
        f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": ",".join(map(str, pair)) + "\n"
        for pair in pairs
        for n in pair
    }


def test_the_users_number_is_taken(linux):
    linux(cpus=[0])
    assert thread_plan(7).threads == 7
    assert "user" in thread_plan(7).reason


@pytest.mark.parametrize("cpus", [[0], [3, 5], range(16)])
def test_affinity(linux, cpus):
    linux(cpus)
    plan = thread_plan()
    assert plan.threads == len(cpus)
    assert f"{len(cpus)} allowed CPUs" in plan.reason


@pytest.mark.parametrize(("cpus", "cores"), [(range(8), 4), ([0, 1, 2, 3], 4), ([0, 4], 1), ([0, 4, 1], 2)])
def test_hyperthreads_of_a_core_count_once(linux, cpus, cores):
    linux(cpus, siblings([(0, 4), (1, 5), (2, 6), (3, 7)]))
    assert thread_plan().threads == cores


V2 = {"/proc/self/cgroup": "0::/app.slice/job\n"}
V1 = {"/proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n"}
V1_CPU = "/sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "300000 100000\n"}, 3),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "250000 100000\n"}, 2),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "50000 100000\n"}, 1),
        ({**V2, "/sys/fs/cgroup/app.slice/cpu.max": "200000 100000\n"}, 2),
        ({**V2, "/sys/fs/cgroup/cpu.max": "100000 50000\n"}, 2),
        (
            {
                **V2,
                "/sys/fs/cgroup/app.slice/job/cpu.max": "600000 100000\n",
                "/sys/fs/cgroup/app.slice/cpu.max": "400000 100000\n",
            },
            4,
        ),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "max 100000\n"}, 8),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "1600000 100000\n"}, 8),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"/proc/self/cgroup": "0::/../outside\n", "/sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"/sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        (V2, 8),
        ({}, 8),
        (
            {
                **V1,
                f"{V1_CPU}/docker/abc/cpu.cfs_quota_us": "300000\n",
                f"{V1_CPU}/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({**V1, f"{V1_CPU}/cpu.cfs_quota_us": "150000\n", f"{V1_CPU}/cpu.cfs_period_us": "50000\n"}, 3),
        ({**V1, f"{V1_CPU}/cpu.cfs_quota_us": "-1\n", f"{V1_CPU}/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, 8),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "100000\n"}, 8),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "100000 0\n"}, 8),
        ({**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "not Linux\n"}, 8),
        ({"/proc/self/cgroup": "not Linux\n:\n"}, 8),
    ],
)
def test_cgroup_quota(linux, files, threads):
    linux(files=files)
    plan = thread_plan()
    assert plan.threads == threads
    assert ("cgroup quota" in plan.reason) == (threads < 8)


def test_the_reason_names_quota_and_cores(linux):
    linux(files={**V2, "/sys/fs/cgroup/app.slice/job/cpu.max": "250000 100000\n"})
    assert thread_plan().reason == "cgroup quota of 2.5 CPUs (8 cores allowed)"


@given(quota=st.integers(1000, 5_000_000), cpus=st.integers(1, 64))
@settings(deadline=None, max_examples=50)
def test_at_least_one_thread_and_never_more_than_the_quota(quota, cpus):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_machine, "_allowed_cpus", lambda: tuple(range(cpus)))
        patch.setattr(_machine, "_physical_cores", len)
        patch.setattr(_machine, "_cgroup_quota", lambda: quota / 100_000)
        threads = thread_plan().threads
    assert 1 <= threads <= max(1, min(quota / 100_000, cpus))


@pytest.mark.parametrize("platform", ["darwin", "win32"])
@pytest.mark.parametrize(("count", "threads"), [(10, 10), (None, 1)])
def test_systems_without_affinity_and_proc(monkeypatch, platform, count, threads):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    monkeypatch.setattr(_machine, "_read", lambda _: "")
    assert thread_plan().threads == threads
    cpu.cache_clear()
    assert (cpu().features, cpu().instruction_set, cpu().fast_int8) == ((), "unknown", False)
    assert cpu().model
    cpu.cache_clear()


@pytest.mark.parametrize(
    ("text", "best", "fast_int8", "bf16"),
    [
        (XEON, "amx_int8", True, True),
        (HASWELL, "avx2", False, False),
        (ATOM, "unknown", False, False),
        (GRAVITON, "asimddp", True, False),
        (PI, "asimd", False, False),
        ("", "unknown", False, False),
    ],
)
def test_instruction_sets(linux, text, best, fast_int8, bf16):
    linux(files={"/proc/cpuinfo": text})
    assert (cpu().instruction_set, cpu().fast_int8, cpu().bf16) == (best, fast_int8, bf16)
    assert cpu().model


def test_the_first_processor_speaks_for_all(linux):
    linux(files={"/proc/cpuinfo": XEON})
    assert cpu().model == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert cpu().features == ("amx_int8", "amx_bf16", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512f", "avx2")


@pytest.mark.parametrize("features", [("avx512_vnni",), ("avx_vnni", "avx2"), ("asimddp",)])
def test_what_makes_int8_fast(features):
    assert Cpu(model="m", architecture="a", features=features).fast_int8


def test_this_machine():
    assert 1 <= thread_plan().threads <= (os.cpu_count() or 1)
    assert cpu().architecture
    assert _machine._read(Path("/no/such/file")) == ""


@pytest.mark.parametrize(
    ("count", "groups"),
    [(1, [(0, 4, 1, 5, 2, 6, 3, 7)]), (2, [(0, 4, 1, 5), (2, 6, 3, 7)]), (9, [(0, 4), (1, 5), (2, 6), (3, 7)])],
)
def test_groups_of_cpus_keep_sockets_and_cores_together(count, groups, monkeypatch):
    """Two sockets of two cores, each of two hyperthreads."""

    def read(path):
        number = int(path.parent.parent.name.removeprefix("cpu"))
        known = {"physical_package_id": str(number % 4 // 2), "thread_siblings_list": f"{number % 4},{number % 4 + 4}"}
        return known[path.name]

    monkeypatch.setattr(_machine, "_allowed_cpus", lambda: tuple(range(8)))
    monkeypatch.setattr(_machine, "_read", read)
    monkeypatch.setattr(_machine, "_memory_node", lambda _: 0)
    monkeypatch.setattr(_machine, "_cgroup_quota", lambda: None)
    assert _machine.cpu_groups(count) == groups
    assert _machine.cores_by_place() == [2, 2]
    monkeypatch.setattr(_machine, "_memory_node", lambda number: number % 4)
    assert _machine.cores_by_place() == [1, 1, 1, 1]
    monkeypatch.setattr(_machine, "_cgroup_quota", lambda: 2.5)
    assert sum(map(len, _machine.cpu_groups(count))) == 4
