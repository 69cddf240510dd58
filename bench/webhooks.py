"""Webhook intake: signed events to the API's route, and the same rows through a route that only inserts."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import text

from bench.wire import Caller, Unexpected
from storage.session import Database

MARK = "evt_BENCH"
"""Stands in a template where each event gets an id of its own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as the provider sent it, with the names in it."""

    event_id: str
    payment_id: UUID
    session_id: str
    transaction_id: str
    body: str


_STORED = text(
    "SELECT event_id, payment_id, body FROM webhook_events"
    " WHERE type = 'checkout.session.completed' AND status = 'handled' ORDER BY id DESC LIMIT :number"
)


async def stored_events(database: Database, number: int) -> list[Stored]:
    """The provider's own last events about paid payments."""
    async with database.transaction() as session:
        rows = (await session.execute(_STORED, {"number": number})).all()
    return [_stored(event_id, payment_id, bytes(body).decode()) for event_id, payment_id, body in rows]


def _stored(event_id: str, payment_id: UUID, body: str) -> Stored:
    thing = json.loads(body)["data"]["object"]
    return Stored(event_id, payment_id, thing["id"], thing["payment_intent"], body)


def again(event: Stored) -> str:
    """A template of more events about the same paid payment: it needs nothing more, and they say nothing new."""
    return event.body.replace(event.event_id, MARK)


def about(event: Stored, payment_id: UUID, session_id: str) -> str:
    """A template of events that say the same about another payment."""
    swapped = again(event).replace(str(event.payment_id), str(payment_id)).replace(event.session_id, session_id)
    return swapped.replace(event.transaction_id, f"pi_{payment_id.hex}")


def signature(secret: str, body: bytes) -> str:
    """The value of Stripe-Signature, now."""
    at = int(time.time())
    digest = hmac.new(secret.encode(), b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@dataclass(slots=True)
class Deliveries:
    """Sends new events made of the templates in turn; with a secret they are signed."""

    url: str
    path: str
    templates: Sequence[str]
    secret: str | None
    _callers: dict[int, Caller] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _prefix: str = field(default_factory=lambda: f"evt_{uuid4().hex[:10]}")

    async def job(self, caller: int) -> float:
        """One event until its 200."""
        body = self._next_body()
        headers = {"content-type": "application/json; charset=utf-8"}
        if self.secret is not None:
            headers["stripe-signature"] = signature(self.secret, body)
        connection = self._callers.setdefault(caller, Caller(self.url))
        answer = await connection.post(self.path, body, headers)
        if answer.status != 200:
            raise Unexpected(f"an event was answered {answer.status}: {answer.body[:200]!r}")
        return time.perf_counter()

    def _next_body(self) -> bytes:
        number = next(self._numbers)
        return self.templates[number % len(self.templates)].replace(MARK, f"{self._prefix}{number}").encode()

    async def close(self) -> None:
        """Hang up."""
        for one in self._callers.values():
            await one.__aexit__(None, None, None)
