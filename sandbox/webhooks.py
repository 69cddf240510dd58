"""Events on their way to the endpoints: signed, tried again until they are taken, or treated badly on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field

import httpx

from sandbox.faults import FaultPlan
from sandbox.state import Json, Store, new_id

API_VERSION = "2026-10-28.endive"
RETRY_SECONDS = (1, 2, 4, 8, 15, 30, 60, 60)
CONCURRENT = 64


def signature(secret: str, body: bytes, at: int) -> str:
    """The value of Stripe-Signature for a body sent at a Unix time."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@dataclass(slots=True)
class Sender:
    """Delivers events in the background."""

    store: Store
    faults: FaultPlan
    http: httpx.AsyncClient
    deliveries: list[Json] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENT))
    _held: list[Json] = field(default_factory=list)

    def emit(self, owner: str, event_type: str, thing: Json, idempotency_key: str | None = None) -> Json:
        """Record that something happened and send it to the owner's endpoints."""
        event: Json = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": int(time.time()),
            "data": {"object": json.loads(json.dumps(thing))},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": new_id("req"), "idempotency_key": idempotency_key},
            "type": event_type,
        }
        self.store.put("event", owner, event)
        self._send_with_faults(owner, event)
        return event

    def resend(self, event_id: str, times: int) -> None:
        """Send an old event again."""
        event = self.store.get("event", event_id)
        if event is not None:
            for _ in range(times):
                self._send(self.store.owner_of(event_id), event, 0)

    async def close(self) -> None:
        """Drop what is under way; a restarted sandbox does not send it again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _send_with_faults(self, owner: str, event: Json) -> None:
        fault = self.faults.take("webhooks")
        if fault is None:
            self._send(owner, event, 0)
        elif fault.kind == "delay":
            self._send(owner, event, fault.value)
        elif fault.kind == "duplicate":
            for _ in range(max(2, int(fault.value))):
                self._send(owner, event, 0)
        elif fault.kind == "reorder":
            self._send(owner, event, 0.3 / (1 + len(self._held)))
            self._held.append(event)

    def _send(self, owner: str, event: Json, delay_seconds: float) -> None:
        for endpoint in self.store.all("webhook_endpoint"):
            if endpoint["account_key"] in (None, owner):
                task = asyncio.create_task(self._deliver(endpoint, event, delay_seconds))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, endpoint: Json, event: Json, delay_seconds: float) -> None:
        body = json.dumps(event, indent=2).encode()
        for wait in (delay_seconds, *RETRY_SECONDS):
            if wait:
                await asyncio.sleep(wait)
            async with self._gate:
                status = await self._post(endpoint, body)
            self.deliveries.append(
                {"event": event["id"], "type": event["type"], "url": endpoint["url"], "status": status}
            )
            if status is not None and status // 100 == 2:
                return

    async def _post(self, endpoint: Json, body: bytes) -> int | None:
        headers = {
            "content-type": "application/json; charset=utf-8",
            "stripe-signature": signature(endpoint["secret"], body, int(time.time())),
        }
        try:
            answer = await self.http.post(endpoint["url"], content=body, headers=headers, timeout=10)
        except httpx.HTTPError:
            return None
        return answer.status_code
