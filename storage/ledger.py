"""Ledger entries: booked in the settlement's transaction, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import LedgerEntry as Entry
from domain.money import Money
from storage.models import LedgerEntry, Payment


def book(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    payment_id: UUID | None,
    movement_id: UUID,
    kind: str,
    entries: Iterable[Entry],
) -> None:
    """Add one movement. The database refuses at commit what does not balance, and a movement booked twice."""
    session.add_all(
        LedgerEntry(
            workspace_id=workspace_id,
            payment_id=payment_id,
            movement_id=movement_id,
            kind=kind,
            account=entry.account,
            amount=entry.amount.to_decimal(),
            currency=entry.amount.currency,
        )
        for entry in entries
    )


async def balances(session: AsyncSession, workspace_id: UUID) -> dict[str, Money]:
    """Every account's balance. All of them sum to zero."""
    query = (
        select(LedgerEntry.account, LedgerEntry.currency, func.sum(LedgerEntry.amount))
        .where(LedgerEntry.workspace_id == workspace_id)
        .group_by(LedgerEntry.account, LedgerEntry.currency)
    )
    rows = (await session.execute(query)).all()
    return {account: Money.from_decimal(amount, currency) for account, currency, amount in rows}


async def sum_of(session: AsyncSession, payment: Payment, *, account: str, kinds: Sequence[str]) -> Money:
    """What movements of these kinds of a payment come to on an account; debit is positive."""
    query = select(func.coalesce(func.sum(LedgerEntry.amount), 0)).where(
        LedgerEntry.payment_id == payment.id,
        LedgerEntry.account == account,
        LedgerEntry.kind.in_(kinds),
        LedgerEntry.currency == payment.currency,
    )
    return Money.from_decimal((await session.execute(query)).scalar_one(), payment.currency)


async def count_movements(session: AsyncSession, payment_id: UUID, *, kind: str) -> int:
    """How many movements of a kind a payment has, with those of this transaction; take its lock first."""
    query = select(LedgerEntry.movement_id).where(LedgerEntry.payment_id == payment_id, LedgerEntry.kind == kind)
    mine = {
        entry.movement_id
        for entry in session.new
        if isinstance(entry, LedgerEntry) and (entry.payment_id, entry.kind) == (payment_id, kind)
    }
    return len(mine.union(await session.scalars(query.distinct())))


async def entries_of(session: AsyncSession, payment_id: UUID) -> Sequence[LedgerEntry]:
    """All entries of one payment."""
    return (
        await session.scalars(select(LedgerEntry).where(LedgerEntry.payment_id == payment_id).order_by(LedgerEntry.id))
    ).all()


async def owed(session: AsyncSession, workspace_id: UUID, account: str, currency: str, *, before: datetime) -> Money:
    """What an account was in credit by before a moment; negative where it was in debit."""
    query = select(func.coalesce(func.sum(LedgerEntry.amount), 0)).where(
        LedgerEntry.workspace_id == workspace_id,
        LedgerEntry.account == account,
        LedgerEntry.currency == currency,
        LedgerEntry.created_at < before,
    )
    return -Money.from_decimal((await session.execute(query)).scalar_one(), currency)


async def credits_by_kind(
    session: AsyncSession, workspace_id: UUID, account: str, currency: str, *, since: datetime, before: datetime
) -> dict[str, Money]:
    """What each kind of movement added to an account's credit within a period."""
    query = (
        select(LedgerEntry.kind, func.sum(LedgerEntry.amount))
        .where(
            LedgerEntry.workspace_id == workspace_id,
            LedgerEntry.account == account,
            LedgerEntry.currency == currency,
            LedgerEntry.created_at >= since,
            LedgerEntry.created_at < before,
        )
        .group_by(LedgerEntry.kind)
    )
    return {kind: -Money.from_decimal(amount, currency) for kind, amount in (await session.execute(query)).all()}


async def entries_on(
    session: AsyncSession,
    workspace_id: UUID,
    account: str,
    currency: str,
    *,
    since: datetime,
    before: datetime,
    limit: int,
) -> Sequence[LedgerEntry]:
    """An account's entries within a period, oldest first."""
    query = select(LedgerEntry).where(
        LedgerEntry.workspace_id == workspace_id,
        LedgerEntry.account == account,
        LedgerEntry.currency == currency,
        LedgerEntry.created_at >= since,
        LedgerEntry.created_at < before,
    )
    return (await session.scalars(query.order_by(LedgerEntry.id).limit(limit))).all()
