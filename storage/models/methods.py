"""What payers saved for later payments."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.base import Base, moment


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
    default_chosen: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether somebody made it the default; else it took the place of one that was taken away."""
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()
    detached_at: Mapped[datetime | None]


class ReplacedToken(Base):
    """An earlier token of a method whose card was saved again: no new method, and detached with this one."""

    __tablename__ = "replaced_tokens"
    __table_args__ = (
        UniqueConstraint("payment_method_id", "token_hash"),
        Index("ix_replaced_tokens_token", "provider_account_id", "token_hash"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_method_id: Mapped[UUID] = mapped_column(ForeignKey("payment_methods.id"))
    provider_account_id: Mapped[UUID] = mapped_column(ForeignKey("provider_accounts.id"))
    token: Mapped[bytes]
    """Encrypted."""
    token_hash: Mapped[bytes]
    created_at: Mapped[datetime] = moment()


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
    created_at: Mapped[datetime] = moment()


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
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("subscriptions.id"))
    """The subscription that it is for: what is saved is charged for it from then on."""
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
    created_at: Mapped[datetime] = moment()
    updated_at: Mapped[datetime] = moment()
