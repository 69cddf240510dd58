"""A payment's statuses, their legal transitions, and the commands and results that cross the workflow boundary.

Nothing here carries personal data or secrets: these objects are written into workflow histories.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.money import Money


class PaymentStatus(StrEnum):
    """Where a payment stands. `disputed` is a flag beside the status, not one of these."""

    CREATED = "created"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    UNKNOWN = "unknown"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELED = "canceled"


OPEN = frozenset(
    {PaymentStatus.CREATED, PaymentStatus.PENDING, PaymentStatus.REQUIRES_ACTION, PaymentStatus.UNKNOWN},
)
"""The payer may still pay, or the outcome is being resolved."""
CAPTURED = frozenset({PaymentStatus.PAID, PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED})
"""Money arrived, whatever happened to it afterwards."""
CLOSED_WITHOUT_MONEY = frozenset({PaymentStatus.EXPIRED, PaymentStatus.CANCELED, PaymentStatus.FAILED})
"""Nothing can be paid any more as far as we know; late truth may still turn these into paid."""

_STRENGTH = {
    PaymentStatus.CREATED: 0,
    PaymentStatus.UNKNOWN: 1,  # any fact about the money is stronger than not knowing
    PaymentStatus.PENDING: 2,
    PaymentStatus.REQUIRES_ACTION: 3,
    PaymentStatus.EXPIRED: 4,
    PaymentStatus.CANCELED: 5,
    PaymentStatus.FAILED: 6,
    PaymentStatus.PAID: 7,
    PaymentStatus.PARTIALLY_REFUNDED: 8,
    PaymentStatus.REFUNDED: 9,
}


class Advance(StrEnum):
    """What became of an observed status."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    IGNORED = "ignored_backwards"
    LATE = "applied_late"


@dataclass(frozen=True, slots=True)
class Transition:
    """The status to store and how it came about; `LATE` is money that arrived after we had closed the payment."""

    status: PaymentStatus
    advance: Advance


def advance(current: PaymentStatus, observed: PaymentStatus) -> Transition:
    """Apply one observed fact. This table is the only way a status changes.

    Facts only ever strengthen a status, so any order and any repetition of the same facts ends in the same status.
    Not knowing is different: an open payment may become `unknown` whatever it was, because a call to the provider
    went unanswered, and the next fact resolves it.
    """
    if observed is current:
        return Transition(current, Advance.UNCHANGED)
    if observed is PaymentStatus.UNKNOWN:
        return Transition(observed, Advance.APPLIED) if current in OPEN else Transition(current, Advance.IGNORED)
    if _STRENGTH[observed] < _STRENGTH[current]:
        return Transition(current, Advance.IGNORED)
    late = current in CLOSED_WITHOUT_MONEY and observed in CAPTURED
    return Transition(observed, Advance.LATE if late else Advance.APPLIED)


def attempt_reference(payment_id: UUID, number: int) -> UUID:
    """Our reference at the provider for a payment's attempt: the same for ever, so a repeat finds the first one's."""
    return payment_id if number == 1 else uuid5(payment_id, f"attempt-{number}")


def payment_id_for(workspace_id: UUID, idempotency_key: str) -> UUID:
    """The same workspace and key name the same payment for ever, so a repeat finds the first one's workflow."""
    return uuid5(NAMESPACE_URL, f"durable-payments:{workspace_id}:{idempotency_key}")


@dataclass(frozen=True, slots=True)
class PollPlan:
    """When to ask the provider ourselves. Intervals in seconds; `jitter` is a share of the interval, 0 to 1."""

    first_seconds: float = 60.0
    growth: float = 2.0
    max_seconds: float = 3600.0
    jitter: float = 0.1

    def interval(self, looks_done: int, roll: float) -> timedelta:
        """The wait before look number `looks_done + 1`; `roll` in [0, 1) is the caller's source of chance."""
        base = min(self.first_seconds * self.growth ** min(looks_done, 64), self.max_seconds)
        return timedelta(seconds=base * (1 + self.jitter * (2 * roll - 1)))


@dataclass(frozen=True, slots=True)
class ProviderTrigger:
    """A verified provider event is in the inbox: look at the provider now. Names the inbox row, carries no data."""

    inbox_id: int
    event_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Watch:
    """What a payment's workflow carries over when its history is cut (continue-as-new).

    `triggers` and `cancel_requested` still wait for the provider's answer; `retry_in` is how long it is left alone.
    """

    status: PaymentStatus = PaymentStatus.PENDING
    looks_done: int = 0
    seen_event_ids: tuple[str, ...] = ()
    checkout_url: str | None = None
    others_open: bool = False
    receipt_id: UUID | None = None
    triggers: tuple[ProviderTrigger, ...] = ()
    cancel_requested: bool = False
    retry_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class StartPayment:
    """Start of a payment's workflow. `amount_minor` in minor units; `expires_at` is when the checkout closes (UTC)."""

    payment_id: UUID
    workspace_id: UUID
    provider: str
    provider_account_id: UUID
    order_id: str
    customer_id: str | None
    amount_minor: int
    currency: str
    expires_at: datetime
    poll: PollPlan = field(default_factory=PollPlan)
    resumed: Watch | None = None
    payment_method_id: UUID | None = None
    """A saved method that is charged; there is no page to open, and more patience, since nobody waits at one."""
    subscription_id: UUID | None = None
    """Whose workflow is told of what becomes of it."""

    @property
    def amount(self) -> Money:
        """The amount to be paid."""
        return Money(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where the payer goes. `url` is None in direct mode and when opening failed; then `error_code` says why.

    `error_type` is the name of the provider error (ProviderDeclined, ProviderRejected, ProviderMisconfigured).
    `look_now`: the provider has answered for good already, as after the charge of a saved method.
    """

    status: PaymentStatus
    url: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    error_type: str | None = None
    look_now: bool = False


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ask the provider about one payment and record what it says.

    `inbox_ids` are the inbox rows that this look answers. With `close_as` the checkout is closed at the provider
    first, so that the payer can no longer pay, and the payment takes that status unless money has arrived.
    """

    payment_id: UUID
    inbox_ids: tuple[int, ...] = ()
    close_as: PaymentStatus | None = None


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What is now on record for the payment. `receipt_id` is set once money was settled.

    `others_open`: the payment is captured, but other ways to pay it could not be closed yet; they are watched until
    they lapse. `surplus_ids`: money beyond the obligation that is to be refunded now. `subscription_id`: whose workflow
    has to hear of it.
    """

    status: PaymentStatus
    receipt_id: UUID | None = None
    flag: str | None = None
    others_open: bool = False
    surplus_ids: tuple[UUID, ...] = ()
    subscription_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class OpenWay:
    """Open a further way to pay a payment; the attempt of this reference is on record already."""

    payment_id: UUID
    reference: UUID


class SurplusStatus(StrEnum):
    """What became of money beyond the obligation."""

    PROPOSED = "proposed"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    KEPT = "kept"
    SETTLED_OUTSIDE = "settled_outside"


@dataclass(frozen=True, slots=True)
class ReturnSurplus:
    """Refund one surplus capture, or ask how its refund stands."""

    surplus_id: UUID


@dataclass(frozen=True, slots=True)
class RecordStatus:
    """Record a status that the workflow itself concluded (failed to open, outcome unknown)."""

    payment_id: UUID
    status: PaymentStatus
    reason: str


@dataclass(frozen=True, slots=True)
class RenderReceipt:
    """Render the PDF of one issued document."""

    receipt_id: UUID


@dataclass(frozen=True, slots=True)
class PaymentView:
    """The answer to the `status` query."""

    payment_id: UUID
    status: PaymentStatus
    waiting_for: str
    looks_done: int
    events_seen: int


@dataclass(frozen=True, slots=True)
class PaymentOutcome:
    """How a payment's workflow ended."""

    payment_id: UUID
    status: PaymentStatus
    receipt_id: UUID | None = None
