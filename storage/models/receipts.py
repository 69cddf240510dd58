"""Fiscal documents and their gapless numbers."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.base import AMOUNT, RATE, Base, moment


class ReceiptCounter(Base):
    """The last number of one series. The row lock, held to the commit, is what makes numbers gapless."""

    __tablename__ = "receipt_counters"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    fiscal_year: Mapped[int] = mapped_column(Integer, primary_key=True)
    last_number: Mapped[int] = mapped_column(Integer)


class Receipt(Base):
    """An issued document. `document` is all that is printed, so the PDF can be derived again at any time."""

    __tablename__ = "receipts"
    __table_args__ = (
        UniqueConstraint("workspace_id", "kind", "fiscal_year", "number"),
        UniqueConstraint("payment_id", "kind", "refund_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("(kind = 'credit_note') = (refund_id IS NOT NULL)", name="credit_notes_are_of_refunds"),
        CheckConstraint("net + vat = total", name="parts_sum_to_total"),
        CheckConstraint("total > 0", name="total_is_positive"),
        CheckConstraint("number > 0", name="number_is_positive"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    refund_id: Mapped[UUID | None] = mapped_column(ForeignKey("refunds.id"))
    """Of a credit note."""
    kind: Mapped[str] = mapped_column(String(32))
    fiscal_year: Mapped[int] = mapped_column(Integer)
    number: Mapped[int] = mapped_column(Integer)
    issued_on: Mapped[date] = mapped_column(Date)
    currency: Mapped[str] = mapped_column(String(3))
    net: Mapped[Decimal] = mapped_column(AMOUNT)
    vat: Mapped[Decimal] = mapped_column(AMOUNT)
    total: Mapped[Decimal] = mapped_column(AMOUNT)
    vat_rate: Mapped[Decimal] = mapped_column(RATE)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = moment()


class ReceiptPdf(Base):
    """The rendered document, apart from the receipt so that lists never carry the bytes."""

    __tablename__ = "receipt_pdfs"

    receipt_id: Mapped[UUID] = mapped_column(ForeignKey("receipts.id"), primary_key=True)
    pdf: Mapped[bytes]
    sha256: Mapped[bytes]
    rendered_at: Mapped[datetime] = moment()
