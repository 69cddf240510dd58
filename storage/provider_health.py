"""The circuit breaker's memory: failures in a row of each account's provider, shared by all processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, literal, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import BankList, ProviderHealth

OPENS_AFTER = 10
"""Failures in a row that open the circuit."""
STAYS_OPEN = timedelta(minutes=5)
PROBE_LASTS = timedelta(seconds=60)
"""A probe that has not come back by then was lost with its process; the next caller may probe."""


async def of_account(session: AsyncSession, account_id: UUID) -> ProviderHealth | None:
    """What is on record."""
    return await session.get(ProviderHealth, account_id)


async def claim_probe(session: AsyncSession, account_id: UUID, *, now: datetime) -> bool:
    """Whether this caller may ask on trial: one at a time, once the circuit has been open long enough."""
    statement = (
        update(ProviderHealth)
        .where(
            ProviderHealth.provider_account_id == account_id,
            ProviderHealth.opened_at <= now - STAYS_OPEN,
            or_(ProviderHealth.probe_until.is_(None), ProviderHealth.probe_until < now),
        )
        .values(probe_until=now + PROBE_LASTS)
    )
    return (await session.execute(statement.returning(ProviderHealth.provider_account_id))).first() is not None


async def opened_at(session: AsyncSession, account_id: UUID) -> datetime | None:
    """Since when the circuit is open; None while it is closed."""
    query = select(ProviderHealth.opened_at).where(ProviderHealth.provider_account_id == account_id)
    return await session.scalar(query)


async def back_at(session: AsyncSession, account_ids: Sequence[UUID]) -> datetime | None:
    """When the first of these accounts may be asked again, if every one's circuit is open; None otherwise."""
    query = select(ProviderHealth.opened_at).where(
        ProviderHealth.provider_account_id.in_(account_ids), ProviderHealth.opened_at.is_not(None)
    )
    since = [moment for moment in await session.scalars(query) if moment is not None]
    return min(since) + STAYS_OPEN if len(since) == len(set(account_ids)) else None


async def release_probe(session: AsyncSession, account_id: UUID) -> None:
    """The probe ended without a word from the provider: the next caller may probe."""
    await session.execute(
        update(ProviderHealth).where(ProviderHealth.provider_account_id == account_id).values(probe_until=null())
    )


async def record_success(session: AsyncSession, account_id: UUID, *, now: datetime, latency_ms: int) -> None:
    """The provider answered: the circuit is closed."""
    values: dict[str, Any] = {
        "failures": 0,
        "opened_at": null(),
        "probe_until": null(),
        "last_success_at": now,
        "latency_ms": latency_ms,
    }
    statement = insert(ProviderHealth).values(provider_account_id=account_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["provider_account_id"], set_=values))


async def record_failure(session: AsyncSession, account_id: UUID, *, now: datetime, code: str) -> int:
    """One more failure in a row; the tenth opens the circuit, and a failed probe keeps it open. Returns how many."""
    opened_at: ColumnElement[Any] = case(
        (ProviderHealth.failures + 1 >= OPENS_AFTER, literal(now)), else_=ProviderHealth.opened_at
    )
    statement = insert(ProviderHealth).values(
        provider_account_id=account_id, failures=1, last_failure_at=now, last_failure_code=code[:100]
    )
    statement = statement.on_conflict_do_update(
        index_elements=["provider_account_id"],
        set_={
            "failures": ProviderHealth.failures + 1,
            "opened_at": opened_at,
            "probe_until": null(),
            "last_failure_at": now,
            "last_failure_code": code[:100],
        },
    )
    return int((await session.execute(statement.returning(ProviderHealth.failures))).scalar_one())


async def keep_banks(session: AsyncSession, account_id: UUID, banks: dict[str, str], *, now: datetime) -> None:
    """Remember a provider's bank list."""
    statement = insert(BankList).values(provider_account_id=account_id, banks=banks, fetched_at=now)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["provider_account_id"], set_={"banks": banks, "fetched_at": now}
        )
    )


async def banks_of(session: AsyncSession, account_id: UUID) -> BankList | None:
    """The last known bank list."""
    return await session.scalar(select(BankList).where(BankList.provider_account_id == account_id))
