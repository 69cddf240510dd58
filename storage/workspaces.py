"""Workspaces, their provider accounts and API keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.vat import DatedRate, rate_on
from storage.models import ApiKey, ProviderAccount, Workspace


def hash_key(key: str) -> bytes:
    """What is stored of an API key. Keys are long and random, so one round of SHA-256 is enough."""
    return hashlib.sha256(key.encode()).digest()


async def by_slug(session: AsyncSession, slug: str) -> Workspace | None:
    """A workspace by its short name."""
    return await session.scalar(select(Workspace).where(Workspace.slug == slug))


async def get(session: AsyncSession, workspace_id: UUID) -> Workspace | None:
    """A workspace by id."""
    return await session.get(Workspace, workspace_id)


async def all_workspaces(session: AsyncSession) -> Sequence[Workspace]:
    """Every workspace, by name."""
    return (await session.scalars(select(Workspace).order_by(Workspace.slug))).all()


async def authenticate(session: AsyncSession, key: str) -> tuple[ApiKey, Workspace | None] | None:
    """The live key and its workspace, or None."""
    query = (
        select(ApiKey, Workspace)
        .outerjoin(Workspace, Workspace.id == ApiKey.workspace_id)
        .where(ApiKey.key_hash == hash_key(key), ApiKey.revoked_at.is_(None))
    )
    row = (await session.execute(query)).first()
    return None if row is None else (row[0], row[1])


async def keys_of(session: AsyncSession, workspace_id: UUID | None) -> Sequence[ApiKey]:
    """All keys of a workspace, revoked ones too; None for the platform's own."""
    owner = ApiKey.workspace_id.is_(None) if workspace_id is None else ApiKey.workspace_id == workspace_id
    return (await session.scalars(select(ApiKey).where(owner).order_by(ApiKey.created_at))).all()


async def account(session: AsyncSession, account_id: UUID, provider: str | None = None) -> ProviderAccount | None:
    """One enabled or disabled account."""
    query = select(ProviderAccount).where(ProviderAccount.id == account_id)
    return await session.scalar(query if provider is None else query.where(ProviderAccount.provider == provider))


async def default_webhook_account(session: AsyncSession, provider: str) -> ProviderAccount | None:
    """The account behind the webhook address that names no account."""
    query = select(ProviderAccount).where(
        ProviderAccount.provider == provider, ProviderAccount.receives_default_webhook
    )
    return await session.scalar(query)


async def accounts_of(session: AsyncSession, workspace_id: UUID) -> Sequence[ProviderAccount]:
    """A workspace's accounts, oldest first: the first enabled one of a provider is the one payments use."""
    query = select(ProviderAccount).where(ProviderAccount.workspace_id == workspace_id)
    return (await session.scalars(query.order_by(ProviderAccount.created_at, ProviderAccount.id))).all()


async def all_accounts(session: AsyncSession) -> Sequence[ProviderAccount]:
    """Every account, for key rotation and operators' lists."""
    return (await session.scalars(select(ProviderAccount).order_by(ProviderAccount.created_at))).all()


def legal_day(workspace: Workspace, at: datetime) -> date:
    """The day of a moment in the workspace's own zone, which is the one that its documents carry."""
    return at.astimezone(ZoneInfo(workspace.timezone)).date()


def vat_rates_of(workspace: Workspace) -> list[DatedRate]:
    """The rates by the days from which they hold, oldest first; none where only one was ever known."""
    return sorted((DatedRate.from_json(one) for one in workspace.vat_rates or []), key=lambda one: one.from_day)


def vat_rate_at(workspace: Workspace, at: datetime | None = None) -> Decimal:
    """The rate of the day of a moment; of today, if none is given."""
    day = legal_day(workspace, at or datetime.now(UTC))
    return rate_on(day, vat_rates_of(workspace), workspace.vat_rate)
