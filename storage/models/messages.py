"""What providers tell us and what we tell order services."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.base import AMOUNT, Base, moment


class WebhookEvent(Base):
    """The inbox: a verified callback, kept as it came. It counts as handled only after success."""

    __tablename__ = "webhook_events"
    __table_args__ = (
        UniqueConstraint("provider_account_id", "event_id"),  # a repeated delivery changes nothing
        Index("ix_webhook_events_type_status", "type", "status"),
        Index("ix_webhook_events_payment", "payment_id"),
        Index(
            "ix_webhook_events_due", "next_attempt_at", postgresql_where=text("status IN ('received', 'dispatched')")
        ),
        Index("ix_webhook_events_unmatched", "next_attempt_at", postgresql_where=text("status = 'unmatched'")),
        Index(
            "ix_webhook_events_unmatched_named",
            "named",
            postgresql_using="gin",
            postgresql_where=text("status = 'unmatched'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    provider: Mapped[str] = mapped_column(String(32))
    event_id: Mapped[str] = mapped_column(String(255))
    type: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(32))
    payment_id: Mapped[UUID | None]
    reference: Mapped[UUID | None]
    session_id: Mapped[str | None] = mapped_column(String(255))
    transaction_id: Mapped[str | None] = mapped_column(String(255))
    named: Mapped[list[str]] = mapped_column(ARRAY(String(300)), server_default=text("'{}'"))
    """All that it says of whose it is (`dispatch.owners`), so that its owner can be looked for again; no secrets."""
    claimed_amount: Mapped[Decimal | None] = mapped_column(AMOUNT)
    claimed_currency: Mapped[str | None] = mapped_column(String(3))
    signature: Mapped[str] = mapped_column(String(16), server_default="valid")
    body: Mapped[bytes]
    status: Mapped[str] = mapped_column(String(16), server_default="received")
    """received → dispatched (the workflow has it) → handled; or ignored (a type that nothing follows from).

    unmatched: nobody it could be about is known yet; looked for again for some days. unreadable: it does not say what
    it is about in any shape that is known. parked: it failed for good, or for weeks; a person may replay it.
    """
    outcome: Mapped[str | None] = mapped_column(String(200))
    deliveries: Mapped[int] = mapped_column(Integer, server_default="1")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[datetime] = moment()
    last_error: Mapped[str | None] = mapped_column(String(300))
    occurred_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = moment()
    dispatched_at: Mapped[datetime | None]
    handled_at: Mapped[datetime | None]


class WebhookRejection(Base):
    """Callbacks that were refused, counted by reason and day; their bodies are not kept, anyone can send them."""

    __tablename__ = "webhook_rejections"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider: Mapped[str] = mapped_column(String(32), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger, server_default="1")
    last_at: Mapped[datetime] = moment()


class OrderNotice(Base):
    """The outbox: what the merchant's order service must be told, in order per payment and per subscription."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("stream", "seq"),
        CheckConstraint("payment_id IS NULL OR subscription_id IS NULL", name="a_notice_is_of_one_stream"),
        Index("ix_outbox_due", "workspace_id", "next_attempt_at", postgresql_where=text("status = 'waiting'")),
        Index("ix_outbox_workspace_status", "workspace_id", "status"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payments.id"))
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    stream: Mapped[UUID] = mapped_column(Computed("coalesce(payment_id, subscription_id, id)", persisted=True))
    """What its order is kept in: the payment or the subscription that it is about; a payout batch's is alone."""
    seq: Mapped[int] = mapped_column(Integer)
    type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(String(16), server_default="waiting")
    """waiting → delivered, or given_up after days of trying (an operator can send it again)."""
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[datetime] = moment()
    last_error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime] = moment()
    delivered_at: Mapped[datetime | None]


class IdempotentAnswer(Base):
    """The first answer to a POST with an Idempotency-Key, for the endpoints that have no identity of their own."""

    __tablename__ = "idempotent_answers"

    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[bytes]
    status_code: Mapped[int] = mapped_column(Integer)
    body: Mapped[bytes]
    """Encrypted: it may hold a secret that is shown once."""
    created_at: Mapped[datetime] = moment()
