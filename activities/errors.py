"""The one table from what a provider said to what Temporal does with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from providers.base import ProviderError


@contextmanager
def as_application_error() -> Iterator[None]:
    """Turn a ProviderError into an ApplicationError of the same name; calls.py lists which names are never retried.

    Details are the stable code and the seconds that the provider asked us to wait (or None).
    """
    try:
        yield
    except ProviderError as error:
        seconds = None if error.retry_after is None else error.retry_after.total_seconds()
        raise ApplicationError(
            error.detail or error.code,
            error.code,
            seconds,
            type=type(error).__name__,
            next_retry_delay=error.retry_after,
        ) from error
