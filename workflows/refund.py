"""One refund, from the request to its end at the provider."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from temporalio import workflow

from domain.payment import RenderReceipt
from domain.refund import FINAL_REFUND, AdvanceRefund, LeaveRefund, RefundProgress, RefundState, StartRefund
from workflows import calls

PATIENCE = timedelta(days=7)
"""How long a provider that does not answer is asked before a person is; the refund is asked for daily after that."""
FIRST_WAIT, LONGEST_WAIT = timedelta(minutes=5), timedelta(days=1)
LOOKS = 120
"""A refund that is pending for four months is left to a person."""


@workflow.defn
class RefundWorkflow:
    """Drive one refund to its end. A refusal is a result, not a failure.

    Update `progress`: where it stands after the provider's first answer. Query `status`. What the provider tells of
    refunds is answered by the payment's after-life, and seen here at the next look; signal `sync` makes it come now.
    """

    @workflow.init
    def __init__(self, command: StartRefund) -> None:
        """Begin with the request on record."""
        self._command = command
        self._progress: RefundProgress | None = None
        self._asked_once = False
        self._sync = False

    @workflow.run
    async def run(self, _: StartRefund) -> RefundProgress:
        """Ask, follow while it is pending, render the credit note."""
        progress = await self._first()
        wait = FIRST_WAIT
        for _look in range(LOOKS):
            if progress.state in FINAL_REFUND:
                break
            workflow.set_current_details(f"the provider has it {progress.state.value}; next look in {wait}")
            with suppress(TimeoutError):
                summary = "next look at the refund"
                await workflow.wait_condition(lambda: self._sync, timeout=wait, timeout_summary=summary)
            self._sync = False
            wait = min(wait * 2, LONGEST_WAIT)
            progress = self._progress = await self._advance("look at the refund")
        if progress.state not in FINAL_REFUND and workflow.patched("unconfirmed-refunds"):
            progress = self._progress = await self._leave("not_ended")
        if progress.receipt_id is not None:
            await workflow.execute_activity(
                calls.render_receipt, RenderReceipt(progress.receipt_id), **calls.own_database("render credit note")
            )
        await workflow.wait_condition(workflow.all_handlers_finished)
        return progress

    @workflow.update
    async def progress(self) -> RefundProgress:
        """Where the refund stands, as soon as the provider was asked once."""
        await workflow.wait_condition(lambda: self._asked_once)
        return self._progress or RefundProgress(self._command.refund_id, RefundState.UNKNOWN)

    @workflow.signal
    def sync(self) -> None:
        """Something about the refund was decided: look now."""
        self._sync = True

    @workflow.query
    def status(self) -> RefundProgress | None:
        """Where the refund stands; None before the provider was asked."""
        return self._progress

    async def _first(self) -> RefundProgress:
        """One quick try, then patience: an unanswered request is looked up before it is made again."""
        command = AdvanceRefund(self._command.refund_id)
        try:
            self._progress = await workflow.execute_local_activity(
                calls.advance_refund, command, **calls.provider_try("refund")
            )
        except calls.CallFailed:
            self._asked_once = True
            self._progress = await self._advance("refund")
        self._asked_once = True
        return self._progress

    async def _advance(self, summary: str) -> RefundProgress:
        """Ask, with patience; a provider that stays silent leaves it to a person."""
        command = AdvanceRefund(self._command.refund_id)
        try:
            return await workflow.execute_activity(
                calls.advance_refund, command, **calls.provider_call(summary, patience=PATIENCE)
            )
        except calls.CallFailed as error:
            if calls.will_never_work(error) or not workflow.patched("unconfirmed-refunds"):
                raise
            return await self._leave(calls.error_code(error)[0])

    async def _leave(self, code: str) -> RefundProgress:
        return await workflow.execute_activity(
            calls.leave_refund, LeaveRefund(self._command.refund_id, code), **calls.own_database("leave to a person")
        )
