"""Keeps parts running: starts them in order, restarts what crashes, stops them in reverse order."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from embedded.leftovers import Record, end_leftovers
from embedded.parts import Part, StartFailed

FIRST_RESTART_SECONDS = 0.2
MAX_RESTART_SECONDS = 10.0
STABLE_SECONDS = 10.0
"""A part that ran this long begins again with the shortest wait."""
MANY_ENDS = 3
"""After so many ends in a row it is told why, not only that."""
STOP_SECONDS = 20.0


def tell(text: str) -> None:
    """Print at once. A terminal that is gone must not end the service."""
    with suppress(OSError):
        print(text, flush=True)


class Supervisor:
    """Runs parts as children of this process; their output goes to one file each in `logs`."""

    def __init__(self, logs: Path, say: Callable[[str], None] = tell, record: Record | None = None) -> None:
        self._logs = logs
        self._say = say
        self._record = record
        self._running: dict[str, tuple[Part, asyncio.subprocess.Process]] = {}
        self._groups: list[tuple[str, ...]] = []
        self._watchers: list[asyncio.Task[None]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def pid(self, name: str) -> int:
        """The process id of a part now."""
        return self._running[name][1].pid

    async def is_ready(self, name: str, seconds: float) -> bool:
        """Wait until a part that was started answers, however often it is started again meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            part, process = self._running[name]
            if process.returncode is None and await part.ready():
                return True
            await asyncio.sleep(0.1)
        return False

    async def start(self, *parts: Part) -> None:
        """Start parts together and wait until all are ready; from then on each is restarted whenever it ends.

        Raises StartFailed for the first that does not become ready, without waiting for the others.
        """
        self._groups.append(tuple(part.name for part in parts))
        starting = [asyncio.create_task(self._start(part)) for part in parts]
        try:
            await asyncio.gather(*starting)
        finally:
            await _cancel(starting)

    async def stop(self) -> None:
        """Stop all parts, the group started last first."""
        await _cancel(self._watchers)
        for group in reversed(self._groups):
            await asyncio.gather(*(self._end(*self._running[name]) for name in group if name in self._running))
        self._running.clear()
        if self._record is not None:
            self._record.clear()

    async def _start(self, part: Part) -> None:
        for number in range(part.start_tries):
            process = await self._spawn(part)
            if await self._becomes_ready(part, process):
                self._watchers.append(asyncio.create_task(self._watch(part)))
                return
            if process.returncode is None or number == part.start_tries - 1:
                break
            await asyncio.sleep(_restart_wait(number + 1))
        raise StartFailed(f"{part.name} did not start. {self._last_words(part)}")

    async def _spawn(self, part: Part) -> asyncio.subprocess.Process:
        process = await part.spawn(self._logs / f"{part.name}.log")
        self._running[part.name] = (part, process)
        if self._record is not None:
            self._record.note(part.name, process.pid, part.stop_signal)
        return process

    async def _watch(self, part: Part) -> None:
        """Restart the part whenever it ends. Whatever goes wrong with that is told and tried again."""
        begun, ends = time.monotonic(), 0
        code: int | None = await self._running[part.name][1].wait()
        while True:
            ends = 1 if time.monotonic() - begun > STABLE_SECONDS else ends + 1
            wait = _restart_wait(ends)
            self._say(self._obituary(part, code, ends, wait))
            await asyncio.sleep(wait)
            begun = time.monotonic()
            try:
                code = await self._run_again(part)
            except Exception as error:  # a part that nobody watches would stay away for good
                self._say(str(error))
                await self._end(*self._running[part.name])
                code = None

    async def _run_again(self, part: Part) -> int:
        process = await self._spawn(part)
        if await self._becomes_ready(part, process):
            self._say(f"{part.name} is back")
        elif process.returncode is None:
            self._say(f"{part.name} runs but is not ready after {part.ready_seconds:.0f} s")
        return await process.wait()

    def _obituary(self, part: Part, code: int | None, ends: int, wait: float) -> str:
        cause = "could not be started" if code is None else f"ended ({_describe(code)})"
        times = "" if ends == 1 else f", {ends} times in a row"
        text = f"{part.name} {cause}{times}; starting it again in {wait:.1f} s"
        return f"{text}. {self._last_words(part)}" if ends == MANY_ENDS else text

    async def _becomes_ready(self, part: Part, process: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + part.ready_seconds
        while time.monotonic() < deadline and process.returncode is None:
            with suppress(OSError):  # the question could not be asked
                if await part.ready() and process.returncode is None:
                    return True
            await asyncio.sleep(0.05)
        return False

    async def _end(self, part: Part, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(part.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _last_words(self, part: Part) -> str:
        path = self._logs / f"{part.name}.log"
        lines = path.read_text(errors="replace").strip().splitlines()[-12:] if path.exists() else []
        return "\n".join([f"Its last words ({path}):", *lines])


def _restart_wait(ends: int) -> float:
    """How long a part is left down after it ended so many times in a row."""
    return min(FIRST_RESTART_SECONDS * (1 << min(ends - 1, 16)), MAX_RESTART_SECONDS)


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel and wait for the end: a start that is half-way still registers or ends its process."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def take_lock(state: Path) -> IO[str]:
    """Hold the state folder for this process. Raises StartFailed when another one has it."""
    state.mkdir(parents=True, exist_ok=True)
    lock = (state / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise StartFailed(f"Already running here (process {owner}); stop it first, it holds {state}.") from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


@asynccontextmanager
async def supervised(state: Path, say: Callable[[str], None] = tell) -> AsyncIterator[Supervisor]:
    """A supervisor whose parts all end with the block; first it ends what a killed one left. The caller has the lock.

    Raises StartFailed.
    """
    record = Record(state / "parts.json")
    await asyncio.to_thread(end_leftovers, record, say)
    supervisor = Supervisor(state / "logs", say, record)
    try:
        yield supervisor
    finally:
        await supervisor.stop()
