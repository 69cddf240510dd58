"""Living with the time-skipping test server, which is another program than the real one and has faults of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar, cast

from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

Result = TypeVar("Result")
Engine = TypeVar("Engine")

PATIENCE = 45
"""Seconds on a wall clock; what is waited for here takes one or two, ten on a machine that is very busy."""
WAIT = timedelta(seconds=90)
"""For a workflow's answer to its caller; the longest that a provider's silence is waited out for is skipped."""

LONG = timedelta(seconds=60)
"""Who waits for as long, or longer, does not want to know that the answer is late."""


class Stranded(Exception):
    """The test server gets nowhere any more; the test may be run again on a new one.

    It refuses a workflow task that cancels a timer which fired while the task was at the worker, and then never gives
    that task out again (temporalio/sdk-java, issues 2606 and 3088). The real server takes such a task. And a worker
    that is told to stop may wait for ever for an answer to a poll (temporalio/sdk-rust, issue 1297). A workflow or an
    activity of ours that is stuck by itself is stranded every time, and so still fails its test.
    """


async def patiently(what: Awaitable[Result]) -> Result:
    """The awaited result.

    Raises:
        Stranded: it did not come.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await what
    except TimeoutError:
        raise Stranded from None


class Patient:
    """An engine whose answers are waited for to the end: what does not come within `WAIT` is stranded, not late."""

    def __init__(self, engine: object) -> None:
        """Of the engine that a test uses."""
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        """The engine's own method; where it waits, and as long as here, no answer is none of its results.

        Raises:
            Stranded: the workflow has not answered.
        """
        method = getattr(self._engine, name)
        if not callable(method):
            return method

        async def waited(*args: Any, **kwargs: Any) -> Any:
            began, wait = monotonic(), kwargs.get("wait", timedelta())
            answer = await method(*args, **kwargs)
            if answer is None and wait >= LONG and monotonic() - began >= wait.total_seconds():
                raise Stranded
            return answer

        return waited


def patient(engine: Engine) -> Engine:
    """The engine, as `Patient` has it."""
    return cast("Engine", Patient(engine))


async def ended(handle: WorkflowHandle[Any, Result]) -> Result:
    """A workflow's result. The server answers a long wait with nothing at times, which the client takes for a fault."""

    async def result() -> Result:
        while True:
            try:
                return await handle.result()
            except RuntimeError as error:
                if "completion event" not in str(error):
                    raise

    return await patiently(result())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a fact.

    Raises:
        Stranded: it did not come about.
    """

    async def come_about() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await patiently(come_about())


def unlocked(environment: WorkflowEnvironment) -> AbstractAsyncContextManager[None]:
    """Let time jump while the block waits (only the time-skipping environment's own class has this)."""
    jumping: AbstractAsyncContextManager[None] = environment.time_skipping_unlocked()  # type: ignore[attr-defined]
    return jumping


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    """The worker runs while the block does.

    Raises:
        Stranded: it did not stop when it was told to.
    """
    await worker.__aenter__()
    try:
        yield
    finally:
        await patiently(worker.__aexit__(*sys.exc_info()))
