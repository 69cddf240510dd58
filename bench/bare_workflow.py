"""The least that a durable payment can be: start, a first step, a signal, a second step. The yardstick of all ratios.

One update-with-start that answers after the first step, one signal, both steps as local activities that do nothing.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow

STEP_TIMEOUT = timedelta(seconds=20)


@activity.defn(name="bench_step")
async def step(number: int) -> str:
    """Do nothing, and say so."""
    return f"done {number}"


@workflow.defn(name="BenchBareWorkflow")
class BareWorkflow:
    """Update `first`: what the first step gave. Signal `go_on`: do the second step and end."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._first: str | None = None
        self._signalled = False

    @workflow.run
    async def run(self, number: int) -> str:
        """First step, signal, second step."""
        self._first = await workflow.execute_local_activity(step, number, start_to_close_timeout=STEP_TIMEOUT)
        await workflow.wait_condition(lambda: self._signalled)
        return await workflow.execute_local_activity(step, number + 1, start_to_close_timeout=STEP_TIMEOUT)

    @workflow.update
    async def first(self) -> str:
        """The first step's answer, as soon as it is there."""
        await workflow.wait_condition(lambda: self._first is not None)
        return self._first or ""

    @workflow.signal
    def go_on(self) -> None:
        """Let the second step begin."""
        self._signalled = True
