"""Events whose answer fails for good: parked where a person sees them, so that what comes behind them goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from providers.base import ProviderError
from storage import inbox
from storage.session import Database, is_outage

log = structlog.get_logger()

TRIES = 3
"""What fails so often by itself, with database and provider there, is not mended by another try."""


@asynccontextmanager
async def parked_if_it_fails(database: Database, inbox_ids: Sequence[int]) -> AsyncIterator[None]:
    """Park the events that are answered inside once that has failed TRIES times for a reason of our own.

    What the provider says, and an outage, pass through: they are tried again. Raises ApplicationError `Unprocessable`,
    which is not.
    """
    try:
        yield
    except (ApplicationError, ProviderError):
        raise
    except Exception as error:
        tries = activity.info().attempt if activity.in_activity() else 1
        if is_outage(error) or tries < TRIES:
            raise
        name = type(error).__name__
        async with database.transaction() as session:
            await inbox.park(session, inbox_ids, error=name)
        log.exception("events parked", inbox_ids=list(inbox_ids), error=name)
        said = f"fails for good: {name}"
        raise ApplicationError(said, "unprocessable", type="Unprocessable", non_retryable=True) from error
