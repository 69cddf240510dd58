"""Starting, signalling and cancelling payments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid5

from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from domain.payment import Checkout, OpenWay, PaymentStatus, ProviderTrigger, ReturnSurplus, StartPayment
from domain.refund import RefundProgress, StartRefund
from engine.client import within
from workflows import search_attributes
from workflows.afterlife import AfterlifeWorkflow
from workflows.payment import OPENING_PATIENCE, PaymentWorkflow
from workflows.refund import RefundWorkflow
from workflows.surplus import SurplusWorkflow

Answer = TypeVar("Answer")


class EngineUnavailable(Exception):
    """Temporal does not answer; the work is on record and is taken up later."""


class NoSuchWorkflow(Exception):
    """No running workflow of this payment: it has not begun, or it has ended."""


class PaymentIsFinal(Exception):
    """The payment can no longer be cancelled."""


AWAY = (RPCError, RuntimeError)
"""How the client says that Temporal is away; a RuntimeError when it was never reached since the process began."""


def away(error: BaseException) -> EngineUnavailable:
    """What a failed call to Temporal means."""
    return EngineUnavailable(error.status.name if isinstance(error, RPCError) else "not connected")


@contextmanager
def call_errors() -> Iterator[None]:
    """What a failed call means. Raises EngineUnavailable."""
    try:
        yield
    except AWAY as error:
        raise away(error) from error


async def first_answer(
    wait: timedelta, start: WithStartWorkflowOperation[Any, Any], update: Awaitable[Answer]
) -> Answer | None:
    """What an update that starts its workflow answers; None when that takes longer than `wait`, or it fails.

    Raises EngineUnavailable.
    """
    with call_errors(), suppress(TimeoutError, WorkflowUpdateFailedError, RPCTimeoutOrCancelledError):
        async with within(wait, start):
            return await update
    return None


@contextmanager
def _update_errors(payment_id: UUID) -> Iterator[None]:
    """What a failed update means. Raises PaymentIsFinal, NoSuchWorkflow, EngineUnavailable."""
    try:
        yield
    except WorkflowUpdateFailedError as error:
        raise PaymentIsFinal(str(error.cause)) from None
    except AWAY as error:
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            raise NoSuchWorkflow(workflow_id(payment_id)) from None
        raise away(error) from error


def workflow_id(payment_id: UUID) -> str:
    """The id of a payment's workflow."""
    return f"payment-{payment_id}"


def refund_workflow_id(refund_id: UUID) -> str:
    """The id of a refund's workflow."""
    return f"refund-{refund_id}"


def afterlife_id(payment_id: UUID) -> str:
    """The id of the workflow that answers events after the payment's own has ended."""
    return f"afterlife-{payment_id}"


@dataclass(frozen=True, slots=True)
class PaymentEngine:
    """What the API and the dispatcher do with payments' workflows."""

    client: Client
    task_queue: str

    async def start(self, command: StartPayment, *, wait: timedelta) -> Checkout | None:
        """Start the payment's workflow, or find it, and wait for its checkout; None when it takes longer than `wait`.

        A repeat has the same update id and gets the same answer, also after the workflow's end.
        Raises EngineUnavailable.
        """
        start = WithStartWorkflowOperation(
            PaymentWorkflow.run,
            command,
            id=workflow_id(command.payment_id),
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=search_attributes.of_payment(command),
            static_summary=f"{command.amount} {command.currency} for order {command.order_id}",
        )
        update = self.client.execute_update_with_start_workflow(
            PaymentWorkflow.checkout, id=f"checkout-{command.payment_id}", start_workflow_operation=start
        )
        return await first_answer(wait, start, update)

    async def signal(self, payment_id: UUID, trigger: ProviderTrigger) -> None:
        """Tell the running workflow that an event is stored. Raises NoSuchWorkflow, EngineUnavailable.

        The request id follows from the event id, so the server itself drops a repeat.
        """
        payloads = await self.client.data_converter.encode([trigger])
        request = SignalWorkflowExecutionRequest(
            namespace=self.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id(payment_id)),
            signal_name="provider_event",
            input=Payloads(payloads=payloads),
            identity=self.client.identity,
            request_id=str(uuid5(payment_id, trigger.event_id)),
        )
        try:
            await self.client.workflow_service.signal_workflow_execution(
                request, retry=False, timeout=timedelta(seconds=5)
            )
        except AWAY as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                raise NoSuchWorkflow(workflow_id(payment_id)) from None
            raise away(error) from error

    async def signal_afterlife(self, payment_id: UUID, trigger: ProviderTrigger) -> None:
        """Give a late event its home: signal-with-start. Raises EngineUnavailable."""
        with call_errors():
            await self.client.start_workflow(
                AfterlifeWorkflow.run,
                payment_id,
                id=afterlife_id(payment_id),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal="provider_event",
                start_signal_args=[trigger],
                static_summary="late event",
                rpc_timeout=timedelta(seconds=5),
            )

    async def open_way(self, command: OpenWay, *, wait: timedelta, begun: timedelta = timedelta(0)) -> Checkout | None:
        """Open a further way to pay; None when the provider needs longer than `wait`.

        A repeat has the same update id and gets the same answer, as long as the workflow tries; one that comes after
        that (`begun` is how long ago the way was asked for first) makes it try again. Raises PaymentIsFinal,
        NoSuchWorkflow, EngineUnavailable.
        """
        again = max(begun, timedelta(0)) // OPENING_PATIENCE
        update_id = f"way-{command.reference}" + (f"-{again}" if again else "")
        handle = self.client.get_workflow_handle_for(PaymentWorkflow.run, workflow_id(command.payment_id))
        with _update_errors(command.payment_id):
            try:
                async with asyncio.timeout(wait.total_seconds()):
                    return await handle.execute_update(PaymentWorkflow.open_way, command, id=update_id)
            except (TimeoutError, RPCTimeoutOrCancelledError):
                return None

    async def start_refund(self, command: StartRefund, *, wait: timedelta) -> RefundProgress | None:
        """Start the refund's workflow, or find it, and wait for the provider's first answer; None past `wait`.

        A repeat gets the same answer. Raises EngineUnavailable.
        """
        start = WithStartWorkflowOperation(
            RefundWorkflow.run,
            command,
            id=refund_workflow_id(command.refund_id),
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            static_summary=f"refund of payment {command.payment_id}",
        )
        update = self.client.execute_update_with_start_workflow(
            RefundWorkflow.progress, id=f"progress-{command.refund_id}", start_workflow_operation=start
        )
        return await first_answer(wait, start, update)

    async def sync_refund(self, command: StartRefund) -> None:
        """Let the refund's workflow look now; one that has ended is run again. Raises EngineUnavailable."""
        with call_errors():
            await self.client.start_workflow(
                RefundWorkflow.run,
                command,
                id=refund_workflow_id(command.refund_id),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal="sync",
                static_summary=f"refund of payment {command.payment_id}",
                rpc_timeout=timedelta(seconds=5),
            )

    async def return_surplus(self, surplus_id: UUID) -> None:
        """Send surplus money back; a run under way is left alone. Raises EngineUnavailable."""
        with call_errors():
            await self.client.start_workflow(
                SurplusWorkflow.run,
                ReturnSurplus(surplus_id),
                id=f"surplus-{surplus_id}",
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary="refund surplus",
                rpc_timeout=timedelta(seconds=5),
            )

    async def cancel(self, payment_id: UUID, *, wait: timedelta) -> PaymentStatus | None:
        """Close the checkout; None when the provider needs longer than `wait`.

        Raises PaymentIsFinal, NoSuchWorkflow, EngineUnavailable.
        """
        handle = self.client.get_workflow_handle_for(PaymentWorkflow.run, workflow_id(payment_id))
        with _update_errors(payment_id):
            try:
                async with asyncio.timeout(wait.total_seconds()):
                    return await handle.execute_update(PaymentWorkflow.cancel)
            except (TimeoutError, RPCTimeoutOrCancelledError):
                return None
