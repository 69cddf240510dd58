"""What is only ever added to: the ledger and the audit log."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.base import AMOUNT, Base, moment


class LedgerEntry(Base):
    """One side of a movement; a constraint trigger checks at commit that each movement sums to zero."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount_is_not_zero"),
        UniqueConstraint("movement_id", "account", "currency"),
        Index("ix_ledger_entries_account", "workspace_id", "account"),
        Index("ix_ledger_entries_payment", "payment_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payments.id"))
    movement_id: Mapped[UUID]
    """Derived from what caused the movement, so that it cannot be booked twice."""
    kind: Mapped[str] = mapped_column(String(32))
    account: Mapped[str] = mapped_column(String(200))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    created_at: Mapped[datetime] = moment()


class AuditEntry(Base):
    """Who did what, when: append-only and hash-chained per workspace by triggers."""

    __tablename__ = "audit_log"
    __table_args__ = (
        UniqueConstraint("workspace_id", "seq"),
        Index("ix_audit_log_subject", "subject_type", "subject_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(64))
    subject_type: Mapped[str] = mapped_column(String(32))
    subject_id: Mapped[str] = mapped_column(String(64))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    previous_hash: Mapped[bytes] = mapped_column(server_default=text(r"'\x'::bytea"))
    hash: Mapped[bytes] = mapped_column(server_default=text(r"'\x'::bytea"))


class AuditHead(Base):
    """The end of one workspace's chain; its row lock orders the entries."""

    __tablename__ = "audit_heads"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]
