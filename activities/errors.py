"""The one table from what a provider said to what Temporal does with it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError

from providers.base import ProviderError

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(minutes=1)
SPREAD = 0.2
"""Waits are longer by up to this share, so that what failed together does not come back together."""

_chance = random.SystemRandom()


def wait_before(attempt: int, asked_for: timedelta | None) -> timedelta:
    """How long to leave the provider alone after this try, from 1: what it asked for, or else doubling waits."""
    wait = asked_for or min(FIRST_WAIT * 2 ** min(attempt - 1, 16), LONGEST_WAIT)
    return wait * (1 + SPREAD * _chance.random())


@contextmanager
def as_application_error() -> Iterator[None]:
    """Turn a ProviderError into an ApplicationError of the same name; calls.py lists which names are never retried.

    Details are the stable code and the seconds to wait where the provider said so (else None).
    """
    try:
        yield
    except ProviderError as error:
        wait = wait_before(activity.info().attempt if activity.in_activity() else 1, error.retry_after)
        seconds = None if error.retry_after is None else wait.total_seconds()
        raise ApplicationError(
            error.detail or error.code,
            error.code,
            seconds,
            type=type(error).__name__,
            next_retry_delay=wait,
        ) from error
