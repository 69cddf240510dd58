"""Plans, who subscribed to them, and what each period costs."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.money import Money
from storage.models.base import AMOUNT, Base, moment


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
    created_at: Mapped[datetime] = moment()
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
        CheckConstraint("deferred >= 0", name="deferred_is_not_negative"),
        CheckConstraint("anchor_day BETWEEN 1 AND 31", name="anchor_day_is_of_a_month"),
        UniqueConstraint("workspace_id", "idempotency_key"),
        UniqueConstraint("provider_account_id", "provider_subscription_id"),
        Index("ix_subscriptions_workspace_created", "workspace_id", "created_at", "status"),
        Index("ix_subscriptions_customer", "workspace_id", "customer_id"),
        Index("ix_subscriptions_wake", "wake_wanted_at", postgresql_where=text("wake_wanted_at IS NOT NULL")),
        Index("ix_subscriptions_due", "next_action_at", postgresql_where=text("next_action_at IS NOT NULL")),
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
    anchor_wall: Mapped[datetime | None] = mapped_column(DateTime(timezone=False))
    """The anchor on the zone's clock as it was agreed, also where the clock skips that time."""
    anchor_day: Mapped[int | None] = mapped_column(SmallInteger)
    """The day of the month that was agreed, also where the anchor's month has no such day.

    Both count only as long as they mean the moment of `anchor`; else its own day and time do.
    """
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
    charging_paused_at: Mapped[datetime | None]
    """Since when nothing is charged because a payment is disputed."""
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
    deferred: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    """What was below the provider's step and was not charged, in its plan's currency; the next invoice has it."""
    notice_seq: Mapped[int] = mapped_column(Integer, server_default="0")
    next_action_at: Mapped[datetime | None]
    """When its workflow will act next, by its own timer; whoever is long overdue is woken by the dispatcher."""
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
    preferred_methods: Mapped[dict[str, str | None] | None] = mapped_column(JSONB(none_as_null=True))
    """The subscription's own method and the customer's default when the last attempt was made (`own`, `default`)."""
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
    """What a customer has left over from changes to cheaper plans; it pays the next invoices first.

    The sum of the entries. Its row lock orders whatever happens to the customer's credit.
    """

    __tablename__ = "customer_credits"
    __table_args__ = (CheckConstraint("balance >= 0", name="balance_is_not_negative"),)

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    customer_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    currency: Mapped[str] = mapped_column(String(3), primary_key=True)
    balance: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    updated_at: Mapped[datetime] = moment()


class CreditEntry(Base):
    """One turn of a customer's credit, by the payment whose captured money it comes from; only ever added to."""

    __tablename__ = "credit_entries"
    __table_args__ = (
        CheckConstraint("unused <> 0 OR used <> 0", name="changes_something"),
        Index("ix_credit_entries_customer", "workspace_id", "customer_id", "currency"),
        Index("ix_credit_entries_payment", "payment_id"),
        Index("ix_credit_entries_invoice", "invoice_id", postgresql_where=text("invoice_id IS NOT NULL")),
        Index("ix_credit_entries_cause", "cause_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    customer_id: Mapped[str] = mapped_column(String(128))
    currency: Mapped[str] = mapped_column(String(3))
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payments.id"))
    """The source; None for credit from before sources were kept."""
    invoice_id: Mapped[UUID | None] = mapped_column(ForeignKey("invoices.id"))
    """The invoice that it has paid, or that it is given back of."""
    kind: Mapped[str] = mapped_column(String(24))
    """granted, applied, given_back, taken_back, restored, withdrawn or written_off."""
    unused: Mapped[Decimal] = mapped_column(AMOUNT)
    """How the customer's credit changed."""
    used: Mapped[Decimal] = mapped_column(AMOUNT)
    """How the credit that has paid invoices changed."""
    cause_id: Mapped[UUID]
    """The change, invoice, refund, dispute or decision that it follows from."""
    reason: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[datetime] = moment()


class SubscriptionChangeRecord(Base):
    """A wish of the merchant that was carried out, and its answer: a repeat under the same id gets the same one."""

    __tablename__ = "subscription_changes"
    __table_args__ = (Index("ix_subscription_changes_subscription", "subscription_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    kind: Mapped[str] = mapped_column(String(32))
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
