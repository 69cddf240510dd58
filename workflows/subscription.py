"""One subscription, from its first payment to its end: the clock of what the database holds."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import FailureError, WorkflowAlreadyStartedError

from domain.payment import PaymentOutcome, ProviderTrigger, StartPayment
from domain.refund import RefundProgress, StartRefund
from domain.subscription import (
    AdvanceSubscription,
    StartSubscription,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStep,
    SubscriptionView,
    SubscriptionWatch,
    SyncSubscription,
)
from workflows import calls, search_attributes
from workflows.payment import PaymentWorkflow
from workflows.refund import RefundWorkflow
from workflows.search_attributes import SUBSCRIPTION_STATUS

LONGEST_SLEEP = timedelta(days=366)
"""Looked at once a year at least, also when only an event can move it on."""
SYNC_PATIENCE = timedelta(hours=6)
"""How long a provider that does not answer is asked about its subscription before the next event, or the next day."""
REMEMBERED = 200
"""Events whose repeats are known."""
LONG_HISTORY = 150
"""Events after which the history is cut; a period makes about twenty."""


@workflow.defn
class SubscriptionWorkflow:
    """Wake when something is due or was heard, do it, and sleep on.

    Update `begun`: the first charge has its answer or its link. Update `change`: a wish of the merchant, carried out
    in one transaction; a refusal is an answer. Signal `wake`: a payment's outcome or a payment method is news. Query
    `status`. Charges run as payments of their own, which outlive this workflow's runs. How a subscription stands is
    in the database and read anew before each step, so an event that is lost only delays it.
    """

    @workflow.init
    def __init__(self, command: StartSubscription) -> None:
        """State from the start command, or carried over when the history was cut."""
        self._command = command
        self._step: SubscriptionStep | None = None
        self._begun = command.resumed is not None
        self._shown = None if command.resumed is None else command.resumed.status
        self._news = False
        self._triggers = [] if command.resumed is None else list(command.resumed.triggers)
        self._seen = dict.fromkeys(() if command.resumed is None else command.resumed.seen_event_ids)
        self._running: list[asyncio.Task[PaymentOutcome] | asyncio.Task[RefundProgress]] = []

    @workflow.run
    async def run(self, command: StartSubscription) -> SubscriptionView:  # noqa: ARG002  (kept by __init__)
        """Until it has ended."""
        while True:
            self._news = False
            asked = bool(self._triggers)
            if asked:
                await self._sync()
            step = await self._advance()
            if step.sync and not asked:
                await self._sync()
                step = await self._advance()
            for payment_id in step.close:
                await self._close(payment_id)
            if step.start is not None:
                await self._charge(step.start)
            for refund in step.refunds:
                await self._give_back(refund)
            if step.ended:
                await workflow.wait_condition(lambda: self._news or self._all_is_done())
                if not self._news:
                    return self._view(step)
                continue
            await self._wait(step)
            self._cut_history_when_long(step)

    @workflow.update
    async def begun(self) -> SubscriptionView:
        """How it stands as soon as the first charge has an answer or a link."""
        await workflow.wait_condition(lambda: self._begun)
        assert self._step is not None  # noqa: S101  (set before)
        return self._view(self._step)

    @workflow.update
    async def change(self, wish: SubscriptionChange) -> SubscriptionChanged:
        """Carry out a wish. Safe to repeat under the same id."""
        answer = await workflow.execute_activity(
            calls.change_subscription,
            wish.on(workflow.now()),
            **calls.own_database(wish.kind.value.replace("_", " ")),
        )
        self._news = True
        return answer

    @workflow.signal
    def wake(self) -> None:
        """Something that concerns it is on record: look."""
        self._news = True

    @workflow.signal
    def provider_event(self, trigger: ProviderTrigger) -> None:
        """A verified event about a subscription that the provider manages is stored: ask the provider."""
        if trigger.event_id not in self._seen:
            self._seen[trigger.event_id] = None
            self._triggers.append(trigger)
            self._news = True

    @workflow.query
    def status(self) -> SubscriptionView | None:
        """Where it stands and what it waits for; None before the first step."""
        return None if self._step is None else self._view(self._step)

    async def _advance(self) -> SubscriptionStep:
        step = await workflow.execute_activity(
            calls.advance_subscription,
            AdvanceSubscription(self._command.subscription_id, workflow.now()),
            **calls.own_database("do what is due"),
        )
        self._step = step
        self._begun = self._begun or step.first_ready
        if step.status is not self._shown:
            workflow.upsert_search_attributes([SUBSCRIPTION_STATUS.value_set(step.status.value)])
            self._shown = step.status
        until = "" if step.wake_at is None else f" (next look at {step.wake_at:%Y-%m-%d %H:%M:%S} UTC)"
        workflow.set_current_details(f"**{step.status.value}**\n\nWaiting for: {step.waiting_for}{until}")
        return step

    async def _sync(self) -> None:
        """One look answers all events so far; those of a look that fails come again from the inbox."""
        answered = tuple(self._triggers)
        command = SyncSubscription(self._command.subscription_id, tuple(trigger.inbox_id for trigger in answered))
        with suppress(*calls.CallFailed):
            await workflow.execute_activity(
                calls.sync_subscription, command, **calls.provider_call("ask the provider", patience=SYNC_PATIENCE)
            )
        del self._triggers[: len(answered)]

    async def _charge(self, command: StartPayment) -> None:
        """Run the charge as a payment of its own. One that was started already reports by itself."""
        with suppress(WorkflowAlreadyStartedError):
            charge = await workflow.start_child_workflow(
                PaymentWorkflow.run,
                replace(command, poll=self._command.poll),
                id=f"payment-{command.payment_id}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                search_attributes=search_attributes.of_payment(command),
                static_summary=f"{command.amount} {command.currency} for subscription {self._command.subscription_id}",
            )
            self._running = [*(one for one in self._running if not one.done()), charge]

    async def _give_back(self, command: StartRefund) -> None:
        """Begin a refund that is on record, as the dispatcher would a little later."""
        with suppress(WorkflowAlreadyStartedError):
            refund = await workflow.start_child_workflow(
                RefundWorkflow.run,
                command,
                id=f"refund-{command.refund_id}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"refund of payment {command.payment_id}",
            )
            self._running.append(refund)

    async def _close(self, payment_id: UUID) -> None:
        """Have a running attempt closed. One that has ended by itself needs nothing."""
        with suppress(FailureError):
            await workflow.get_external_workflow_handle_for(PaymentWorkflow.run, f"payment-{payment_id}").signal(
                PaymentWorkflow.close
            )

    async def _wait(self, step: SubscriptionStep) -> None:
        wait = LONGEST_SLEEP if step.wake_at is None else step.wake_at - workflow.now()
        if wait <= timedelta(0):
            return
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._news, timeout=wait, timeout_summary=step.waiting_for)

    def _all_is_done(self) -> bool:
        """Whether no update is being answered and every charge and refund has come to its end."""
        return workflow.all_handlers_finished() and all(one.done() for one in self._running)

    def _view(self, step: SubscriptionStep) -> SubscriptionView:
        return SubscriptionView(self._command.subscription_id, step.status, step.waiting_for, step.wake_at)

    def _cut_history_when_long(self, step: SubscriptionStep) -> None:
        """Only what waits for the provider has to be carried over: the next run reads everything anew.

        Between charges only, so that each one's end is in the history that it began in.
        """
        info = workflow.info()
        if info.get_current_history_length() < LONG_HISTORY and not info.is_continue_as_new_suggested():
            return
        if self._begun and step.start is None and self._all_is_done():
            watch = SubscriptionWatch(step.status, tuple(self._seen)[-REMEMBERED:], tuple(self._triggers))
            workflow.continue_as_new(replace(self._command, resumed=watch))
