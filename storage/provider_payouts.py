"""Payouts of providers to merchants, as their events tell of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.provider_payout import STRENGTH, PayoutSnapshot, ProviderPayoutStatus
from storage import audit
from storage.models import ProviderAccount, ProviderPayout
from storage.paging import newest_first


async def record(session: AsyncSession, account: ProviderAccount, seen: PayoutSnapshot, *, at: datetime) -> bool:
    """Keep what an event tells of a payout. Returns whether it is news.

    Events have no order: a stronger status wins, and of two with the same the one that the provider made later. `at` is
    when it happened there.
    """
    payout_id = uuid5(account.id, f"payout:{seen.payout_id}")
    values = {
        "status": seen.status.value,
        "amount_minor": seen.amount.minor,
        "currency": seen.amount.currency,
        "arrival_date": seen.arrival_date,
        "failure_code": None if seen.failure_code is None else seen.failure_code[:100],
        "told_at": at,
    }
    own = {"id": payout_id, "workspace_id": account.workspace_id, "provider_account_id": account.id}
    new = insert(ProviderPayout).values(**own, provider_payout_id=seen.payout_id[:255], **values)
    made = await session.scalar(new.on_conflict_do_nothing().returning(ProviderPayout.id))
    if made is None:
        query = select(ProviderPayout).where(ProviderPayout.id == payout_id).with_for_update()
        row = (await session.scalars(query.execution_options(populate_existing=True))).one()
        known = (STRENGTH[ProviderPayoutStatus(row.status)], row.told_at)
        if (STRENGTH[seen.status], at) <= known:
            return False
        changed = row.status != seen.status
        for name, value in values.items():
            setattr(row, name, value)
        row.updated_at = datetime.now(at.tzinfo)
        if not changed:
            return True
    audit.record(
        session,
        account.workspace_id,
        actor=f"provider:{account.provider}",
        action=f"provider_payout.{seen.status.value}",
        subject=("provider_account", account.id),
        details={
            "payout": seen.payout_id,
            "amount_minor": seen.amount.minor,
            "currency": seen.amount.currency,
            "failure_code": seen.failure_code,
        },
    )
    return True


async def page(
    session: AsyncSession,
    account_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    status: ProviderPayoutStatus | None = None,
) -> Sequence[ProviderPayout]:
    """Of one account, the newest first."""
    query = select(ProviderPayout).where(ProviderPayout.provider_account_id == account_id)
    if status is not None:
        query = query.where(ProviderPayout.status == status.value)
    query = newest_first(query, ProviderPayout, limit=limit, before=before)
    return (await session.scalars(query)).all()
