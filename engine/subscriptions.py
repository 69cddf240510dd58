"""Telling subscriptions what concerns them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.subscription import subscription_workflow_id


async def tell_method_changed(client: Client, subscription_ids: Sequence[UUID]) -> int:
    """Signal `method_changed` to running subscriptions. Returns how many there were; one that has ended is none.

    The signal is only a hint that hurries a retry: a subscription reads the customer's default method whenever it
    charges. Raises RPCError when Temporal is away.
    """
    told = 0
    for subscription_id in subscription_ids:
        handle = client.get_workflow_handle(subscription_workflow_id(subscription_id))
        try:
            await handle.signal("method_changed")
            told += 1
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return told
