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
"""Events that every account needs."""
OF_METHODS = (
    "setup_intent.succeeded",
    "setup_intent.setup_failed",
    "setup_intent.canceled",
    "payment_method.detached",
    "payment_method.updated",
    "payment_method.automatically_updated",
    "customer.deleted",
    "mandate.updated",
)
"""Those of saved methods, which only some save: nothing is said where they are missing."""
OF_SUBSCRIPTIONS = (
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.voided",
    "invoice.marked_uncollectible",
)
"""Needed where subscriptions that Stripe manages are followed."""
WORTH_HEARING = (
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "radar.early_fraud_warning.created",
    "review.opened",
    "review.closed",
    "payout.created",
    "payout.updated",
    "payout.paid",
    "payout.failed",
    "payout.canceled",
)
"""Money is right without them; what they tell is heard later, or not at all."""


def endpoint_differences(
    endpoints: Sequence[JsonObject], account_id: UUID, version: str, *, follows: bool = False
) -> tuple[str, ...]:
    """What differs at the endpoint of this account, found by its address; a sentence each.

    `follows`: the account follows subscriptions that Stripe manages.
    """
    path = f"/webhooks/stripe/{account_id}"
    own = [one for one in endpoints if (text(one, "url") or "").rstrip("/").endswith(path)]
    own = own or [one for one in endpoints if (text(one, "url") or "").rstrip("/").endswith("/webhooks/stripe")]
    if not own:
        return (f"no webhook endpoint at Stripe has an address that ends with {path}",)
    needed = NEEDED + (OF_SUBSCRIPTIONS if follows else ())
    return tuple(sentence for one in own for sentence in _differences(one, version, needed))


def _differences(endpoint: JsonObject, version: str, needed: Sequence[str]) -> list[str]:
    name = text(endpoint, "id") or "the endpoint"
    found = []
    sent = text(endpoint, "api_version")
    if sent is None:
        found.append(f"{name} sends the account's default version, which is not told here; calls are made in {version}")
    elif sent != version:
        found.append(f"{name} sends events of version {sent}, calls are made in {version}: both shapes are read")
    if text(endpoint, "status") not in (None, "enabled"):
        found.append(f"{name} is {text(endpoint, 'status')}")
    if missing := _missing(endpoint, needed):
        found.append(f"{name} does not send {', '.join(missing)}")
    if missing := _missing(endpoint, WORTH_HEARING):
        found.append(f"{name} does not send {', '.join(missing)}, which are worth hearing")
    return found


def _missing(endpoint: JsonObject, wanted: Sequence[str]) -> list[str]:
    enabled = endpoint.get("enabled_events")
    if not isinstance(enabled, list) or "*" in enabled:
        return []
    return [one for one in wanted if one not in enabled]
