"""What PayU itself cannot do, or what nobody has confirmed; all else that is missing is ours to build."""

from __future__ import annotations

from collections.abc import Mapping

from providers.limits import Limit, limit, unconfirmed

UNTOLD = unconfirmed("No page that we have names banks' warnings or payers' mandates.")

LIMITS: Mapping[str, Limit] = {
    "risk_alerts": UNTOLD,
    "mandates": UNTOLD,
    "closes_checkout": limit("No call ends the form's page or a cash code; both end by their own time."),
    "saves_methods": unconfirmed("No page of PayU's is known that saves a card; tokens come from its library."),
    "sets_up_methods": unconfirmed("No page of PayU's is known that saves a card; tokens come from its library."),
    "idempotency_keys": limit("There are none; our reference code is looked up."),
}
