"""The one place through which others learn that a customer's way to pay has changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from engine.payments import AWAY
from engine.subscriptions import tell_method_changed
from storage import subscriptions
from storage.session import Database

log = structlog.get_logger()


async def subscriptions_paid_by(session: AsyncSession, workspace_id: UUID, customer_id: str) -> Sequence[UUID]:
    """The live subscriptions of a customer; those that the signal does not reach are woken by the dispatcher."""
    return await subscriptions.wake_customer(session, workspace_id, customer_id, at=datetime.now(UTC))


class MethodNews:
    """Tells those who wait for a method. Called after the commit that stored or changed one, at least once."""

    def __init__(self, database: Database, client: Client | None) -> None:
        self._database = database
        self._client = client

    async def method_changed(self, workspace_id: UUID, customer_id: str) -> None:
        """A method was added or changed, or another one is the default. What fails here only delays a retry."""
        if self._client is None:
            return
        async with self._database.transaction() as session:
            waiting = await subscriptions_paid_by(session, workspace_id, customer_id)
        try:
            await tell_method_changed(self._client, waiting)
        except AWAY as error:
            log.warning("subscriptions not told of a method", error=type(error).__name__)
