"""Starting and signalling set-ups of payment methods, and what follows changes of saved methods."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WithStartWorkflowOperation,
    WorkflowFailureError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from domain.payment import ProviderTrigger
from domain.setup import DetachMethod, OpenedSetup, RefreshMethods, StartSetup, setup_workflow_id
from engine.payments import PaymentEngine, call_errors, first_answer
from workflows.setup import DetachMethodWorkflow, RefreshMethodsWorkflow, SetupWorkflow

SIGNAL_TIMEOUT = timedelta(seconds=5)


def methods_workflow_id(reference: UUID) -> str:
    """The id of the workflow that looks at methods which a provider spoke of."""
    return f"methods-{reference}"


def detach_workflow_id(method_id: UUID) -> str:
    """The id of the workflow that detaches a method at its provider."""
    return f"detach-{method_id}"


@dataclass(frozen=True, slots=True)
class SetupEngine:
    """What the API and the dispatcher do with the workflows of saved methods."""

    client: Client
    task_queue: str

    @classmethod
    def beside(cls, engine: PaymentEngine) -> SetupEngine:
        """On the same client and task queue."""
        return cls(engine.client, engine.task_queue)

    async def start(self, command: StartSetup, *, wait: timedelta) -> OpenedSetup | None:
        """Start the set-up's workflow, or find it, and wait for its page; None when that takes longer than `wait`.

        A repeat gets the same answer. Raises EngineUnavailable.
        """
        start = WithStartWorkflowOperation(
            SetupWorkflow.run,
            command,
            id=setup_workflow_id(command.setup_id),
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary="save a payment method",
        )
        update = self.client.execute_update_with_start_workflow(
            SetupWorkflow.opened, id=f"opened-{command.setup_id}", start_workflow_operation=start
        )
        return await first_answer(wait, start, update)

    async def signal(self, command: StartSetup, trigger: ProviderTrigger) -> None:
        """Tell a set-up that an event is stored; one that has ended looks once more. Raises EngineUnavailable."""
        with call_errors():
            await self.client.start_workflow(
                SetupWorkflow.run,
                command,
                id=setup_workflow_id(command.setup_id),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal="provider_event",
                start_signal_args=[trigger],
                static_summary="save a payment method",
                rpc_timeout=SIGNAL_TIMEOUT,
            )

    async def signal_methods(self, reference: UUID, trigger: ProviderTrigger) -> None:
        """Have changed methods looked at. Raises EngineUnavailable."""
        with call_errors():
            await self.client.start_workflow(
                RefreshMethodsWorkflow.run,
                RefreshMethods(reference),
                id=methods_workflow_id(reference),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal="provider_event",
                start_signal_args=[trigger],
                static_summary="saved methods changed at the provider",
                rpc_timeout=SIGNAL_TIMEOUT,
            )

    async def detach(self, method_id: UUID, *, wait: timedelta) -> bool:
        """Detach at the provider what is detached with us. Returns whether that is done; else it goes on.

        Raises EngineUnavailable.
        """
        with call_errors(), suppress(TimeoutError, RPCTimeoutOrCancelledError, WorkflowFailureError):
            handle = await self.client.start_workflow(
                DetachMethodWorkflow.run,
                DetachMethod(method_id),
                id=detach_workflow_id(method_id),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary="detach a payment method",
                rpc_timeout=SIGNAL_TIMEOUT,
            )
            async with asyncio.timeout(wait.total_seconds()):
                await handle.result()
            return True
        return False
