"""Saving methods and charging them, with the waits skipped: lost callbacks, silence, late truth, cancels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest_asyncio
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import worker
from dispatch.methods import start_setup_command
from domain.payment import Checkout, Confirmation, PaymentStatus, PollPlan, ProviderTrigger
from domain.setup import (
    DetachMethod,
    FailSetup,
    LookAtSetup,
    OpenedSetup,
    RefreshMethods,
    SetupProgress,
    SetupStatus,
    StartSetup,
    setup_workflow_id,
)
from engine.setups import SetupEngine, detach_workflow_id, methods_workflow_id
from storage import payment_methods, setups
from tests.support.replays import replay
from tests.support.service import eventually
from tests.support.time_skipping import WAIT, at_work, ended, patient, unlocked
from tests.workflows.conftest import Bench, Lab
from workflows.setup import DetachMethodWorkflow, RefreshMethodsWorkflow, SetupWorkflow

HOUR = timedelta(hours=1)


@dataclass
class Books:
    """What the provider answers in turn; the last answer stays."""

    opens: list[OpenedSetup | ApplicationError] = field(default_factory=list)
    looks: list[SetupStatus | ApplicationError] = field(default_factory=list)
    asked: list[LookAtSetup] = field(default_factory=list)
    asked_at: list[datetime] = field(default_factory=list)
    recorded: list[FailSetup] = field(default_factory=list)
    refreshed: list[RefreshMethods] = field(default_factory=list)
    detached: list[DetachMethod] = field(default_factory=list)
    faults: int = 0

    @activity.defn
    async def open_setup(self, _: StartSetup) -> OpenedSetup:
        usual = OpenedSetup(SetupStatus.PENDING, "http://pay.example/s")
        answer = self.opens.pop(0) if self.opens else usual
        if isinstance(answer, ApplicationError):
            raise answer
        return answer

    @activity.defn
    async def look_at_setup(self, command: LookAtSetup) -> SetupProgress:
        self.asked.append(command)
        self.asked_at.append(activity.info().scheduled_time)
        if not self.looks:
            return SetupProgress(command.setup_id, SetupStatus.EXPIRED if command.close else SetupStatus.PENDING)
        answer = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(answer, ApplicationError):
            raise answer
        return SetupProgress(command.setup_id, answer, uuid4() if answer is SetupStatus.SUCCEEDED else None)

    @activity.defn
    async def fail_setup(self, command: FailSetup) -> SetupProgress:
        self.recorded.append(command)
        return SetupProgress(command.setup_id, command.status, None, command.reason)

    @activity.defn
    async def refresh_methods(self, command: RefreshMethods) -> int:
        self.refreshed.append(command)
        return 1

    @activity.defn
    async def detach_method(self, command: DetachMethod) -> bool:
        self.detached.append(command)
        if len(self.detached) <= self.faults:
            raise ApplicationError("timeout", "timeout", None, type="OutcomeUnknown")
        return True


@dataclass
class SetupDesk:
    """A worker whose provider is a test's books, on a server that skips waits."""

    environment: WorkflowEnvironment
    engine: SetupEngine
    books: Books

    async def command(self, lives: timedelta = HOUR) -> StartSetup:
        now = await self.environment.get_current_time()
        return StartSetup(uuid4(), uuid4(), "stripe", now + lives, PollPlan())

    async def outcome(self, command: StartSetup) -> SetupProgress:
        handle = self.environment.client.get_workflow_handle_for(SetupWorkflow.run, setup_workflow_id(command.setup_id))
        async with unlocked(self.environment):
            progress = await ended(handle)
        await replay(await handle.fetch_history())
        return progress


@asynccontextmanager
async def setup_desk_on(environment: WorkflowEnvironment) -> AsyncIterator[SetupDesk]:
    books, queue = Books(), f"setups-{uuid4().hex[:6]}"
    async with at_work(
        Worker(
            environment.client,
            task_queue=queue,
            workflows=[SetupWorkflow, RefreshMethodsWorkflow, DetachMethodWorkflow],
            activities=[
                books.open_setup,
                books.look_at_setup,
                books.fail_setup,
                books.refresh_methods,
                books.detach_method,
            ],
            workflow_runner=worker.workflow_runner(),
        )
    ):
        yield SetupDesk(environment, patient(SetupEngine(environment.client, queue)), books)


@pytest_asyncio.fixture
async def desk(skipping: WorkflowEnvironment) -> AsyncIterator[SetupDesk]:
    async with setup_desk_on(skipping) as made:
        yield made


def fault(name: str, code: str = "timeout") -> ApplicationError:
    return ApplicationError("detail", code, None, type=name)


def trigger(number: int = 1, kind: str = "setup") -> ProviderTrigger:
    return ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind=kind)


async def test_a_callback_hurries_a_set_up(desk: SetupDesk) -> None:
    command = await desk.command()
    opened = await desk.engine.start(command, wait=WAIT)
    assert opened is not None
    assert opened.url == "http://pay.example/s"
    desk.books.looks = [SetupStatus.SUCCEEDED]
    await desk.engine.signal(command, trigger())
    progress = await desk.outcome(command)
    assert (progress.status, progress.payment_method_id is not None) == (SetupStatus.SUCCEEDED, True)
    assert desk.books.asked[-1].inbox_ids == (1,)


async def test_a_set_up_that_nobody_uses_is_closed_at_its_end(desk: SetupDesk) -> None:
    command = await desk.command()
    await desk.engine.start(command, wait=WAIT)
    progress = await desk.outcome(command)
    assert progress.status is SetupStatus.EXPIRED
    assert [one.close for one in desk.books.asked] == [False] * (len(desk.books.asked) - 1) + [True]
    assert len(desk.books.asked) < 10


async def test_what_was_finished_after_the_end_is_stored_all_the_same(desk: SetupDesk) -> None:
    command = await desk.command()
    await desk.engine.start(command, wait=WAIT)
    assert (await desk.outcome(command)).status is SetupStatus.EXPIRED
    desk.books.opens = [OpenedSetup(SetupStatus.EXPIRED)]
    desk.books.looks = [SetupStatus.SUCCEEDED]
    await desk.engine.signal(command, trigger())
    assert (await desk.outcome(command)).status is SetupStatus.SUCCEEDED


async def test_a_silent_provider_is_asked_until_it_answers(desk: SetupDesk) -> None:
    command = await desk.command()
    desk.books.opens = [fault("OutcomeUnknown"), fault("ProviderBusy")]
    desk.books.looks = [fault("OutcomeUnknown"), fault("OutcomeUnknown"), SetupStatus.SUCCEEDED]
    starting = asyncio.create_task(desk.engine.start(command, wait=WAIT))
    await starting
    assert (await desk.outcome(command)).status is SetupStatus.SUCCEEDED
    assert [one.status for one in desk.books.recorded] == [SetupStatus.UNKNOWN]


async def test_a_provider_that_lets_nobody_look_is_given_up_a_day_after_the_end(desk: SetupDesk) -> None:
    command = await desk.command()
    await desk.engine.start(command, wait=WAIT)
    desk.books.looks = [fault("ProviderMisconfigured", "http_401")]  # not repeated within a look: one attempt an hour
    assert (await desk.outcome(command)).status is SetupStatus.EXPIRED
    assert desk.books.recorded[-1].status is SetupStatus.EXPIRED


async def test_a_refusal_is_told_at_once(desk: SetupDesk) -> None:
    command = await desk.command()
    desk.books.opens = [fault("ProviderRejected", "currency_not_supported")]
    opened = await desk.engine.start(command, wait=WAIT)
    assert opened is not None
    assert (opened.status, opened.error_code) == (SetupStatus.FAILED, "currency_not_supported")
    assert (await desk.outcome(command)).status is SetupStatus.FAILED


async def test_changes_at_the_provider_are_looked_at_once_an_event(desk: SetupDesk) -> None:
    reference = uuid4()
    for number in (1, 1, 2):
        await desk.engine.signal_methods(reference, trigger(number, "method"))
    handle: WorkflowHandle[Any, Any] = desk.environment.client.get_workflow_handle(methods_workflow_id(reference))
    async with unlocked(desk.environment):
        await ended(handle)
    await replay(await handle.fetch_history())
    assert sorted(one for each in desk.books.refreshed for one in each.inbox_ids) == [1, 2]


async def test_a_method_is_detached_as_soon_as_the_provider_is_back(desk: SetupDesk) -> None:
    method_id, desk.books.faults = uuid4(), 5
    await desk.engine.detach(method_id, wait=timedelta(milliseconds=100))
    handle: WorkflowHandle[Any, Any] = desk.environment.client.get_workflow_handle(detach_workflow_id(method_id))
    async with unlocked(desk.environment):
        assert await ended(handle)
    await replay(await handle.fetch_history())
    assert len(desk.books.detached) == 6


async def test_all_callbacks_of_a_set_up_lost_and_the_method_is_saved(lab: Lab) -> None:
    setup_id, shop, now = uuid4(), lab.shop, datetime.now(UTC)
    engine = SetupEngine(lab.environment.client, lab.engine.task_queue)
    values = {
        "id": setup_id,
        "workspace_id": shop.workspace.id,
        "provider_account_id": shop.account.id,
        "provider": "stripe",
        "customer_id": "cust-1",
        "success_url": "http://127.0.0.1:9/saved",
        "expires_at": now + timedelta(hours=2),
        "created_at": now,
        "updated_at": now,
    }
    async with shop.service.database.transaction() as session:
        await setups.insert_new(session, values)
        row = await setups.get(session, shop.workspace.id, setup_id)
    assert row is not None
    opened = await engine.start(start_setup_command(row, PollPlan()), wait=WAIT)
    assert opened is not None
    assert opened.url is not None
    await shop.sandbox("POST", f"/sessions/{opened.url.rsplit('/', 1)[1]}/pay", {})
    handle = lab.environment.client.get_workflow_handle_for(SetupWorkflow.run, setup_workflow_id(setup_id))
    async with unlocked(lab.environment):
        progress = await ended(handle)
    assert progress.status is SetupStatus.SUCCEEDED
    async with shop.service.database.transaction() as session:
        default = await payment_methods.default_of(session, shop.workspace.id, "cust-1")
    assert default is not None
    assert default.id == progress.payment_method_id
    history = (await handle.fetch_history()).to_json()
    assert shop.service.sealer.open(default.token) not in history


def paid() -> Confirmation:
    return Confirmation(PaymentStatus.PAID, uuid4())


CHARGED = Checkout(PaymentStatus.PENDING, look_now=True)


async def test_a_charge_answers_its_caller_with_its_end(bench: Bench) -> None:
    command = bench.command(payment_method_id=uuid4())
    bench.books.opens, bench.books.looks = [CHARGED], [paid()]
    assert (await bench.start(command)).status is PaymentStatus.PAID
    outcome = await bench.outcome(command)
    assert (outcome.status, outcome.receipt_id is not None) == (PaymentStatus.PAID, True)
    assert len(bench.books.asked) == 1


async def test_what_the_provider_tells_of_a_charge_is_answered_by_its_own_workflow(bench: Bench) -> None:
    command = bench.command(payment_method_id=uuid4())
    done = paid()
    bench.books.opens, bench.books.looks = [CHARGED], [done, done]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(7, "captured"))
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert bench.books.asked[-1].inbox_ids == (7,)


async def test_a_declined_charge_is_a_failed_payment(bench: Bench) -> None:
    command = bench.command(payment_method_id=uuid4())
    bench.books.opens = [fault("ProviderDeclined", "insufficient_funds")]
    opened = await bench.start(command)
    assert (opened.status, opened.error_code) == (PaymentStatus.FAILED, "insufficient_funds")
    assert (await bench.outcome(command)).status is PaymentStatus.FAILED
    assert [one.reason for one in bench.books.recorded] == ["insufficient_funds"]


async def test_a_charge_outlives_a_provider_that_is_away_for_hours(bench: Bench) -> None:
    command = bench.command(payment_method_id=uuid4(), expires_at=datetime.now(UTC) + timedelta(days=3))
    bench.books.opens = [*[fault("OutcomeUnknown") for _ in range(120)], CHARGED]
    bench.books.looks = [paid()]

    async def tried() -> bool:
        return bench.books.opened > 0

    starting = asyncio.create_task(bench.engine.start(command, wait=WAIT))
    await eventually(tried)
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert await starting is not None
    assert bench.books.opened == 121


async def test_a_cancel_stops_a_charge_in_the_middle_of_its_retries(bench: Bench) -> None:
    command = bench.command(payment_method_id=uuid4(), expires_at=datetime.now(UTC) + timedelta(days=3))
    bench.books.opens = [fault("OutcomeUnknown") for _ in range(500)]

    async def tried() -> bool:
        return bench.books.opened > 0

    starting = asyncio.create_task(bench.engine.start(command, wait=WAIT))
    await eventually(tried)
    status = await bench.engine.cancel(command.payment_id, wait=WAIT)
    assert status is PaymentStatus.CANCELED
    times = bench.books.opened
    assert (await bench.outcome(command)).status is PaymentStatus.CANCELED
    assert bench.books.opened == times < 500
    await starting


async def test_a_charge_that_waits_for_the_payer_ends_with_its_time(bench: Bench) -> None:
    command = bench.command(payment_method_id=uuid4(), expires_at=datetime.now(UTC) + timedelta(hours=2))
    bench.books.opens = [Checkout(PaymentStatus.REQUIRES_ACTION, "http://us.example/checkout/x")]
    bench.books.looks = [Confirmation(PaymentStatus.REQUIRES_ACTION)] * 3
    assert (await bench.start(command)).status is PaymentStatus.REQUIRES_ACTION
    assert (await bench.outcome(command)).status is PaymentStatus.EXPIRED
