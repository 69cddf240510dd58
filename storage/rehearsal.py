"""Dry runs: the real transaction is run, what it would write is noted, and nothing of it stays.

What is shown cannot differ from what would happen, because the same code makes it, checked by the same constraints.
Locks are held for as long as the real transaction would hold them; numbers of documents are given back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from domain.money import Money
from storage.models import (
    AuditEntry,
    Base,
    Commission,
    Invoice,
    LedgerEntry,
    OrderNotice,
    Payment,
    Payout,
    PayoutLine,
    Receipt,
    Refund,
    Subscription,
    SurplusCapture,
)
from storage.session import Database

_WATCHED: dict[type[Base], tuple[str, ...]] = {
    Payment: ("status", "flag", "amount", "refunded", "refund_reserved", "dispute_held", "dispute_lost"),
    Refund: ("status",),
    Commission: ("status", "clawed_back", "payout_reference"),
    SurplusCapture: ("status",),
    Subscription: (
        "status",
        "cancel_at_period_end",
        "plan_id",
        "quantity",
        "pending_plan_id",
        "pending_quantity",
        "payment_method_id",
        "current_period_end",
        "paused_at",
        "resume_at",
        "ended_at",
    ),
    Invoice: ("status",),
    Payout: ("status", "total"),
    PayoutLine: ("status",),
}
"""Columns whose change an operator wants to see beforehand."""


@dataclass(slots=True)
class Effects:
    """What a transaction would write. Amounts are strings in major units; `changes` say from what to what."""

    changes: list[dict[str, Any]] = field(default_factory=list)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)


@asynccontextmanager
async def rehearsal(database: Database) -> AsyncIterator[tuple[AsyncSession, Effects]]:
    """A transaction that is checked as at its commit and then rolled back; the effects are complete after the block.

    Rows are read inside the block: the rollback forgets what they hold.

    Raises what the block raises, and IntegrityError where the commit would have failed.
    """
    effects, before, made = Effects(), dict[tuple[Base, str], Any](), set[Base]()
    async with database.transaction() as session:
        event.listen(session.sync_session, "after_flush", lambda flushed, _: _note(flushed, effects, before, made))
        yield session, effects
        await session.flush()
        await session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        effects.changes = [
            {
                "subject": row.__tablename__,
                "id": str(row.__dict__["id"]),
                "field": name,
                "from": _shown(row, first),
                "to": _shown(row, row.__dict__[name]),
            }
            for (row, name), first in before.items()
            if first != row.__dict__[name] and row not in made
        ]
        effects.changes.sort(key=lambda change: (change["subject"], change["id"], change["field"]))
        await session.rollback()


def _note(session: Session, effects: Effects, before: dict[tuple[Base, str], Any], made: set[Base]) -> None:
    for row in session.dirty:
        for name in _WATCHED.get(type(row), ()):
            old = inspect(row).attrs[name].history.deleted
            if old:
                before.setdefault((row, name), old[0])
    made.update(session.new)  # how a row of this transaction came about is not a change of it
    for row in session.new:
        if isinstance(row, LedgerEntry):
            effects.ledger.append(
                {
                    "movement": row.kind,
                    "account": row.account,
                    "amount": str(Money.from_decimal(row.amount, row.currency)),
                    "currency": row.currency,
                }
            )
        elif isinstance(row, Receipt):
            effects.documents.append(
                {
                    "kind": row.kind,
                    "number": f"{row.fiscal_year}-{row.number:06d}",
                    "net": str(Money.from_decimal(row.net, row.currency)),
                    "vat": str(Money.from_decimal(row.vat, row.currency)),
                    "total": str(Money.from_decimal(row.total, row.currency)),
                }
            )
        elif isinstance(row, OrderNotice):
            effects.notices.append(row.type)
        elif isinstance(row, AuditEntry):
            effects.audit.append(row.action)


def _shown(row: Any, value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return str(Money.from_decimal(value, row.currency)) if isinstance(value, Decimal) else value
