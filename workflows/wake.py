"""Telling a subscription's workflow that there is news of one of its charges."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import FailureError

from domain.subscription import subscription_workflow_id


async def wake_subscription(subscription_id: UUID) -> None:
    """Signal it. One that has ended, or cannot be reached, is woken by the dispatcher if there is a reason to."""
    handle = workflow.get_external_workflow_handle(subscription_workflow_id(subscription_id))
    with suppress(FailureError):
        await handle.signal("wake")
