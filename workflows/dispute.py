"""One dispute, from its first word to the bank's last."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.dispute import FINAL_DISPUTE, REMINDERS, DisputeState, DisputeView, ReconcileDisputes, Reminder
from workflows import calls

PATIENCE = timedelta(days=7)
LOOK_AGAIN = timedelta(days=1)
LOOKS = 400
"""A dispute that is undecided for over a year needs a person."""


@workflow.defn
class DisputeWorkflow:
    """Remind of the evidence while it is due, and look every day until the bank has decided.

    Events of the provider are recorded as they come by the payment's after-life; this workflow is for what no event
    does: reminders, and disputes whose last event was lost.
    """

    @workflow.run
    async def run(self, view: DisputeView) -> DisputeView:
        """Until the dispute is final."""
        reminded_of = _date_of_evidence(view)
        await self._remind(view)
        for _ in range(LOOKS):
            with suppress(*calls.CallFailed):  # a key that is refused today may be mended tomorrow: look again then
                found = await workflow.execute_activity(
                    calls.reconcile_disputes,
                    ReconcileDisputes(view.payment_id),
                    **calls.provider_call("look at the dispute", patience=PATIENCE),
                )
                view = next((one for one in found if one.dispute_id == view.dispute_id), view)
            if view.state in FINAL_DISPUTE:
                break
            asked_for = _date_of_evidence(view)  # an inquiry that became a dispute, or another date
            if asked_for not in (None, reminded_of) and workflow.patched("remind-of-new-date"):
                reminded_of = asked_for
                await self._remind(view)
            workflow.set_current_details(f"{view.state.value}; next look in a day")
            await workflow.sleep(LOOK_AGAIN, summary="next look at the dispute")
        return view

    async def _remind(self, view: DisputeView) -> None:
        due = view.evidence_due_at
        if due is None:
            return
        for number, before in enumerate(REMINDERS, 1):
            wait = due - before - workflow.now()
            if wait <= timedelta(0):
                continue
            await workflow.sleep(wait, summary=f"evidence is due in {before.days} days")
            still_due = await workflow.execute_activity(
                calls.remind_of_dispute,
                Reminder(view.dispute_id, view.payment_id, due, number),
                **calls.own_database("remind of the evidence"),
            )
            if not still_due:
                return


def _date_of_evidence(view: DisputeView) -> datetime | None:
    """Until when the bank wants evidence now; None where it wants none."""
    return view.evidence_due_at if view.state is DisputeState.NEEDS_RESPONSE else None


async def follow_disputes(views: list[DisputeView]) -> None:
    """Give each undecided dispute a workflow of its own, which outlives the caller's."""
    for view in views:
        if view.state in FINAL_DISPUTE:
            continue
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                DisputeWorkflow.run,
                view,
                id=f"dispute-{view.dispute_id}",
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                static_summary=f"dispute of payment {view.payment_id}",
            )
