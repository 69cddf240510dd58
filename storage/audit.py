"""The audit log: one entry beside every state change, in the same transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import AuditEntry


def record(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    actor: str,
    action: str,
    subject: tuple[str, object],
    details: dict[str, Any] | None = None,
) -> None:
    """Add an entry to the transaction. It is written at commit, last, because the chain's end is locked by it.

    `details` hold no personal data and no secrets: the log is never erased.
    """
    subject_type, subject_id = subject
    session.add(
        AuditEntry(
            workspace_id=workspace_id,
            actor=actor,
            action=action,
            subject_type=subject_type,
            subject_id=str(subject_id),
            details=details or {},
        ),
    )


async def entries_about(
    session: AsyncSession, workspace_id: UUID, subject_type: str, subject_id: object
) -> list[AuditEntry]:
    """What happened to one thing, oldest first."""
    query = (
        select(AuditEntry)
        .where(
            AuditEntry.workspace_id == workspace_id,
            AuditEntry.subject_type == subject_type,
            AuditEntry.subject_id == str(subject_id),
        )
        .order_by(AuditEntry.id)
    )
    return list(await session.scalars(query))


async def length(session: AsyncSession) -> int:
    """How many entries there are in all."""
    return int(await session.scalar(select(func.count()).select_from(AuditEntry)) or 0)


async def has(session: AsyncSession, subject: tuple[str, UUID], action: str, details: dict[str, Any]) -> bool:
    """Whether an entry that is committed says this of a subject, with these details among others."""
    query = select(AuditEntry.id).where(
        AuditEntry.subject_type == subject[0],
        AuditEntry.subject_id == str(subject[1]),
        AuditEntry.action == action,
        AuditEntry.details.contains(details),
    )
    return await session.scalar(query.limit(1)) is not None


@dataclass(frozen=True, slots=True)
class ChainFault:
    """The first place where a workspace's chain does not hold."""

    workspace_id: UUID
    seq: int
    fault: str


_FAULTS = text("""
    WITH chain AS (
        SELECT entry.workspace_id, entry.seq, entry.hash, entry.previous_hash,
               audit_log_hash(entry) AS expected,
               lag(entry.hash, 1, ''::bytea) OVER series AS before,
               row_number() OVER series AS position
        FROM audit_log AS entry WINDOW series AS (PARTITION BY workspace_id ORDER BY seq)
    ), faults AS (
        SELECT workspace_id, seq, CASE
            WHEN seq <> position THEN 'an entry is missing before this one'
            WHEN previous_hash <> before THEN 'does not follow from the entry before it'
            WHEN hash <> expected THEN 'was changed after it was written' END AS fault
        FROM chain
        UNION ALL
        SELECT head.workspace_id, head.seq, 'the end of the log is missing or was changed'
        FROM audit_heads AS head
        LEFT JOIN audit_log AS last ON last.workspace_id = head.workspace_id AND last.seq = head.seq
        WHERE last.hash IS DISTINCT FROM head.hash
           OR EXISTS (SELECT 1 FROM audit_log AS beyond
                      WHERE beyond.workspace_id = head.workspace_id AND beyond.seq > head.seq)
    )
    SELECT DISTINCT ON (workspace_id) workspace_id, seq, fault FROM faults
    WHERE fault IS NOT NULL ORDER BY workspace_id, seq
""")


async def chain_faults(session: AsyncSession) -> AsyncIterator[ChainFault]:
    """Verify every workspace's chain; yields the first fault of each broken one."""
    for row in await session.execute(_FAULTS):
        yield ChainFault(row.workspace_id, row.seq, row.fault)
