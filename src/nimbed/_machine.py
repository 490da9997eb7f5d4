"""What this CPU can do, and how many threads this process should take."""

from __future__ import annotations

import itertools
import os
import platform
import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
# The instruction sets that decide how an embedding runs, best first, under Linux's names.
_INSTRUCTION_SETS = (
    "amx_int8",
    "amx_bf16",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512f",
    "avx2",
    "asimddp",
    "asimd",
)


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A processor: its name, its architecture, and those of its instruction sets that matter here."""

    model: str
    architecture: str
    features: tuple[str, ...]

    @property
    def fast_int8(self) -> bool:
        """Whether it multiplies int8 without overflow and faster than fp32 (VNNI, AMX, Arm dot product)."""
        return any(f in self.features for f in ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp"))

    @property
    def bf16(self) -> bool:
        """Whether it multiplies bfloat16 in hardware."""
        return any(f in self.features for f in ("amx_bf16", "avx512_bf16"))

    @property
    def instruction_set(self) -> str:
        """The best set for int8, or "unknown" where the system does not tell."""
        return self.features[0] if self.features else "unknown"


@dataclass(frozen=True, kw_only=True)
class ThreadPlan:
    """How many threads to take, and why."""

    threads: int
    reason: str


class ThreadShare(int):
    """A number of threads that stands for the user's, with the reason for it."""

    reason: str


@lru_cache(maxsize=1)
def cpu() -> Cpu:
    """This machine's processor."""
    text = _read(_PROC / "cpuinfo")
    flags = _cpuinfo_value(text, "flags") or _cpuinfo_value(text, "Features")
    found = tuple(s for s in _INSTRUCTION_SETS if s in flags.split())
    model = _cpuinfo_value(text, "model name") or platform.processor() or "unknown"
    return Cpu(model=model, architecture=platform.machine(), features=found)


def thread_plan(requested: int | None = None) -> ThreadPlan:
    """The user's number, or one thread for each physical core that this process may use.

    The cores are those of the process's affinity mask; a cgroup CPU quota (v2 or v1) lowers the number,
    since threads beyond the quota are stopped in the middle of a batch.
    """
    if isinstance(requested, ThreadShare):
        return ThreadPlan(threads=int(requested), reason=requested.reason)
    if requested is not None:
        return ThreadPlan(threads=requested, reason="set by the user")
    allowed = _allowed_cpus()
    cores = _physical_cores(allowed)
    quota = _cgroup_quota()
    if quota is not None and quota < cores:
        return ThreadPlan(threads=max(1, int(quota)), reason=f"cgroup quota of {quota:g} CPUs ({cores} cores allowed)")
    return ThreadPlan(threads=cores, reason=f"{cores} physical cores among {len(allowed)} allowed CPUs")


def thread_share(workers: int) -> ThreadShare:
    """What one of several worker processes takes of the plan, so that together they take no more than one would."""
    plan = thread_plan()
    share = ThreadShare(max(1, plan.threads // workers))
    share.reason = f"one worker process of {workers}, which share {plan.threads} ({plan.reason})"
    return share


def cpu_groups(count: int) -> list[tuple[int, ...]]:
    """CPUs for several processes: each has cores of its own, neighbours of one socket as far as that goes.

    There are no more groups than cores that the plan takes; hyperthreads of a core stay together.
    """
    ordered = [cpus for _, cpus in _cores_in_order()]
    count = max(1, min(count, len(ordered)))
    ends = [len(ordered) * index // count for index in range(count + 1)]
    return [tuple(itertools.chain(*ordered[first:last])) for first, last in itertools.pairwise(ends)]


def cores_by_place() -> list[int]:
    """How many cores the plan takes of each socket or, where a socket has several memory nodes, of each of these."""
    return list(Counter(place for place, _ in _cores_in_order()).values())


def _cores_in_order() -> list[tuple[tuple[int, int], list[int]]]:
    """(place, CPUs) of each core that the plan takes, by socket and memory node; a quota allows less than all."""
    cores: dict[tuple[tuple[int, int], str], list[int]] = {}
    for number in _allowed_cpus():
        topology = _CPUS / f"cpu{number}" / "topology"
        package = _read(topology / "physical_package_id")
        siblings = _read(topology / "thread_siblings_list") or str(number)
        place = (int(package) if package.isdecimal() else 0, _memory_node(number))
        cores.setdefault((place, siblings), []).append(number)
    found = sorted((place, cpus) for (place, _), cpus in cores.items())
    return found[: thread_plan().threads]


def _memory_node(number: int) -> int:
    return next((int(path.name.removeprefix("node")) for path in (_CPUS / f"cpu{number}").glob("node[0-9]*")), 0)


def _allowed_cpus() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _physical_cores(cpus: tuple[int, ...]) -> int:
    """Hyperthreads of one core share its arithmetic units, so they count once."""
    siblings = {_read(_CPUS / f"cpu{n}" / "topology" / "thread_siblings_list") or str(n) for n in cpus}
    return max(1, len(siblings))


def _cgroup_quota() -> float | None:
    """CPUs' worth of time that the cgroups above this process allow, or None where there is no limit."""
    if sys.platform != "linux":
        return None
    quotas = [q for folder in _cgroup_folders() if (q := _folder_quota(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders() -> list[Path]:
    """The process's own cgroup and all above it: any of them may hold the limit."""
    folders: list[Path] = []
    for line in _read(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUP / controllers if controllers else _CGROUP
        own = root / path.lstrip("/")
        folders += [own, *(p for p in own.parents if p == root or root in p.parents)]
    return folders or [_CGROUP]


def _folder_quota(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    # "max" and -1 mean none; sandboxes that imitate Linux may say anything.
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return int(quota) / int(period)


def _cpuinfo_value(text: str, key: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
