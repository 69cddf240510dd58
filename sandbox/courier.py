"""Callbacks on their way: signed when they leave, tried again until they are taken, or treated badly on purpose.

A letter that was not taken yet is kept, so a restarted sandbox goes on sending it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from sandbox.faults import FaultPlan
from sandbox.state import Json, Store, new_id

RETRY_SECONDS = (1, 2, 4, 8, 15, 30, 60, 60)
CONCURRENT = 64

Seal = Callable[[str, bytes], Mapping[str, str]]
"""From a secret and a body to the headers that authenticate it; called at each sending, so timestamps are fresh."""


@dataclass(slots=True)
class Courier:
    """Delivers letters in the background. Each twin registers how its provider seals them, by a scheme's name."""

    store: Store
    faults: FaultPlan
    http: httpx.AsyncClient
    deliveries: list[Json] = field(default_factory=list)
    schemes: dict[str, Seal] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT))
    _held: int = 0

    def send(
        self,
        *,
        owner: str,
        event_id: str,
        event_type: str,
        url: str,
        body: bytes,
        content_type: str = "application/json; charset=utf-8",
        scheme: str = "",
        secret: str = "",
    ) -> None:
        """Post a body to an address; `scheme` and `secret` say how it is authenticated ('' for not at all)."""
        letter: Json = {
            "id": new_id("letter"),
            "event": event_id,
            "type": event_type,
            "url": url,
            "body": body.decode(),
            "content_type": content_type,
            "scheme": scheme,
            "secret": secret,
            "taken": False,
        }
        self.store.put("letter", owner, letter)
        self._send_with_faults(letter)

    def resend(self, event_id: str, times: int) -> None:
        """Send all letters of an old event again."""
        for letter in self.store.all("letter"):
            if letter["event"] == event_id:
                for _ in range(times):
                    self._send(letter, 0)

    def resume(self) -> None:
        """Go on with what an earlier run could not deliver."""
        for letter in self.store.all("letter"):
            if not letter["taken"]:
                self._send(letter, 0)

    async def close(self) -> None:
        """Stop; what is under way is sent again by the next run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.http.aclose()

    def _send_with_faults(self, letter: Json) -> None:
        fault = self.faults.take("webhooks", f"{letter['url']}\n{letter['body']}")
        if fault is None:
            self._send(letter, 0)
        elif fault.kind == "delay":
            self._send(letter, fault.value)
        elif fault.kind == "duplicate":
            for _ in range(max(2, int(fault.value))):
                self._send(letter, 0)
        elif fault.kind == "reorder":
            self._send(letter, 0.3 / (1 + self._held))
            self._held += 1
        elif fault.kind == "lose":
            self._mark_taken(letter)

    def _send(self, letter: Json, delay_seconds: float) -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(letter, delay_seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, letter: Json, delay_seconds: float) -> None:
        for wait in (delay_seconds, *RETRY_SECONDS):
            if wait:
                await asyncio.sleep(wait)
            async with self._gate:
                status = await self._post(letter)
            self.deliveries.append({name: letter[name] for name in ("event", "type", "url")} | {"status": status})
            if status is not None and status // 100 == 2:
                break
        self._mark_taken(letter)  # or given up

    def _mark_taken(self, letter: Json) -> None:
        if not letter["taken"]:
            letter["taken"] = True
            self.store.put("letter", self.store.owner_of(letter["id"]), letter)

    async def _post(self, letter: Json) -> int | None:
        body: bytes = letter["body"].encode()
        seal: Any = self.schemes.get(letter["scheme"])
        headers = {"content-type": letter["content_type"], **(seal(letter["secret"], body) if seal else {})}
        try:
            answer = await self.http.post(letter["url"], content=body, headers=headers, timeout=10)
        except httpx.HTTPError:
            return None
        return answer.status_code
