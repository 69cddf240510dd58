"""Commissions: at most one an order, their report, and marking them paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, case, exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commission import CommissionState, CommissionStatus, Review, claw_back
from domain.dispute import FINAL_DISPUTE
from domain.ledger import commission_rejected_entries, payout_entries
from domain.money import Money
from domain.payout import ItemStatus
from storage import audit, ledger
from storage.models import Commission, Dispute, Payment, PayoutItem, Referrer
from storage.paging import newest_first


class CommissionNotFound(Exception):
    """No such commission in this workspace."""


class CommissionClawedBack(Exception):
    """Refunds have taken all of it."""


class CommissionAlreadyPaid(Exception):
    """It was marked paid before, under another reference."""


class CommissionHeld(Exception):
    """A review or a dispute is undecided, or the referrer is suspended."""


class CommissionInPayout(Exception):
    """An unfinished batch has it."""


class CommissionRejected(Exception):
    """A review has refused it."""


class NotUnderReview(Exception):
    """Nothing to decide: no guard has held it, or it was decided otherwise before."""


Listed = tuple[Commission, CommissionState]


async def insert_once(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Accrue unless the order has earned one already. Returns whether this call accrued it."""
    statement = insert(Commission).values(values).on_conflict_do_nothing().returning(Commission.id)
    return (await session.execute(statement)).first() is not None


def _disputed() -> ColumnElement[bool]:
    undecided = Dispute.status.not_in([state.value for state in FINAL_DISPUTE])
    return exists().where(Dispute.payment_id == Commission.payment_id, undecided)


def _suspended() -> ColumnElement[bool]:
    return exists().where(
        Referrer.workspace_id == Commission.workspace_id,
        Referrer.id == Commission.referrer_id,
        Referrer.status != "active",
    )


def _held() -> ColumnElement[bool]:
    return (func.coalesce(Commission.review, "") == Review.PENDING.value) | _disputed() | _suspended()


def _in_payout() -> ColumnElement[bool]:
    return exists().where(
        PayoutItem.commission_id == Commission.id,
        PayoutItem.status != ItemStatus.RELEASED.value,  # what the index is of
        PayoutItem.status.in_([ItemStatus.RESERVED.value, ItemStatus.SENT.value]),
    )


def state_at(at: datetime, *, whatever_batch: bool = False) -> ColumnElement[str]:
    """The one rule of where a commission stands, from the rows alone: no timer moves it.

    The holding period is judged at `at`, all else as it is now. `whatever_batch` looks past an unfinished batch.
    """
    accrued = Commission.status == CommissionStatus.ACCRUED.value
    in_payout = [] if whatever_batch else [(_in_payout(), literal(CommissionState.IN_PAYOUT.value))]
    return case(
        *in_payout,
        (~accrued, Commission.status),
        (_held(), literal(CommissionState.HELD.value)),
        (Commission.vests_at > at, literal(CommissionState.PENDING.value)),
        else_=literal(CommissionState.PAYABLE.value),
    )


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    at: datetime,
    before: tuple[datetime, UUID] | None = None,
    referrer_id: str | None = None,
    status: str | None = None,
    state: str | None = None,
) -> Sequence[Listed]:
    """Newest first, each with where it stands at `at`."""
    shown = state_at(at)
    query = select(Commission, shown).where(Commission.workspace_id == workspace_id)
    if referrer_id is not None:
        query = query.where(Commission.referrer_id == referrer_id)
    if status is not None:
        query = query.where(Commission.status == status)
    if state is not None:
        query = query.where(shown == state)
    query = newest_first(query, Commission, limit=limit, before=before)
    rows = await session.execute(query)
    return [(row, CommissionState(found)) for row, found in rows.all()]


async def get(session: AsyncSession, workspace_id: UUID, commission_id: UUID, *, at: datetime) -> Listed:
    """One commission and where it stands. Raises CommissionNotFound."""
    query = select(Commission, state_at(at)).where(
        Commission.id == commission_id, Commission.workspace_id == workspace_id
    )
    found = (await session.execute(query)).first()
    if found is None:
        raise CommissionNotFound(str(commission_id))
    return found[0], CommissionState(found[1])


@dataclass(frozen=True, slots=True)
class ReferrerTotal:
    """One line of a referrer's report."""

    status: str
    count: int
    amount: Money
    """What is left of it after claw-backs."""
    clawed_back: Money
    orders_total: Money


async def totals(session: AsyncSession, workspace_id: UUID, referrer_id: str | None = None) -> list[ReferrerTotal]:
    """Counts and sums by status and currency."""
    query = (
        select(
            Commission.status,
            Commission.currency,
            func.count(),
            func.sum(Commission.amount - Commission.clawed_back),
            func.sum(Commission.clawed_back),
            func.sum(Commission.base_amount),
        )
        .where(Commission.workspace_id == workspace_id)
        .group_by(Commission.status, Commission.currency)
        .order_by(Commission.status)
    )
    if referrer_id is not None:
        query = query.where(Commission.referrer_id == referrer_id)
    return [
        ReferrerTotal(status, count, *(Money.from_decimal(value, currency) for value in (amount, clawed_back, base)))
        for status, currency, count, amount, clawed_back, base in (await session.execute(query)).all()
    ]


async def of_payment(session: AsyncSession, payment_id: UUID) -> Commission | None:
    """The commission that a payment earned."""
    return await session.scalar(select(Commission).where(Commission.payment_id == payment_id))


async def lock_of_payment(session: AsyncSession, payment_id: UUID) -> Commission | None:
    """The commission that a payment earned, under its row lock.

    May be called again in a transaction that has changed it: it comes as the session has it.
    """
    return await session.scalar(select(Commission).where(Commission.payment_id == payment_id).with_for_update())


async def mark_paid(
    session: AsyncSession, workspace_id: UUID, commission_id: UUID, *, reference: str | None, actor: str, at: datetime
) -> Commission:
    """Mark paid out, once, and book the payout. A repeat with the same reference changes nothing.

    What refunds have taken of it is not paid. An empty reference is none. A person may pay before the holding period
    is over, but not what is held. Raises CommissionNotFound, CommissionAlreadyPaid, CommissionClawedBack,
    CommissionRejected, CommissionHeld, CommissionInPayout.
    """
    reference = (reference or "").strip() or None
    commission = await _locked(session, workspace_id, commission_id)
    if commission.status == CommissionStatus.PAID:
        if commission.payout_reference == reference:
            return commission
        raise CommissionAlreadyPaid(str(commission_id))
    _, state = await get(session, workspace_id, commission_id, at=at)  # a statement of its own: it sees what is new
    refused = _REFUSED.get(state)
    if refused is not None:
        raise refused(str(commission_id))
    commission.status = CommissionStatus.PAID.value
    commission.paid_at = at
    commission.payout_reference = reference
    amount = Money.from_decimal(commission.amount - commission.clawed_back, commission.currency)
    session.add(
        PayoutItem(commission_id=commission_id, amount=amount.to_decimal(), status=ItemStatus.PAID.value),
    )
    ledger.book(
        session,
        workspace_id=workspace_id,
        payment_id=commission.payment_id,
        movement_id=uuid5(commission_id, "payout"),
        kind="commission_payout",
        entries=payout_entries(amount=amount, referrer=commission.referrer_id),
    )
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action="commission.paid",
        subject=("commission", commission_id),
        details={"amount": str(amount), "reference": reference},
    )
    return commission


_REFUSED: dict[CommissionState, type[Exception]] = {
    CommissionState.CLAWED_BACK: CommissionClawedBack,
    CommissionState.REJECTED: CommissionRejected,
    CommissionState.HELD: CommissionHeld,
    CommissionState.IN_PAYOUT: CommissionInPayout,
    CommissionState.PAID: CommissionAlreadyPaid,
}


async def review(
    session: AsyncSession,
    workspace_id: UUID,
    commission_id: UUID,
    *,
    approve: bool,
    reason: str | None,
    actor: str,
    at: datetime,
) -> Commission:
    """Decide on a commission that a guard holds. A repeat of the same decision changes nothing.

    Approved, it vests like any other. Rejected, what is left of it is owed to nobody: the accrual is taken back.
    Raises CommissionNotFound, NotUnderReview.
    """
    commission = await _locked(session, workspace_id, commission_id)
    wanted = Review.APPROVED if approve else Review.REJECTED
    if commission.review == wanted.value:
        return commission
    if commission.review != Review.PENDING.value:
        raise NotUnderReview(str(commission_id))
    commission.review, commission.review_reason = wanted.value, reason
    commission.reviewed_by, commission.reviewed_at = actor, at
    left = Money.from_decimal(commission.amount - commission.clawed_back, commission.currency)
    if not approve and commission.status == CommissionStatus.ACCRUED:
        commission.status, commission.clawed_back = CommissionStatus.REJECTED.value, commission.amount
        ledger.book(
            session,
            workspace_id=workspace_id,
            payment_id=commission.payment_id,
            movement_id=uuid5(commission_id, "rejected"),
            kind="commission_rejected",
            entries=commission_rejected_entries(left, referrer=commission.referrer_id),
        )
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action=f"commission.review_{wanted.value}",
        subject=("commission", commission_id),
        details={"rules": list(commission.held_by), "reason": reason, "amount": str(left)},
    )
    return commission


async def _locked(session: AsyncSession, workspace_id: UUID, commission_id: UUID) -> Commission:
    query = select(Commission).where(Commission.id == commission_id, Commission.workspace_id == workspace_id)
    commission = await session.scalar(query.with_for_update().execution_options(populate_existing=True))
    if commission is None:
        raise CommissionNotFound(str(commission_id))
    return commission


def take_back(commission: Commission, payment: Payment) -> Money:
    """Bring a locked commission in step with what has left of its locked payment. Returns what is clawed back now.

    Negative where money came back (a lost dispute that was won after all). One that was rejected has nothing to give.
    """
    if commission.status == CommissionStatus.REJECTED:
        return Money.zero(commission.currency)
    back = claw_back(
        Money.from_decimal(commission.amount, commission.currency),
        gone=Money.from_decimal(payment.refunded + payment.dispute_lost, payment.currency),
        of=payment.money,
        taken=Money.from_decimal(commission.clawed_back, commission.currency),
    )
    commission.clawed_back = commission.clawed_back + back.to_decimal()
    if commission.status == CommissionStatus.ACCRUED and commission.clawed_back == commission.amount:
        commission.status = CommissionStatus.CLAWED_BACK.value
    elif commission.status == CommissionStatus.CLAWED_BACK and commission.clawed_back < commission.amount:
        commission.status = CommissionStatus.ACCRUED.value
    return back
