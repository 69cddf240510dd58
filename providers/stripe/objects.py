"""Read Stripe's answers: checkout sessions, payment intents and refunds in our words. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import OutcomeUnknown, ProviderPayment, ProviderRefund, RefundStatus
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


def payment_of_session(session: JsonObject) -> ProviderPayment:
    """The payment behind a checkout session that was fetched with `payment_intent.latest_charge` expanded.

    Status PAID also where part or all was refunded later: `captured` and `refunded` say how much. Money that arrived
    wins over everything else that the session says, expired sessions included.
    """
    intent = _object(session, "payment_intent")
    complete = session.get("status") == "complete"
    free = complete and session.get("payment_status") == "no_payment_required"  # a coupon of the whole amount
    paid = free or session.get("payment_status") == "paid"
    captured = _money(session.get("amount_total"), session.get("currency")) if paid else _captured_by(intent)
    status = PaymentStatus.PAID if captured is not None else _unpaid_session_status(session, intent)
    return _payment(status, captured, intent, session_id=text(session, "id"), transaction_id=reference(session))


def payment_of_intent(intent: JsonObject) -> ProviderPayment:
    """The payment behind a payment intent that was fetched with `latest_charge` expanded (direct mode).

    A declined attempt leaves the intent open for the next one, so it is PENDING with a `failure_code`.
    """
    captured = _captured_by(intent)
    status = PaymentStatus.PAID if captured is not None else _intent_status(intent)
    intent_id = text(intent, "id")
    return _payment(status, captured, intent, session_id=intent_id, transaction_id=intent_id)


def refund_of(refund: JsonObject) -> ProviderRefund:
    """A refund. One that succeeded may still fail later; the `refund.failed` event tells."""
    refund_id = text(refund, "id")
    if refund_id is None:
        raise OutcomeUnknown("unreadable_answer", "refund without id")
    status = _REFUND_STATUS.get(str(refund.get("status")), RefundStatus.PENDING)
    return ProviderRefund(refund_id, status, failure_code=text(refund, "failure_reason"))


def text(source: JsonObject, name: str) -> str | None:
    """A non-empty string field, else None."""
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def reference(source: JsonObject, name: str = "payment_intent") -> str | None:
    """The id in a field that Stripe gives either as an id or as the expanded object."""
    value = source.get(name)
    return text(value, "id") if isinstance(value, Mapping) else text(source, name)


def carries(source: JsonObject, payment_id: str) -> bool:
    """Whether a session or intent was made for this payment of ours."""
    return payment_id in (source.get("client_reference_id"), _object(source, "metadata").get("payment_id"))


def _payment(
    status: PaymentStatus,
    captured: Money | None,
    intent: JsonObject,
    *,
    session_id: str | None,
    transaction_id: str | None,
) -> ProviderPayment:
    charge = _object(intent, "latest_charge")
    details = _object(charge, "payment_method_details")
    card = _object(details, "card")
    refunded = charge.get("amount_refunded")
    return ProviderPayment(
        status=status,
        session_id=session_id,
        transaction_id=transaction_id,
        captured=captured,
        refunded=_money(refunded, charge.get("currency")) if captured is not None and refunded else None,
        method=text(details, "type"),
        card_brand=text(card, "brand"),
        card_last4=text(card, "last4"),
        failure_code=None if captured is not None else _failure_code(intent),
    )


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


def _failure_code(intent: JsonObject) -> str | None:
    fault = _object(intent, "last_payment_error")
    return text(fault, "decline_code") or text(fault, "code") or text(fault, "type")


def _money(amount: object, currency: object) -> Money:
    try:
        return from_wire(amount, currency)
    except MoneyError:
        # Money arrived in an amount that we cannot hold: neither paid nor unpaid can be claimed.
        raise OutcomeUnknown("unreadable_answer", "amount or currency") from None


def _object(source: JsonObject, name: str) -> JsonObject:
    value = source.get(name)
    return value if isinstance(value, Mapping) else _NOTHING
