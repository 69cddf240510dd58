"""Read Stripe's answers: checkout sessions, payment intents and refunds in our words. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from domain.dispute import DisputeState
from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import (
    ListedRefund,
    OutcomeUnknown,
    ProviderDispute,
    ProviderPayment,
    ProviderRefund,
    RefundStatus,
    SavedMethod,
)
from providers.reading import own_reference
from providers.stripe.amounts import from_wire

JsonObject: TypeAlias = Mapping[str, Any]

_NOTHING: JsonObject = {}
_INTENT_STATUS = {
    "canceled": PaymentStatus.CANCELED,
    "requires_action": PaymentStatus.REQUIRES_ACTION,
}
"""Payment intent → payment. `succeeded` is read apart; every other status means that nothing is decided yet."""
_REFUND_STATUS = {
    "succeeded": RefundStatus.SUCCEEDED,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.FAILED,
}

_DISPUTE_STATE = {
    "needs_response": DisputeState.NEEDS_RESPONSE,
    "under_review": DisputeState.UNDER_REVIEW,
    "won": DisputeState.WON,
    "lost": DisputeState.LOST,
    "warning_needs_response": DisputeState.INQUIRY,
    "warning_under_review": DisputeState.INQUIRY,
    "warning_closed": DisputeState.CLOSED,
    "prevented": DisputeState.CLOSED,
    "appeal_needs_response": DisputeState.NEEDS_RESPONSE,
    "appeal_under_review": DisputeState.UNDER_REVIEW,
}
"""A warning is an inquiry of the bank that has moved no money."""


def payment_of_session(session: JsonObject) -> ProviderPayment:
    """The payment behind a checkout session that was fetched with `payment_intent.latest_charge` expanded.

    Status PAID also where part or all was refunded later: `captured` and `refunded` say how much. Money that arrived
    wins over everything else that the session says, expired sessions included.
    """
    intent = part(session, "payment_intent")
    complete = session.get("status") == "complete"
    free = complete and session.get("payment_status") == "no_payment_required"  # a coupon of the whole amount
    paid = free or session.get("payment_status") == "paid"
    captured = _money(session.get("amount_total"), session.get("currency")) if paid else _captured_by(intent)
    status = PaymentStatus.PAID if captured is not None else _unpaid_session_status(session, intent)
    return _payment(status, captured, intent, session_id=text(session, "id"), transaction_id=reference(session))


def payment_of_intent(intent: JsonObject, *, one_try: bool = False) -> ProviderPayment:
    """The payment behind a payment intent that was fetched with `latest_charge` expanded (direct and saved mode).

    A declined attempt leaves the intent open for the next one, so it is PENDING with a `failure_code`; with `one_try`
    (a saved method was charged, nobody can enter another one) it is FAILED.
    """
    captured = _captured_by(intent)
    status = PaymentStatus.PAID if captured is not None else _intent_status(intent)
    if one_try and intent.get("status") == "requires_payment_method" and failure_code(intent) is not None:
        status = PaymentStatus.FAILED
    intent_id = text(intent, "id")
    return _payment(status, captured, intent, session_id=intent_id, transaction_id=intent_id)


def payment_of_link(
    link: JsonObject, open_ones: Sequence[JsonObject], complete: Sequence[JsonObject]
) -> ProviderPayment:
    """The payment behind a payment link and its sessions, each newest first and expanded as for `payment_of_session`.

    Everything that its sessions took is reported, also more than was asked for. Nobody has paid: a session that is
    open may still be paid although the link is closed, so only a link that is closed and has none is CANCELED, or
    FAILED when the one completed session's bank debit bounced.
    """
    done = [payment_of_session(session) for session in complete]
    link_id = text(link, "id")
    paid = [one for one in done if one.captured is not None]
    if paid:
        return replace(
            paid[-1],
            session_id=link_id,
            captured=_sum(one.captured for one in paid),
            refunded=None if any(one.refunded is None for one in paid) else _sum(one.refunded for one in paid),
            refunds=_all(one.refunds for one in paid),
            disputed=any(one.disputed for one in paid),
            other_ids=tuple(name for one in paid for name in (one.transaction_id, *one.other_ids) if name is not None),
        )
    undecided = [payment_of_session(session) for session in open_ones]
    undecided += [one for one in done if one.status is not PaymentStatus.FAILED]
    code = next((one.failure_code for one in (*undecided, *done) if one.failure_code), None)
    if any(one.status is PaymentStatus.REQUIRES_ACTION for one in undecided):
        status = PaymentStatus.REQUIRES_ACTION
    elif undecided or _takes_payments(link):
        status = PaymentStatus.PENDING
    else:
        status = PaymentStatus.FAILED if done else PaymentStatus.CANCELED
    return ProviderPayment(status, session_id=link_id, failure_code=code)


def refund_of(refund: JsonObject) -> ProviderRefund:
    """A refund. One that succeeded may still fail later; the `refund.failed` event tells."""
    refund_id = text(refund, "id")
    if refund_id is None:
        raise OutcomeUnknown("unreadable_answer", "refund without id")
    status = _REFUND_STATUS.get(str(refund.get("status")), RefundStatus.PENDING)
    return ProviderRefund(refund_id, status, failure_code=text(refund, "failure_reason"))


def listed_refund(refund: JsonObject) -> ListedRefund:
    """A refund of a list: ours where its metadata says so, else somebody else's. Raises OutcomeUnknown."""
    made, created = refund_of(refund), refund.get("created")
    return ListedRefund(
        made.provider_refund_id or "",
        _money(refund.get("amount"), refund.get("currency")),
        made.status,
        at=datetime.fromtimestamp(created, UTC) if type(created) is int and created > 0 else None,
        reference=own_reference(part(refund, "metadata").get("refund_id")),
        transaction_id=reference(refund) or reference(refund, "charge"),
        failure_code=made.failure_code,
    )


def dispute_of(dispute: JsonObject) -> ProviderDispute:
    """A dispute. A status that is not known yet is under review: the money is away and nothing is decided."""
    dispute_id, amount = text(dispute, "id"), _money(dispute.get("amount"), dispute.get("currency"))
    if dispute_id is None:
        raise OutcomeUnknown("unreadable_answer", "dispute without id")
    due = part(dispute, "evidence_details").get("due_by")
    return ProviderDispute(
        dispute_id,
        _DISPUTE_STATE.get(str(dispute.get("status")), DisputeState.UNDER_REVIEW),
        amount,
        reason=text(dispute, "reason"),
        evidence_due_at=datetime.fromtimestamp(due, UTC) if isinstance(due, int) and due > 0 else None,
    )


def text(source: JsonObject, name: str) -> str | None:
    """A non-empty string field, else None."""
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def reference(source: JsonObject, name: str = "payment_intent") -> str | None:
    """The id in a field that Stripe gives either as an id or as the expanded object."""
    value = source.get(name)
    return text(value, "id") if isinstance(value, Mapping) else text(source, name)


def our_reference(source: JsonObject) -> object:
    """What an object says is our reference.

    Metadata is ours alone. `client_reference_id` is the second place in a hosted session, but whoever opens a payment
    link can write anything there, so in a link's session it counts for nothing.
    """
    metadata = part(source, "metadata")
    named = metadata.get("payment_id") or metadata.get("setup_id")
    return named if named or source.get("payment_link") else source.get("client_reference_id")


def carries(source: JsonObject, payment_id: str) -> bool:
    """Whether a session, intent or link was made for this payment of ours."""
    return our_reference(source) == payment_id


def _payment(
    status: PaymentStatus,
    captured: Money | None,
    intent: JsonObject,
    *,
    session_id: str | None,
    transaction_id: str | None,
) -> ProviderPayment:
    charge = part(intent, "latest_charge")
    details = part(charge, "payment_method_details")
    card = part(details, "card")
    named = (reference(intent, "latest_charge"), reference(intent, "invoice"))
    return ProviderPayment(
        status=status,
        session_id=session_id,
        transaction_id=transaction_id,
        captured=captured,
        captured_at=_captured_at(charge) if captured is not None else None,
        refunded=None if captured is None else _refunded(charge),
        refunds=None if captured is None else _refunds(charge),
        disputed=charge.get("disputed") if isinstance(charge.get("disputed"), bool) else None,
        other_ids=tuple(name for name in named if name is not None) if captured is not None else (),
        method=text(details, "type"),
        card_brand=text(card, "brand"),
        card_last4=text(card, "last4"),
        card_fingerprint=text(card, "fingerprint"),
        failure_code=None if captured is not None else failure_code(intent),
        saved_method=_saved_by(intent, charge) if captured is not None else None,
    )


def _refunded(charge: JsonObject) -> Money | None:
    """What went back of a charge, or is on its way; None where the answer does not say."""
    amount = charge.get("amount_refunded")
    if type(amount) is not int:
        return None
    if amount == 0:
        return Money.zero(str(charge.get("currency")).upper())
    return _money(amount, charge.get("currency"))


def _refunds(charge: JsonObject) -> tuple[ListedRefund, ...] | None:
    """The refunds of a charge that was fetched with `refunds` expanded; None where there are more than it shows."""
    listed = part(charge, "refunds")
    data = listed.get("data")
    if not isinstance(data, list) or listed.get("has_more"):
        return None
    return tuple(listed_refund(one) for one in data if isinstance(one, Mapping))


def _all(lists: Iterable[Sequence[ListedRefund] | None]) -> tuple[ListedRefund, ...] | None:
    """Several lists as one; not told where one of them is not."""
    found: list[ListedRefund] = []
    for listed in lists:
        if listed is None:
            return None
        found += listed
    return tuple(found)


def _captured_at(charge: JsonObject) -> datetime | None:
    """A card is captured when it is charged. Of slow methods Stripe tells here only when they were begun."""
    created = charge.get("created")
    by_card = text(part(charge, "payment_method_details"), "type") == "card"
    return datetime.fromtimestamp(created, UTC) if by_card and type(created) is int and created > 0 else None


def method_of(source: JsonObject, *, customer: str | None = None) -> SavedMethod | None:
    """A payment method object, or None where it is only an id. `customer` is whose it is where it does not say so."""
    token, kind = text(source, "id"), text(source, "type")
    if token is None or kind is None:
        return None
    return _method(token, kind, part(source, kind), reference(source, "customer") or customer)


def _saved_by(intent: JsonObject, charge: JsonObject) -> SavedMethod | None:
    """What was saved with a payment: only where that was asked for and Stripe knows the customer."""
    details = part(charge, "payment_method_details")
    token, kind = reference(charge, "payment_method"), text(details, "type")
    customer = reference(intent, "customer")
    if not intent.get("setup_future_usage") or token is None or kind is None or customer is None:
        return None
    return _method(token, kind, part(details, kind), customer)


def _method(token: str, kind: str, details: JsonObject, customer: str | None) -> SavedMethod:
    month, year = details.get("exp_month"), details.get("exp_year")
    return SavedMethod(
        token=token,
        kind=kind,
        customer=customer,
        brand=text(details, "brand"),
        last4=text(details, "last4"),
        exp_month=month if isinstance(month, int) else None,
        exp_year=year if isinstance(year, int) else None,
        fingerprint=text(details, "fingerprint"),
    )


def _takes_payments(link: JsonObject) -> bool:
    """Whether somebody who opens the link gets a page to pay at."""
    limits = part(part(link, "restrictions"), "completed_sessions")
    count, limit = limits.get("count"), limits.get("limit")
    used_up = isinstance(count, int) and isinstance(limit, int) and count >= limit
    return link.get("active") is not False and not used_up


def _sum(amounts: Iterable[Money | None]) -> Money | None:
    total: Money | None = None
    for amount in amounts:
        if amount is not None:
            total = amount if total is None else total + amount
    return total


def _unpaid_session_status(session: JsonObject, intent: JsonObject) -> PaymentStatus:
    if session.get("status") == "expired":
        return PaymentStatus.EXPIRED
    if session.get("status") == "complete" and intent.get("status") == "requires_payment_method":
        return PaymentStatus.FAILED  # a delayed method (bank debit, voucher) failed; the page takes no second try
    return _intent_status(intent)


def _intent_status(intent: JsonObject) -> PaymentStatus:
    return _INTENT_STATUS.get(str(intent.get("status")), PaymentStatus.PENDING)


def _captured_by(intent: JsonObject) -> Money | None:
    if intent.get("status") != "succeeded":
        return None
    return _money(intent.get("amount_received"), intent.get("currency"))


def failure_code(intent: JsonObject) -> str | None:
    """Why the last attempt failed, by the most telling of Stripe's codes."""
    fault = part(intent, "last_payment_error")
    return text(fault, "decline_code") or text(fault, "code") or text(fault, "type")


def _money(amount: object, currency: object) -> Money:
    try:
        return from_wire(amount, currency)
    except MoneyError:
        # Money arrived in an amount that we cannot hold: neither paid nor unpaid can be claimed.
        raise OutcomeUnknown("unreadable_answer", "amount or currency") from None


def items_of(page: JsonObject) -> list[JsonObject]:
    """The objects of a list."""
    data = page.get("data")
    return [item for item in data if isinstance(item, Mapping)] if isinstance(data, list) else []


def part(source: JsonObject, name: str) -> JsonObject:
    """A nested object; an empty one where there is none or only its id."""
    value = source.get(name)
    return value if isinstance(value, Mapping) else _NOTHING
