"""Starting payout batches and taking people's decisions to them."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.payout import Decided, DecidePayout, PayoutProgress, StartPayout
from engine.payments import Answer, EngineUnavailable, PaymentEngine, first_answer
from workflows.payout import PayoutWorkflow


def payout_workflow_id(payout_id: UUID) -> str:
    """The id of a batch's workflow."""
    return f"payout-{payout_id}"


@dataclass(frozen=True, slots=True)
class PayoutEngine:
    """What the API, the command line and the dispatcher do with batches' workflows."""

    client: Client
    task_queue: str

    @classmethod
    def beside(cls, engine: PaymentEngine) -> PayoutEngine:
        """On the same client and task queue."""
        return cls(engine.client, engine.task_queue)

    async def start(self, command: StartPayout, *, wait: timedelta) -> PayoutProgress | None:
        """Start the batch's workflow, or find it, and wait for its lines; None when that takes longer than `wait`.

        A repeat gets the same answer. Raises EngineUnavailable.
        """
        start = self._start(command)
        update = self.client.execute_update_with_start_workflow(
            PayoutWorkflow.prepared, id=f"prepared-{command.payout_id}", start_workflow_operation=start
        )
        return await _answer(wait, start, update)

    async def decide(self, command: StartPayout, decision: DecidePayout, *, wait: timedelta) -> Decided | None:
        """Take a decision to the batch; its workflow is started anew where somebody has stopped it.

        None when the answer takes longer than `wait`, or the batch is finished: read it. Raises EngineUnavailable.
        """
        decided = PayoutWorkflow.approve if decision.approve else PayoutWorkflow.reject
        start = self._start(command)
        update = self.client.execute_update_with_start_workflow(decided, decision, start_workflow_operation=start)
        return await _answer(wait, start, update)

    async def result_recorded(self, payout_id: UUID) -> None:
        """Wake the workflow of a batch whose last line has its result. One that is away or ended looks by itself."""
        handle = self.client.get_workflow_handle_for(PayoutWorkflow.run, payout_workflow_id(payout_id))
        with suppress(RPCError, RuntimeError):
            await handle.signal(PayoutWorkflow.result_recorded, rpc_timeout=timedelta(seconds=5))

    def _start(self, command: StartPayout) -> WithStartWorkflowOperation[PayoutWorkflow, PayoutProgress]:
        return WithStartWorkflowOperation(
            PayoutWorkflow.run,
            command,
            id=payout_workflow_id(command.payout_id),
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
            static_summary="payout to referrers",
        )


async def _answer(
    wait: timedelta, start: WithStartWorkflowOperation[Any, Any], update: Awaitable[Answer]
) -> Answer | None:
    """The first answer; None also where the batch's workflow has run to its end. Raises EngineUnavailable."""
    try:
        return await first_answer(wait, start, update)
    except WorkflowAlreadyStartedError:
        return None
    except EngineUnavailable as error:
        refused = error.__cause__
        if isinstance(refused, RPCError) and refused.status is RPCStatusCode.ALREADY_EXISTS:
            return None
        raise
