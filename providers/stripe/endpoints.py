"""What a webhook endpoint at Stripe does otherwise than this service expects: version, events, state. Pure functions.

An event has the shape of its endpoint's version, which was fixed when the endpoint was made; calls have the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from providers.stripe.objects import JsonObject, text

NEEDED = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.processing",
    "payment_intent.canceled",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
)
"""Events that every account needs; those of saved methods and followed subscriptions only some."""


def endpoint_differences(endpoints: Sequence[JsonObject], account_id: UUID, version: str) -> tuple[str, ...]:
    """What differs at the endpoint of this account, found by its address; a sentence each."""
    path = f"/webhooks/stripe/{account_id}"
    own = [one for one in endpoints if (text(one, "url") or "").rstrip("/").endswith(path)]
    own = own or [one for one in endpoints if (text(one, "url") or "").rstrip("/").endswith("/webhooks/stripe")]
    if not own:
        return (f"no webhook endpoint at Stripe has an address that ends with {path}",)
    return tuple(sentence for one in own for sentence in _differences(one, version))


def _differences(endpoint: JsonObject, version: str) -> list[str]:
    name = text(endpoint, "id") or "the endpoint"
    found = []
    sent = text(endpoint, "api_version")
    if sent is None:
        found.append(f"{name} sends the account's default version, which is not told here; calls are made in {version}")
    elif sent != version:
        found.append(f"{name} sends events of version {sent}, calls are made in {version}: both shapes are read")
    if text(endpoint, "status") not in (None, "enabled"):
        found.append(f"{name} is {text(endpoint, 'status')}")
    enabled = endpoint.get("enabled_events")
    missing = [one for one in NEEDED if isinstance(enabled, list) and one not in enabled and "*" not in enabled]
    if missing:
        found.append(f"{name} does not send {', '.join(missing)}")
    return found
