"""Which review reason a payment shows: taken away, or replaced, once what it told of is decided."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from activities.unbooked import end_given_back
from domain.money import Money
from domain.payment import SurplusStatus
from domain.refund import RefundState
from domain.review import OF_OVERPAYMENTS, UNBOOKED, ReviewReason
from storage import credit, ledger, payments, refunds, surplus
from storage.models import Payment, SurplusCapture, Workspace

PAID_TWICE_ENDED = "refund_paid_twice_ended"
_OF_REFUNDS = (*(f"refund_{turn}" for turn in ("returned", "paid_again", "settled_outside")), PAID_TWICE_ENDED)
_ENDED_BY_A_PERSON = (ReviewReason.TRANSACTION_TAKEN, ReviewReason.REFUND_EXCEEDS_PAYMENT)
"""Only a person can say that these are over."""


def payer_credit(payment: Payment) -> str:
    """The ledger account of what is owed to a payer; in debit, of what the payer owes."""
    return f"payer_credit:{payment.id}"


async def owed_by_payer(session: AsyncSession, payment: Payment) -> Money:
    """What a payer has had twice; overpayments that are proposed or kept are another matter."""
    await session.flush()
    return await ledger.sum_of(session, payment, account=payer_credit(payment), kinds=_OF_REFUNDS)


async def refresh(session: AsyncSession, payment: Payment, workspace: Workspace, *, at: datetime, actor: str) -> None:
    """Once something was decided about a locked payment: take its reason away, or name the next that is left.

    A payment has one reason on show; a later one may have hidden an earlier one.
    """
    reason = None if payment.flag is None else ReviewReason(payment.flag)
    rows = await surplus.of_payment(session, payment.id)
    if reason in UNBOOKED:
        _end_unbooked(session, payment, workspace, rows, at=at, actor=actor)
        return
    if reason in _ENDED_BY_A_PERSON:
        return
    left = await _outstanding(session, payment, rows)
    if reason is left:
        return
    if reason is not None:
        payments.clear_flag(session, payment, reason, actor=actor)
    if left is not None:
        payments.set_flag(session, payment, left, details={})


def _end_unbooked(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    rows: Sequence[SurplusCapture],
    *,
    at: datetime,
    actor: str,
) -> None:
    """All that was not booked is with the payer again: the payment has ended."""
    mine = [row for row in rows if row.reason in UNBOOKED]
    back = (SurplusStatus.REFUNDED, SurplusStatus.SETTLED_OUTSIDE)
    if not mine or any(row.status not in back for row in mine):
        return
    reason, amount = ReviewReason(mine[0].reason), sum((row.money for row in mine[1:]), mine[0].money)
    end_given_back(session, payment, workspace, amount, reason=reason, at=at, actor=actor)


async def _outstanding(session: AsyncSession, payment: Payment, rows: Sequence[SurplusCapture]) -> ReviewReason | None:
    open_ones = {*surplus.UNDECIDED, SurplusStatus.REFUNDING}
    for row in rows:
        if row.reason in OF_OVERPAYMENTS and row.status in open_ones:
            return ReviewReason(row.reason)
    returned = await refunds.of_payment(session, payment.id)
    if any(RefundState(row.status) is RefundState.RETURNED for row in returned):
        return ReviewReason.REFUND_RETURNED
    if await refunds.unconfirmed(session, payment.id):
        return ReviewReason.REFUND_UNCONFIRMED
    owed = await owed_by_payer(session, payment)
    if owed.minor > 0:
        return ReviewReason.REFUND_PAID_TWICE
    return ReviewReason.CREDIT_OVERDRAWN if (await credit.source_of(session, payment)).overdrawn.minor else None
