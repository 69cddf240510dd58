"""Who a shop is and how it is recognised."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Integer, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from storage.models.base import AMOUNT, RATE, Base, moment


class Workspace(Base):
    """A tenant: one currency, one VAT profile, its own numbers."""

    __tablename__ = "workspaces"
    __table_args__ = (
        CheckConstraint("vat_rate >= 0 AND vat_rate < 1", name="vat_rate_is_a_fraction"),
        CheckConstraint("commission_rate >= 0 AND commission_rate < 1", name="commission_rate_is_a_fraction"),
        CheckConstraint("dunning_grace_days >= 0", name="grace_is_not_negative"),
        CheckConstraint("dunning_final_action IN ('cancel', 'expire', 'keep')", name="final_action_is_known"),
        CheckConstraint("dispute_lost_action IN ('cancel', 'keep')", name="dispute_lost_action_is_known"),
        CheckConstraint("dispute_open_action IN ('pause', 'charge')", name="dispute_open_action_is_known"),
        CheckConstraint("fraud_warning_action IN ('tell', 'refund')", name="fraud_warning_action_is_known"),
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
    """The rate of today when it was last changed; it holds for every day as long as `vat_rates` is empty."""
    vat_rates: Mapped[list[dict[str, str]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """`from` (a day in the workspace's zone) and `rate` of each; a document carries that of the day of its capture."""
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
    dispute_lost_action: Mapped[str] = mapped_column(String(16), server_default="cancel")
    """What a lost dispute of its payment does to a subscription: cancel or keep."""
    dispute_open_action: Mapped[str] = mapped_column(String(16), server_default="pause")
    """What is done with a subscription's charges while a bank decides about a payment of it: pause or charge."""
    fraud_warning_action: Mapped[str] = mapped_column(String(16), server_default="tell")
    """What is done about a bank's early fraud warning: tell the order service, or also refund before the dispute."""
    order_webhook_url: Mapped[str | None] = mapped_column(Text)
    order_webhook_secret: Mapped[bytes | None]
    """Encrypted."""
    created_at: Mapped[datetime] = moment()


class ApiKey(Base):
    """A caller's key; only its hash is kept. Without a workspace it is the platform's own administrator."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str] = mapped_column(String(100))
    hint: Mapped[str] = mapped_column(String(16))
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(32)))
    created_at: Mapped[datetime] = moment()
    revoked_at: Mapped[datetime | None]
