"""Warnings of providers about payments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.risk import RiskAlertKind
from storage.models import RiskAlert
from storage.paging import newest_first


async def of_payment(session: AsyncSession, payment_id: UUID) -> Sequence[RiskAlert]:
    """All of one payment, oldest first; take the payment's lock before adding or changing one."""
    query = select(RiskAlert).where(RiskAlert.payment_id == payment_id).order_by(RiskAlert.created_at, RiskAlert.id)
    return (await session.scalars(query)).all()


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    payment_id: UUID | None = None,
    kind: RiskAlertKind | None = None,
) -> Sequence[RiskAlert]:
    """Newest first."""
    query = select(RiskAlert).where(RiskAlert.workspace_id == workspace_id)
    if payment_id is not None:
        query = query.where(RiskAlert.payment_id == payment_id)
    if kind is not None:
        query = query.where(RiskAlert.kind == kind.value)
    query = newest_first(query, RiskAlert, limit=limit, before=before)
    return (await session.scalars(query)).all()
