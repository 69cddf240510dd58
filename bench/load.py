"""Closed-loop load: so many callers, each begins its next job when its last one is done."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.cpu import OTHERS, Meter, difference

Job = Callable[[int], Awaitable[float]]
"""Does one whole job for the caller of this number; returns `time.perf_counter()` at its first answer."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the things that are compared."""

    name: str
    job: Job
    settle: Callable[[], Awaitable[None]] | None = None
    """Waits until what the jobs left behind is done, so that it does not weigh on the next side."""


@dataclass(frozen=True, slots=True)
class Round:
    """One side under load for a while. `done` is the work of the window in jobs, latencies are of jobs begun in it."""

    side: str
    callers: int
    seconds: float
    done: float
    first_ms: tuple[float, ...]
    whole_ms: tuple[float, ...]
    cpu_ms: Mapping[str, float]

    @property
    def per_second(self) -> float:
        """Jobs a second."""
        return self.done / self.seconds

    @property
    def disturbance(self) -> float:
        """The part of the machine's processors that other programs took during the window, 0 to 1."""
        return max(0.0, self.cpu_ms.get(OTHERS, 0.0)) / (self.seconds * 1000 * (os.cpu_count() or 1))


async def run_round(side: Side, meter: Meter, *, callers: int, ramp_seconds: float, seconds: float) -> Round:
    """Load for `ramp_seconds` unmeasured and `seconds` measured; jobs under way at the end are finished.

    A job that reaches over an edge of the window counts with the part of its time inside: callers that begin together
    also end together, and whole jobs would make a slow side's rate a matter of where the edge falls.
    """
    begin = time.perf_counter() + ramp_seconds
    end = begin + seconds
    first_ms: list[float] = []
    whole_ms: list[float] = []
    done = 0.0

    async def call(number: int) -> None:
        nonlocal done
        while (started := time.perf_counter()) < end:
            first = await side.job(number)
            now = time.perf_counter()
            if begin <= started:
                first_ms.append((first - started) * 1000)
                whole_ms.append((now - started) * 1000)
            done += max(0.0, min(now, end) - max(started, begin)) / (now - started)

    async def watch() -> dict[str, float]:
        await asyncio.sleep(begin - time.perf_counter())
        before = meter.read()
        await asyncio.sleep(end - time.perf_counter())
        return difference(before, meter.read())

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        for number in range(callers):
            group.create_task(call(number))
    if side.settle is not None:
        await side.settle()
    return Round(side.name, callers, seconds, done, tuple(first_ms), tuple(whole_ms), watching.result())


async def alternate(
    sides: Sequence[Side], meter: Meter, *, callers: int, rounds: int, ramp_seconds: float, seconds: float
) -> list[Round]:
    """A, B, C, A, B, C, …: whatever else the machine does meets every side alike."""
    return [
        await run_round(side, meter, callers=callers, ramp_seconds=ramp_seconds, seconds=seconds)
        for _ in range(rounds)
        for side in sides
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one side at one number of callers. Latencies in milliseconds, CPU in milliseconds a job."""

    per_second: float
    first_p50: float
    first_p95: float
    whole_p50: float
    whole_p95: float
    jobs: int
    cpu_ms_per_job: Mapping[str, float]


def summarise(rounds: Sequence[Round], side: str, callers: int) -> Summary:
    """Rates over all windows together, quantiles over all jobs together."""
    chosen = [one for one in rounds if one.side == side and one.callers == callers]
    done = sum(one.done for one in chosen)
    first = [value for one in chosen for value in one.first_ms]
    whole = [value for one in chosen for value in one.whole_ms]
    spent: dict[str, float] = {}
    for name, ms in ((name, ms) for one in chosen for name, ms in one.cpu_ms.items() if name != OTHERS):
        spent[name] = spent.get(name, 0.0) + ms
    return Summary(
        per_second=done / sum(one.seconds for one in chosen),
        first_p50=quantile(first, 0.50),
        first_p95=quantile(first, 0.95),
        whole_p50=quantile(whole, 0.50),
        whole_p95=quantile(whole, 0.95),
        jobs=len(whole),
        cpu_ms_per_job={name: ms / done for name, ms in spent.items()} if done else {},
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """One side's rate over another's: the median of the pairs of neighbouring rounds, with the extremes."""

    median: float
    low: float
    high: float


def ratio_of(rounds: Sequence[Round], side: str, to: str, callers: int) -> Ratio:
    """Each round against the one of the same turn, so that slow drift of the machine cancels out."""
    over = [one.per_second for one in rounds if one.side == side and one.callers == callers]
    under = [one.per_second for one in rounds if one.side == to and one.callers == callers]
    pairs = [a / b for a, b in zip(over, under, strict=True) if b > 0]
    return Ratio(median(pairs), min(pairs), max(pairs)) if pairs else Ratio(0.0, 0.0, 0.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
