"""The one contract of every payment provider: what it can do, what it is asked, what it answers, how it fails.

Errors are types that say what is known about the money:

    ProviderError
    ├── NothingMoved            certain: no money moved and none will because of this call
    │   ├── ProviderDeclined        the payer's bank or the provider said no; asking again is pointless
    │   ├── ProviderRejected        our request is wrong; asking again is pointless
    │   ├── ProviderMisconfigured   wrong or revoked credentials; an operator must act
    │   └── ProviderBusy            rate limited or refused before acting; ask again after `retry_after`
    └── OutcomeUnknown          time-out, broken connection, 5xx: it may have acted; look before any second try
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from domain.money import Money
from domain.payment import PaymentStatus


class ProviderError(Exception):
    """Base of all that a provider call raises. `code` is stable and safe to show; the text holds no personal data."""

    def __init__(self, code: str, detail: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class NothingMoved(ProviderError):
    """Certain: no money moved because of this call."""


class ProviderDeclined(NothingMoved):
    """The payer's bank or the provider declined."""


class ProviderRejected(NothingMoved):
    """The request is not acceptable to the provider (amount too small, unknown currency, …)."""


class ProviderMisconfigured(NothingMoved):
    """Credentials or account settings are wrong; an operator must act."""


class ProviderBusy(NothingMoved):
    """Refused before acting: rate limit or overload. `retry_after` is what the provider asked for."""


class OutcomeUnknown(ProviderError):
    """Silence: the provider may have acted. Look our reference up before anything else."""


class Rejection(StrEnum):
    """Why a callback was not accepted."""

    BAD_SIGNATURE = "bad_signature"
    STALE_TIMESTAMP = "stale_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    MALFORMED = "malformed_body"


class WebhookRejected(Exception):
    """The callback is not authentic or not readable; nothing may change because of it."""

    def __init__(self, reason: Rejection, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do. Workflows and routing read this, never a provider's name."""

    redirect_checkout: bool = True
    direct_payment: bool = False
    payment_links: bool = False
    cash_code: bool = False
    bank_list: bool = False
    refund: bool = True
    partial_refund: bool = True
    void: bool = False
    closes_checkout: bool = False
    idempotency_key_lifetime: timedelta | None = None
    looks_up_by_reference: bool = False
    lists_events: bool = False
    failed_can_become_paid: bool = True
    unit: Literal["minor", "major"] = "minor"
    currencies: frozenset[str] | None = None
    """None: every ISO 4217 currency."""
    min_checkout_lifetime: timedelta = timedelta(0)
    max_checkout_lifetime: timedelta | None = None


class CheckoutMode(StrEnum):
    """`HOSTED`: the provider's own page. `DIRECT`: the merchant's page with the provider's client library."""

    HOSTED = "hosted"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """Open a checkout. The idempotency value is the payment's id: the same on every try."""

    payment_id: UUID
    workspace_id: UUID
    order_id: str
    amount: Money
    description: str
    mode: CheckoutMode
    expires_at: datetime
    created_at: datetime
    success_url: str | None = None
    cancel_url: str | None = None
    customer_email: str | None = None
    language: str = "en"


@dataclass(frozen=True, slots=True)
class OpenedCheckout:
    """The provider's answer. `client_secret` only in direct mode; it is a secret and never enters a history."""

    session_id: str
    url: str | None
    client_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CheckoutRef:
    """How a payment is found again at the provider."""

    payment_id: UUID
    session_id: str | None
    mode: CheckoutMode
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ProviderPayment:
    """What the provider says now. `captured` is set when, and only when, money arrived."""

    status: PaymentStatus
    session_id: str | None = None
    transaction_id: str | None = None
    captured: Money | None = None
    refunded: Money | None = None
    method: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    failure_code: str | None = None


class EventKind(StrEnum):
    """What a callback claims, in our words. A claim is a reason to look, not a fact."""

    CAPTURED = "captured"
    PROCESSING = "processing"
    ACTION_REQUIRED = "action_required"
    ATTEMPT_FAILED = "attempt_failed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"
    REFUND = "refund"
    DISPUTE = "dispute"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """A verified callback. `payment_id` is our reference inside it, where the event carries one.

    `amount` is what the event claims, for the record only.
    """

    event_id: str
    type: str
    kind: EventKind
    payment_id: UUID | None = None
    session_id: str | None = None
    transaction_id: str | None = None
    amount: Money | None = None
    occurred_at: datetime | None = None


class RefundStatus(StrEnum):
    """A refund at the provider."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """Give money back. The idempotency value is the refund's id."""

    refund_id: UUID
    payment_id: UUID
    transaction_id: str
    amount: Money
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderRefund:
    """The provider's answer to a refund."""

    provider_refund_id: str
    status: RefundStatus
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """The connection test's answer: whose account this is and whether it can take money."""

    account_name: str
    live: bool
    detail: str = ""


class Provider(Protocol):
    """One account at one provider. Built once an account, closed with `aclose`; safe for concurrent use.

    Every call raises ProviderError subclasses only; none retries by itself (the workflow's policies do).
    """

    name: str
    capabilities: Capabilities

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Create the checkout, or find again the one that an earlier try created."""
        ...

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What the provider says about this payment now. Status UNKNOWN when it does not know our reference."""
        ...

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Make sure that the payer can no longer pay; a repeat is harmless. Returns the state after it."""
        ...

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all of a captured payment; a repeat with the same id refunds once."""
        ...

    async def check_account(self) -> AccountCheck:
        """Connection test with the stored credentials."""
        ...

    def verify_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        """Authenticate and read a callback. Header names are lower case. Raises WebhookRejected."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """A provider account as an adapter is built from it. `credentials` are secret, `options` are not."""

    account_id: UUID
    credentials: Mapping[str, str] = field(repr=False)
    options: Mapping[str, object] = field(default_factory=dict)
    timeout_seconds: float = 10.0
    webhook_tolerance_seconds: int = 300
    webhook_future_tolerance_seconds: int = 60
