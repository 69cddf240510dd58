"""A shop's accounts at its providers, and how each provider does."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.base import AMOUNT, RATE, Base, moment


class ProviderAccount(Base):
    """A workspace's credentials at one provider, encrypted. Options hold nothing secret."""

    __tablename__ = "provider_accounts"
    __table_args__ = (
        CheckConstraint("fee_rate >= 0 AND fee_rate < 1 AND fee_fixed >= 0", name="fee_is_a_part"),
        UniqueConstraint("workspace_id", "provider", "name"),
        Index(
            "uq_provider_accounts_default_webhook",
            "provider",
            unique=True,
            postgresql_where=text("receives_default_webhook"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    provider: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(100), server_default="default")
    credentials: Mapped[bytes]
    """Encrypted JSON object."""
    hint: Mapped[str] = mapped_column(String(16))
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    fee_rate: Mapped[Decimal] = mapped_column(RATE, server_default="0")
    """What the provider keeps of each capture, a fraction."""
    fee_fixed: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """And besides, major units of the workspace's currency."""
    fee_returned: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether it gives the fee back in proportion with each refund."""
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    receives_default_webhook: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()


class ProviderHealth(Base):
    """How one account's provider has answered lately, and its circuit breaker; shared by all processes."""

    __tablename__ = "provider_health"

    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"), primary_key=True)
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    """In a row."""
    opened_at: Mapped[datetime | None]
    probe_until: Mapped[datetime | None]
    """One process asks on trial until then; the others wait."""
    last_success_at: Mapped[datetime | None]
    last_failure_at: Mapped[datetime | None]
    last_failure_code: Mapped[str | None] = mapped_column(String(100))
    latency_ms: Mapped[int | None] = mapped_column(Integer)
    """Of the last recorded success."""


class BankList(Base):
    """The banks that a provider offers, kept so that its downtime does not empty a payment page."""

    __tablename__ = "bank_lists"

    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"), primary_key=True)
    banks: Mapped[dict[str, Any]]
    """By code: the name."""
    fetched_at: Mapped[datetime]


class ProviderPayout(Base):
    """Money that a provider has paid out to the merchant's bank account, as it tells; kept for reconciliation."""

    __tablename__ = "provider_payouts"
    __table_args__ = (
        UniqueConstraint("provider_account_id", "provider_payout_id"),  # events in any order are one payout
        Index("ix_provider_payouts_account_created", "provider_account_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    provider_payout_id: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16))
    """pending → in_transit → paid; cancelled, or failed, also after it was paid."""
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    """Minor units of its currency; below zero where the provider took money from the bank account."""
    currency: Mapped[str] = mapped_column(String(3))
    arrival_date: Mapped[date | None] = mapped_column(Date)
    failure_code: Mapped[str | None] = mapped_column(String(100))
    told_at: Mapped[datetime]
    """When the event that it is as of happened at the provider."""
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()
