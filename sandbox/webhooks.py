"""Stripe's events: recorded, and sent to the endpoints of the account with Stripe's signature."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass

from sandbox.courier import Courier
from sandbox.state import Json, Store, new_id

API_VERSION = "2026-10-28.endive"
BASIL = "2025-03-31.basil"
SCHEME = "stripe"


def signature(secret: str, body: bytes, at: int) -> str:
    """The value of Stripe-Signature for a body sent at a Unix time."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def seal(secret: str, body: bytes) -> dict[str, str]:
    """The headers of a body that is sent now."""
    return {"stripe-signature": signature(secret, body, int(time.time()))}


def shaped_for(version: str, event: Json) -> Json:
    """An event as an endpoint of another version is sent it: what moved in 2025-03-31 stands where it stood before."""
    if version >= BASIL:
        return event | {"api_version": version}
    thing: Json = dict(event["data"]["object"])
    if thing.get("object") == "invoice":
        details = (thing.pop("parent", None) or {}).get("subscription_details") or {}
        paid = [one["payment"] for one in (thing.pop("payments", None) or {}).get("data", [])]
        thing |= {
            "subscription": details.get("subscription"),
            "payment_intent": paid[-1].get("payment_intent") if paid else None,
            "paid": thing.get("status") == "paid",
        }
    if thing.get("object") == "subscription":
        first = thing["items"]["data"][0]
        thing |= {name: first[name] for name in ("current_period_start", "current_period_end")}
    return event | {"api_version": version, "data": {"object": thing}}


@dataclass(slots=True)
class StripeEvents:
    """What happened, as Stripe tells it."""

    store: Store
    courier: Courier

    def __post_init__(self) -> None:
        """Teach the courier Stripe's signature."""
        self.courier.schemes[SCHEME] = seal

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
        for endpoint in self.store.all("webhook_endpoint"):
            if endpoint["account_key"] in (None, owner):
                shaped = shaped_for(endpoint.get("api_version") or API_VERSION, event)
                self.courier.send(
                    owner=owner,
                    event_id=event["id"],
                    event_type=event_type,
                    url=endpoint["url"],
                    body=json.dumps(shaped, indent=2).encode(),
                    scheme=SCHEME,
                    secret=endpoint["secret"],
                )
        return event
