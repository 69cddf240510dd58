"""A batch over weeks: people are waited for and reminded, and whatever dies, it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest_asyncio
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import worker
from domain.payout import (
    Decided,
    DecidePayout,
    ExportPayout,
    LookAtPayout,
    PayoutProgress,
    PayoutStatus,
    PreparePayout,
    RemindOfPayout,
    StartPayout,
)
from engine.payouts import PayoutEngine, payout_workflow_id
from tests.support.replays import replay
from tests.support.time_skipping import WAIT, at_work, ended, patient, unlocked
from workflows.payout import PayoutWorkflow

DAY = timedelta(days=1)


@dataclass
class Books:
    """What the database would say."""

    status: PayoutStatus = PayoutStatus.PREPARED
    changes: int = 0
    faults: list[str] = field(default_factory=list)
    exported: int = 0
    decisions: list[bool] = field(default_factory=list)
    reminded_at: list[tuple[int, datetime]] = field(default_factory=list)
    close_after_reminders: int | None = None

    def progress(self, payout_id: UUID) -> PayoutProgress:
        open_lines = 2 if self.status is PayoutStatus.APPROVED else 0
        return PayoutProgress(payout_id, self.status, 2, open_lines, 2356, "ILS")

    def _fault(self, name: str) -> None:
        if name in self.faults:
            self.faults.remove(name)
            raise ApplicationError("the database is away", type="Outage")

    @activity.defn
    async def prepare_payout(self, command: PreparePayout) -> PayoutProgress:
        self._fault("prepare")
        return self.progress(command.payout_id)

    @activity.defn
    async def decide_payout(self, command: DecidePayout) -> Decided:
        self._fault("decide")
        self.decisions.append(command.approve)
        if self.status is not PayoutStatus.PREPARED:
            return Decided(self.progress(command.payout_id), refused="payout_is_final")
        if command.approve and self.changes:
            self.changes -= 1
            return Decided(self.progress(command.payout_id), changed=True)
        self.status = PayoutStatus.APPROVED if command.approve else PayoutStatus.REJECTED
        return Decided(self.progress(command.payout_id))

    @activity.defn
    async def export_payout(self, _: ExportPayout) -> None:
        self.exported += 1
        self._fault("export")

    @activity.defn
    async def look_at_payout(self, command: LookAtPayout) -> PayoutProgress:
        return self.progress(command.payout_id)

    @activity.defn
    async def remind_of_payout(self, command: RemindOfPayout) -> PayoutProgress:
        self.reminded_at.append((command.number, activity.info().scheduled_time))
        if self.close_after_reminders is not None and len(self.reminded_at) >= self.close_after_reminders:
            self.status = PayoutStatus.CLOSED
        return self.progress(command.payout_id)


@dataclass
class Desk:
    """Batches on a server that skips waits."""

    environment: WorkflowEnvironment
    engine: PayoutEngine
    books: Books
    command: StartPayout

    async def begin(self) -> PayoutProgress:
        begun = await self.engine.start(self.command, wait=WAIT)
        assert begun is not None
        return begun

    async def decide(self, *, approve: bool) -> Decided | None:
        decision = DecidePayout(self.command.payout_id, "api-key:boss", approve=approve)
        return await self.engine.decide(self.command, decision, wait=WAIT)

    def handle(self) -> WorkflowHandle[PayoutWorkflow, PayoutProgress]:
        return self.environment.client.get_workflow_handle_for(
            PayoutWorkflow.run, payout_workflow_id(self.command.payout_id)
        )

    async def outcome(self) -> PayoutProgress:
        """The end; what has been recorded on the way replays."""
        async with unlocked(self.environment):
            found = await ended(self.handle())
        await replay(await self.handle().fetch_history())
        return found


@asynccontextmanager
async def payout_desk_on(environment: WorkflowEnvironment) -> AsyncIterator[Desk]:
    books, queue = Books(), f"payouts-{uuid4().hex[:6]}"
    async with at_work(
        Worker(
            environment.client,
            task_queue=queue,
            workflows=[PayoutWorkflow],
            activities=[
                books.prepare_payout,
                books.decide_payout,
                books.export_payout,
                books.look_at_payout,
                books.remind_of_payout,
            ],
            workflow_runner=worker.workflow_runner(),
        )
    ):
        yield Desk(environment, patient(PayoutEngine(environment.client, queue)), books, StartPayout(uuid4(), uuid4()))


@pytest_asyncio.fixture
async def desk(skipping: WorkflowEnvironment) -> AsyncIterator[Desk]:
    async with payout_desk_on(skipping) as made:
        yield made


async def passes(desk: Desk, reminders: int) -> None:
    """Time goes on until so many reminders were sent."""
    async with unlocked(desk.environment):
        while len(desk.books.reminded_at) < reminders:
            await asyncio.sleep(0.01)


async def test_an_approved_batch_is_exported_and_ends_with_its_last_result(desk: Desk) -> None:
    assert (await desk.begin()).status is PayoutStatus.PREPARED
    decided = await desk.decide(approve=True)
    assert decided is not None
    assert (decided.progress.status, decided.changed, decided.refused) == (PayoutStatus.APPROVED, False, None)
    desk.books.status = PayoutStatus.CLOSED
    await desk.engine.result_recorded(desk.command.payout_id)
    assert (await desk.outcome()).status is PayoutStatus.CLOSED
    assert (desk.books.exported, desk.books.reminded_at) == (1, [])


async def test_people_are_reminded_at_growing_intervals_for_as_long_as_it_takes(desk: Desk) -> None:
    begun_at = await desk.environment.get_current_time()
    await desk.begin()
    await passes(desk, 6)
    waits = [round((at - begun_at) / DAY) for _, at in desk.books.reminded_at[:6]]
    assert waits == [1, 3, 7, 14, 21, 28]
    assert [number for number, _ in desk.books.reminded_at[:6]] == [1, 2, 3, 4, 5, 6]
    await desk.decide(approve=True)
    desk.books.reminded_at.clear()
    desk.books.close_after_reminders = 3
    assert (await desk.outcome()).status is PayoutStatus.CLOSED
    assert [number for number, _ in desk.books.reminded_at] == [1, 2, 3]


async def test_results_whose_signal_was_lost_are_found_by_the_next_reminder(desk: Desk) -> None:
    await desk.begin()
    await desk.decide(approve=True)
    desk.books.status = PayoutStatus.CLOSED  # and nobody tells
    assert (await desk.outcome()).status is PayoutStatus.CLOSED
    assert len(desk.books.reminded_at) == 1


async def test_a_rejected_batch_is_not_exported(desk: Desk) -> None:
    await desk.begin()
    await desk.decide(approve=False)
    assert (await desk.outcome()).status is PayoutStatus.REJECTED
    assert desk.books.exported == 0
    assert await desk.decide(approve=True) is None


async def test_an_empty_batch_ends_at_once(desk: Desk) -> None:
    desk.books.status = PayoutStatus.EMPTY
    assert (await desk.begin()).status is PayoutStatus.EMPTY
    assert (await desk.outcome()).status is PayoutStatus.EMPTY


async def test_a_changed_batch_waits_for_another_decision(desk: Desk) -> None:
    desk.books.changes = 1
    await desk.begin()
    first, second = await desk.decide(approve=True), await desk.decide(approve=True)
    assert first is not None
    assert second is not None
    assert (first.changed, first.progress.status) == (True, PayoutStatus.PREPARED)
    assert (second.changed, second.progress.status) == (False, PayoutStatus.APPROVED)
    desk.books.close_after_reminders = 1
    assert (await desk.outcome()).status is PayoutStatus.CLOSED


async def test_two_decisions_at_once_are_taken_one_after_the_other(desk: Desk) -> None:
    await desk.begin()
    both = await asyncio.gather(desk.decide(approve=True), desk.decide(approve=False))
    refused = [one.refused for one in both if one is not None]
    assert sorted(refused, key=str) == [None, "payout_is_final"]
    desk.books.close_after_reminders = 1
    await desk.outcome()


async def test_an_outage_at_any_step_is_waited_out(desk: Desk) -> None:
    desk.books.faults = ["prepare", "decide", "export", "export"]
    desk.books.close_after_reminders = 1
    await desk.begin()
    decided = await desk.decide(approve=True)
    assert decided is not None
    assert decided.progress.status is PayoutStatus.APPROVED
    assert (await desk.outcome()).status is PayoutStatus.CLOSED
    assert desk.books.exported == 3


async def test_a_batch_whose_workflow_somebody_stopped_goes_on_with_the_decision(desk: Desk) -> None:
    await desk.begin()
    await desk.handle().terminate("by hand")
    decided = await desk.decide(approve=True)
    assert decided is not None
    assert decided.progress.status is PayoutStatus.APPROVED
    desk.books.close_after_reminders = 1
    assert (await desk.outcome()).status is PayoutStatus.CLOSED


async def test_the_workflow_tells_how_it_stands(desk: Desk) -> None:
    begun = await desk.begin()
    assert await desk.handle().query(PayoutWorkflow.status) == begun
    assert replace(begun, payout_id=desk.command.payout_id) == begun
    await desk.decide(approve=False)
    assert (await desk.outcome()).status is PayoutStatus.REJECTED
