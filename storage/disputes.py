"""Disputes on record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.dispute import FINAL_DISPUTE
from storage.models import Dispute, Payment
from storage.paging import newest_first


async def get(session: AsyncSession, dispute_id: UUID, workspace_id: UUID | None = None) -> Dispute | None:
    """One dispute; with a workspace, only if it is that workspace's."""
    query = select(Dispute).where(Dispute.id == dispute_id)
    return await session.scalar(query if workspace_id is None else query.where(Dispute.workspace_id == workspace_id))


async def of_payment(session: AsyncSession, payment_id: UUID) -> Sequence[Dispute]:
    """All disputes of one payment, oldest first; take the payment's lock before changing one."""
    query = select(Dispute).where(Dispute.payment_id == payment_id).order_by(Dispute.created_at, Dispute.id)
    return (await session.scalars(query)).all()


async def is_open_for(session: AsyncSession, subscription_id: UUID) -> bool:
    """Whether a bank has not decided yet about a payment of a subscription; an inquiry counts."""
    final = [state.value for state in FINAL_DISPUTE]
    query = select(Dispute.id).join(Payment, Payment.id == Dispute.payment_id)
    query = query.where(Payment.subscription_id == subscription_id, Dispute.status.not_in(final)).limit(1)
    return await session.scalar(query) is not None


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    status: str | None = None,
) -> Sequence[Dispute]:
    """Newest first."""
    query = select(Dispute).where(Dispute.workspace_id == workspace_id)
    if status is not None:
        query = query.where(Dispute.status == status)
    query = newest_first(query, Dispute, limit=limit, before=before)
    return (await session.scalars(query)).all()
