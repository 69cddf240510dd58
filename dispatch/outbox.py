"""From the outbox to the merchant's order service: signed, at least once, in order per payment, for days."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import structlog
from standardwebhooks.webhooks import Webhook

from storage import outbox
from storage.models import OrderNotice, Workspace
from storage.sealing import Sealer, SealingError
from storage.session import Database, is_outage

log = structlog.get_logger()

PER_WORKSPACE = 8
"""Deliveries under way to one merchant at a time."""
REST_BYTES, REST_SECONDS = 65_536, 1.0
"""How much of an answer's body is read, and for how long, before the connection is dropped instead."""
UNREACHABLE = "no answer"
"""The same words for a name that leads nowhere, a closed port and silence: whoever chooses the address reads them."""
MAX_CONNECTIONS = 1_000
"""At a time in one worker: merchants that are slow must not use up the connections of the others."""


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """When to try again, in seconds; `give_up_after_seconds` counts from the notification's creation."""

    first_seconds: float = 5.0
    growth: float = 2.0
    max_seconds: float = 3600.0
    give_up_after_seconds: float = 5 * 24 * 3600.0

    def wait(self, attempts: int, age: timedelta) -> timedelta | None:
        """The wait before the next try after so many, or None to give up."""
        if age.total_seconds() >= self.give_up_after_seconds:
            return None
        return timedelta(seconds=min(self.first_seconds * self.growth ** min(attempts, 32), self.max_seconds))


class OutboxRelay:
    """Delivers order notifications; one merchant's slow endpoint never delays another's."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        http: httpx.AsyncClient,
        plan: RetryPlan,
        *,
        timeout_seconds: float = 10.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._http = http
        self._plan = plan
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._busy: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start_due(self) -> int:
        """Begin delivering what is due, up to each merchant's share. Returns how many deliveries began."""
        async with self._database.transaction() as session:
            claimed = await outbox.claim_due(
                session,
                lease=timedelta(seconds=self._timeout_seconds * 3),
                per_workspace=PER_WORKSPACE,
                under_way=self._busy,
            )
        for notice, workspace in claimed:
            self._busy[workspace.id] += 1
            task = asyncio.create_task(self._deliver(notice, workspace))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(claimed)

    async def drain(self) -> None:
        """Wait for deliveries under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, notice: OrderNotice, workspace: Workspace) -> None:
        try:
            error = await self._post(notice, workspace)
            async with self._database.transaction() as session:
                if error is None:
                    await outbox.mark_delivered(session, notice)
                else:
                    wait = self._plan.wait(notice.attempts, self._now() - notice.created_at)
                    await outbox.mark_failed(session, notice, error=error, retry_in=wait)
        except Exception as failure:
            if not is_outage(failure):
                log.exception("notification could not be recorded", notice_id=str(notice.id))
            return  # the lease runs out and it is delivered again
        finally:
            self._busy[workspace.id] -= 1
        log.info(
            "notification delivered" if error is None else "notification failed",
            payment_id=str(notice.payment_id),
            notice_id=str(notice.id),
            error=error,
        )

    async def _post(self, notice: OrderNotice, workspace: Workspace) -> str | None:
        """Send it; returns why it failed, or None. Redirects are not followed: they count as failure."""
        if workspace.order_webhook_url is None or workspace.order_webhook_secret is None:
            return "the workspace has no order webhook any more"
        body, at = json.dumps(notice.payload, separators=(",", ":")), self._now()
        try:
            secrets = self._sealer.open(workspace.order_webhook_secret).split(",")  # two while they are rotated
            signature = " ".join(Webhook(secret).sign(str(notice.id), at, body) for secret in secrets)
        except (SealingError, ValueError) as error:  # the key was lost, or what it sealed is no secret
            return f"cannot be signed: {type(error).__name__}"
        headers = {
            "content-type": "application/json",
            "webhook-id": str(notice.id),
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signature,
            "user-agent": "durable-payments",
        }
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status = await self._status_of(workspace.order_webhook_url, body, headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return UNREACHABLE
        return None if httpx.codes.is_success(status) else f"answered {status}"

    async def _status_of(self, url: str, body: str, headers: dict[str, str]) -> int:
        """The answer's status. A little of what follows it is read, so that the connection can be used again.

        The answer is the merchant's: it may be as long and as slow as it likes, and nothing in it concerns us.
        """
        size = 0
        async with self._http.stream(
            "POST", url, content=body, headers=headers, timeout=self._timeout_seconds
        ) as answer:
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(REST_SECONDS):
                    async for part in answer.aiter_raw():
                        size += len(part)
                        if size > REST_BYTES:
                            break
            return answer.status_code


async def run_forever(relay: OutboxRelay, *, interval_seconds: float) -> None:
    """Deliver until cancelled. An outage of PostgreSQL is waited out."""
    while True:
        try:
            await relay.start_due()
        except Exception as error:
            if is_outage(error):
                log.warning("database is away", error=type(error).__name__)
            else:
                log.exception("outbox relay failed")
        await asyncio.sleep(interval_seconds)
