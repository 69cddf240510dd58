"""All tables. Constraints, not code, are what holds the promises under concurrency; each says which one it holds.

Amounts are NUMERIC in major units with the currency beside them. Times are UTC. Rows of `audit_log` and
`ledger_entries` are never changed (triggers in the migration refuse it).
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from domain.money import Money

AMOUNT = Numeric(19, 4)
RATE = Numeric(7, 6)


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can drop them and errors can be told apart."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy reads this attribute by name)
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        UUID: Uuid,
        bytes: LargeBinary,
    }


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=func.now())


class Workspace(Base):
    """A tenant: one currency, one VAT profile, its own numbers."""

    __tablename__ = "workspaces"
    __table_args__ = (
        CheckConstraint("vat_rate >= 0 AND vat_rate < 1", name="vat_rate_is_a_fraction"),
        CheckConstraint("commission_rate >= 0 AND commission_rate < 1", name="commission_rate_is_a_fraction"),
        CheckConstraint("dunning_grace_days >= 0", name="grace_is_not_negative"),
        CheckConstraint("dunning_final_action IN ('cancel', 'expire', 'keep')", name="final_action_is_known"),
        CheckConstraint("commission_holding_days BETWEEN 0 AND 730", name="holding_days_are_sensible"),
        CheckConstraint("payout_minimum >= 0", name="payout_minimum_is_not_negative"),
        CheckConstraint("payout_approval IN ('any', 'another_key')", name="payout_approval_is_known"),
        CheckConstraint("velocity_limit >= 0 AND velocity_hours > 0", name="velocity_is_sensible"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(63), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    currency: Mapped[str] = mapped_column(String(3))
    country: Mapped[str] = mapped_column(String(2))
    timezone: Mapped[str] = mapped_column(String(64))
    language: Mapped[str] = mapped_column(String(2), server_default="en")
    dealer: Mapped[str] = mapped_column(String(16), server_default="company")
    """Tax standing of the seller: authorized, exempt, company, foreign."""
    legal_name: Mapped[str] = mapped_column(String(200))
    legal_name_he: Mapped[str | None] = mapped_column(String(200))
    business_number: Mapped[str | None] = mapped_column(String(32))
    address: Mapped[str | None] = mapped_column(String(300))
    vat_rate: Mapped[Decimal] = mapped_column(RATE, server_default="0")
    commission_rate: Mapped[Decimal] = mapped_column(RATE, server_default="0")
    commission_minimum: Mapped[Decimal] = mapped_column(AMOUNT, server_default="1.00")
    commission_holding_days: Mapped[int] = mapped_column(Integer, server_default="30")
    """How long orders may be refunded or disputed: so long after the capture a commission is not payable."""
    payout_minimum: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """Smallest balance that a batch pays out; what is below waits for the next one."""
    payout_approval: Mapped[str] = mapped_column(String(16), server_default="any")
    """Who approves a batch: `any` key that may, or `another_key` than the one that prepared it."""
    velocity_limit: Mapped[int] = mapped_column(Integer, server_default="0")
    """Commissions of one referrer within the window that are not looked at by a person; 0: no limit."""
    velocity_hours: Mapped[int] = mapped_column(Integer, server_default="24")
    fingerprint_key: Mapped[bytes | None]
    """Encrypted: the key of the hashes that cards, e-mails and addresses are compared by."""
    payments_enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether new payments are taken; running ones and callbacks go on."""
    one_capture_per_order: Mapped[bool] = mapped_column(server_default=text("true"))
    """A second captured payment of an order id is surplus. False where orders are paid in parts."""
    surplus_policy: Mapped[str] = mapped_column(String(16), server_default="propose")
    """What happens to money beyond the obligation: `refund` at once, or `propose` it to a person."""
    provider_order: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), server_default=text("'{}'::uuid[]"))
    """Accounts in the order in which payments that name none are tried; empty: the oldest enabled one, alone."""
    dunning_retry_days: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default=text("'{2,5,7,7}'::integer[]"))
    """The waits, in days, before each retry of a renewal that was declined softly."""
    dunning_grace_days: Mapped[int] = mapped_column(Integer, server_default="21")
    """How long a renewal may stay unpaid, from its first failure."""
    dunning_final_action: Mapped[str] = mapped_column(String(16), server_default="cancel")
    """What the end of the grace does to the subscription: cancel, expire or keep."""
    cancel_on_full_refund: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether the full refund of its last payment cancels a subscription."""
    order_webhook_url: Mapped[str | None] = mapped_column(Text)
    order_webhook_secret: Mapped[bytes | None]
    """Encrypted."""
    created_at: Mapped[datetime] = _now()


class ApiKey(Base):
    """A caller's key; only its hash is kept. Without a workspace it is the platform's own administrator."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(100))
    hint: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(32)))
    created_at: Mapped[datetime] = _now()
    revoked_at: Mapped[datetime | None]


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
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


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
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()

    @property
    def money(self) -> Money:
        """The amount to be paid."""
        return Money.from_decimal(self.amount, self.currency)


class PaymentMethod(Base):
    """A customer's tokenised method. The token is sealed; of a card only brand, last digits and expiry are kept."""

    __tablename__ = "payment_methods"
    __table_args__ = (
        UniqueConstraint("provider_account_id", "token_hash", "customer_id"),  # a customer's token is stored once
        Index(
            "uq_payment_methods_default",
            "workspace_id",
            "customer_id",
            unique=True,
            postgresql_where=text("is_default"),
        ),
        CheckConstraint("NOT is_default OR status = 'active'", name="the_default_is_active"),
        CheckConstraint("exp_month BETWEEN 1 AND 12", name="exp_month_is_a_month"),
        Index("ix_payment_methods_customer", "workspace_id", "customer_id", "created_at"),
        Index("ix_payment_methods_provider_customer", "provider_account_id", "provider_customer_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    provider: Mapped[str] = mapped_column(String(32))
    customer_id: Mapped[str] = mapped_column(String(128))
    """The merchant's own id of the customer."""
    provider_customer_id: Mapped[str | None] = mapped_column(String(255))
    token: Mapped[bytes]
    """Encrypted."""
    token_hash: Mapped[bytes]
    """SHA-256: tokens are long and random, so this finds one again and gives none away."""
    kind: Mapped[str] = mapped_column(String(32), server_default="card")
    brand: Mapped[str | None] = mapped_column(String(32))
    last4: Mapped[str | None] = mapped_column(String(4))
    exp_month: Mapped[int | None] = mapped_column(Integer)
    exp_year: Mapped[int | None] = mapped_column(Integer)
    fingerprint: Mapped[bytes | None]
    """Keyed hash of what the provider knows the card by."""
    status: Mapped[str] = mapped_column(String(16), server_default="active")
    """active, detached (cannot be charged any more) or expired."""
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    detached_at: Mapped[datetime | None]


class ProviderCustomer(Base):
    """Which customer of ours is which customer at a provider's account."""

    __tablename__ = "provider_customers"
    __table_args__ = (
        UniqueConstraint("provider_account_id", "customer_id"),
        UniqueConstraint("provider_account_id", "provider_customer_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Derived from account and customer."""
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    customer_id: Mapped[str] = mapped_column(String(128))
    provider_customer_id: Mapped[str] = mapped_column(String(255))
    deleted: Mapped[bool] = mapped_column(server_default=text("false"))
    """The provider no longer has this one; the next that is made takes its place."""
    created_at: Mapped[datetime] = _now()


class MethodSetup(Base):
    """A page where a customer enters a method to be saved. Its workflow is `setup-{id}`."""

    __tablename__ = "method_setups"
    __table_args__ = (
        UniqueConstraint("workspace_id", "idempotency_key"),
        UniqueConstraint("provider_account_id", "session_id"),
        CheckConstraint("(status = 'succeeded') = (payment_method_id IS NOT NULL)", name="success_has_a_method"),
        Index("ix_method_setups_unstarted", "created_at", postgresql_where=text("status = 'created'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    provider: Mapped[str] = mapped_column(String(32))
    customer_id: Mapped[str] = mapped_column(String(128))
    customer_name: Mapped[str | None] = mapped_column(String(200))
    customer_email: Mapped[str | None] = mapped_column(String(320))
    customer_phone: Mapped[str | None] = mapped_column(String(32))
    make_default: Mapped[bool] = mapped_column(server_default=text("true"))
    language: Mapped[str] = mapped_column(String(2), server_default="en")
    success_url: Mapped[str | None] = mapped_column(Text)
    cancel_url: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), server_default="created")
    error_code: Mapped[str | None] = mapped_column(String(100))
    session_id: Mapped[str | None] = mapped_column(String(255))
    session_secret: Mapped[bytes | None]
    """Encrypted."""
    checkout_url: Mapped[str | None] = mapped_column(Text)
    payment_method_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_methods.id"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[bytes | None]
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class Plan(Base):
    """What a subscription costs and how often. Its price never changes: a new price is a new version of the code."""

    __tablename__ = "plans"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="amount_is_not_negative"),
        CheckConstraint("interval_count > 0", name="interval_is_positive"),
        CheckConstraint("trial_days >= 0", name="trial_is_not_negative"),
        UniqueConstraint("workspace_id", "code", "version"),
        Index("uq_plans_active", "workspace_id", "code", unique=True, postgresql_where=text("active")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    code: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(200))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    interval_unit: Mapped[str] = mapped_column(String(8))
    interval_count: Mapped[int] = mapped_column(Integer)
    trial_days: Mapped[int] = mapped_column(Integer, server_default="0")
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether new subscriptions may take it; those that have it go on."""
    created_at: Mapped[datetime] = _now()
    archived_at: Mapped[datetime | None]

    @property
    def price(self) -> Money:
        """The price of one period and one unit."""
        return Money.from_decimal(self.amount, self.currency)


class Subscription(Base):
    """A customer's plan over time. Its workflow is `subscription-{id}`."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity_is_positive"),
        CheckConstraint("current_period_end > current_period_start", name="periods_go_forward"),
        CheckConstraint("managed_by = 'provider' OR plan_id IS NOT NULL", name="ours_have_a_plan"),
        UniqueConstraint("workspace_id", "idempotency_key"),
        UniqueConstraint("provider_account_id", "provider_subscription_id"),
        Index("ix_subscriptions_workspace_created", "workspace_id", "created_at", "status"),
        Index("ix_subscriptions_customer", "workspace_id", "customer_id"),
        Index("ix_subscriptions_wake", "wake_wanted_at", postgresql_where=text("wake_wanted_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    customer_id: Mapped[str] = mapped_column(String(128))
    customer_name: Mapped[str | None] = mapped_column(String(200))
    customer_email: Mapped[str | None] = mapped_column(String(320))
    customer_tax_id: Mapped[str | None] = mapped_column(String(32))
    customer_phone: Mapped[str | None] = mapped_column(String(32))
    customer_document_type: Mapped[str | None] = mapped_column(String(8))
    customer_document: Mapped[str | None] = mapped_column(String(32))
    language: Mapped[str] = mapped_column(String(2), server_default="en")
    plan_id: Mapped[UUID | None] = mapped_column(ForeignKey("plans.id"))
    quantity: Mapped[int] = mapped_column(Integer, server_default="1")
    pending_plan_id: Mapped[UUID | None] = mapped_column(ForeignKey("plans.id"))
    """The plan from the next period on."""
    pending_quantity: Mapped[int | None] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(String(16))
    timezone: Mapped[str] = mapped_column(String(64))
    """The workspace's when it began: a later move of the workspace moves no billing day."""
    anchor: Mapped[datetime]
    anchor_period: Mapped[int] = mapped_column(Integer)
    """The number of the period that begins at the anchor."""
    period: Mapped[int] = mapped_column(Integer)
    """Number of the current period; the trial is 0."""
    current_period_start: Mapped[datetime]
    current_period_end: Mapped[datetime]
    trial_end: Mapped[datetime | None]
    trial_notice_sent: Mapped[bool] = mapped_column(server_default=text("false"))
    cancel_at_period_end: Mapped[bool] = mapped_column(server_default=text("false"))
    cancelled_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    end_reason: Mapped[str | None] = mapped_column(String(300))
    paused_at: Mapped[datetime | None]
    resume_at: Mapped[datetime | None]
    payment_method_id: Mapped[UUID | None] = mapped_column(ForeignKey("payment_methods.id"))
    """The saved method that is charged; without one the customer's default is, else a link is sent each time."""
    referrer_id: Mapped[str | None] = mapped_column(String(128))
    managed_by: Mapped[str] = mapped_column(String(16), server_default="us")
    """us, or provider: then the provider charges and this row follows it."""
    provider_account_id: Mapped[UUID | None] = mapped_column(ForeignKey("provider_accounts.id"))
    provider_subscription_id: Mapped[str | None] = mapped_column(String(255))
    synced_at: Mapped[datetime | None]
    """When the provider was asked for what is on record of a subscription that it manages."""
    success_url: Mapped[str | None] = mapped_column(Text)
    cancel_url: Mapped[str | None] = mapped_column(Text)
    extra: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'::jsonb"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[bytes | None]
    notice_seq: Mapped[int] = mapped_column(Integer, server_default="0")
    next_action_at: Mapped[datetime | None]
    """When its workflow will act next; for people, the workflow has its own timer."""
    wake_wanted_at: Mapped[datetime | None]
    """Set with a change that its workflow has to see, taken away when it has; the dispatcher wakes those left over."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Invoice(Base):
    """What one period, or one change of plan within it, costs. Its attempts are payments."""

    __tablename__ = "invoices"
    __table_args__ = (
        CheckConstraint("total >= 0 AND credit_applied >= 0", name="amounts_are_not_negative"),
        CheckConstraint("subtotal = total + credit_applied", name="parts_sum_to_subtotal"),
        UniqueConstraint("subscription_id", "period", "sequence"),
        UniqueConstraint("subscription_id", "provider_invoice_id"),
        Index("ix_invoices_workspace_created", "workspace_id", "created_at", "status"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    period: Mapped[int] = mapped_column(Integer)
    sequence: Mapped[int] = mapped_column(Integer)
    """0 is the period's own invoice, those from 1 are changes of plan within it."""
    kind: Mapped[str] = mapped_column(String(16))
    """first, renewal or change."""
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    """What it is made of: kind, description, quantity and amount (major units) of each."""
    subtotal: Mapped[Decimal] = mapped_column(AMOUNT)
    credit_applied: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What the customer's credit paid of it."""
    total: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(16), server_default="open")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    """How many payments were made for it."""
    retries: Mapped[int] = mapped_column(Integer, server_default="0")
    """How many of them were retries of the plan."""
    failed_attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    """The last attempt whose failure was dealt with."""
    first_failed_at: Mapped[datetime | None]
    grace_until: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    decline_code: Mapped[str | None] = mapped_column(String(200))
    due_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    payment_id: Mapped[UUID | None]
    """The payment that paid it."""
    provider_invoice_id: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def money(self) -> Money:
        """What is to be charged."""
        return Money.from_decimal(self.total, self.currency)


class CustomerCredit(Base):
    """What a customer has left over from changes to cheaper plans; it pays the next invoices first."""

    __tablename__ = "customer_credits"
    __table_args__ = (CheckConstraint("balance >= 0", name="balance_is_not_negative"),)

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    customer_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    currency: Mapped[str] = mapped_column(String(3), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    updated_at: Mapped[datetime] = _now()


class SubscriptionChangeRecord(Base):
    """A wish of the merchant that was carried out, and its answer: a repeat under the same id gets the same one."""

    __tablename__ = "subscription_changes"
    __table_args__ = (Index("ix_subscription_changes_subscription", "subscription_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    kind: Mapped[str] = mapped_column(String(32))
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


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
    error_code: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


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
    claimed_amount: Mapped[Decimal | None] = mapped_column(AMOUNT)
    claimed_currency: Mapped[str | None] = mapped_column(String(3))
    signature: Mapped[str] = mapped_column(String(16), server_default="valid")
    body: Mapped[bytes]
    status: Mapped[str] = mapped_column(String(16), server_default="received")
    """received → dispatched (the workflow has it) → handled; or ignored (nothing of ours, or an unknown type)."""
    outcome: Mapped[str | None] = mapped_column(String(200))
    deliveries: Mapped[int] = mapped_column(Integer, server_default="1")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    next_attempt_at: Mapped[datetime] = _now()
    last_error: Mapped[str | None] = mapped_column(String(300))
    occurred_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = _now()
    dispatched_at: Mapped[datetime | None]
    handled_at: Mapped[datetime | None]


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
    failure_code: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()

    @property
    def money(self) -> Money:
        """What came in too much."""
        return Money.from_decimal(self.amount, self.currency)

    @property
    def refund_id(self) -> UUID:
        """Our id of its refund at the provider: the same on every try of the same decision."""
        return self.id if self.refund_number == 1 else uuid5(self.id, f"refund-{self.refund_number}")


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


class WebhookRejection(Base):
    """Callbacks that were refused, counted by reason and day; their bodies are not kept, anyone can send them."""

    __tablename__ = "webhook_rejections"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider: Mapped[str] = mapped_column(String(32), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger, server_default="1")
    last_at: Mapped[datetime] = _now()


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
    created_at: Mapped[datetime] = _now()
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
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


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
    created_at: Mapped[datetime] = _now()


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
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class PayoutLine(Base):
    """One referrer's part of a batch."""

    __tablename__ = "payout_lines"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        CheckConstraint("carried <= 0 AND amount = gross + carried", name="amount_is_gross_less_debt"),
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
    """What was clawed back of commissions paid before: zero or negative."""
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(16), server_default="prepared")
    """prepared → sent → paid or failed; or dropped."""
    reference: Mapped[str | None] = mapped_column(String(200))
    """The bank's, of a paid line."""
    failure: Mapped[str | None] = mapped_column(String(300))
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()

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
    created_at: Mapped[datetime] = _now()


class PayoutFile(Base):
    """What is given to the bank: made once, after the approval."""

    __tablename__ = "payout_files"

    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.id"), primary_key=True)
    content: Mapped[bytes]
    """Encrypted CSV: it names people and accounts."""
    sha256: Mapped[bytes]
    """Of the file in clear."""
    made_at: Mapped[datetime] = _now()


class Refund(Base):
    """Money of a captured payment on its way back. Its workflow is `refund-{id}`."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_is_positive"),
        UniqueConstraint("workspace_id", "idempotency_key"),
        UniqueConstraint("provider", "provider_refund_id"),  # one movement at the provider is one refund
        Index("ix_refunds_workspace_created", "workspace_id", "created_at", "status"),
        Index("ix_refunds_payment", "payment_id"),
        Index("ix_refunds_unstarted", "created_at", postgresql_where=text("status = 'requested'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    provider: Mapped[str] = mapped_column(String(32))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(String(3))
    status: Mapped[str] = mapped_column(String(16), server_default="requested")
    """requested → pending or unknown → succeeded or failed."""
    origin: Mapped[str] = mapped_column(String(16), server_default="merchant")
    """merchant (API, command line) or provider (made in the provider's own dashboard)."""
    reason: Mapped[str | None] = mapped_column(String(300))
    requested_by: Mapped[str] = mapped_column(String(100))
    provider_refund_id: Mapped[str | None] = mapped_column(String(255))
    failure_code: Mapped[str | None] = mapped_column(String(100))
    vat: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """The tax in it, once it succeeded."""
    commission: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """What the referrer gave back, once it succeeded."""
    fee: Mapped[Decimal | None] = mapped_column(AMOUNT)
    """What the provider gave back of its fee, once it succeeded."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[bytes | None]
    asked_at: Mapped[datetime | None]
    """When the provider was last asked to make it."""
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()

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
    reason: Mapped[str | None] = mapped_column(String(100))
    evidence_due_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()

    @property
    def money(self) -> Money:
        """What the bank wants."""
        return Money.from_decimal(self.amount, self.currency)


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
    created_at: Mapped[datetime] = _now()


class ReceiptPdf(Base):
    """The rendered document, apart from the receipt so that lists never carry the bytes."""

    __tablename__ = "receipt_pdfs"

    receipt_id: Mapped[UUID] = mapped_column(ForeignKey("receipts.id"), primary_key=True)
    pdf: Mapped[bytes]
    sha256: Mapped[bytes]
    rendered_at: Mapped[datetime] = _now()


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
    created_at: Mapped[datetime] = _now()


class OrderNotice(Base):
    """The outbox: what the merchant's order service must be told, in order per payment and per subscription."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("stream", "seq"),
        CheckConstraint("payment_id IS NULL OR subscription_id IS NULL", name="a_notice_is_of_one_stream"),
        Index("ix_outbox_due", "next_attempt_at", postgresql_where=text("status = 'waiting'")),
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
    next_attempt_at: Mapped[datetime] = _now()
    last_error: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime] = _now()
    delivered_at: Mapped[datetime | None]


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


class IdempotentAnswer(Base):
    """The first answer to a POST with an Idempotency-Key, for the endpoints that have no identity of their own."""

    __tablename__ = "idempotent_answers"

    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[bytes]
    status_code: Mapped[int] = mapped_column(Integer)
    body: Mapped[bytes]
    """Encrypted: it may hold a secret that is shown once."""
    created_at: Mapped[datetime] = _now()
