"""Money asked for, received, sent back and disputed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from domain.money import Money
from storage.models.base import AMOUNT, Base, moment


class Payment(Base):
    """One obligation to be paid once. Its workflow is `payment-{id}`."""

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint("fee >= 0 AND fee <= amount", name="fee_is_a_part"),
        CheckConstraint(
            "refunded >= 0 AND refund_reserved >= 0 AND dispute_held >= dispute_lost AND dispute_lost >= 0"
            " AND refunded + refund_reserved + dispute_held <= amount",
            name="refunds_never_exceed_the_capture",
        ),
        UniqueConstraint("workspace_id", "idempotency_key"),
        UniqueConstraint("provider", "provider_transaction_id"),  # one capture settles one payment
        Index("ix_payments_workspace_created_status", "workspace_id", "created_at", "status"),
        Index("ix_payments_workspace_order", "workspace_id", "order_id"),
        Index("ix_payments_session", "provider", "provider_session_id"),
        Index("ix_payments_referrer", "workspace_id", "referrer_id", postgresql_where=text("referrer_id IS NOT NULL")),
        Index("ix_payments_unstarted", "created_at", postgresql_where=text("status = 'created'")),
        Index("ix_payments_invoice", "invoice_id", postgresql_where=text("invoice_id IS NOT NULL")),
        Index("ix_payments_subscription", "subscription_id", postgresql_where=text("subscription_id IS NOT NULL")),
        CheckConstraint("(invoice_id IS NULL) = (subscription_id IS NULL)", name="an_invoice_is_of_a_subscription"),
        Index("ix_payments_customer", "workspace_id", "customer_id", postgresql_where=text("customer_id IS NOT NULL")),
        Index(
            "ix_payments_payer",
            "workspace_id",
            "payer_fingerprint",
            postgresql_where=text("payer_fingerprint IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    provider: Mapped[str] = mapped_column(String(32))
    order_id: Mapped[str] = mapped_column(String(128))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(24), server_default="created")
    status_reason: Mapped[str | None] = mapped_column(String(200))
    flag: Mapped[str | None] = mapped_column(String(64))
    """Set when a person must look: amount_mismatch, currency_mismatch, second_capture, order_paid_twice, …"""
    disputed: Mapped[bool] = mapped_column(server_default=text("false"))
    checkout_mode: Mapped[str] = mapped_column(String(16), server_default="hosted")
    description: Mapped[str] = mapped_column(String(500))
    customer_id: Mapped[str | None] = mapped_column(String(128))
    customer_name: Mapped[str | None] = mapped_column(String(200))
    customer_email: Mapped[str | None] = mapped_column(String(320))
    customer_tax_id: Mapped[str | None] = mapped_column(String(32))
    customer_phone: Mapped[str | None] = mapped_column(String(32))
    customer_document_type: Mapped[str | None] = mapped_column(String(8))
    customer_document: Mapped[str | None] = mapped_column(String(32))
    customer_ip: Mapped[str | None] = mapped_column(String(45))
    method: Mapped[str | None] = mapped_column(String(32))
    method_fields: Mapped[bytes | None]
    """Encrypted: what the method asks of the payer, such as bank and account type."""
    fallback_accounts: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), server_default=text("'{}'::uuid[]"))
    """Accounts to open the checkout at, in this order, when it is certain that the one before cannot be paid."""
    instructions: Mapped[dict[str, Any] | None]
    """What the payer says at the counter, for cash codes. Not secret."""
    referrer_id: Mapped[str | None] = mapped_column(String(128))
    language: Mapped[str] = mapped_column(String(2), server_default="en")
    success_url: Mapped[str | None] = mapped_column(Text)
    cancel_url: Mapped[str | None] = mapped_column(Text)
    extra: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'::jsonb"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[bytes | None]
    """Hash of the request body, to tell a repeat from another request under the same key."""
    checkout_url: Mapped[str | None] = mapped_column(Text)
    client_secret: Mapped[bytes | None]
    """Encrypted; direct mode only."""
    provider_session_id: Mapped[str | None] = mapped_column(String(255))
    provider_transaction_id: Mapped[str | None] = mapped_column(String(255))
    fee: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What the provider was expected to keep of it at the capture."""
    fee_returned: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether refunds bring it back in proportion; as it was agreed at the capture."""
    refunded: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What has gone back, major units."""
    refund_reserved: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What refunds under way may take."""
    dispute_held: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What disputes have taken, for now or for good: it cannot be refunded a second time."""
    dispute_lost: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """The part of it that is gone for good."""
    payment_method_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_methods.id"))
    """The saved method that is charged."""
    save_method: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether what the payer pays with is to be saved."""
    off_session: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether the payer is away while the saved method is charged."""
    card_fingerprint: Mapped[bytes | None]
    """Keyed hash of the provider's fingerprint of the card that paid."""
    payer_fingerprint: Mapped[bytes | None]
    """Keyed hash of the payer's e-mail, normalised, once the payment is captured."""
    notice_seq: Mapped[int] = mapped_column(Integer, server_default="0")
    """Number of the last order notification; they are delivered in this order."""
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"))
    """The invoice that it is an attempt to charge; then it has a subscription too."""
    expires_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()

    @property
    def money(self) -> Money:
        """The amount to be paid."""
        return Money.from_decimal(self.amount, self.currency)


class Attempt(Base):
    """One way to pay one payment: a try at one provider. A failover makes another, and so does a further way."""

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("payment_id", "number"),
        UniqueConstraint("provider_account_id", "session_id"),  # a cash code of our own exists once
        Index(
            "ix_attempts_transaction",
            "provider_account_id",
            "transaction_id",
            postgresql_where=text("transaction_id IS NOT NULL"),
        ),
        Index("ix_attempts_other_ids", "other_ids", postgresql_using="gin", postgresql_where=text("other_ids <> '{}'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    number: Mapped[int] = mapped_column(Integer)
    reference: Mapped[UUID] = mapped_column(unique=True)
    """Ours at the provider: the payment's id for the first attempt, derived from it and the number for others."""
    provider: Mapped[str] = mapped_column(String(32))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    checkout_mode: Mapped[str] = mapped_column(String(16), server_default="hosted")
    method: Mapped[str | None] = mapped_column(String(32))
    method_fields: Mapped[bytes | None]
    """Encrypted."""
    session_id: Mapped[str | None] = mapped_column(String(255))
    session_secret: Mapped[bytes | None]
    """Encrypted; between the provider and us."""
    checkout_url: Mapped[str | None] = mapped_column(Text)
    form: Mapped[bytes | None]
    """Encrypted: the form that our page posts to the provider for the payer."""
    instructions: Mapped[dict[str, Any] | None]
    status: Mapped[str] = mapped_column(String(24))
    """opening, then as payments have it; `paid` settled the payment, `surplus` is money beyond it."""
    transaction_id: Mapped[str | None] = mapped_column(String(255))
    other_ids: Mapped[list[str]] = mapped_column(ARRAY(String(255)), server_default=text("'{}'"))
    """What else the provider's events call it by, such as a charge, once it has brought money."""
    error_code: Mapped[str | None] = mapped_column(String(100))
    method_token_hash: Mapped[bytes | None]
    """Of the saved method as it was charged; with the next two it tells whether the bank has renewed it since."""
    method_fingerprint: Mapped[bytes | None]
    method_expiry: Mapped[str | None] = mapped_column(String(7))
    """Year and month: 2031-05."""
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()


class SurplusCapture(Base):
    """Money beyond the obligation: a second capture of a payment, or a second payment of an order.

    It earns no receipt and no commission. It is refunded, or proposed to a person who refunds or keeps it.
    """

    __tablename__ = "surplus_captures"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        UniqueConstraint("provider", "transaction_id"),
        Index("ix_surplus_captures_workspace_status", "workspace_id", "status", "created_at"),
        Index("ix_surplus_captures_payment", "payment_id"),
        Index(
            "ix_surplus_captures_unstarted",
            "updated_at",
            postgresql_where=text("status = 'refunding' AND provider_refund_id IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"))
    provider: Mapped[str] = mapped_column(String(32))
    transaction_id: Mapped[str] = mapped_column(String(255))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    reason: Mapped[str] = mapped_column(String(32))
    """second_capture (of this payment) or order_paid_twice (by another payment)."""
    status: Mapped[str] = mapped_column(String(16), server_default="proposed")
    """proposed → refunding → refunded or refund_failed; or kept."""
    refund_number: Mapped[int] = mapped_column(Integer, server_default="1")
    """Raised when a refund that failed is started again: at the provider that is another refund."""
    provider_refund_id: Mapped[str | None] = mapped_column(String(255))
    further_provider_refund_ids: Mapped[list[str]] = mapped_column(ARRAY(String(255)), server_default=text("'{}'"))
    """What the provider calls other refunds of it: earlier tries, or parts."""
    asked_at: Mapped[datetime | None]
    """When the provider was last asked for this refund."""
    accepted_at: Mapped[datetime | None]
    """Since when the provider has it pending, whether it has given it an id or not."""
    failure_code: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()

    @property
    def money(self) -> Money:
        """What came in too much."""
        return Money.from_decimal(self.amount, self.currency)

    @property
    def refund_id(self) -> UUID:
        """Our id of its refund at the provider: the same on every try of the same decision."""
        return self.id if self.refund_number == 1 else uuid5(self.id, f"refund-{self.refund_number}")


class Refund(Base):
    """Money of a captured payment on its way back. Its workflow is `refund-{id}`."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint(
            "status <> 'settled_outside' OR outside_reference IS NOT NULL", name="settled_outside_has_reference"
        ),
        UniqueConstraint("workspace_id", "idempotency_key"),
        UniqueConstraint("provider", "provider_refund_id"),  # one movement at the provider is one refund
        Index("ix_refunds_workspace_created", "workspace_id", "created_at", "status"),
        Index("ix_refunds_payment", "payment_id"),
        Index("ix_refunds_unstarted", "created_at", postgresql_where=text("status = 'requested'")),
        Index(
            "ix_refunds_unfollowed",
            "created_at",
            postgresql_where=text("status = 'pending' AND origin = 'provider' AND asked_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    provider: Mapped[str] = mapped_column(String(32))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(16), server_default="requested")
    """requested → pending or unknown → succeeded or failed; succeeded → returned, and back when it is paid again.

    returned → settled_outside, when the merchant has paid it by other means.
    """
    origin: Mapped[str] = mapped_column(String(16), server_default="merchant")
    """merchant (API, command line) or provider (made in the provider's own dashboard)."""
    reason: Mapped[str | None] = mapped_column(String(300))
    requested_by: Mapped[str] = mapped_column(String(100))
    provider_refund_id: Mapped[str | None] = mapped_column(String(255))
    further_provider_refund_ids: Mapped[list[str]] = mapped_column(ARRAY(String(255)), server_default=text("'{}'"))
    """What else the provider calls it: tries that came back, or several that were put on record as one."""
    failure_code: Mapped[str | None] = mapped_column(String(100))
    outside_reference: Mapped[str | None] = mapped_column(String(200))
    """What the merchant calls the payment by other means that settled it after it had come back."""
    vat: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """The tax in it, once it succeeded."""
    commission: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """What the referrer gave back, once it succeeded."""
    fee: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """What the provider gave back of its fee, once it succeeded."""
    credit_taken: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """What it took of the payment's unused credit, when it was requested; None: not yet."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[bytes | None]
    asked_at: Mapped[datetime | None]
    """When the provider was last asked to make it."""
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()

    @property
    def money(self) -> Money:
        """What goes back."""
        return Money.from_decimal(self.amount, self.currency)


class Dispute(Base):
    """The payer's bank wants captured money back. Its workflow is `dispute-{id}`."""

    __tablename__ = "disputes"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint("held >= 0", name="held_is_not_negative"),
        UniqueConstraint("provider", "provider_dispute_id"),
        Index("ix_disputes_workspace_created", "workspace_id", "created_at", "status"),
        Index("ix_disputes_payment", "payment_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    provider: Mapped[str] = mapped_column(String(32))
    provider_dispute_id: Mapped[str] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    """What the bank wants; it may exceed the payment."""
    currency: Mapped[str] = mapped_column(String(3))
    held: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """The part of the payment that it holds, payment's currency."""
    credit_taken: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What it took of the payment's unused credit and has not given back, payment's currency."""
    reason: Mapped[str | None] = mapped_column(String(100))
    evidence_due_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()

    @property
    def money(self) -> Money:
        """What the bank wants."""
        return Money.from_decimal(self.amount, self.currency)


class RiskAlert(Base):
    """What a provider warned of about a payment, and what was done about it."""

    __tablename__ = "risk_alerts"
    __table_args__ = (
        CheckConstraint("(decision = 'refund_requested') = (refund_id IS NOT NULL)", name="a_refund_was_decided"),
        UniqueConstraint("provider", "provider_alert_id"),  # one alert is decided about once
        Index("ix_risk_alerts_payment", "payment_id"),
        Index("ix_risk_alerts_workspace_created", "workspace_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    provider: Mapped[str] = mapped_column(String(32))
    provider_alert_id: Mapped[str] = mapped_column(String(255))
    transaction_id: Mapped[str] = mapped_column(String(255))
    kind: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str | None] = mapped_column(String(100))
    is_open: Mapped[bool]
    """A review is open until somebody has decided at the provider; a warning is never closed."""
    closed_reason: Mapped[str | None] = mapped_column(String(100))
    actionable: Mapped[bool | None]
    """Whether a refund may still prevent a dispute, as the provider says; None where it does not say."""
    decision: Mapped[str] = mapped_column(String(32))
    """`domain.risk.RiskDecision`, taken when it was first seen and never again."""
    refund_id: Mapped[UUID | None] = mapped_column(ForeignKey("refunds.id"))
    raised_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()
