"""Subscriptions that Stripe manages: fetched anew at every event, because events have no order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import stripe

from domain.money import Money, MoneyError
from domain.subscription import InvoiceStatus, SubscriptionStatus
from providers.base import OutcomeUnknown, ProviderInvoice, ProviderRejected, ProviderSubscription
from providers.stripe.amounts import from_wire
from providers.stripe.errors import NOT_FOUND
from providers.stripe.objects import JsonObject, items_of, part, reference, text

LATEST = 100
"""Invoices that are read: the newest, eight years of months."""

_STATUS = {
    "incomplete": SubscriptionStatus.INCOMPLETE,
    "incomplete_expired": SubscriptionStatus.EXPIRED,
    "trialing": SubscriptionStatus.TRIALING,
    "active": SubscriptionStatus.ACTIVE,
    "past_due": SubscriptionStatus.PAST_DUE,
    "unpaid": SubscriptionStatus.PAST_DUE,
    "paused": SubscriptionStatus.PAUSED,
    "canceled": SubscriptionStatus.CANCELLED,
}
_INVOICE_STATUS = {
    "open": InvoiceStatus.OPEN,
    "paid": InvoiceStatus.PAID,
    "void": InvoiceStatus.VOID,
    "uncollectible": InvoiceStatus.UNCOLLECTIBLE,
}
"""A draft is not one yet."""

Call = Callable[[Awaitable[Any]], Awaitable[JsonObject]]


class StripeSubscriptions:
    """Look-ups on one account. `call` sends a request and turns failures into ProviderError."""

    def __init__(self, client: stripe.StripeClient, call: Call) -> None:
        self._v1 = client.v1
        self._call = call

    async def look(self, subscription_id: str) -> ProviderSubscription | None:
        """The subscription and its newest invoices. None when Stripe knows none."""
        try:
            found = await self._call(self._v1.subscriptions.retrieve_async(subscription_id))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return None
            raise
        listed = await self._call(
            self._v1.invoices.list_async(
                {"subscription": subscription_id, "limit": LATEST, "expand": ["data.payments"]}
            )
        )
        return subscription_of(found, items_of(listed))


def named_subscription(source: JsonObject) -> str | None:
    """The subscription that an event's object is, or is an invoice of.

    An event has the shape of its endpoint's version, not of our calls: before 2025-03-31 an invoice named its
    subscription in a field of its own.
    """
    if source.get("object") == "subscription":
        return text(source, "id")
    if source.get("object") != "invoice":
        return None
    named = reference(part(part(source, "parent"), "subscription_details"), "subscription")
    return named or reference(source, "subscription") or _named_by_lines(source)


def is_of_subscription(invoice: JsonObject) -> bool:
    """Whether an invoice says that a subscription made it, whatever else of it can be read."""
    reason = text(invoice, "billing_reason") or ""
    parent = text(part(invoice, "parent"), "type") or ""
    return reason.startswith("subscription") or parent == "subscription_details"


def payment_ids(invoice: JsonObject) -> list[str]:
    """The intents and charges that an invoice names, in either shape: `payments`, or fields of its own before it."""
    paid = [part(one, "payment") for one in items_of(part(invoice, "payments"))]
    named = [reference(one, name) for one in (*paid, invoice) for name in ("payment_intent", "charge")]
    return [one for one in dict.fromkeys(named) if one is not None]


def _named_by_lines(invoice: JsonObject) -> str | None:
    """The subscription of an invoice's lines, in either shape."""
    for line in items_of(part(invoice, "lines")):
        details = part(part(line, "parent"), "subscription_item_details")
        named = reference(details, "subscription") or reference(line, "subscription")
        if named is not None:
            return named
    return None


def subscription_of(found: JsonObject, invoices: Iterable[JsonObject]) -> ProviderSubscription:
    """In our words. The period is the first item's; a status that is not known yet is past due: somebody must look.

    The customer is ours where `metadata.customer_id` says so, else Stripe's.
    """
    items = list(items_of(part(found, "items")))
    first = items[0] if items else found
    start = _moment(first.get("current_period_start")) or _moment(found.get("current_period_start"))
    end = _moment(first.get("current_period_end")) or _moment(found.get("current_period_end"))
    subscription_id = text(found, "id")
    if subscription_id is None or start is None or end is None:
        raise OutcomeUnknown("unreadable_answer", "subscription without id or period")
    read = (invoice_of(one, start, end) for one in invoices)
    quantity = first.get("quantity")
    return ProviderSubscription(
        subscription_id=subscription_id,
        status=_STATUS.get(str(found.get("status")), SubscriptionStatus.PAST_DUE),
        customer_id=text(part(found, "metadata"), "customer_id") or reference(found, "customer") or subscription_id,
        current_period_start=start,
        current_period_end=end,
        description=text(found, "description") or text(part(first, "price"), "nickname") or "Subscription",
        quantity=quantity if isinstance(quantity, int) and quantity > 0 else 1,
        cancel_at_period_end=found.get("cancel_at_period_end") is True,
        cancelled_at=_moment(found.get("canceled_at")),
        ended_at=_moment(found.get("ended_at")),
        trial_end=_moment(found.get("trial_end")),
        invoices=sorted((one for one in read if one is not None), key=lambda one: (one.created_at, one.invoice_id)),
    )


def invoice_of(invoice: JsonObject, start: datetime, end: datetime) -> ProviderInvoice | None:
    """An invoice that was finalised; the period is its first line's. Raises OutcomeUnknown when it is unreadable."""
    status, invoice_id = _INVOICE_STATUS.get(str(invoice.get("status"))), text(invoice, "id")
    if status is None or invoice_id is None:
        return None
    lines = list(items_of(part(invoice, "lines")))
    period = part(lines[0], "period") if lines else {}
    attempts = invoice.get("attempt_count")
    return ProviderInvoice(
        invoice_id=invoice_id,
        status=status,
        total=_money(invoice),
        period_start=_moment(period.get("start")) or start,
        period_end=_moment(period.get("end")) or end,
        created_at=_moment(invoice.get("created")) or start,
        attempts=attempts if isinstance(attempts, int) else 0,
        next_attempt_at=_moment(invoice.get("next_payment_attempt")),
        paid_at=_moment(part(invoice, "status_transitions").get("paid_at")),
        transaction_id=_paid_by(invoice),
    )


def _paid_by(invoice: JsonObject) -> str | None:
    """The payment intent that paid it; None when nothing was to be paid, or it was paid outside of Stripe."""
    for one in items_of(part(invoice, "payments")):
        if one.get("status") == "paid":
            return reference(part(one, "payment"), "payment_intent")
    return reference(invoice) if invoice.get("status") == "paid" else None


def _money(invoice: JsonObject) -> Money:
    paid = invoice.get("status") == "paid"
    amount = invoice.get("amount_paid") if paid else invoice.get("amount_due", invoice.get("total"))
    try:
        return from_wire(amount, invoice.get("currency"))
    except MoneyError:
        raise OutcomeUnknown("unreadable_answer", "amount or currency of an invoice") from None


def _moment(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if type(seconds) is int and seconds > 0 else None
