"""What PayPlus itself cannot do, or what nobody has confirmed; all else that is missing is ours to build."""

from __future__ import annotations

from collections.abc import Mapping

from providers.limits import Limit, limit, unconfirmed

UNTOLD = unconfirmed("No page that we have names banks' warnings or payers' mandates.")

LIMITS: Mapping[str, Limit] = {
    "risk_alerts": UNTOLD,
    "mandates": UNTOLD,
    "bank_list": limit("PSE is Colombia's."),
    "one_checkout_per_reference": limit(
        "`generateLink` makes another page at each call; one address is given out, and the others lapse."
    ),
    "idempotency_keys": limit("There are none; a charge whose answer was lost is looked up by our reference."),
    "disputes": unconfirmed("No page that we have names a call or a callback for disputes."),
    "subscriptions": unconfirmed("It has recurring payments of its own; how they report is not confirmed."),
}
