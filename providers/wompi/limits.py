"""What Wompi itself cannot do, or what nobody has confirmed; all else that is missing is ours to build."""

from __future__ import annotations

from collections.abc import Mapping

from providers.limits import Limit, limit, unconfirmed

UNTOLD = unconfirmed("No page that we have names banks' warnings or payers' mandates.")

LIMITS: Mapping[str, Limit] = {
    "risk_alerts": UNTOLD,
    "mandates": UNTOLD,
    "refund_window": limit(
        "A void is taken on the day of the payment, in Colombia; afterwards Wompi's panel makes the refund."
    ),
    "partial_refund": unconfirmed(
        "Partial voids carry no reference and no documented sum: a repeat could not be told from a second one."
    ),
    "lists_refunds": unconfirmed("Voids are shown; a refund that Wompi's panel makes later is shown by no call."),
    "closes_checkout": limit("The Web Checkout and transactions end by themselves; payment links are closed."),
    "idempotency_keys": limit("There are none; a reference is taken once, and the first transaction is found by it."),
    "disputes": unconfirmed("Wompi's documents name no call and no event for disputes."),
}
