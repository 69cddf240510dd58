"""How many billable actions a workflow's history stands for, by Temporal Cloud's published rules.

Source: https://docs.temporal.io/evaluate/cloud/actions (repository temporalio/documentation, docs/evaluate/cloud/
actions.mdx, read at commit 24afc58a45403e4942a36ac4e4805c05c4298fb9). In our words:

| what happens                       | actions | where the history shows it                                          |
|------------------------------------|---------|---------------------------------------------------------------------|
| workflow started                   | 1       | WorkflowExecutionStarted; also through update-with-start, and after |
|                                    |         | continue-as-new (then on the new run); search attributes given at   |
|                                    |         | the start are free; a de-duplicated start is free                   |
| update accepted (or rejected)      | 1       | WorkflowExecutionUpdateAccepted, in addition to the start it may    |
|                                    |         | come with; a repeat with the same update id is free; rejections     |
|                                    |         | leave no event                                                      |
| signal received                    | 1       | WorkflowExecutionSignaled; a signal-with-start is 1 in all          |
| timer started                      | 1       | TimerStarted, also the implicit one of a wait with a time-out;      |
|                                    |         | firing and cancelling are free                                      |
| activity scheduled                 | 1       | ActivityTaskScheduled                                               |
| activity retried                   | 1 each  | ActivityTaskStarted, attempt minus one                              |
| local activities, side effects     | 1 for   | MarkerRecorded: all markers of one workflow task together           |
|                                    | a task  |                                                                     |
| local activity retried after a     | 1 each, | WorkflowTaskCompleted, metering_metadata                            |
| heartbeat of the workflow task     | cap 100 |                                                                     |
| search attributes upserted         | 1       | UpsertWorkflowSearchAttributes, however many attributes at once     |
| child workflow                     | 2       | StartChildWorkflowExecutionInitiated (its own start is the second,  |
|                                    |         | counted here since it lies in another history)                      |
| options updated                    | 1       | WorkflowExecutionOptionsUpdated                                     |
| Nexus operation scheduled/canceled | 1       | NexusOperationScheduled, NexusOperationCancelRequested              |

Free: workflow tasks, replay, completion, current details, queries of the built-in metadata. Not in a history, so not
counted here: queries, activity heartbeats, heartbeats of workflow tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

_ONE_EACH = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED: "workflow started",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: "update accepted",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: "signal received",
    EventType.EVENT_TYPE_TIMER_STARTED: "timer started",
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: "activity scheduled",
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: "search attributes upserted",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: "options updated",
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: "nexus operation scheduled",
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED: "nexus operation canceled",
}
RETRY_CAP = 100
"""Retries of local activities that are billed for one workflow task at most."""


def billable_actions(events: Iterable[HistoryEvent]) -> Counter[str]:
    """Actions by what they are for; `total()` is the bill."""
    bill: Counter[str] = Counter()
    tasks_with_markers: set[int] = set()
    for event in events:
        if event.event_type in _ONE_EACH:
            bill[_ONE_EACH[event.event_type]] += 1
        elif event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            bill["child workflow"] += 2
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            bill["activity retried"] += max(0, event.activity_task_started_event_attributes.attempt - 1)
        elif event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            tasks_with_markers.add(event.marker_recorded_event_attributes.workflow_task_completed_event_id)
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            metering = event.workflow_task_completed_event_attributes.metering_metadata
            retries = metering.nonfirst_local_activity_execution_attempts
            bill["local activity retried"] += min(RETRY_CAP, retries)
    bill["local activities of a workflow task"] = len(tasks_with_markers)
    return +bill
