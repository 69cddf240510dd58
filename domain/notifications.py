"""Every notification that the order service can get: what it means, and an example of its data.

The description of the API and docs/notifications.md are made of this; a test compares it with what the code sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from domain.review import ReviewReason


@dataclass(frozen=True, slots=True)
class Notification:
    """What a type means, and an example of `data`. Amounts are strings in major units."""

    meaning: str
    data: Mapping[str, Any]


_PAYMENT_ID: Final = "736bceb7-640b-57b9-bccf-02bb69b2f788"
_INVOICE_ID: Final = "0b6f2a51-8f0c-5d0e-8d0a-6a4e0f6f3c11"
EXAMPLE_PROVIDER: Final = "stripe"
_AT: Final = "2026-11-21T16:52:53.686746+00:00"
_NEXT: Final = "2026-12-21T16:52:53.686746+00:00"


def _payment(status: str, previous: str, **more: Any) -> dict[str, Any]:
    return {
        "payment_id": _PAYMENT_ID,
        "order_id": "A-1001",
        "status": status,
        "previous_status": previous,
        "review_reason": None,
        "amount": "129.90",
        "payment_amount": "129.90",
        "refunded_total": "0.00",
        "currency": "ILS",
        "provider": EXAMPLE_PROVIDER,
        "provider_transaction_id": "pi_3PqYx2" if status not in ("pending", "expired", "canceled") else None,
    } | more


def _refund(status: str, **more: Any) -> dict[str, Any]:
    about = {"refund_id": "f7c2d7ba-43c7-54cb-94f0-3a1593680467", "amount": "29.90", "refunded_total": "29.90"}
    return _payment(status, status) | about | more


def _dispute(state: str, **more: Any) -> dict[str, Any]:
    return (
        _payment("paid", "paid")
        | {
            "amount": "129.90",
            "dispute_id": "5c3a7c1e-3a53-5a3e-9d6d-0d9f8f3a7b21",
            "dispute_status": state,
            "disputed_amount": "129.90",
            "disputed_currency": "ILS",
            "reason": "fraudulent",
            "credit_taken_back": "0.00",
            "evidence_due_at": "2026-12-01T23:59:59+00:00",
        }
        | more
    )


def _risk_alert(kind: str, **more: Any) -> dict[str, Any]:
    return (
        _payment("paid", "paid")
        | {
            "risk_alert_id": "3d2c1b0a-9f8e-5d7c-8b6a-5f4e3d2c1b0a",
            "kind": kind,
            "reason": "made_with_stolen_card",
            "closed_reason": None,
            "actionable": True,
            "decision": "told",
            "refund_id": None,
        }
        | more
    )


def _subscription(status: str, **more: Any) -> dict[str, Any]:
    return {
        "subscription_id": "018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79",
        "customer_id": "cust-77",
        "status": status,
        "period": 3,
        "current_period_start": _AT,
        "current_period_end": _NEXT,
        "cancel_at_period_end": False,
        "payment_id": None,
        "invoice_id": None,
    } | more


def _of_invoice(status: str, invoice: str, **more: Any) -> dict[str, Any]:
    about = {"invoice_id": _INVOICE_ID, "invoice_status": invoice, "amount": "129.90"}
    return _subscription(status) | about | {"credit_applied": "0.00", "currency": "ILS"} | more


def _payout(status: str, **more: Any) -> dict[str, Any]:
    return {
        "payout_id": "9a7b3c1d-5e2f-5a4b-8c6d-7e8f9a0b1c2d",
        "status": status,
        "lines": 12,
        "open_lines": 12 if status in ("prepared", "approved") else 0,
        "total": "1840.50",
        "currency": "ILS",
        "cut_off": _AT,
    } | more


def _setup(status: str, *, method: str | None, code: str | None) -> dict[str, Any]:
    return {
        "setup_id": "2c1b0a9f-8e7d-5c6b-9a4f-3e2d1c0b9a8f",
        "customer_id": "cust-77",
        "status": status,
        "payment_method_id": method,
        "code": code,
        "provider": EXAMPLE_PROVIDER,
    }


NOTIFICATIONS: Final[Mapping[str, Notification]] = {
    "payment.pending": Notification("the payer can pay now", _payment("pending", "created")),
    "payment.requires_action": Notification(
        "the payer's bank asks the payer something", _payment("requires_action", "pending")
    ),
    "payment.unknown": Notification(
        "the outcome is not known, or a person has to decide (`review_reason`)",
        _payment("unknown", "pending", review_reason=ReviewReason.AMOUNT_MISMATCH.value),
    ),
    "payment.paid": Notification(
        "the money is there: deliver", _payment("paid", "pending", receipt_number=1001, receipt_id=_INVOICE_ID)
    ),
    "payment.partially_refunded": Notification(
        "a part went back: `refunded_amount` by this refund, `refunded_total` so far",
        _payment(
            "partially_refunded",
            "paid",
            refund_id="f7c2d7ba-43c7-54cb-94f0-3a1593680467",
            refunded_amount="29.90",
            refunded_total="29.90",
        ),
    ),
    "payment.refunded": Notification(
        "all of it went back",
        _payment(
            "refunded",
            "partially_refunded",
            refund_id="f7c2d7ba-43c7-54cb-94f0-3a1593680467",
            refunded_amount="100.00",
            refunded_total="129.90",
        ),
    ),
    "payment.failed": Notification("it cannot be paid any more", _payment("failed", "pending")),
    "payment.expired": Notification("nobody paid in time", _payment("expired", "pending")),
    "payment.canceled": Notification("it was cancelled before anybody paid", _payment("canceled", "pending")),
    "payment.reviewed": Notification(
        "a person has decided on a payment that waited for it ([review.md](review.md))",
        _payment(
            "paid",
            "paid",
            action="accept",
            reference=None,
            under_way=False,
            reviewed_reason=ReviewReason.AMOUNT_MISMATCH.value,
        ),
    ),
    "refund.succeeded": Notification(
        "the provider has made a refund, or one that was made there is on record (`origin`)",
        _refund(
            "partially_refunded",
            refunded="29.90",
            commission_clawed_back="2.99",
            credit_taken_back="0.00",
            credit_note=7,
            origin="merchant",
        ),
    ),
    "refund.failed": Notification(
        "a refund will not happen; it can be asked for again",
        _refund("paid", refunded_total="0.00", code="charge_disputed"),
    ),
    "refund.returned": Notification(
        "a refund that had succeeded came back, and is owed to the payer",
        _refund(
            "partially_refunded", code="expired_or_canceled_card", review_reason=ReviewReason.REFUND_RETURNED.value
        ),
    ),
    "refund.paid_again": Notification(
        "a refund that had come back was made again at the provider", _refund("partially_refunded", code=None)
    ),
    "refund.settled_outside": Notification(
        "a refund that had come back was paid by other means",
        _refund("partially_refunded", code=None, outside_reference="wire 4711"),
    ),
    "dispute.inquiry": Notification("the payer's bank asks; no money has moved", _dispute("inquiry")),
    "dispute.needs_response": Notification(
        "the bank has taken the money and wants evidence", _dispute("needs_response")
    ),
    "dispute.under_review": Notification("the bank has the evidence", _dispute("under_review")),
    "dispute.won": Notification("the money is back", _dispute("won", evidence_due_at=None)),
    "dispute.lost": Notification("the money is gone, and the referrer's share with it", _dispute("lost")),
    "dispute.closed": Notification("it ended without a decision, as if it was won", _dispute("closed")),
    "dispute.evidence_due": Notification(
        "a reminder: evidence is due in three days, and in one", _dispute("needs_response")
    ),
    "risk_alert.raised": Notification(
        "the payer's bank reports fraud (`early_fraud_warning`), or the provider reviews the payment (`review`); "
        "`decision` says what was done",
        _risk_alert("early_fraud_warning"),
    ),
    "risk_alert.closed": Notification(
        "somebody has decided on the provider's review: `closed_reason` is the provider's word",
        _risk_alert("review", reason="rule", closed_reason="approved", actionable=None),
    ),
    "credit.overdrawn": Notification(
        "credit of a payment was used, and then its money went back; a person decides",
        _payment(
            "refunded",
            "refunded",
            amount="200.00",
            refunded_total="129.90",
            customer_id="cust-77",
            review_reason=ReviewReason.CREDIT_OVERDRAWN.value,
        ),
    ),
    "credit.written_off": Notification(
        "you bear the loss of credit that was used before its money went back",
        _payment(
            "refunded",
            "refunded",
            amount="200.00",
            refunded_total="129.90",
            customer_id="cust-77",
            reason="the customer has left",
        ),
    ),
    "credit.withdrawn": Notification(
        "credit was taken from a customer, and nobody was paid",
        {
            "customer_id": "cust-77",
            "amount": "50.00",
            "currency": "ILS",
            "reason": "granted by mistake",
            "sources": [{"payment_id": _PAYMENT_ID, "amount": "50.00"}],
        },
    ),
    "subscription.activated": Notification(
        "the first payment is made: it runs", _of_invoice("active", "paid", payment_id=_PAYMENT_ID, period=1)
    ),
    "subscription.renewed": Notification(
        "another period is paid", _of_invoice("active", "paid", payment_id=_PAYMENT_ID)
    ),
    "subscription.recovered": Notification(
        "what was past due is paid", _of_invoice("active", "paid", payment_id=_PAYMENT_ID)
    ),
    "subscription.change_paid": Notification(
        "the invoice of a change of plan is paid", _of_invoice("active", "paid", payment_id=_PAYMENT_ID)
    ),
    "subscription.payment_failed": Notification(
        "a charge was declined; `next_retry_at` is null where another method is needed",
        _of_invoice(
            "past_due",
            "open",
            payment_id=_PAYMENT_ID,
            code="insufficient_funds",
            next_retry_at="2026-11-23T16:52:53.686746+00:00",
            grace_until="2026-12-12T16:52:53.686746+00:00",
            needs="nothing",
        ),
    ),
    "subscription.action_required": Notification(
        "the payer has to confirm to the bank, or pay by the link",
        _of_invoice(
            "past_due",
            "open",
            payment_id=_PAYMENT_ID,
            url="https://pay.example/c/736bceb7",
            grace_until="2026-12-12T16:52:53.686746+00:00",
        ),
    ),
    "subscription.unpaid": Notification(
        "the patience with an invoice is over, and the subscription is kept",
        _of_invoice("past_due", "uncollectible", code="insufficient_funds"),
    ),
    "subscription.trial_ending": Notification(
        "the trial ends in three days", _subscription("trialing", trial_end=_NEXT, has_method=True)
    ),
    "subscription.plan_changed": Notification(
        "another plan or quantity holds from now on",
        _subscription("active", plan="clinic-yearly", quantity=2, credit="64.95", charge="129.90"),
    ),
    "subscription.cancel_scheduled": Notification(
        "it ends with the period", _subscription("active", cancel_at_period_end=True, ends_at=_NEXT)
    ),
    "subscription.paused": Notification(
        "nothing is charged until it is resumed", _subscription("paused", resume_at=None)
    ),
    "subscription.resumed": Notification(
        "it goes on after a pause, or after a cancel to the period's end", _subscription("active")
    ),
    "subscription.charging_paused": Notification(
        "a bank disputes one of its payments: nothing is charged while it decides",
        _subscription("active", why="payment_disputed"),
    ),
    "subscription.charging_resumed": Notification(
        "the bank has decided, and charging goes on", _subscription("active")
    ),
    "subscription.cancelled": Notification(
        "it has ended by a decision",
        _subscription("cancelled", reason="cancelled by the merchant", why="cancelled", code=None),
    ),
    "subscription.expired": Notification(
        "it has ended because nothing was paid",
        _subscription("expired", reason="not paid in time", why="unpaid", code="stolen_card"),
    ),
    "payout.prepared": Notification("a batch has its lines and waits for an approval", _payout("prepared")),
    "payout.empty": Notification("nobody had enough to be paid", _payout("empty", lines=0, total="0.00")),
    "payout.approved": Notification("the file for the bank can be fetched", _payout("approved")),
    "payout.rejected": Notification("the batch was given up", _payout("rejected")),
    "payout.closed": Notification("every line has a result", _payout("closed")),
    "payout.awaiting_approval": Notification("a reminder: a batch waits for an approval", _payout("prepared")),
    "payout.awaiting_results": Notification("a reminder: lines of a batch wait for results", _payout("approved")),
    "payout.line_returned": Notification(
        "the bank brought back a line that was paid; `amount` is the line's",
        _payout("closed", line_id="1f2e3d4c-5b6a-5798-8a9b-0c1d2e3f4a5b", amount="120.00"),
    ),
    "payment_method_setup.succeeded": Notification(
        "a payment method is saved", _setup("succeeded", method="6b5a4c3d-2e1f-5a0b-9c8d-7e6f5a4b3c2d", code=None)
    ),
    "payment_method_setup.failed": Notification(
        "the method could not be saved", _setup("failed", method=None, code="card_declined")
    ),
    "payment_method_setup.expired": Notification(
        "nobody entered a method in time", _setup("expired", method=None, code=None)
    ),
}


def example_of(kind: str) -> dict[str, Any]:
    """A notification's whole body."""
    return {"type": kind, "timestamp": _AT, "data": dict(NOTIFICATIONS[kind].data)}
