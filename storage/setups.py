"""Set-ups of payment methods."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import MethodSetup, ProviderAccount, ProviderHealth


async def insert_new(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Create the set-up unless its id exists. Returns whether this call created it."""
    statement = insert(MethodSetup).values(values).on_conflict_do_nothing().returning(MethodSetup.id)
    return (await session.execute(statement)).first() is not None


async def get(session: AsyncSession, workspace_id: UUID, setup_id: UUID) -> MethodSetup | None:
    """One set-up of one workspace."""
    query = select(MethodSetup).where(MethodSetup.id == setup_id, MethodSetup.workspace_id == workspace_id)
    return await session.scalar(query)


async def lock(session: AsyncSession, setup_id: UUID) -> MethodSetup:
    """The set-up under its row lock, held to the commit. Raises NoResultFound."""
    query = select(MethodSetup).where(MethodSetup.id == setup_id)
    return (await session.scalars(query.with_for_update().execution_options(populate_existing=True))).one()


async def load(
    session: AsyncSession, setup_id: UUID
) -> tuple[MethodSetup, ProviderAccount, ProviderHealth | None] | None:
    """A set-up with its account and the account's health."""
    query = (
        select(MethodSetup, ProviderAccount, ProviderHealth)
        .join(ProviderAccount, ProviderAccount.id == MethodSetup.provider_account_id)
        .outerjoin(ProviderHealth, ProviderHealth.provider_account_id == ProviderAccount.id)
        .where(MethodSetup.id == setup_id)
    )
    row = (await session.execute(query)).first()
    return None if row is None else (row[0], row[1], row[2])


async def of_names(
    session: AsyncSession, account: ProviderAccount, *, reference: UUID | None, session_ids: Sequence[str]
) -> UUID | None:
    """The set-up that an account's event names, by our reference or by the provider's session."""
    query = select(MethodSetup.id).where(MethodSetup.provider_account_id == account.id)
    if reference is not None:
        return await session.scalar(query.where(MethodSetup.id == reference))
    return await session.scalar(query.where(MethodSetup.session_id.in_(session_ids)).limit(1)) if session_ids else None


async def of_event(
    session: AsyncSession, account: ProviderAccount, *, reference: UUID | None, session_id: str | None
) -> MethodSetup | None:
    """The set-up that a provider's event is about, if this account may speak of it."""
    query = select(MethodSetup).where(MethodSetup.provider_account_id == account.id)
    if reference is not None:
        return await session.scalar(query.where(MethodSetup.id == reference))
    return None if session_id is None else await session.scalar(query.where(MethodSetup.session_id == session_id))


async def unstarted(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[MethodSetup]:
    """Set-ups that were accepted but whose workflow never began."""
    query = select(MethodSetup).where(MethodSetup.status == "created", MethodSetup.created_at < older_than)
    return (await session.scalars(query.order_by(MethodSetup.created_at).limit(limit))).all()
