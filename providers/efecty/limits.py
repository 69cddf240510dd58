"""What Efecty itself cannot do, or what nobody has confirmed; all else that is missing is ours to build."""

from __future__ import annotations

from collections.abc import Mapping

from providers.limits import Limit, limit, unconfirmed

CASH = limit("Cash.")
FINAL = limit("Cash that was paid at a counter is given back by other means.")
NOBODY_TO_ASK = limit("The network has no interface: verified callbacks and settlement files are believed.")
CASHIER = limit("The cashier sees a code and an amount.")

LIMITS: Mapping[str, Limit] = {
    "direct_payment": CASH,
    "bank_list": CASH,
    "saves_methods": CASH,
    "sets_up_methods": CASH,
    "off_session": CASH,
    "imports_tokens": CASH,
    "void": CASH,
    "subscriptions": CASH,
    "risk_alerts": CASH,
    "mandates": CASH,
    "captures_later": CASH,
    "instalments": CASH,
    "refund": FINAL,
    "partial_refund": FINAL,
    "lists_refunds": FINAL,
    "refund_window": FINAL,
    "closes_checkout": limit("A printed code can be paid until the network's own end."),
    "status_call": NOBODY_TO_ASK,
    "looks_up_by_reference": NOBODY_TO_ASK,
    "lists_events": NOBODY_TO_ASK,
    "idempotency_keys": NOBODY_TO_ASK,
    "disputes": unconfirmed(
        "Whether a confirmed payment is ever reversed is not published; a callback that says so is on the timeline."
    ),
    "line_items": CASHIER,
    "provider_documents": CASHIER,
}
