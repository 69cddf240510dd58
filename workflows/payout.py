"""One batch of payments to referrers, from its lines to the last result."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from temporalio import workflow

from domain.payout import (
    OPEN_PAYOUT,
    Decided,
    DecidePayout,
    ExportPayout,
    LookAtPayout,
    PayoutProgress,
    PayoutStatus,
    PreparePayout,
    RemindOfPayout,
    StartPayout,
    reminder_after,
)
from workflows import calls


@workflow.defn
class PayoutWorkflow:
    """Prepare a batch, wait for its approval, make the file for the bank, wait for the result of every line.

    Update `prepared`: how the batch stands once its lines are there. Updates `approve` and `reject`: a person's
    decision. Signal `result_recorded`: a line has got its result, so look. Query `status`. What is true is in the
    database; people are waited for as long as they need and reminded at growing intervals.
    """

    @workflow.init
    def __init__(self, command: StartPayout) -> None:
        """Begin with the request on record."""
        self._payout_id = command.payout_id
        self._progress: PayoutProgress | None = None
        self._deciding = asyncio.Lock()
        self._reminded = 0
        self._woken = False

    @workflow.run
    async def run(self, command: StartPayout) -> PayoutProgress:
        """Until the batch is closed, rejected or found empty."""
        self._show(
            await workflow.execute_activity(
                calls.prepare_payout, PreparePayout(command.payout_id), **calls.own_database("prepare the lines")
            )
        )
        while self._status is PayoutStatus.PREPARED:
            await self._wait_for_people("approval")
        if self._status is PayoutStatus.APPROVED:
            await workflow.execute_activity(
                calls.export_payout, ExportPayout(command.payout_id), **calls.own_database("make the file")
            )
        self._reminded = 0
        while self._status is PayoutStatus.APPROVED:
            await self._wait_for_people("results")
        await workflow.wait_condition(workflow.all_handlers_finished)
        assert self._progress is not None  # noqa: S101  (shown above)
        return self._progress

    @workflow.update
    async def prepared(self) -> PayoutProgress:
        """How the batch stands, as soon as its lines are there."""
        await workflow.wait_condition(lambda: self._progress is not None)
        assert self._progress is not None  # noqa: S101  (waited for)
        return self._progress

    @workflow.update
    async def approve(self, decision: DecidePayout) -> Decided:
        """Send the batch on its way, as it stands now. What is refused is an answer, not a failure."""
        return await self._decide(replace(decision, approve=True))

    @workflow.update
    async def reject(self, decision: DecidePayout) -> Decided:
        """Give the batch up: its commissions are payable again. What is refused is an answer, not a failure."""
        return await self._decide(replace(decision, approve=False))

    @workflow.signal
    def result_recorded(self) -> None:
        """A line has got its result: look whether it was the last."""
        self._woken = True

    @workflow.query
    def status(self) -> PayoutProgress | None:
        """How the batch stands; None before its lines are there."""
        return self._progress

    @property
    def _status(self) -> PayoutStatus:
        return PayoutStatus.REQUESTED if self._progress is None else self._progress.status

    async def _decide(self, decision: DecidePayout) -> Decided:
        """One decision at a time, and none before the lines are there."""
        await workflow.wait_condition(lambda: self._progress is not None)
        async with self._deciding:
            decided = await workflow.execute_activity(
                calls.decide_payout,
                replace(decision, payout_id=self._payout_id),
                **calls.own_database("approve" if decision.approve else "reject"),
            )
            self._show(decided.progress)
        return decided

    async def _wait_for_people(self, what: str) -> None:
        """Until something has happened, or it is time to remind; then look how the batch stands."""
        before = self._status
        try:
            await workflow.wait_condition(
                lambda: self._woken or self._status is not before,
                timeout=reminder_after(self._reminded),
                timeout_summary=f"remind of the {what}",
            )
        except TimeoutError:
            self._reminded += 1
            await self._look(before, remind_of=what)
            return
        if self._woken:
            self._woken = False
            await self._look(before)

    async def _look(self, before: PayoutStatus, *, remind_of: str | None = None) -> None:
        if remind_of is None:
            progress = await workflow.execute_activity(
                calls.look_at_payout, LookAtPayout(self._payout_id), **calls.own_database("look at the results")
            )
        else:
            progress = await workflow.execute_activity(
                calls.remind_of_payout,
                RemindOfPayout(self._payout_id, self._reminded),
                **calls.own_database(f"remind of the {remind_of}"),
            )
        if self._status is before:  # a decision that came meanwhile knows better
            self._show(progress)

    def _show(self, progress: PayoutProgress) -> None:
        self._progress = progress
        waits = {
            PayoutStatus.PREPARED: "Waiting for: approval",
            PayoutStatus.APPROVED: f"Waiting for: {progress.open_lines} results",
        }
        total = f"{progress.lines} lines, {progress.total_minor} minor units of {progress.currency}"
        workflow.set_current_details(
            f"**{progress.status.value}** · {total}\n\n{waits.get(progress.status, 'Finished')}"
            if progress.status in OPEN_PAYOUT
            else f"**{progress.status.value}** · {total}"
        )
