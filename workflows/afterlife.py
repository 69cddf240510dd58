"""The home of events about payments whose own workflow has ended."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from temporalio import workflow

from domain.dispute import ReconcileDisputes
from domain.payment import Confirm, Confirmation, PaymentOutcome, PaymentStatus, ProviderTrigger, RenderReceipt
from domain.refund import ReconcileRefunds
from domain.risk import ReconcileRisk
from workflows import calls
from workflows.dispute import follow_disputes
from workflows.requested_refunds import make_refunds
from workflows.surplus import return_surplus
from workflows.wake import wake_subscription

PATIENCE = timedelta(minutes=1)
"""How long one answer is tried for here. What has failed by then comes again from the inbox; what is behind it goes on.
"""
LOOK_AGAIN = timedelta(hours=1)
REFUND_LOOKS = (
    timedelta(seconds=5),
    timedelta(minutes=1),
    *(timedelta(minutes=5 * 2**step) for step in range(10)),
)
"""Waits for refunds of ours that are under way; they have workflows of their own that go on after that."""


@workflow.defn
class AfterlifeWorkflow:
    """Look once for all late events that have come, record what the provider says, and end.

    Started by the first late event together with its signal; the next event after the end starts another run. Money
    that arrives after a payment was closed is settled here (late truth wins).
    """

    @workflow.init
    def __init__(self, payment_id: UUID) -> None:
        """Begin with nothing but the payment's id."""
        self._payment_id = payment_id
        self._seen: set[str] = set()
        self._triggers: list[ProviderTrigger] = []
        self._others_open = False
        self._refunds: tuple[ProviderTrigger, ...] = ()
        """Events about refunds that wait for refunds of ours under way."""
        self._refund_looks = 0

    @workflow.run
    async def run(self, payment_id: UUID) -> PaymentOutcome:
        """Answer events until none is left."""
        outcome = PaymentOutcome(payment_id, PaymentStatus.UNKNOWN)
        failed: BaseException | None = None
        await workflow.wait_condition(lambda: bool(self._triggers), timeout=timedelta(minutes=1))
        while self._triggers or self._others_open or self._refunds:
            if not self._triggers:
                await self._wait_for_news()
            answered = tuple(self._triggers)
            try:
                outcome = await self._answer(answered)
            except calls.CallFailed as error:
                if not self._others_open:
                    if not workflow.patched("next-after-a-failure"):
                        raise
                    failed = error if calls.will_never_work(error) else failed
                self._leave_to_the_inbox(answered)
        if failed is not None:  # an operator must act; a provider that is silent is asked again from the inbox
            raise failed
        return outcome

    @workflow.signal
    def provider_event(self, trigger: ProviderTrigger) -> None:
        """A verified event is stored: look now."""
        if trigger.event_id not in self._seen:
            self._seen.add(trigger.event_id)
            if all(waiting.inbox_id != trigger.inbox_id for waiting in self._triggers):
                self._triggers.append(trigger)

    def _leave_to_the_inbox(self, triggers: tuple[ProviderTrigger, ...]) -> None:
        """Events that could not be answered are handed over again; ways that are watched are known here alone."""
        self._triggers = [one for one in self._triggers if one not in triggers]
        self._refunds, self._refund_looks = (), 0

    async def _wait_for_news(self) -> None:
        """Until an event comes, or it is time to look again.

        Captured late, other ways to pay could not be closed: they are looked at until they lapse. A refund of ours is
        under way: others cannot be told from it before its end, but a dispute must not wait for that.
        """
        wait, summary = LOOK_AGAIN, "other ways to pay"
        if self._refunds:
            wait, summary = REFUND_LOOKS[self._refund_looks], "a refund of ours is still under way"
        try:
            await workflow.wait_condition(lambda: bool(self._triggers), timeout=wait, timeout_summary=summary)
        except TimeoutError:
            self._refund_looks += int(bool(self._refunds))

    async def _answer(self, triggers: tuple[ProviderTrigger, ...]) -> PaymentOutcome:
        """Look at the payment, then at its refunds and disputes: what is not settled cannot be refunded."""
        refunds = self._refunds + tuple(trigger for trigger in triggers if trigger.kind == "refund")
        disputes = tuple(trigger for trigger in triggers if trigger.kind == "dispute")
        settles_first = workflow.patched("settle-before-refunds")
        if not settles_first:
            await self._after_capture(refunds, disputes, ())
        risks = tuple(trigger for trigger in triggers if trigger.kind == "risk")
        risks = risks if risks and workflow.patched("risk-alerts") else ()
        apart = refunds + disputes + risks
        answered = [trigger for trigger in triggers if not settles_first or trigger not in apart]
        failed: BaseException | None = None
        try:
            confirmation = await self._confirm(tuple(trigger.inbox_id for trigger in answered))
        except calls.CallFailed as error:
            if not settles_first or not workflow.patched("next-after-a-failure"):
                raise
            failed = error  # what was captured before may be refunded or disputed all the same
        if settles_first:
            await self._after_capture(refunds, disputes, risks)
        if failed is not None:
            raise failed
        del self._triggers[: len(triggers)]
        self._others_open = confirmation.others_open
        await return_surplus(confirmation.surplus_ids)
        if confirmation.subscription_id is not None:
            await wake_subscription(confirmation.subscription_id)
        if confirmation.receipt_id is not None:
            await workflow.execute_activity(
                calls.render_receipt, RenderReceipt(confirmation.receipt_id), **calls.own_database("render receipt PDF")
            )
        return PaymentOutcome(self._payment_id, confirmation.status, confirmation.receipt_id)

    async def _confirm(self, inbox_ids: tuple[int, ...]) -> Confirmation:
        return await workflow.execute_activity(
            calls.confirm, Confirm(self._payment_id, inbox_ids), **calls.provider_call("look, late", patience=PATIENCE)
        )

    async def _after_capture(
        self,
        refunds: tuple[ProviderTrigger, ...],
        disputes: tuple[ProviderTrigger, ...],
        risks: tuple[ProviderTrigger, ...],
    ) -> None:
        failed: BaseException | None = None
        if refunds:
            try:
                await self._reconcile(refunds)
            except calls.CallFailed as error:  # its event comes again; a dispute has a date and does not wait for it
                failed = error
        if disputes:
            await self._follow(disputes)
        if failed is not None:
            raise failed
        if risks:
            await self._heed(risks, refunds_are_known=bool(refunds), disputes_are_known=bool(disputes))

    async def _heed(
        self, triggers: tuple[ProviderTrigger, ...], *, refunds_are_known: bool, disputes_are_known: bool
    ) -> None:
        """The provider warns: what went back or is disputed there comes first, for nothing may go back twice."""
        if not refunds_are_known:
            await self._look_at_refunds(())
        if not disputes_are_known:
            await self._follow(())
        command = ReconcileRisk(self._payment_id, tuple(trigger.inbox_id for trigger in triggers))
        reconciled = await workflow.execute_activity(
            calls.reconcile_risk, command, **calls.provider_call("reconcile risk alerts", patience=PATIENCE)
        )
        await make_refunds(self._payment_id, reconciled.refund_ids)

    async def _follow(self, triggers: tuple[ProviderTrigger, ...]) -> None:
        """The payer's bank wants money back: record how its disputes stand, and follow each."""
        views = await workflow.execute_activity(
            calls.reconcile_disputes,
            ReconcileDisputes(self._payment_id, tuple(trigger.inbox_id for trigger in triggers)),
            **calls.provider_call("reconcile disputes", patience=PATIENCE),
        )
        await follow_disputes(views)

    async def _reconcile(self, triggers: tuple[ProviderTrigger, ...]) -> None:
        """Money went back, by a refund of ours or by one made at the provider; look until that is known."""
        if workflow.patched("refunds-wait-aside"):
            over = await self._look_at_refunds(triggers) or self._refund_looks == len(REFUND_LOOKS)
            self._refunds = () if over else triggers
            self._refund_looks = 0 if over else self._refund_looks
            return
        for wait in REFUND_LOOKS:
            if await self._look_at_refunds(triggers):
                return
            await workflow.sleep(wait, summary="a refund of ours is still under way")

    async def _look_at_refunds(self, triggers: tuple[ProviderTrigger, ...]) -> bool:
        """Look once, and render the documents of what was found. Returns whether all is known."""
        command = ReconcileRefunds(self._payment_id, tuple(trigger.inbox_id for trigger in triggers))
        reconciled = await workflow.execute_activity(
            calls.reconcile_refunds, command, **calls.provider_call("reconcile refunds", patience=PATIENCE)
        )
        for receipt_id in reconciled.receipt_ids:
            await workflow.execute_activity(
                calls.render_receipt, RenderReceipt(receipt_id), **calls.own_database("render credit note")
            )
        return not reconciled.open_refunds
