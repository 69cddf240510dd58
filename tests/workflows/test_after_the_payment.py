"""Refunds and disputes over weeks: pending refunds are followed, evidence is reminded of, waits are skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import worker
from domain.dispute import DisputeState, DisputeView, ReconcileDisputes, Reminder
from domain.payment import (
    Confirm,
    Confirmation,
    PaymentStatus,
    ProviderTrigger,
    RenderReceipt,
    ReturnSurplus,
    SurplusStatus,
)
from domain.refund import (
    AdvanceRefund,
    LeaveRefund,
    Reconciled,
    ReconcileRefunds,
    RefundProgress,
    RefundState,
    StartRefund,
)
from domain.risk import ReconcileRisk, RiskReconciled
from engine.payments import PaymentEngine, afterlife_id, refund_workflow_id
from tests.support.replays import replay
from tests.support.service import eventually
from tests.support.time_skipping import at_work, ended, patient, unlocked
from workflows.afterlife import AfterlifeWorkflow
from workflows.dispute import DisputeWorkflow
from workflows.refund import RefundWorkflow
from workflows.surplus import SurplusWorkflow

DAY = timedelta(days=1)
REFUSED_KEY = ApplicationError("the key was revoked", "http_401", None, type="ProviderMisconfigured")


@dataclass
class Books:
    """What the provider answers in turn; the last answer stays."""

    refund: list[RefundState | ApplicationError] = field(default_factory=list)
    surplus: list[SurplusStatus] = field(default_factory=list)
    disputes: list[DisputeView | ApplicationError] = field(default_factory=list)
    reconciled: list[Reconciled | ApplicationError] = field(default_factory=list)
    looks: list[Confirmation | ApplicationError] = field(default_factory=list)
    risks: list[RiskReconciled | ApplicationError] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """What was asked for, in order."""
    answers_evidence: bool = False
    asked_at: list[datetime] = field(default_factory=list)
    looked: int = 0
    disputes_asked_at: list[datetime] = field(default_factory=list)
    reminded_at: list[datetime] = field(default_factory=list)
    rendered: list[UUID] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    credit_note: UUID = field(default_factory=uuid4)

    @activity.defn
    async def advance_refund(self, command: AdvanceRefund) -> RefundProgress:
        self.asked_at.append(activity.info().scheduled_time)
        state = self.refund.pop(0) if len(self.refund) > 1 else self.refund[0]
        if isinstance(state, ApplicationError):
            raise state
        return RefundProgress(command.refund_id, state, self.credit_note if state is RefundState.SUCCEEDED else None)

    @activity.defn
    async def leave_refund(self, command: LeaveRefund) -> RefundProgress:
        self.left.append(command.code)
        return RefundProgress(command.refund_id, RefundState.UNKNOWN)

    @activity.defn
    async def return_surplus(self, _: ReturnSurplus) -> SurplusStatus:
        self.asked_at.append(activity.info().scheduled_time)
        return self.surplus.pop(0) if len(self.surplus) > 1 else self.surplus[0]

    @activity.defn
    async def render_receipt(self, command: RenderReceipt) -> None:
        self.rendered.append(command.receipt_id)

    @activity.defn
    async def reconcile_disputes(self, _: ReconcileDisputes) -> list[DisputeView]:
        self.asked_at.append(activity.info().scheduled_time)
        self.disputes_asked_at.append(activity.info().scheduled_time)
        self.order.append("disputes")
        view = self.disputes.pop(0) if len(self.disputes) > 1 else self.disputes[0]
        if isinstance(view, ApplicationError):
            raise view
        return [view]

    @activity.defn
    async def reconcile_refunds(self, _: ReconcileRefunds) -> Reconciled:
        self.order.append("refunds")
        self.asked_at.append(activity.info().scheduled_time)
        found = self.reconciled.pop(0) if len(self.reconciled) > 1 else self.reconciled[0]
        if isinstance(found, ApplicationError):
            raise found
        return found

    @activity.defn
    async def reconcile_risk(self, _: ReconcileRisk) -> RiskReconciled:
        self.order.append("risks")
        found = self.risks.pop(0) if len(self.risks) > 1 else self.risks[0]
        if isinstance(found, ApplicationError):
            raise found
        return found

    @activity.defn
    async def confirm(self, _: Confirm) -> Confirmation:
        self.looked += 1
        seen = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(seen, ApplicationError):
            raise seen
        return seen

    @activity.defn
    async def remind_of_dispute(self, _: Reminder) -> bool:
        self.reminded_at.append(activity.info().scheduled_time)
        return not self.answers_evidence


@dataclass
class Desk:
    """A worker whose provider is a test's books, on a server that skips waits."""

    environment: WorkflowEnvironment
    engine: PaymentEngine
    books: Books
    queue: str


@asynccontextmanager
async def desk_on(environment: WorkflowEnvironment, queue: str | None = None) -> AsyncIterator[Desk]:
    books, queue = Books(), queue or f"desk-{uuid4().hex[:6]}"
    async with at_work(
        Worker(
            environment.client,
            task_queue=queue,
            workflows=[AfterlifeWorkflow, RefundWorkflow, SurplusWorkflow, DisputeWorkflow],
            activities=[
                books.advance_refund,
                books.leave_refund,
                books.return_surplus,
                books.render_receipt,
                books.confirm,
                books.reconcile_refunds,
                books.reconcile_disputes,
                books.reconcile_risk,
                books.remind_of_dispute,
            ],
            workflow_runner=worker.workflow_runner(),
        )
    ):
        yield Desk(environment, patient(PaymentEngine(environment.client, queue)), books, queue)


@pytest_asyncio.fixture
async def desk(skipping: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with desk_on(skipping) as made:
        yield made


async def refunded(desk: Desk) -> tuple[RefundProgress, RefundProgress]:
    """The first answer to the caller, and how it ended."""
    command = StartRefund(uuid4(), uuid4())
    first = await desk.engine.start_refund(command, wait=timedelta(seconds=60))
    assert first is not None
    handle = desk.environment.client.get_workflow_handle_for(RefundWorkflow.run, refund_workflow_id(command.refund_id))
    async with unlocked(desk.environment):
        outcome = await ended(handle)
    await replay(await handle.fetch_history())
    return first, outcome


async def test_a_refund_that_succeeds_at_once_gets_its_credit_note(desk: Desk) -> None:
    desk.books.refund = [RefundState.SUCCEEDED]
    first, outcome = await refunded(desk)
    assert (first.state, outcome.state) == (RefundState.SUCCEEDED, RefundState.SUCCEEDED)
    assert desk.books.rendered == [desk.books.credit_note]


async def test_a_pending_refund_is_followed_at_growing_intervals(desk: Desk) -> None:
    desk.books.refund = [*(RefundState.PENDING for _ in range(12)), RefundState.SUCCEEDED]
    first, outcome = await refunded(desk)
    assert (first.state, outcome.state) == (RefundState.PENDING, RefundState.SUCCEEDED)
    waits = [later - earlier for earlier, later in zip(desk.books.asked_at, desk.books.asked_at[1:], strict=False)]
    minutes = [round(wait / timedelta(minutes=1)) for wait in waits]
    assert minutes == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440]
    assert desk.books.asked_at[-1] - desk.books.asked_at[0] > 3 * DAY


async def test_silence_is_asked_again_and_a_refusal_is_a_result(desk: Desk) -> None:
    silence = ApplicationError("silence", "timeout", None, type="OutcomeUnknown")
    desk.books.refund = [silence, silence, RefundState.FAILED]
    first, outcome = await refunded(desk)
    assert first.state in (RefundState.UNKNOWN, RefundState.FAILED)
    assert outcome.state is RefundState.FAILED
    assert desk.books.rendered == []


async def test_a_refund_that_never_ends_is_left_to_a_person(desk: Desk) -> None:
    desk.books.refund = [RefundState.PENDING]
    await refunded(desk)
    assert desk.books.left == ["not_ended"]
    assert desk.books.asked_at[-1] - desk.books.asked_at[0] > 90 * DAY


async def test_a_provider_that_is_silent_for_a_week_leaves_the_refund_to_a_person_and_is_asked_on(desk: Desk) -> None:
    """The run failed, and nobody asked for the refund any more."""
    silence = ApplicationError("silence", "timeout", None, type="OutcomeUnknown", next_retry_delay=DAY)
    desk.books.refund = [*[silence] * 12, RefundState.SUCCEEDED]
    _, outcome = await refunded(desk)
    assert desk.books.left
    assert set(desk.books.left) <= {"timeout", "provider_unavailable"}
    assert outcome.state is RefundState.SUCCEEDED
    assert desk.books.rendered == [desk.books.credit_note]


async def test_what_a_person_has_decided_about_a_refund_is_seen_at_once(desk: Desk) -> None:
    desk.books.refund = [RefundState.UNKNOWN]
    command = StartRefund(uuid4(), uuid4())
    assert (await desk.engine.start_refund(command, wait=timedelta(seconds=60))) is not None
    desk.books.refund = [RefundState.SUCCEEDED]
    await desk.engine.sync_refund(command)
    handle = desk.environment.client.get_workflow_handle_for(RefundWorkflow.run, refund_workflow_id(command.refund_id))
    assert (await ended(handle)).state is RefundState.SUCCEEDED  # no time was skipped
    assert desk.books.rendered == [desk.books.credit_note]
    await replay(await handle.fetch_history())
    await desk.engine.sync_refund(command)  # it has ended: another run renders what is missing, and ends
    assert (await ended(handle)).state is RefundState.SUCCEEDED


async def test_surplus_is_followed_until_it_is_back(desk: Desk) -> None:
    desk.books.surplus = [SurplusStatus.REFUNDING, SurplusStatus.REFUNDING, SurplusStatus.REFUNDED]
    surplus_id = uuid4()
    await desk.engine.return_surplus(surplus_id)
    handle = desk.environment.client.get_workflow_handle_for(SurplusWorkflow.run, f"surplus-{surplus_id}")
    async with unlocked(desk.environment):
        assert await ended(handle) is SurplusStatus.REFUNDED
    assert len(desk.books.asked_at) == 3
    await replay(await handle.fetch_history())


async def test_a_dispute_does_not_wait_for_a_refund_that_is_under_way(desk: Desk) -> None:
    """It waited for as long as the refund was pending, which at a bank is days."""
    payment_id = uuid4()
    pending, books = Reconciled(open_refunds=(uuid4(),)), desk.books
    books.reconciled = [*[pending] * 8, Reconciled(receipt_ids=(uuid4(),))]
    books.looks = [Confirmation(PaymentStatus.PARTIALLY_REFUNDED, None)]
    books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
    begun = await desk.environment.get_current_time()

    async def asked_once() -> bool:
        return bool(books.asked_at)

    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="refund"))
    handle = desk.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    await eventually(asked_once)
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=2, event_id="evt_2", kind="dispute"))
    async with unlocked(desk.environment):
        await ended(handle)
    assert len(books.asked_at) == 9 + 1
    (asked,) = books.disputes_asked_at
    assert asked - begun < timedelta(hours=1)
    assert max(books.asked_at) - begun > timedelta(hours=2)
    assert len(books.rendered) == 1
    await replay(await handle.fetch_history())


async def test_a_dispute_that_comes_behind_a_refund_that_fails_for_good_goes_on(desk: Desk) -> None:
    """The refund was tried for days, and what came behind it waited in the same run."""
    payment_id, books = uuid4(), desk.books
    books.reconciled = [ApplicationError("broke a constraint", type="IntegrityError")]
    books.looks = [Confirmation(PaymentStatus.PARTIALLY_REFUNDED, None)]
    books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
    begun = await desk.environment.get_current_time()

    async def asked_once() -> bool:
        return bool(books.asked_at)

    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="refund"))
    handle = desk.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    await eventually(asked_once)
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=2, event_id="evt_2", kind="dispute"))
    async with unlocked(desk.environment):
        await ended(handle)  # the refund's event comes again from the inbox
    (asked,) = books.disputes_asked_at
    assert asked - begun < timedelta(minutes=3)
    await replay(await handle.fetch_history())


async def test_a_dispute_does_not_wait_for_a_look_that_fails(desk: Desk) -> None:
    payment_id, books = uuid4(), desk.books
    books.looks = [REFUSED_KEY]
    books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="dispute"))
    handle = desk.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    async with unlocked(desk.environment):
        with pytest.raises(WorkflowFailureError):
            await ended(handle)
    assert len(books.disputes_asked_at) == 1


async def test_a_warning_is_answered_when_refunds_and_disputes_are_known_and_its_refund_is_made_once(
    skipping: WorkflowEnvironment,
) -> None:
    """Nothing goes back before it is known what did; two events in one run ask once each for refunds and disputes."""
    payment_id, refund_id, queue = uuid4(), uuid4(), f"desk-{uuid4().hex[:6]}"
    engine = patient(PaymentEngine(skipping.client, queue))
    for number, kind in enumerate(("risk", "refund", "risk"), 1):
        await engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind=kind))
    async with desk_on(skipping, queue) as desk:
        books = desk.books
        books.looks, books.reconciled = [Confirmation(PaymentStatus.PAID)], [Reconciled()]
        books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
        books.risks, books.refund = [RiskReconciled((refund_id,))], [RefundState.SUCCEEDED]
        handle = skipping.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
        await ended(handle)
        assert books.order == ["refunds", "disputes", "risks"]
        refund = skipping.client.get_workflow_handle_for(RefundWorkflow.run, refund_workflow_id(refund_id))
        assert (await ended(refund)).state is RefundState.SUCCEEDED
        await replay(await handle.fetch_history())
        again = ProviderTrigger(inbox_id=4, event_id="evt_4", kind="risk")
        await engine.signal_afterlife(payment_id, again)
        await ended(skipping.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id)))
        assert len(books.rendered) == 1


async def test_a_warning_waits_for_refunds_that_cannot_be_looked_at(desk: Desk) -> None:
    payment_id, books = uuid4(), desk.books
    books.looks, books.reconciled = [Confirmation(PaymentStatus.PAID)], [REFUSED_KEY]
    books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="risk"))
    handle = desk.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    async with unlocked(desk.environment):
        with pytest.raises(WorkflowFailureError):
            await ended(handle)
    assert "risks" not in books.order


async def test_ways_of_a_payment_that_was_paid_late_are_watched_on_after_a_look_that_failed(desk: Desk) -> None:
    """A key that was refused once ended the watch, and no event would have begun it again."""
    payment_id, books = uuid4(), desk.books
    open_still = Confirmation(PaymentStatus.PAID, others_open=True)
    books.looks = [open_still, REFUSED_KEY, open_still, Confirmation(PaymentStatus.PAID)]
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="captured"))
    handle = desk.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    async with unlocked(desk.environment):
        assert (await ended(handle)).status is PaymentStatus.PAID
    assert books.looked == 4
    await replay(await handle.fetch_history())


async def test_a_dispute_does_not_wait_for_refunds_that_cannot_be_looked_at(skipping: WorkflowEnvironment) -> None:
    """Both came at once, and whenever they came again the refund was asked for first, and failed."""
    payment_id, queue = uuid4(), f"desk-{uuid4().hex[:6]}"
    engine = patient(PaymentEngine(skipping.client, queue))
    for number, kind in enumerate(("refund", "dispute"), 1):
        await engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind=kind))
    async with desk_on(skipping, queue) as desk:
        desk.books.looks = [Confirmation(PaymentStatus.PAID)]
        desk.books.reconciled = [REFUSED_KEY]
        desk.books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
        handle = skipping.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
        with pytest.raises(WorkflowFailureError):
            await ended(handle)
        assert len(desk.books.disputes_asked_at) == 1


async def test_a_dispute_is_followed_on_after_a_look_that_failed(desk: Desk) -> None:
    """Nobody followed it any more, and nobody was reminded."""
    view = DisputeView(uuid4(), uuid4(), DisputeState.UNDER_REVIEW, None)
    won = DisputeView(view.dispute_id, view.payment_id, DisputeState.WON, None)
    desk.books.disputes = [view, REFUSED_KEY, won]
    handle = await desk.environment.client.start_workflow(
        DisputeWorkflow.run, view, id=f"dispute-{view.dispute_id}", task_queue=desk.queue
    )
    assert (await ended(handle)).state is DisputeState.WON
    await replay(await handle.fetch_history())


async def disputed(desk: Desk, due: datetime | None) -> DisputeView:
    view = DisputeView(uuid4(), uuid4(), DisputeState.NEEDS_RESPONSE, due)
    desk.books.disputes = [
        view,
        DisputeView(view.dispute_id, view.payment_id, DisputeState.UNDER_REVIEW, due),
        DisputeView(view.dispute_id, view.payment_id, DisputeState.WON, due),
    ]
    handle = await desk.environment.client.start_workflow(
        DisputeWorkflow.run, view, id=f"dispute-{view.dispute_id}", task_queue=desk.queue
    )
    outcome = await ended(handle)
    await replay(await handle.fetch_history())
    return outcome


async def test_evidence_is_reminded_of_three_days_and_one_day_before_it_is_due(desk: Desk) -> None:
    due = await desk.environment.get_current_time() + 7 * DAY
    assert (await disputed(desk, due)).state is DisputeState.WON
    assert [round((due - at) / DAY, 1) for at in desk.books.reminded_at] == [3.0, 1.0]
    assert len(desk.books.asked_at) == 3


async def test_nobody_is_reminded_of_what_was_answered(desk: Desk) -> None:
    desk.books.answers_evidence = True
    due = await desk.environment.get_current_time() + 7 * DAY
    assert (await disputed(desk, due)).state is DisputeState.WON
    assert len(desk.books.reminded_at) == 1


async def test_an_inquiry_that_becomes_a_dispute_is_reminded_of_too(desk: Desk) -> None:
    """It was followed from the inquiry on, and the only reminders were those of its first day."""
    due = await desk.environment.get_current_time() + 20 * DAY
    view = DisputeView(uuid4(), uuid4(), DisputeState.INQUIRY, None)
    asked = DisputeView(view.dispute_id, view.payment_id, DisputeState.NEEDS_RESPONSE, due)
    later = DisputeView(view.dispute_id, view.payment_id, DisputeState.NEEDS_RESPONSE, due + 10 * DAY)
    won = DisputeView(view.dispute_id, view.payment_id, DisputeState.WON, due)
    desk.books.disputes = [view, view, asked, asked, later, won]
    handle = await desk.environment.client.start_workflow(
        DisputeWorkflow.run, view, id=f"dispute-{view.dispute_id}", task_queue=desk.queue
    )
    assert (await ended(handle)).state is DisputeState.WON
    assert [round((due - at) / DAY, 1) for at in desk.books.reminded_at] == [3.0, 1.0, -7.0, -9.0]
    await replay(await handle.fetch_history())


async def test_a_dispute_without_a_date_is_looked_at_every_day(desk: Desk) -> None:
    assert (await disputed(desk, None)).state is DisputeState.WON
    assert desk.books.reminded_at == []
    waits = [later - earlier for earlier, later in zip(desk.books.asked_at, desk.books.asked_at[1:], strict=False)]
    assert all(DAY <= wait < DAY + timedelta(minutes=1) for wait in waits)
