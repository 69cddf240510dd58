"""A time-skipping server with the real activities: real PostgreSQL, real HTTP to the sandbox, no real waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import wiring
import worker
from dispatch.inbox import start_command
from domain.payment import (
    Checkout,
    Confirm,
    Confirmation,
    OpenWay,
    PaymentStatus,
    PollPlan,
    RecordStatus,
    RenderReceipt,
    ReturnSurplus,
    StartPayment,
    SurplusStatus,
)
from embedded.temporal import binary
from engine.client import register_search_attributes
from engine.payments import PaymentEngine, workflow_id
from storage.models import Payment
from tests.support.service import Service, Shop
from tests.support.time_skipping import Stranded, at_work, ended, patient, patiently, unlocked
from workflows.afterlife import AfterlifeWorkflow
from workflows.payment import PaymentWorkflow
from workflows.surplus import SurplusWorkflow

LONG_ENOUGH = 300
"""Seconds: a stranded test takes up to two minutes to find that out, and its worker and server 45 each to stop."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a fault of the time-skipping server has stranded is run again, on a new one; nothing else is."""
    for item in items:
        if "skipping" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[Stranded.__name__]))
            item.add_marker(pytest.mark.timeout(LONG_ENOUGH))


@pytest_asyncio.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Time passes only while nothing else is to be done; a server a test, since time never goes back."""
    environment = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"), data_converter=pydantic_data_converter
    )
    try:
        await register_search_attributes(environment.client)
        yield environment
    finally:
        await patiently(environment.shutdown())


async def skip_to_end(environment: WorkflowEnvironment, payment_workflow_id: str) -> Any:
    """The result of a payment's workflow; while it waits for something, time jumps there."""
    handle = environment.client.get_workflow_handle_for(PaymentWorkflow.run, payment_workflow_id)
    async with unlocked(environment):
        return await ended(handle)


@dataclass
class Lab:
    """Real payments of a shop on the time-skipping server."""

    shop: Shop
    environment: WorkflowEnvironment
    engine: PaymentEngine

    async def accept(self, **changes: Any) -> Payment:
        """A payment on record, its workflow not started."""
        now = datetime.now(UTC)
        values: dict[str, Any] = {
            "id": uuid4(),
            "workspace_id": self.shop.workspace.id,
            "provider_account_id": self.shop.account.id,
            "provider": self.shop.account.provider,
            "order_id": f"order-{uuid4().hex[:6]}",
            "amount": Decimal(100),
            "currency": self.shop.workspace.currency,
            "status": "created",
            "description": "x",
            "success_url": "http://127.0.0.1:9/thanks",
            "checkout_mode": "hosted",
            "language": "en",
            "expires_at": now + timedelta(hours=2),
            "created_at": now,
            "updated_at": now,
        }
        async with self.shop.service.database.transaction() as session:
            payment = Payment(**(values | changes))
            session.add(payment)
        return payment

    async def start(self, payment: Payment, poll: PollPlan | None = None) -> Checkout:
        opened = await self.engine.start(start_command(payment, poll or PollPlan()), wait=timedelta(seconds=60))
        assert opened is not None
        return opened

    async def outcome(self, payment_id: UUID) -> Any:
        """Wait for the end; time is skipped meanwhile."""
        return await skip_to_end(self.environment, workflow_id(payment_id))

    async def history(self, payment_id: UUID) -> WorkflowHistory:
        return await self.environment.client.get_workflow_handle(workflow_id(payment_id)).fetch_history()


@pytest_asyncio.fixture
async def lab(service: Service, skipping: WorkflowEnvironment) -> AsyncIterator[Lab]:
    """A shop that is sent no callbacks."""
    shop = await service.shop(callbacks=False, order_webhook_url=None)
    pool = wiring.provider_pool(service.settings, service.sealer)
    queue = f"lab-{uuid4().hex[:6]}"
    async with at_work(
        worker.build_worker(
            skipping.client, queue, service.database, service.sealer, pool, public_base_url=service.api_url
        )
    ):
        yield Lab(shop, skipping, patient(PaymentEngine(skipping.client, queue)))
    await pool.close()
    await shop.aclose()
    await shop.sandbox("DELETE", "/faults")


@dataclass
class Books:
    """A provider's books kept by the test: what each call answers, and what was asked.

    `hold` names a call and which one of its kind waits for `let_go`; it is then in `held`.
    """

    opens: list[Checkout | ApplicationError] = field(default_factory=list)
    looks: list[Confirmation | ApplicationError] = field(default_factory=list)
    asked: list[Confirm] = field(default_factory=list)
    recorded: list[RecordStatus] = field(default_factory=list)
    rendered: list[RenderReceipt] = field(default_factory=list)
    settled: Confirmation | None = None
    render_faults: int = 0
    opened: int = 0
    ways: list[Checkout | ApplicationError] = field(default_factory=list)
    ways_asked: list[OpenWay] = field(default_factory=list)
    refunds: list[SurplusStatus | ApplicationError] = field(default_factory=list)
    refunds_asked: list[ReturnSurplus] = field(default_factory=list)
    records: list[Confirmation] = field(default_factory=list)
    hold: dict[str, int] = field(default_factory=dict)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def _may_wait(self, name: str, number: int) -> None:
        if self.hold.get(name) == number:
            self.held.set()
            await self.let_go.wait()

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        self.opened += 1
        answer = self.opens.pop(0) if self.opens else Checkout(PaymentStatus.PENDING, "http://pay.example/c")
        if isinstance(answer, ApplicationError):
            raise answer
        return answer

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        self.asked.append(command)
        if self.settled is not None and not self.looks:  # the server may ask for the same look again
            return self.settled
        answer = self.looks.pop(0) if self.looks else Confirmation(command.close_as or PaymentStatus.PENDING)
        if isinstance(answer, ApplicationError):
            raise answer
        if answer.status is PaymentStatus.PAID:
            self.settled = replace(answer, others_open=False, surplus_ids=())
        await self._may_wait("confirm", len(self.asked))
        return answer

    @activity.defn
    async def open_way(self, command: OpenWay) -> Checkout:
        self.ways_asked.append(command)
        answer = self.ways.pop(0) if self.ways else Checkout(PaymentStatus.PENDING, "http://pay.example/way")
        await self._may_wait("open_way", len(self.ways_asked))
        if isinstance(answer, ApplicationError):
            raise answer
        return answer

    @activity.defn
    async def return_surplus(self, command: ReturnSurplus) -> SurplusStatus:
        self.refunds_asked.append(command)
        answer = self.refunds.pop(0) if self.refunds else SurplusStatus.REFUNDED
        if isinstance(answer, ApplicationError):
            raise answer
        return answer

    @activity.defn
    async def record_status(self, command: RecordStatus) -> Confirmation:
        self.recorded.append(command)
        return self.records.pop(0) if self.records else Confirmation(command.status)

    @activity.defn
    async def render_receipt(self, command: RenderReceipt) -> None:
        self.rendered.append(command)
        if len(self.rendered) <= self.render_faults:
            raise ApplicationError("no fonts", "render_failed", None, type="RenderFailed")


@dataclass
class Bench:
    """A workflow whose provider is a test's books."""

    environment: WorkflowEnvironment
    engine: PaymentEngine
    books: Books

    def command(self, **changes: Any) -> StartPayment:
        values: dict[str, Any] = {
            "payment_id": uuid4(),
            "workspace_id": uuid4(),
            "provider": "stripe",
            "provider_account_id": uuid4(),
            "order_id": "A-1",
            "customer_id": "cust-1",
            "amount_minor": 12990,
            "currency": "ILS",
            "expires_at": datetime.now(UTC) + timedelta(hours=1),
        }
        return StartPayment(**(values | changes))

    async def start(self, command: StartPayment) -> Checkout:
        opened = await self.engine.start(command, wait=timedelta(seconds=60))
        assert opened is not None
        return opened

    async def outcome(self, command: StartPayment) -> Any:
        return await skip_to_end(self.environment, workflow_id(command.payment_id))

    async def history(self, command: StartPayment) -> WorkflowHistory:
        return await self.environment.client.get_workflow_handle(workflow_id(command.payment_id)).fetch_history()


@asynccontextmanager
async def bench_on(environment: WorkflowEnvironment) -> AsyncIterator[Bench]:
    books, queue = Books(), f"bench-{uuid4().hex[:6]}"
    async with at_work(
        Worker(
            environment.client,
            task_queue=queue,
            workflows=[PaymentWorkflow, AfterlifeWorkflow, SurplusWorkflow],
            activities=[
                books.open_checkout,
                books.open_way,
                books.confirm,
                books.record_status,
                books.render_receipt,
                books.return_surplus,
            ],
            workflow_runner=worker.workflow_runner(),
        )
    ):
        yield Bench(environment, patient(PaymentEngine(environment.client, queue)), books)


@pytest_asyncio.fixture
async def bench(skipping: WorkflowEnvironment) -> AsyncIterator[Bench]:
    async with bench_on(skipping) as made:
        yield made
