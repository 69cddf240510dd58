"""From the inbox to the workflow: at once by the webhook route, later by this dispatcher if that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import structlog

from dispatch.late import LateStarts
from dispatch.methods import ABOUT_METHODS, MethodDispatcher, MethodHandover, start_setup_command
from dispatch.owners import is_owned, match
from dispatch.subscriptions import SubscriptionHandover
from domain.payment import (
    CAPTURED,
    CLOSED_WITHOUT_MONEY,
    OPEN,
    PaymentStatus,
    PollPlan,
    ProviderTrigger,
)
from domain.payout import StartPayout
from domain.refund import StartRefund
from domain.subscription import StartSubscription
from engine.payments import EngineUnavailable, NoSuchWorkflow, PaymentEngine
from engine.payouts import PayoutEngine
from engine.setups import SetupEngine
from engine.subscriptions import SubscriptionEngine
from providers.base import EventKind
from storage import inbox, payments, payouts, refunds, setups, subscriptions, surplus
from storage.attempts import SETTLED
from storage.inbox import Due
from storage.models import Attempt, Payment, Subscription, WebhookEvent
from storage.payments import start_command as start_command  # noqa: PLC0414  (also named from here)
from storage.session import Database, is_outage

log = structlog.get_logger()

LEASE = timedelta(seconds=30)
BATCH = 100
AT_ONCE = 10
"""Events of a batch that are handed over side by side: a settlement file brings thousands."""
LATE_ROUND_SECONDS = 1.0
"""How often, at most, is looked for what is late: it has waited for ten seconds and more before it is."""
OVERDUE_ROUND_SECONDS = 300.0
"""The same for subscriptions that have not acted: most of them are well, and wait for a provider."""
UNSTARTED_AFTER = timedelta(seconds=30)
"""A payment accepted this long ago without a workflow was cut off by a crash; its caller may never come back."""
UNSTARTED_SURPLUS_AFTER = timedelta(minutes=2)
"""A provider that has not taken a refund on by then is still being asked, or whoever was to ask it died."""
UNMATCHED_FOR = timedelta(days=7)
"""How long the owner of an event that nobody owned is looked for by itself; after that by a replay alone."""
UNMATCHED_ROUND_SECONDS = 10.0
PARKED_AFTER = timedelta(days=14)
"""An event that was handed over again and again for so long without an outcome fails for good."""
PARKED_AFTER_TRIES = 20
START_WAIT = timedelta(seconds=5)
AFTER_CAPTURE = frozenset({EventKind.REFUND, EventKind.DISPUTE, EventKind.RISK})
ABOUT_MONEY_ARRIVING = frozenset({EventKind.CAPTURED, EventKind.PROCESSING})
ANSWERED_BY_A_LOOK = frozenset(
    {
        EventKind.CAPTURED,
        EventKind.PROCESSING,
        EventKind.ACTION_REQUIRED,
        EventKind.ATTEMPT_FAILED,
        EventKind.FAILED,
        EventKind.EXPIRED,
        EventKind.CANCELED,
    }
)


def settled_already(
    kind: EventKind, status: PaymentStatus, attempt: Attempt | None, transaction_id: str | None
) -> str | None:
    """The outcome of an event that needs no look any more, or None when the workflow must be told.

    `attempt` is the one that the event speaks of. Money that comes by another way than the one that settled the
    payment must be looked at, and so must another transaction by the same way: somebody may have paid twice.
    """
    if kind in AFTER_CAPTURE:  # also where the capture is not settled yet: whoever answers it settles first
        return None
    if kind not in ANSWERED_BY_A_LOOK:
        return "recorded"
    if status in CAPTURED:
        return None if _may_be_more(kind, attempt, transaction_id) else f"already {status.value}"
    if status in CLOSED_WITHOUT_MONEY and kind not in ABOUT_MONEY_ARRIVING:
        return f"already {status.value}"
    return None


def _may_be_more(kind: EventKind, attempt: Attempt | None, transaction_id: str | None) -> bool:
    """Whether an event about a captured payment may tell of more money than is on record."""
    if attempt is None:
        return False
    if attempt.status not in SETTLED:
        return kind in ABOUT_MONEY_ARRIVING
    again = None not in (transaction_id, attempt.transaction_id) and transaction_id != attempt.transaction_id
    return again and kind is EventKind.CAPTURED


@dataclass(frozen=True, slots=True)
class Handover:
    """An inbox row on its way to its payment's workflow."""

    payment_id: UUID
    payment_status: PaymentStatus
    trigger: ProviderTrigger


def subscription_command(row: Subscription, poll: PollPlan) -> StartSubscription:
    """The command that starts a subscription's workflow; always the same for the same row."""
    return StartSubscription(row.id, row.workspace_id, row.customer_id, poll)


class InboxDispatcher:
    """Hands stored events to workflows, and starts the workflows that a crash left unstarted."""

    def __init__(self, database: Database, engine: PaymentEngine, poll: PollPlan) -> None:
        self._database = database
        self._engine = engine
        self._poll = poll
        self._late_payments = LateStarts("payment_id")
        self._late_refunds = LateStarts("refund_id")
        self._late_subscriptions = LateStarts("subscription_id")
        self._overdue_subscriptions = LateStarts("subscription_id")
        self._late_payouts = LateStarts("payout_id")
        self._late_surplus = LateStarts("surplus_id")
        self._late_setups = LateStarts("setup_id")

    @property
    def _subscriptions(self) -> SubscriptionEngine:
        return SubscriptionEngine.beside(self._engine)

    @property
    def _setups(self) -> SetupEngine:
        return SetupEngine.beside(self._engine)

    async def hand_over_methods(self, event: MethodHandover) -> None:
        """The same for an event about a set-up or saved methods. Raises EngineUnavailable."""
        await MethodDispatcher(self._database, self._setups, self._poll).hand_over(event)

    async def hand_over_subscription(self, event: SubscriptionHandover) -> None:
        """The same for an event about a subscription that the provider manages. Raises EngineUnavailable."""
        async with self._database.transaction() as session:
            row = await subscriptions.get(session, event.subscription_id)
        if row is None:
            await self._finish(event.trigger.inbox_id, "no such subscription")
            return
        await self._subscriptions.wake(subscription_command(row, self._poll), event.trigger)
        async with self._database.transaction() as session:
            await inbox.mark_dispatched(session, event.trigger.inbox_id)

    async def hand_over(self, event: Handover) -> None:
        """Signal the payment's workflow, or its after-life once it has ended, and record that.

        Raises NoSuchWorkflow while the workflow has not begun, EngineUnavailable while Temporal is away.
        """
        if event.trigger.kind in AFTER_CAPTURE:
            await self._engine.signal_afterlife(event.payment_id, event.trigger)
        else:
            try:  # also where the payment is closed: its workflow may be watching what it could not close
                await self._engine.signal(event.payment_id, event.trigger)
            except NoSuchWorkflow:
                if event.payment_status in OPEN:
                    raise
                await self._engine.signal_afterlife(event.payment_id, event.trigger)
        async with self._database.statement() as session:
            await inbox.mark_dispatched(session, event.trigger.inbox_id)

    async def dispatch_due(self) -> int:
        """Rounds over what is due, until nothing is, or nothing gets through. Returns how many events it took up."""
        taken_up = 0
        while True:
            number, done = await self._round()
            taken_up += number
            if number < BATCH or not done:
                return taken_up

    async def _round(self) -> tuple[int, int]:
        """Take up a batch, some at a time. Returns how many that were, and how many of them are off our hands."""
        async with self._database.transaction() as session:
            due = await inbox.claim_due(session, lease=LEASE, limit=BATCH)
        gate = asyncio.Semaphore(AT_ONCE)

        async def take_up(one: Due) -> bool:
            async with gate:
                return await self._take_up(one)

        results = await asyncio.gather(*(take_up(one) for one in due), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(due), sum(result is True for result in results)

    async def start_unstarted(self, *, older_than: datetime) -> int:
        """Start workflows of payments that were accepted before this moment and never began. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await payments.unstarted(session, older_than=older_than, limit=BATCH)
        return await self._late_payments.start(
            {
                payment.id: partial(self._engine.start, start_command(payment, self._poll), wait=START_WAIT)
                for payment in waiting
            }
        )

    async def start_unstarted_refunds(self, *, older_than: datetime) -> int:
        """The same for refunds that were accepted before this moment. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await refunds.unstarted(session, older_than=older_than, limit=BATCH)
        return await self._late_refunds.start(
            {
                refund.id: partial(
                    self._engine.start_refund, StartRefund(refund.id, refund.payment_id), wait=START_WAIT
                )
                for refund in waiting
            }
        )

    async def start_unstarted_surplus(self, *, older_than: datetime) -> int:
        """The same for surplus money that was to go back before this moment. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await surplus.unstarted(session, older_than=older_than, limit=BATCH)
        return await self._late_surplus.start(
            {surplus_id: partial(self._engine.return_surplus, surplus_id) for surplus_id in waiting}
        )

    async def wake_left_asleep(self, *, older_than: datetime) -> int:
        """Wake, or start, the workflows of subscriptions that changed before this moment. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await subscriptions.left_asleep(session, older_than=older_than, limit=BATCH)
        return await self._late_subscriptions.start(
            {row.id: partial(self._subscriptions.wake, subscription_command(row, self._poll)) for row in waiting}
        )

    async def wake_overdue(self, *, older_than: datetime) -> int:
        """The same for those that should have acted by themselves before this moment. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await subscriptions.overdue(session, older_than=older_than, limit=BATCH)
        return await self._overdue_subscriptions.start(
            {row.id: partial(self._subscriptions.wake, subscription_command(row, self._poll)) for row in waiting}
        )

    async def start_unstarted_payouts(self, *, older_than: datetime) -> int:
        """The same for payout batches that were accepted before this moment. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await payouts.unstarted(session, older_than=older_than, limit=BATCH)
        if not waiting:
            return 0
        engine = PayoutEngine.beside(self._engine)
        return await self._late_payouts.start(
            {
                payout.id: partial(engine.start, StartPayout(payout.id, payout.workspace_id), wait=START_WAIT)
                for payout in waiting
            }
        )

    async def start_unstarted_setups(self, *, older_than: datetime) -> int:
        """The same for set-ups of payment methods. Returns how many."""
        async with self._database.transaction() as session:
            waiting = await setups.unstarted(session, older_than=older_than, limit=BATCH)
        return await self._late_setups.start(
            {
                row.id: partial(self._setups.start, start_setup_command(row, self._poll), wait=START_WAIT)
                for row in waiting
            }
        )

    async def _take_up(self, due: Due) -> bool:
        """Hand one event over, or close it where there is nothing to do. What fails here leaves the rest to go on.

        Returns whether that is done; if not, it comes again later.
        """
        event = due.event
        trigger = ProviderTrigger(inbox_id=event.id, event_id=_name_of(event), kind=event.kind)
        try:
            if not is_owned(event):
                return await self._match(event.id)
            since = event.handled_at or event.received_at  # a replay begins anew
            if event.attempts >= PARKED_AFTER_TRIES and datetime.now(UTC) - since > PARKED_AFTER:
                await self._park(event.id, event.last_error or "without an outcome")
                return True
            if event.reference is not None and event.kind in ABOUT_METHODS | {EventKind.SUBSCRIPTION}:
                return await self._try_apart(event.kind, event.reference, trigger)
            return await self._try_payment(due, trigger)
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("event could not be dispatched", inbox_id=event.id)
            await self._postpone(event.id, type(error).__name__)
            return False

    async def _try_payment(self, due: Due, trigger: ProviderTrigger) -> bool:
        payment = due.payment
        if payment is None:
            await self._finish(due.event.id, "no payment of ours")
            return True
        status = PaymentStatus(payment.status)
        outcome = settled_already(EventKind(due.event.kind), status, due.attempt, due.event.transaction_id)
        if outcome is not None:
            await self._finish(due.event.id, outcome)
            return True
        return await self._try(Handover(payment.id, status, trigger), payment)

    async def match_unmatched(self) -> int:
        """Look again for owners of events that had none, until `UNMATCHED_FOR` is over. Returns how many were found."""
        async with self._database.transaction() as session:
            waiting = await inbox.claim_unmatched(session, lasting=UNMATCHED_FOR, lease=LEASE, limit=BATCH)
        return sum([await self._match(inbox_id) for inbox_id in waiting])

    async def _match(self, inbox_id: int) -> bool:
        """Judge anew whose an event is. Found, it comes at once; else it stays, visibly, and is looked at later.

        Returns whether that is over.
        """
        async with self._database.transaction() as session:
            event = await inbox.get(session, inbox_id)
            if event is None or is_owned(event):
                return False
            owner = await match(session, event, now=datetime.now(UTC))
            names_somebody = event.named or event.session_id or event.transaction_id
            if owner.why_not is not None and (event.kind == EventKind.OTHER or owner.foreign or not names_somebody):
                await inbox.mark_handled(session, [inbox_id], outcome=owner.why_not)
                return True
            if owner.why_not is not None:
                await inbox.leave_unmatched(session, inbox_id, outcome=owner.why_not)
                return False
            event.status, event.outcome = "received", None
            event.next_attempt_at = datetime.now(UTC)
        log.info("owner of an event found", inbox_id=inbox_id)
        return True

    async def _park(self, inbox_id: int, error: str) -> None:
        async with self._database.statement() as session:
            await inbox.park(session, [inbox_id], error=error)
        log.error("event parked", inbox_id=inbox_id, error=error)

    async def _try_apart(self, kind: str, reference: UUID, trigger: ProviderTrigger) -> bool:
        try:
            if kind == EventKind.SUBSCRIPTION:
                await self.hand_over_subscription(SubscriptionHandover(reference, trigger))
            else:
                await self.hand_over_methods(MethodHandover(reference, trigger))
        except EngineUnavailable as error:
            await self._postpone(trigger.inbox_id, f"temporal: {error}")
            return False
        return True

    async def _try(self, event: Handover, payment: Payment) -> bool:
        try:
            await self.hand_over(event)
        except NoSuchWorkflow:
            return await self._without_workflow(event, payment)
        except EngineUnavailable as error:
            await self._postpone(event.trigger.inbox_id, f"temporal: {error}")
            return False
        return True

    async def _without_workflow(self, event: Handover, payment: Payment) -> bool:
        """Not begun yet: start it and come back. Ended without a final status (terminated by hand): after-life."""
        try:
            if payment.status == PaymentStatus.CREATED:
                await self._engine.start(start_command(payment, self._poll), wait=START_WAIT)
                await self._postpone(event.trigger.inbox_id, "workflow was not started yet")
                return False
            await self._engine.signal_afterlife(event.payment_id, event.trigger)
            async with self._database.statement() as session:
                await inbox.mark_dispatched(session, event.trigger.inbox_id)
        except EngineUnavailable as error:
            await self._postpone(event.trigger.inbox_id, f"temporal: {error}")
            return False
        return True

    async def _postpone(self, inbox_id: int, error: str) -> None:
        async with self._database.statement() as session:
            await inbox.mark_failed(session, inbox_id, error=error)

    async def _finish(self, inbox_id: int, outcome: str) -> None:
        async with self._database.statement() as session:
            await inbox.mark_handled(session, [inbox_id], outcome=outcome)


def _name_of(event: WebhookEvent) -> str:
    """What the engine and the workflow tell repeats by: another name for each time that it is handed over anew.

    One that was handed over and is still without an outcome must be looked at, not dropped as known.
    """
    return event.event_id if event.attempts == 0 else f"{event.event_id}#{event.attempts}"


async def run_forever(dispatcher: InboxDispatcher, *, interval_seconds: float) -> None:
    """Dispatch until cancelled. An outage of PostgreSQL or Temporal is waited out.

    Late starts have a round of their own: they wait for the provider, and events must not wait with them.
    """

    def old_enough() -> datetime:
        return datetime.now(UTC) - UNSTARTED_AFTER

    late = (
        lambda: dispatcher.start_unstarted(older_than=old_enough()),
        lambda: dispatcher.start_unstarted_refunds(older_than=old_enough()),
        lambda: dispatcher.wake_left_asleep(older_than=datetime.now(UTC) - subscriptions.ASLEEP_AFTER),
        lambda: dispatcher.start_unstarted_payouts(older_than=old_enough()),
        lambda: dispatcher.start_unstarted_setups(older_than=old_enough()),
        lambda: dispatcher.start_unstarted_surplus(older_than=datetime.now(UTC) - UNSTARTED_SURPLUS_AFTER),
    )
    every = max(interval_seconds, LATE_ROUND_SECONDS)
    await asyncio.gather(
        _repeat(dispatcher.dispatch_due, interval_seconds),
        *(_repeat(work, every) for work in late),
        _repeat(dispatcher.match_unmatched, UNMATCHED_ROUND_SECONDS),
        _repeat(
            lambda: dispatcher.wake_overdue(older_than=datetime.now(UTC) - subscriptions.OVERDUE_AFTER),
            OVERDUE_ROUND_SECONDS,
        ),
    )


async def _repeat(work: Callable[[], Awaitable[int]], interval_seconds: float) -> None:
    while True:
        try:
            await work()
        except EngineUnavailable as error:
            log.warning("temporal is away", error=str(error))
        except Exception as error:
            if not is_outage(error):
                log.exception("inbox dispatch failed")
            else:
                log.warning("database is away", error=type(error).__name__)
        await asyncio.sleep(interval_seconds)
