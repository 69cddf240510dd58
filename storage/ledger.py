"""Ledger entries: booked in the settlement's transaction, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import LedgerEntry as Entry
from domain.money import Money
from storage.models import LedgerEntry


def book(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    payment_id: UUID,
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


async def count_movements(session: AsyncSession, payment_id: UUID, *, kind: str) -> int:
    """How many movements of a kind a payment has; take its lock first."""
    query = select(func.count(LedgerEntry.movement_id.distinct())).where(
        LedgerEntry.payment_id == payment_id, LedgerEntry.kind == kind
    )
    return int(await session.scalar(query) or 0)


async def entries_of(session: AsyncSession, payment_id: UUID) -> Sequence[LedgerEntry]:
    """All entries of one payment."""
    return (
        await session.scalars(select(LedgerEntry).where(LedgerEntry.payment_id == payment_id).order_by(LedgerEntry.id))
    ).all()
