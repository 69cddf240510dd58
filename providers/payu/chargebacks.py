"""Chargebacks at PayU: what an order shows of them, and the hint that PayU's disputes webhook is. Pure functions.

An order shows a chargeback by its status and by a transaction of that type. It does not show how the bank decides: the
chargeback stands, or it is gone. The webhook tells more, but nobody signs it, so that it is a reason to query only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from domain.dispute import DisputeState
from providers.base import EventKind, OutcomeUnknown, ProviderDispute, ProviderEvent, Rejection, WebhookRejected
from providers.payu.objects import CHARGEBACK, FAILED_STATES, Order, Transaction
from providers.payu.requests import COLOMBIA
from providers.reading import own_reference

EVIDENCE_DAYS = 3
"""Working days, Monday to Friday. Colombia's holidays are not known here: with one between, the true date is later."""
STANDS_FOR_GOOD = timedelta(days=120)
"""A chargeback that stands for so long is lost: no network lets a decision wait longer."""
HINTS = frozenset(
    {
        "NOTIFIED",
        "ON_REVIEW",
        "ON_PAYMENT_NETWORK_REVIEW",
        "DOCUMENTS_NOT_PRESENTED",
        "EXPIRED",
        "LOST",
        "REFUNDED",
        "WON",
    }
)
"""States of a dispute as the webhook names them."""
_SATURDAY = 5


def chargebacks_of(
    orders: Sequence[Order], transaction_id: str, known: Sequence[str], now: datetime
) -> list[ProviderDispute]:
    """The chargeback of a captured transaction; one that is known and not shown any more is won.

    Raises OutcomeUnknown where no order shows the transaction.
    """
    for order in orders:
        for paid in order.captures():
            if paid.id == transaction_id:
                return _of(order, paid, known, now)
    raise OutcomeUnknown("order_not_visible", "the queries do not show the captured payment")


def _of(order: Order, paid: Transaction, known: Sequence[str], now: datetime) -> list[ProviderDispute]:
    name, taken = f"chargeback:{paid.id}", order.chargebacks_of(paid.id)
    standing = [one for one in taken if one.state not in FAILED_STATES]
    amount = order.paid_by(paid)
    if not standing and not (order.status == CHARGEBACK and not taken):
        return [ProviderDispute(name, DisputeState.WON, amount)] if taken or name in known else []
    began = min((one.at for one in standing if one.at is not None), default=None)
    if standing:
        amount = order.refunded_by(standing[0], amount) or amount
    due = None if began is None else working_days_after(began, EVIDENCE_DAYS)
    state = DisputeState.NEEDS_RESPONSE
    if began is not None and due is not None and now >= due:
        state = DisputeState.LOST if now - began >= STANDS_FOR_GOOD else DisputeState.UNDER_REVIEW
    return [ProviderDispute(name, state, amount, evidence_due_at=due)]


def working_days_after(moment: datetime, days: int) -> datetime:
    """The same time of day so many working days later, by Colombia's calendar without its holidays."""
    there = moment.astimezone(COLOMBIA)
    while days:
        there += timedelta(days=1)
        days -= there.weekday() < _SATURDAY
    return there.astimezone(moment.tzinfo)


def is_hint(fields: Mapping[str, object]) -> bool:
    """Whether a body is the disputes webhook's: an object without a signature."""
    state = fields.get("state")
    named = isinstance(state, str) and state in HINTS and "transactionId" in fields and "orderId" in fields
    return named and "sign" not in fields


def read_hint(fields: Mapping[str, object]) -> ProviderEvent:
    """The hint as an event about the payment of our reference in it. Raises WebhookRejected.

    Nothing else in it is taken over. Its id has the reference and the state alone, so that forged ones are few.
    """
    named = fields.get("reference")
    reference = own_reference(named) if isinstance(named, str) else None
    if reference is None:
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "unsigned, and about no payment of ours")
    state = str(fields["state"])
    return ProviderEvent(
        event_id=f"dispute:{reference}:{state}",
        type=f"dispute.{state.lower()}",
        kind=EventKind.DISPUTE,
        reference=reference,
        unsigned=True,
    )
