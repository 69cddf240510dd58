"""Running the code as it is now over the history of a workflow."""

from __future__ import annotations

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

import worker


def replayer(converter: DataConverter = pydantic_data_converter) -> Replayer:
    """All our workflows, in the sandbox that the worker runs them in.

    The debug mode only takes away the two seconds after which a workflow that has not yielded counts as deadlocked: on
    a machine that is busy enough, a sound one takes longer.
    """
    return Replayer(
        workflows=worker.WORKFLOWS,
        data_converter=converter,
        workflow_runner=worker.workflow_runner(),
        debug_mode=True,
    )


async def replay(*histories: WorkflowHistory) -> None:
    """Raises where the code would not do what a history tells."""
    found = replayer()
    for history in histories:
        await found.replay_workflow(history)
