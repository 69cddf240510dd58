"""A subscription's statuses, their legal transitions, and the commands and results that cross the workflow boundary.

Nothing here carries personal data or secrets: these objects are written into workflow histories.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID, uuid5

from domain.money import Money
from domain.payment import PollPlan, ProviderTrigger, StartPayment
from domain.refund import StartRefund


class SubscriptionStatus(StrEnum):
    """Where a subscription stands."""

    INCOMPLETE = "incomplete"
    """The first payment was not made yet."""
    TRIALING = "trialing"
    ACTIVE = "active"
    PAST_DUE = "past_due"
    """A renewal could not be charged; dunning is at work."""
    PAUSED = "paused"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Ended because nothing was paid."""


ENDED = frozenset({SubscriptionStatus.CANCELLED, SubscriptionStatus.EXPIRED})
_S = SubscriptionStatus
TRANSITIONS = MappingProxyType(
    {
        _S.INCOMPLETE: frozenset({_S.ACTIVE, _S.CANCELLED, _S.EXPIRED}),
        _S.TRIALING: frozenset({_S.ACTIVE, _S.PAST_DUE, _S.CANCELLED, _S.EXPIRED}),
        _S.ACTIVE: frozenset({_S.PAST_DUE, _S.PAUSED, _S.CANCELLED}),
        _S.PAST_DUE: frozenset({_S.ACTIVE, _S.CANCELLED, _S.EXPIRED}),
        _S.PAUSED: frozenset({_S.ACTIVE, _S.CANCELLED}),
        _S.EXPIRED: frozenset({_S.ACTIVE}),  # late truth: the money of its last invoice came after all
        _S.CANCELLED: frozenset[SubscriptionStatus](),
    }
)
"""The only ways in which a subscription that we manage changes; one that a provider manages follows the provider."""


class IllegalTransition(ValueError):
    """The table has no such change; the text names both statuses."""


def change(current: SubscriptionStatus, wanted: SubscriptionStatus) -> SubscriptionStatus:
    """The new status. Staying is always legal. Raises IllegalTransition."""
    if wanted is not current and wanted not in TRANSITIONS[current]:
        raise IllegalTransition(f"{current.value} does not become {wanted.value}")
    return wanted


class InvoiceStatus(StrEnum):
    """An invoice of one period. Only an open one is charged; each of the others may still turn paid (late truth)."""

    OPEN = "open"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


def subscription_workflow_id(subscription_id: UUID) -> str:
    """The id of a subscription's workflow."""
    return f"subscription-{subscription_id}"


def invoice_id_for(subscription_id: UUID, period: int, sequence: int) -> UUID:
    """A period has one invoice for itself (sequence 0) and one for each change of plan within it."""
    return uuid5(subscription_id, f"period-{period}-{sequence}")


def attempt_payment_id(invoice_id: UUID, attempt: int) -> UUID:
    """The payment of an invoice's attempt (from 1): the same for ever, so that a repeat charges nothing twice."""
    return uuid5(invoice_id, f"attempt-{attempt}")


@dataclass(frozen=True, slots=True)
class StartSubscription:
    """Start of a subscription's workflow; the same for the same row."""

    subscription_id: UUID
    workspace_id: UUID
    customer_id: str
    poll: PollPlan = field(default_factory=PollPlan)
    resumed: SubscriptionWatch | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionWatch:
    """What the workflow carries over when its history is cut."""

    status: SubscriptionStatus
    seen_event_ids: tuple[str, ...] = ()
    triggers: tuple[ProviderTrigger, ...] = ()


@dataclass(frozen=True, slots=True)
class AdvanceSubscription:
    """Do whatever is due at `at`, the workflow's clock."""

    subscription_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True)
class SubscriptionStep:
    """What the workflow does next.

    `start`: a charge to run as a payment of its own. `close`: payments that are still open and must not be paid any
    more. `wake_at`: when something is due again; None: only an event can move it on.
    """

    status: SubscriptionStatus
    waiting_for: str
    ended: bool = False
    wake_at: datetime | None = None
    start: StartPayment | None = None
    close: tuple[UUID, ...] = ()
    first_ready: bool = True
    """The first charge has an answer or a link, or there is none to make."""
    refunds: tuple[StartRefund, ...] = ()
    """Money that came after the end, on its way back."""
    sync: bool = False
    """The provider manages it: ask the provider now."""


class ChangeKind(StrEnum):
    """What can be asked of a subscription."""

    CANCEL = "cancel"
    CANCEL_AT_PERIOD_END = "cancel_at_period_end"
    PAUSE = "pause"
    RESUME = "resume"
    CHANGE_PLAN = "change_plan"
    CHANGE_PLAN_AT_PERIOD_END = "change_plan_at_period_end"
    PAYMENT_METHOD = "payment_method"


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """One wish of the merchant. `change_id` names it: a repeat has the same effect once and the same answer.

    `fingerprint` is of the request that it came with, to tell a repeat from another wish under the same key.
    """

    subscription_id: UUID
    change_id: UUID
    kind: ChangeKind
    actor: str
    plan_id: UUID | None = None
    quantity: int | None = None
    payment_method_id: UUID | None = None
    resume_at: datetime | None = None
    reason: str | None = None
    at: datetime | None = None
    """The workflow's clock, set by the workflow."""
    fingerprint: str | None = None

    def on(self, at: datetime) -> SubscriptionChange:
        """The same wish at a moment."""
        return replace(self, at=at)


@dataclass(frozen=True, slots=True)
class SubscriptionChanged:
    """What a wish did, or would do, or why not. Amounts are major units as text; `refusal` is a stable code."""

    status: SubscriptionStatus
    effects: dict[str, str | None] = field(default_factory=dict)
    refusal: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class NextCharge:
    """The next charge that falls due by itself, if nothing changes until then. `deferred` is what it leaves over."""

    at: datetime
    amount: Money
    credit_applied: Money
    deferred: Money
    plan: str
    quantity: int
    payment_method_id: UUID | None
    """The saved method that is charged; None: the customer is sent a link."""


class NoCharge(StrEnum):
    """Why nothing falls due by itself."""

    CANCEL_SCHEDULED = "cancel_scheduled"
    ENDED = "ended"
    PAUSED = "paused"
    """Without a date of resumption."""
    FIRST_PAYMENT = "first_payment"
    """It begins with that, and it was not made yet."""
    PAYER_HAS_TO_ACT = "payer_has_to_act"
    """An invoice is overdue and is not tried again without another method or the payer."""
    MANAGED_BY_PROVIDER = "managed_by_provider"
    PAYMENT_DISPUTED = "payment_disputed"
    """Nothing is charged until the bank has decided."""


@dataclass(frozen=True, slots=True)
class SyncSubscription:
    """Ask the provider how a subscription that it manages stands, and record that."""

    subscription_id: UUID
    inbox_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """The answer to the `status` query."""

    subscription_id: UUID
    status: SubscriptionStatus
    waiting_for: str
    wake_at: datetime | None
