"""Webhook intake: signed events to the API's route, and the same rows through a route that only inserts."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from bench.wire import Caller, Unexpected

MARK = "evt_BENCH"
"""Stands in a template where each event gets an id of its own."""


def template(payment_id: UUID) -> str:
    """A `checkout.session.completed` about a payment, as long as the provider's own are."""
    session = f"cs_test_{payment_id.hex}"
    thing: dict[str, Any] = {
        "id": session,
        "object": "checkout.session",
        "amount_total": 12990,
        "cancel_url": None,
        "client_reference_id": str(payment_id),
        "created": int(time.time()),
        "currency": "ils",
        "customer_details": {"email": "dana@example.com"},
        "customer_email": "dana@example.com",
        "expires_at": int(time.time()) + 3600,
        "livemode": False,
        "metadata": {"payment_id": str(payment_id), "order_id": "bench"},
        "mode": "payment",
        "payment_intent": f"pi_{payment_id.hex}",
        "payment_status": "paid",
        "status": "complete",
        "success_url": "http://127.0.0.1:8000/paid",
        "url": None,
    }
    event = {
        "id": MARK,
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(time.time()),
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_bench", "idempotency_key": None},
        "type": "checkout.session.completed",
    }
    return json.dumps(event, indent=2)


def signature(secret: str, body: bytes) -> str:
    """The value of Stripe-Signature, now."""
    at = int(time.time())
    digest = hmac.new(secret.encode(), b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@dataclass(slots=True)
class Deliveries:
    """Sends new events about the given payments in turn; with a secret they are signed."""

    url: str
    path: str
    payments: Sequence[UUID]
    secret: str | None
    _templates: list[str] = field(default_factory=list)
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
        if not self._templates:
            self._templates = [template(payment_id) for payment_id in self.payments]
        number = next(self._numbers)
        return self._templates[number % len(self._templates)].replace(MARK, f"{self._prefix}{number}").encode()

    async def close(self) -> None:
        """Hang up."""
        for one in self._callers.values():
            await one.__aexit__(None, None, None)
