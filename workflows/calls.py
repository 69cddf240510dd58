"""Every side effect that workflows have: its name, its types, its deadline and its retries.

The functions are stubs that carry types; `activities/` implements them under the same names, and a test compares
the two. Which errors are worth another try is decided here, once, by the type that says what is known about the money.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityConfig, LocalActivityConfig

from domain.dispute import DisputeView, ReconcileDisputes, Reminder
from domain.payment import (
    Checkout,
    Confirm,
    Confirmation,
    OpenWay,
    RecordStatus,
    RenderReceipt,
    ReturnSurplus,
    StartPayment,
    SurplusStatus,
)
from domain.payout import (
    Decided,
    DecidePayout,
    ExportPayout,
    LookAtPayout,
    PayoutProgress,
    PreparePayout,
    RemindOfPayout,
)
from domain.refund import AdvanceRefund, LeaveRefund, Reconciled, ReconcileRefunds, RefundProgress
from domain.risk import ReconcileRisk, RiskReconciled
from domain.setup import DetachMethod, FailSetup, LookAtSetup, OpenedSetup, RefreshMethods, SetupProgress, StartSetup
from domain.subscription import (
    AdvanceSubscription,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStep,
    SyncSubscription,
)

NOTHING_MOVED_AND_NEVER_WILL = (
    "ProviderDeclined",
    "ProviderRejected",
    "ProviderMisconfigured",
    "PaymentNotFound",
    "Unprocessable",
)
"""Errors that another try cannot mend. Busy and unknown outcomes are retried, declines and bad requests are not."""

QUICK_TRY_SECONDS = 20
"""One try inside the workflow task: the payer is waiting."""
PROVIDER_CALL_SECONDS = 60
"""One try of the durable path. It may take several requests (look our reference up, create, look again), each of at
most PROVIDER_TIMEOUT_SECONDS."""

_PROVIDER_RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=NOTHING_MOVED_AND_NEVER_WILL,
)
_DATABASE_RETRIES = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
    non_retryable_error_types=("PaymentNotFound", "PayoutNotFound"),
)


def provider_try(summary: str) -> LocalActivityConfig:
    """One quick try inside the workflow task. A failure is handed to the durable path, which has the patience."""
    return LocalActivityConfig(
        start_to_close_timeout=timedelta(seconds=QUICK_TRY_SECONDS),
        retry_policy=RetryPolicy(maximum_attempts=1),
        summary=summary,
    )


def provider_call(summary: str, *, patience: timedelta) -> ActivityConfig:
    """A provider call that is repeated with growing waits, and Retry-After where the provider said so."""
    return ActivityConfig(
        start_to_close_timeout=timedelta(seconds=PROVIDER_CALL_SECONDS),
        schedule_to_close_timeout=max(patience, timedelta(seconds=PROVIDER_CALL_SECONDS)),
        retry_policy=_PROVIDER_RETRIES,
        summary=summary,
    )


def own_database(summary: str) -> ActivityConfig:
    """A write to our own database: repeated until PostgreSQL is back."""
    return ActivityConfig(start_to_close_timeout=timedelta(seconds=30), retry_policy=_DATABASE_RETRIES, summary=summary)


def quick_render(summary: str) -> LocalActivityConfig:
    """Rendering takes milliseconds, so it is tried inside the workflow task first."""
    return LocalActivityConfig(
        start_to_close_timeout=timedelta(seconds=15), retry_policy=RetryPolicy(maximum_attempts=1), summary=summary
    )


CallFailed = (ActivityError, ApplicationError)
"""What a failed call raises: a local activity that fails for good comes without the wrapping of a regular one."""


def _reason(error: BaseException) -> ApplicationError | None:
    """What the activity said; None for a time-out, which is an unknown outcome."""
    reason = error if isinstance(error, ApplicationError) else error.__cause__
    return reason if isinstance(reason, ApplicationError) else None


def error_type(error: BaseException) -> str | None:
    """The name of the provider error, as in providers/base.py; None for a time-out."""
    reason = _reason(error)
    return None if reason is None else reason.type


def error_code(error: BaseException) -> tuple[str, str]:
    """The stable code and the detail of a provider error."""
    reason = _reason(error)
    if reason is not None and reason.details:
        return str(reason.details[0]), str(reason.message)
    return "provider_unavailable", "the provider did not answer"


def retry_after(error: BaseException) -> timedelta | None:
    """How long the provider asked us to wait, if it did."""
    reason = _reason(error)
    if reason is not None and len(reason.details) > 1 and reason.details[1] is not None:
        return timedelta(seconds=float(reason.details[1]))
    return None


def will_never_work(error: BaseException) -> bool:
    """Whether another try is pointless: declined, rejected or misconfigured."""
    reason = _reason(error)
    return reason is not None and reason.type in NOTHING_MOVED_AND_NEVER_WILL


@activity.defn
async def open_checkout(command: StartPayment) -> Checkout:
    """Create, or find again, the provider's checkout for this payment, and record it."""
    raise NotImplementedError


@activity.defn
async def open_way(command: OpenWay) -> Checkout:
    """Open a further way to pay the payment."""
    raise NotImplementedError


@activity.defn
async def advance_refund(command: AdvanceRefund) -> RefundProgress:
    """Ask the provider to make the refund, or what became of it, and record the answer."""
    raise NotImplementedError


@activity.defn
async def leave_refund(command: LeaveRefund) -> RefundProgress:
    """Let a person compare what the provider does not tell."""
    raise NotImplementedError


@activity.defn
async def reconcile_refunds(command: ReconcileRefunds) -> Reconciled:
    """After a provider told of a refund: bring ours up to date, and put on record what was made at the provider."""
    raise NotImplementedError


@activity.defn
async def reconcile_disputes(command: ReconcileDisputes) -> list[DisputeView]:
    """Ask the provider for all disputes of the payment and record how they stand."""
    raise NotImplementedError


@activity.defn
async def reconcile_risk(command: ReconcileRisk) -> RiskReconciled:
    """Ask the provider what it warns of about the payment, record and tell what is new, and follow the policy."""
    raise NotImplementedError


@activity.defn
async def remind_of_dispute(command: Reminder) -> bool:
    """Tell the order service that evidence is due, if it still is."""
    raise NotImplementedError


@activity.defn
async def return_surplus(command: ReturnSurplus) -> SurplusStatus:
    """Refund the money, or ask how its refund stands, and record it."""
    raise NotImplementedError


@activity.defn
async def prepare_payout(command: PreparePayout) -> PayoutProgress:
    """Collect the lines of a batch and reserve their commissions."""
    raise NotImplementedError


@activity.defn
async def decide_payout(command: DecidePayout) -> Decided:
    """Approve or reject a batch, as it stands now."""
    raise NotImplementedError


@activity.defn
async def export_payout(command: ExportPayout) -> None:
    """Make and keep the file of an approved batch."""
    raise NotImplementedError


@activity.defn
async def look_at_payout(command: LookAtPayout) -> PayoutProgress:
    """Read how a batch stands."""
    raise NotImplementedError


@activity.defn
async def remind_of_payout(command: RemindOfPayout) -> PayoutProgress:
    """Tell the order service that a batch waits for people, if it still does."""
    raise NotImplementedError


@activity.defn
async def confirm(command: Confirm) -> Confirmation:
    """Ask the provider about the payment; settle it if money arrived, else record its status."""
    raise NotImplementedError


@activity.defn
async def record_status(command: RecordStatus) -> Confirmation:
    """Record a status that the workflow itself concluded."""
    raise NotImplementedError


@activity.defn
async def render_receipt(command: RenderReceipt) -> None:
    """Render and keep the PDF of an issued document."""
    raise NotImplementedError


@activity.defn
async def advance_subscription(command: AdvanceSubscription) -> SubscriptionStep:
    """Do all that is due for a subscription and say what comes next."""
    raise NotImplementedError


@activity.defn
async def open_setup(command: StartSetup) -> OpenedSetup:
    """Open, or find again, the provider's page where the customer enters a method to be saved."""
    raise NotImplementedError


@activity.defn
async def sync_subscription(command: SyncSubscription) -> bool:
    """Ask the provider how a subscription that it manages stands, and record that."""
    raise NotImplementedError


@activity.defn
async def change_subscription(command: SubscriptionChange) -> SubscriptionChanged:
    """Carry out a wish of the merchant, once."""
    raise NotImplementedError


@activity.defn
async def look_at_setup(command: LookAtSetup) -> SetupProgress:
    """Ask the provider how a set-up stands; store the method once there is one."""
    raise NotImplementedError


@activity.defn
async def fail_setup(command: FailSetup) -> SetupProgress:
    """Record what the workflow itself concluded about a set-up."""
    raise NotImplementedError


@activity.defn
async def refresh_methods(command: RefreshMethods) -> int:
    """Bring saved methods up to date after the provider told of a change. Returns how many changed."""
    raise NotImplementedError


@activity.defn
async def detach_method(command: DetachMethod) -> bool:
    """Make sure at the provider that a detached method cannot be charged any more."""
    raise NotImplementedError
