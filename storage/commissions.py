"""Commissions: at most one an order, their report, and marking them paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commission import CommissionStatus
from domain.ledger import payout_entries
from domain.money import Money
from storage import audit, ledger
from storage.models import Commission


class CommissionNotFound(Exception):
    """No such commission in this workspace."""


class CommissionClawedBack(Exception):
    """Refunds have taken all of it."""


class CommissionAlreadyPaid(Exception):
    """It was marked paid before, under another reference."""


async def insert_once(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Accrue unless the order has earned one already. Returns whether this call accrued it."""
    statement = insert(Commission).values(values).on_conflict_do_nothing().returning(Commission.id)
    return (await session.execute(statement)).first() is not None


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    referrer_id: str | None = None,
    status: str | None = None,
) -> Sequence[Commission]:
    """Newest first."""
    query = select(Commission).where(Commission.workspace_id == workspace_id)
    if referrer_id is not None:
        query = query.where(Commission.referrer_id == referrer_id)
    if status is not None:
        query = query.where(Commission.status == status)
    if before is not None:
        query = query.where(tuple_(Commission.created_at, Commission.id) < before)
    return (
        await session.scalars(query.order_by(Commission.created_at.desc(), Commission.id.desc()).limit(limit))
    ).all()


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
    """The commission that a payment earned, under its row lock."""
    return await session.scalar(select(Commission).where(Commission.payment_id == payment_id).with_for_update())


async def mark_paid(
    session: AsyncSession, workspace_id: UUID, commission_id: UUID, *, reference: str | None, actor: str, at: datetime
) -> Commission:
    """Mark paid out, once, and book the payout. A repeat with the same reference changes nothing.

    What refunds have taken of it is not paid. An empty reference is none. Raises CommissionNotFound,
    CommissionAlreadyPaid, CommissionClawedBack.
    """
    reference = (reference or "").strip() or None
    query = select(Commission).where(Commission.id == commission_id, Commission.workspace_id == workspace_id)
    commission = await session.scalar(query.with_for_update())
    if commission is None:
        raise CommissionNotFound(str(commission_id))
    if commission.status == CommissionStatus.PAID:
        if commission.payout_reference == reference:
            return commission
        raise CommissionAlreadyPaid(str(commission_id))
    if commission.status == CommissionStatus.CLAWED_BACK:
        raise CommissionClawedBack(str(commission_id))
    commission.status = CommissionStatus.PAID.value
    commission.paid_at = at
    commission.payout_reference = reference
    amount = Money.from_decimal(commission.amount - commission.clawed_back, commission.currency)
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
