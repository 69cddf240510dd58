"""Billing that says what a script says: for histories, which must not depend on what the rules are today."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import worker
from domain.payment import Checkout, Confirm, Confirmation, PaymentStatus, RecordStatus, RenderReceipt, StartPayment
from domain.subscription import (
    AdvanceSubscription,
    ChangeKind,
    StartSubscription,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStatus,
    SubscriptionStep,
)
from engine.subscriptions import SubscriptionEngine
from tests.support.time_skipping import at_work, patient
from workflows.payment import PaymentWorkflow
from workflows.subscription import SubscriptionWorkflow

WAIT = timedelta(seconds=20)


@dataclass(frozen=True)
class Turn:
    """One answer of billing: sleep so long, or charge, or close what was charged last, or end."""

    status: SubscriptionStatus
    sleep: timedelta | None = None
    charge: bool = False
    close: bool = False
    ended: bool = False


@dataclass
class Script:
    """Turns in order; while a charge is under way the same turn is given again, without starting it anew."""

    turns: list[Turn] = field(default_factory=list)
    charges: list[PaymentStatus | None] = field(default_factory=list)
    """What becomes of each charge; None: it waits for the payer until it is closed."""
    last: UUID = field(default_factory=uuid4)
    subscription_id: UUID = field(default_factory=uuid4)

    @activity.defn
    async def advance_subscription(self, command: AdvanceSubscription) -> SubscriptionStep:
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        step = SubscriptionStep(
            turn.status,
            "the script",
            ended=turn.ended,
            wake_at=None if turn.sleep is None else command.at + turn.sleep,
        )
        if turn.charge:
            self.last = uuid4()
            start = StartPayment(
                payment_id=self.last,
                workspace_id=uuid4(),
                provider="stripe",
                provider_account_id=uuid4(),
                order_id="invoice-1",
                customer_id="cust-1",
                amount_minor=10000,
                currency="ILS",
                expires_at=command.at + timedelta(days=7),
                payment_method_id=uuid4(),
                subscription_id=self.subscription_id,
            )
            return replace(step, start=start, first_ready=False)
        return replace(step, close=(self.last,) if turn.close else ())

    @activity.defn
    async def change_subscription(self, command: SubscriptionChange) -> SubscriptionChanged:
        return SubscriptionChanged(SubscriptionStatus.CANCELLED, {"notifications": "subscription.cancelled"})

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        outcome = self.charges.pop(0)
        if outcome is None:
            return Checkout(PaymentStatus.REQUIRES_ACTION, "http://pay.example/bank")
        return Checkout(outcome)

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        return Confirmation(command.close_as or PaymentStatus.REQUIRES_ACTION, subscription_id=self.subscription_id)

    @activity.defn
    async def record_status(self, command: RecordStatus) -> Confirmation:
        return Confirmation(command.status)

    @activity.defn
    async def render_receipt(self, command: RenderReceipt) -> None:
        return None


@dataclass
class Stage:
    """A worker that plays a script."""

    script: Script
    engine: SubscriptionEngine

    async def begin(self) -> None:
        await self.engine.start(self._command(), wait=WAIT)

    async def cancel(self) -> None:
        wish = SubscriptionChange(self.script.subscription_id, uuid4(), ChangeKind.CANCEL, "test")
        await self.engine.change(self._command(), wish, wait=WAIT)

    def _command(self) -> StartSubscription:
        return StartSubscription(self.script.subscription_id, uuid4(), "cust-1")


@asynccontextmanager
async def stage_on(environment: WorkflowEnvironment) -> AsyncIterator[Stage]:
    script, queue = Script(), f"script-{uuid4().hex[:6]}"
    async with at_work(
        Worker(
            environment.client,
            task_queue=queue,
            workflows=[SubscriptionWorkflow, PaymentWorkflow],
            activities=[
                script.advance_subscription,
                script.change_subscription,
                script.open_checkout,
                script.confirm,
                script.record_status,
                script.render_receipt,
            ],
            workflow_runner=worker.workflow_runner(),
        )
    ):
        yield Stage(script, patient(SubscriptionEngine(environment.client, queue)))
