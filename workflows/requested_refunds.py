"""Refunds that another workflow has put on record."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.refund import StartRefund
from workflows.refund import RefundWorkflow


async def make_refunds(payment_id: UUID, refund_ids: tuple[UUID, ...]) -> None:
    """Make refunds that are on record, each by a workflow of its own that outlives the caller's; none a second time."""
    for refund_id in refund_ids:
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                RefundWorkflow.run,
                StartRefund(refund_id, payment_id),
                id=f"refund-{refund_id}",
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary="refund",
            )
