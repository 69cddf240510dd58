"""Starting what a crash left unstarted, without asking for the same thing in every round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import structlog

from engine.payments import EngineUnavailable

log = structlog.get_logger()

STARTS_AT_ONCE = 20
TRIED_AGAIN_SECONDS = 10.0
"""Most of what looks unstarted has a workflow that waits for a worker or for its provider."""

Start = Callable[[], Awaitable[object]]


class LateStarts:
    """Starts of one kind of workflow; `names` is what its ids are called in the log."""

    def __init__(self, names: str) -> None:
        self._names = names
        self._again_at: dict[UUID, float] = {}

    async def start(self, waiting: Mapping[UUID, Start]) -> int:
        """Start side by side what was not tried lately; none waits for one that fails. Returns how many began."""
        now, gate = time.monotonic(), asyncio.Semaphore(STARTS_AT_ONCE)
        self._again_at = {each: at for each, at in self._again_at.items() if each in waiting and at > now}
        due = {each: start for each, start in waiting.items() if each not in self._again_at}
        self._again_at |= dict.fromkeys(due, now + TRIED_AGAIN_SECONDS)
        return sum(await asyncio.gather(*(self._try(each, start, gate) for each, start in due.items())))

    async def _try(self, identity: UUID, start: Start, gate: asyncio.Semaphore) -> bool:
        said = log.bind(**{self._names: str(identity)})
        async with gate:
            try:
                await start()
            except EngineUnavailable as error:
                said.warning("not started yet", error=str(error))
                return False
            except Exception:  # whatever it is, it is this one's trouble
                said.exception("cannot be started")
                return False
        said.info("started late")
        return True
