"""What Meshulam (Grow) itself cannot do, or what nobody has confirmed; all else that is missing is ours to build."""

from __future__ import annotations

from collections.abc import Mapping

from providers.limits import Limit, limit, unconfirmed

UNTOLD = unconfirmed("No page that we have names banks' warnings or payers' mandates.")

LIMITS: Mapping[str, Limit] = {
    "risk_alerts": UNTOLD,
    "mandates": UNTOLD,
    "bank_list": limit("PSE is Colombia's."),
    "closes_checkout": limit("A page ends by its own time; no call ends it."),
    "one_checkout_per_reference": limit(
        "Each call makes another process; one address is given out, and the others lapse."
    ),
    "looks_up_by_reference": limit(
        "A page is found by its process id and token alone, a charge by its unique identifier."
    ),
    "idempotency_keys": limit("There are none; a charge whose answer was lost is looked up by its unique identifier."),
    "disputes": unconfirmed("No page that we have names a call or a callback for disputes."),
}
