"""First answers to POSTs with an Idempotency-Key, written in the transaction of the work itself."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import IdempotentAnswer


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What the first request with this key was, and what it got."""

    fingerprint: bytes
    status_code: int
    body: bytes


async def claim(session: AsyncSession, *, scope: str, key: str, fingerprint: bytes) -> KnownAnswer | None:
    """Take the key for this transaction, or return the answer it has. A concurrent repeat waits for the first."""
    statement = insert(IdempotentAnswer).values(scope=scope, key=key, fingerprint=fingerprint, status_code=0, body=b"")
    taken = await session.execute(statement.on_conflict_do_nothing().returning(IdempotentAnswer.key))
    if taken.first() is not None:
        return None
    known = (
        await session.scalars(
            select(IdempotentAnswer).where(IdempotentAnswer.scope == scope, IdempotentAnswer.key == key)
        )
    ).one()
    return KnownAnswer(known.fingerprint, known.status_code, known.body)


async def keep(session: AsyncSession, *, scope: str, key: str, status_code: int, body: bytes) -> None:
    """Store the answer beside the work."""
    await session.execute(
        update(IdempotentAnswer)
        .where(IdempotentAnswer.scope == scope, IdempotentAnswer.key == key)
        .values(status_code=status_code, body=body)
    )
