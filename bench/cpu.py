"""What each process spends: CPU time is shared by all on a small machine, so it explains the rates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

import psutil

from embedded.supervisor import Supervisor

CALLERS = "callers"
"""The benchmark's own process, which plays all callers."""
OTHERS = "others"
"""Everything else that ran on the machine meanwhile: none of ours, and a disturbance."""


class Meter(Protocol):
    """Something that knows what has been spent so far."""

    def read(self) -> dict[str, float]:
        """By process, in milliseconds."""
        ...


class CpuMeter:
    """CPU milliseconds (user and system) by part, children included."""

    def __init__(self, supervisor: Supervisor, parts: tuple[str, ...]) -> None:
        self._pids = {name: supervisor.pid(name) for name in parts}

    def read(self) -> dict[str, float]:
        """Spent so far, in milliseconds."""
        spent = {name: _tree_ms(pid) for name, pid in self._pids.items()}
        spent[CALLERS] = _own_ms(psutil.Process(os.getpid()))
        return spent | {OTHERS: _machine_ms() - sum(spent.values())}


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds between two readings."""
    return {name: after[name] - before[name] for name in after}


def _machine_ms() -> float:
    """All cores, everything but idling."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)) * 1000


def _tree_ms(pid: int) -> float:
    """A process with its children, those that have ended included: a database session may be short."""
    try:
        root = psutil.Process(pid)
        ended = root.cpu_times()
        living = sum(_own_ms(child) for child in root.children(recursive=True))
        return _own_ms(root) + living + float(ended.children_user + ended.children_system) * 1000
    except psutil.NoSuchProcess:
        return 0.0


def _own_ms(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system) * 1000
