"""One surplus capture on its way back to the payer."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.payment import ReturnSurplus, SurplusStatus
from workflows import calls

PATIENCE = timedelta(days=3)
"""How long a provider that does not answer is tried before the run fails visibly."""
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=10), timedelta(days=1)
LOOKS = 60
"""A refund that a provider has not finished after two months needs a person."""


@workflow.defn
class SurplusWorkflow:
    """Refund money beyond the obligation and follow the refund to its end. A refusal is a result, not a failure."""

    @workflow.run
    async def run(self, command: ReturnSurplus) -> SurplusStatus:
        """Ask for the refund; while the provider has it pending, look again at growing intervals."""
        wait, status = FIRST_WAIT, SurplusStatus.REFUNDING
        for _ in range(LOOKS):
            status = await workflow.execute_activity(
                calls.return_surplus, command, **calls.provider_call("refund surplus", patience=PATIENCE)
            )
            if status is not SurplusStatus.REFUNDING:
                return status
            workflow.set_current_details(f"the provider has the refund pending; next look in {wait}")
            await workflow.sleep(wait, summary="next look at the refund")
            wait = min(wait * 2, LONGEST_WAIT)
        return status


async def return_surplus(surplus_ids: tuple[UUID, ...]) -> None:
    """Send surplus captures back, each by a workflow of its own that outlives the caller's."""
    for surplus_id in surplus_ids:
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                SurplusWorkflow.run,
                ReturnSurplus(surplus_id),
                id=f"surplus-{surplus_id}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary="refund surplus",
            )
