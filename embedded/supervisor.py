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

from embedded.parts import Part, StartFailed

FIRST_RESTART_SECONDS = 0.2
MAX_RESTART_SECONDS = 10.0
STABLE_SECONDS = 30.0
"""A part that ran this long begins again with the shortest wait."""
STOP_SECONDS = 20.0


class Supervisor:
    """Runs parts as children of this process; their output goes to one file each in `logs`."""

    def __init__(self, logs: Path, say: Callable[[str], None] = print) -> None:
        self._logs = logs
        self._say = say
        self._running: dict[str, tuple[Part, asyncio.subprocess.Process]] = {}
        self._groups: list[tuple[str, ...]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False
        logs.mkdir(parents=True, exist_ok=True)

    def pid(self, name: str) -> int:
        """The process id of a part now."""
        return self._running[name][1].pid

    async def start(self, *parts: Part) -> None:
        """Start parts together and wait until all are ready; from then on each is restarted whenever it ends.

        Raises StartFailed for the first that does not become ready.
        """
        self._groups.append(tuple(part.name for part in parts))
        await asyncio.gather(*(self._start(part) for part in parts))

    async def stop(self) -> None:
        """Stop all parts, the group started last first."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        for group in reversed(self._groups):
            await asyncio.gather(*(self._end(*self._running[name]) for name in group if name in self._running))
        self._running.clear()

    async def _start(self, part: Part) -> None:
        process = await part.spawn(self._logs / f"{part.name}.log")
        self._running[part.name] = (part, process)
        if not await self._becomes_ready(part, process):
            raise StartFailed(f"{part.name} did not start. {self._last_words(part)}")
        self._watchers.append(asyncio.create_task(self._watch(part)))

    async def _watch(self, part: Part) -> None:
        wait = FIRST_RESTART_SECONDS
        while True:
            process, begun = self._running[part.name][1], time.monotonic()
            code = await process.wait()
            if self._stopping:
                return
            wait = FIRST_RESTART_SECONDS if time.monotonic() - begun > STABLE_SECONDS else wait
            self._say(f"{part.name} ended ({_describe(code)}); starting it again")
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_RESTART_SECONDS)
            process = await part.spawn(self._logs / f"{part.name}.log")
            self._running[part.name] = (part, process)
            if await self._becomes_ready(part, process):
                self._say(f"{part.name} is back")

    async def _becomes_ready(self, part: Part, process: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + part.ready_seconds
        while time.monotonic() < deadline and process.returncode is None:
            if await part.ready():
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
        lines = path.read_text(errors="replace").strip().splitlines()[-12:]
        return "\n".join([f"Its last words ({path}):", *lines])


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"


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
async def supervised(logs: Path, say: Callable[[str], None] = print) -> AsyncIterator[Supervisor]:
    """A supervisor whose parts all end with the block."""
    supervisor = Supervisor(logs, say)
    try:
        yield supervisor
    finally:
        await supervisor.stop()
