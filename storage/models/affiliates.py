"""Who brought a payment, what is owed for it, and how it is paid out."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from domain.money import Money
from storage.models.base import AMOUNT, RATE, Base, moment


class Commission(Base):
    """A referrer's share of one order."""

    __tablename__ = "commissions"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint("clawed_back >= 0 AND clawed_back <= amount", name="clawed_back_is_a_part"),
        UniqueConstraint("workspace_id", "order_id"),  # at most one an order
        Index("ix_commissions_referrer", "workspace_id", "referrer_id", "status"),
        Index("ix_commissions_recent", "workspace_id", "referrer_id", "created_at"),
        Index("ix_commissions_vesting", "workspace_id", "vests_at", postgresql_where=text("status = 'accrued'")),
        Index("ix_commissions_review", "workspace_id", "created_at", postgresql_where=text("review = 'pending'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"), unique=True)
    order_id: Mapped[str] = mapped_column(String(128))
    referrer_id: Mapped[str] = mapped_column(String(128))
    base_amount: Mapped[Decimal] = mapped_column(AMOUNT)
    rate: Mapped[Decimal] = mapped_column(RATE)
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(16), server_default="accrued")
    clawed_back: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What refunds and lost disputes of the order took of it, also after it was paid out; all of one rejected."""
    vests_at: Mapped[datetime] = mapped_column(server_default=text("now() + interval '30 days'"))
    """End of the holding period: payable from then on, if nothing else holds it."""
    review: Mapped[str | None] = mapped_column(String(16))
    """pending → approved or rejected, where a fraud guard asked for a person."""
    held_by: Mapped[list[str]] = mapped_column(ARRAY(String(32)), server_default=text("'{}'::varchar[]"))
    """The guards that asked."""
    review_reason: Mapped[str | None] = mapped_column(String(300))
    reviewed_by: Mapped[str | None] = mapped_column(String(100))
    reviewed_at: Mapped[datetime | None]
    payout_reference: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = moment()
    paid_at: Mapped[datetime | None]


class Referrer(Base):
    """Who brings orders. The id is the merchant's own; a row is there from the first commission at the latest."""

    __tablename__ = "referrers"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    status: Mapped[str] = mapped_column(String(16), server_default="active")
    """active or suspended: then nothing new is accepted unseen and nothing is paid out."""
    identity: Mapped[bytes | None]
    """Encrypted: name and e-mail."""
    email_hint: Mapped[str | None] = mapped_column(String(64))
    email_hash: Mapped[bytes | None]
    ip_hash: Mapped[bytes | None]
    ip_range_hash: Mapped[bytes | None]
    payout_details: Mapped[bytes | None]
    """Encrypted: where the money goes."""
    payout_details_at: Mapped[datetime | None]
    """When they were last changed."""
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()


class Blocked(Base):
    """Somebody or something that earns no commission. Only a keyed hash is kept of what it is."""

    __tablename__ = "blocklist"
    __table_args__ = (
        UniqueConstraint("workspace_id", "kind", "value_hash"),
        Index("ix_blocklist_workspace_created", "workspace_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    kind: Mapped[str] = mapped_column(String(16))
    """referrer, email, domain, card, ip or ip_range."""
    value_hash: Mapped[bytes]
    hint: Mapped[str] = mapped_column(String(128))
    """What is shown of it."""
    reason: Mapped[str | None] = mapped_column(String(300))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = moment()


class Payout(Base):
    """A batch of payments to referrers. Its workflow is `payout-{id}`."""

    __tablename__ = "payouts"
    __table_args__ = (
        Index(
            "uq_payouts_one_open",
            "workspace_id",
            unique=True,  # one open batch at a time
            postgresql_where=text("status IN ('requested', 'prepared', 'approved')"),
        ),
        UniqueConstraint("workspace_id", "idempotency_key"),
        Index("ix_payouts_workspace_created", "workspace_id", "created_at", "status"),
        Index("ix_payouts_unstarted", "created_at", postgresql_where=text("status = 'requested'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    status: Mapped[str] = mapped_column(String(16), server_default="requested")
    """requested → prepared → approved → closed; or rejected, or empty."""
    cut_off: Mapped[datetime]
    minimum: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    total: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """Sum of the lines that were not dropped."""
    prepared_by: Mapped[str] = mapped_column(String(100))
    decided_by: Mapped[str | None] = mapped_column(String(100))
    decided_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(String(300))
    """Why it was rejected."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[bytes | None]
    closed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()


class PayoutLine(Base):
    """One referrer's part of a batch."""

    __tablename__ = "payout_lines"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint("amount = gross + carried", name="amount_is_gross_and_carried"),
        UniqueConstraint("payout_id", "referrer_id"),
        Index("ix_payout_lines_referrer", "workspace_id", "referrer_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"))
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    referrer_id: Mapped[str] = mapped_column(String(128))
    gross: Mapped[Decimal] = mapped_column(AMOUNT)
    """What is left of its commissions."""
    carried: Mapped[Decimal] = mapped_column(AMOUNT)
    """What changed of commissions paid before: negative where it was clawed back, positive where that was undone."""
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(16), server_default="prepared")
    """prepared → sent → paid or failed; or dropped."""
    reference: Mapped[str | None] = mapped_column(String(200))
    """The bank's, of a paid line."""
    failure: Mapped[str | None] = mapped_column(String(300))
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()

    @property
    def money(self) -> Money:
        """What the referrer gets."""
        return Money.from_decimal(self.amount, self.currency)


class PayoutItem(Base):
    """One commission on its way out, by a line of a batch or, without one, by hand."""

    __tablename__ = "payout_items"
    __table_args__ = (
        Index(
            "uq_payout_items_live",
            "commission_id",
            unique=True,  # a commission is paid out once
            postgresql_where=text("status <> 'released'"),
        ),
        Index("ix_payout_items_line", "line_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    commission_id: Mapped[UUID] = mapped_column(ForeignKey("commissions.id"))
    line_id: Mapped[UUID | None] = mapped_column(ForeignKey("payout_lines.id"))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    status: Mapped[str] = mapped_column(String(16), server_default="reserved")
    """reserved → sent → paid; or released."""
    created_at: Mapped[datetime] = moment()


class PayoutFile(Base):
    """What is given to the bank: made once, after the approval."""

    __tablename__ = "payout_files"

    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"), primary_key=True)
    content: Mapped[bytes]
    """Encrypted CSV: it names people and accounts."""
    sha256: Mapped[bytes]
    """Of the file in clear."""
    made_at: Mapped[datetime] = moment()
