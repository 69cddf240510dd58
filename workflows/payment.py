"""One payment, from its checkout to its receipt."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from domain.payment import (
    OPEN,
    Checkout,
    Confirm,
    Confirmation,
    OpenWay,
    PaymentOutcome,
    PaymentStatus,
    PaymentView,
    ProviderTrigger,
    RecordStatus,
    RenderReceipt,
    StartPayment,
    Watch,
)
from workflows import calls
from workflows.search_attributes import PAYMENT_STATUS
from workflows.surplus import return_surplus
from workflows.wake import wake_subscription

OPENING_PATIENCE = timedelta(minutes=15)
"""How long a checkout is tried for when the provider does not answer; nobody has its address yet."""
CHARGING_PATIENCE = timedelta(days=1)
"""The same for the charge of a saved method, which is looked up before each repeat; a cancel ends it at once."""
LINGERS = timedelta(seconds=2)
CLOSING_PATIENCE = timedelta(minutes=2)
MAX_REMEMBERED_EVENTS = 500


@workflow.defn
class PaymentWorkflow:
    """Drive one payment to a final status and settle it exactly once.

    Update `checkout`: where the payer goes. Update `cancel`: close it unless it was paid. Signal `provider_event`: a
    verified webhook is in the inbox. Query `status`. A declined or expired payment is a result, not a failure.
    Webhooks and polls both lead to the same look at the provider, so a lost webhook only delays settlement.
    """

    @workflow.init
    def __init__(self, command: StartPayment) -> None:
        """State from the start command, or carried over when the history was cut."""
        watch = command.resumed or Watch()
        self._command = command
        self._status = watch.status
        self._looks_done = watch.looks_done
        self._seen = dict.fromkeys(watch.seen_event_ids)
        self._checkout = Checkout(watch.status, watch.checkout_url) if command.resumed else None
        self._triggers = list(watch.triggers)
        self._fresh_trigger = False
        self._cancel_requested = watch.cancel_requested
        self._cancel_tries = 0
        self._receipt_id = watch.receipt_id
        self._rendered = watch.receipt_id is not None
        self._others_open = watch.others_open
        self._waiting_for = "the provider to open the checkout"
        self._shown_status = PaymentStatus.PENDING if command.resumed is None else watch.status
        self._retry_in = watch.retry_in
        self._opening: set[UUID] = set()
        self._told: PaymentStatus | None = None if command.resumed is None else watch.status
        self._ways_changed = 0

    @workflow.run
    async def run(self, command: StartPayment) -> PaymentOutcome:
        """Open, watch until final, render the receipt; then answer what came meanwhile."""
        if command.resumed is None:
            await self._open()
            if command.payment_method_id is not None and self._status not in OPEN:
                if command.subscription_id is not None and workflow.patched("tell-before-lingering"):
                    await self._tell_subscription()  # whoever begins a subscription waits for it
                await self._linger()
        while True:
            await self._tell_subscription()
            while self._status in OPEN or self._others_open:
                await self._wait_for_news()
                await self._look()
                await self._tell_subscription()
                if self._others_open:
                    await self._render_once()
                self._cut_history_when_long()
            self._show("nothing, it is done")
            await self._render_once()
            await workflow.wait_condition(workflow.all_handlers_finished)
            if self._status in OPEN or self._others_open:
                continue
            if not self._triggers:
                return PaymentOutcome(command.payment_id, self._status, self._receipt_id)
            await self._look()
            await self._tell_subscription()
            self._triggers.clear()  # what could not be answered now stays in the inbox and is dispatched again

    @workflow.update
    async def checkout(self) -> Checkout:
        """Where the payer goes, as soon as it is known. A repeat gets the same answer."""
        await workflow.wait_condition(lambda: self._checkout is not None)
        assert self._checkout is not None  # noqa: S101  (what the line above waited for)
        return self._checkout

    @workflow.update
    async def cancel(self) -> PaymentStatus:
        """Close the checkout so that nobody can pay any more. Returns `paid` when money was faster."""
        tries = self._cancel_tries
        self._cancel_requested = True
        await workflow.wait_condition(lambda: self._status not in OPEN or self._cancel_tries > tries)
        return self._status

    @cancel.validator
    def _may_cancel(self) -> None:
        if self._status not in OPEN:
            raise ApplicationError(f"the payment is already {self._status.value}", type="PaymentIsFinal")

    @workflow.update
    async def open_way(self, command: OpenWay) -> Checkout:
        """Open a further way to pay; it is watched with the others, and closed when one of them is paid.

        Where the provider does not answer at once it is asked on, for as long as the payment is open.
        """
        self._ways_changed += 1
        await workflow.wait_condition(lambda: command.reference not in self._opening)
        self._opening.add(command.reference)
        try:
            opened = await self._open_way(command)
        finally:
            self._opening.remove(command.reference)
            self._ways_changed += 1
        if self._status not in OPEN:  # the payment was faster: look once more, which closes the new way
            self._others_open = self._fresh_trigger = True
        return opened

    @open_way.validator
    def _may_open_way(self, command: OpenWay) -> None:  # noqa: ARG002
        ending = self._cancel_requested or workflow.now() >= self._command.expires_at
        if self._status not in OPEN or ending:
            said = "being closed" if self._status in OPEN else f"already {self._status.value}"
            raise ApplicationError(f"the payment is {said}", type="PaymentIsFinal")

    @workflow.signal
    def provider_event(self, trigger: ProviderTrigger) -> None:
        """A verified event about this payment is stored: look now. Delivered at least once, counted once."""
        if trigger.event_id in self._seen:
            return
        self._seen[trigger.event_id] = None
        if all(waiting.inbox_id != trigger.inbox_id for waiting in self._triggers):
            self._triggers.append(trigger)
        self._fresh_trigger = True

    @workflow.signal
    def close(self) -> None:
        """Nobody is to pay any more: the subscription that it is a charge of has ended, or goes another way."""
        self._cancel_requested = self._cancel_requested or self._status in OPEN

    @workflow.query
    def status(self) -> PaymentView:
        """Where the payment stands and what it waits for."""
        return PaymentView(self._command.payment_id, self._status, self._waiting_for, self._looks_done, len(self._seen))

    async def _tell_subscription(self) -> None:
        """Wake the subscription that this is a charge of, once for each status; it reads the rest from the database."""
        if self._command.subscription_id is None or self._told is self._status:
            return
        self._told = self._status
        await wake_subscription(self._command.subscription_id)

    async def _open(self) -> None:
        """One quick try, then patience. A checkout that cannot be had is a failed payment only if that is certain."""
        command, summary = self._command, f"open checkout at {self._command.provider}"
        try:
            opened = await workflow.execute_local_activity(calls.open_checkout, command, **calls.provider_try(summary))
        except calls.CallFailed as error:
            if calls.will_never_work(error):
                await self._could_not_open(error)
                return
            await self._record(PaymentStatus.UNKNOWN, f"opening: {calls.error_code(error)[0]}")
            try:
                opened = await self._open_patiently(summary)
            except calls.CallFailed as slow_error:
                if calls.will_never_work(slow_error):
                    await self._could_not_open(slow_error)
                else:  # nobody got the address, but we do not know: the watch looks our reference up
                    self._checkout = _not_opened(self._status, slow_error)
                return
        self._advance(Confirmation(opened.status))
        if opened.look_now:  # whoever asked for the charge is told how it ended
            await self._look()
            opened = replace(opened, status=self._status)
        self._checkout = opened

    async def _open_patiently(self, summary: str) -> Checkout:
        """Repeat the opening until the provider answers. A charge that nobody waits for is given more time."""
        command = self._command
        saved = command.payment_method_id is not None
        patience = min(CHARGING_PATIENCE if saved else OPENING_PATIENCE, command.expires_at - workflow.now())
        patiently = calls.provider_call(summary, patience=patience)
        if not saved:
            return await workflow.execute_activity(calls.open_checkout, command, **patiently)
        patiently["cancellation_type"] = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
        trying = workflow.start_activity(calls.open_checkout, command, **patiently)
        await workflow.wait_condition(lambda: trying.done() or self._cancel_requested)
        trying.cancel()  # whoever cancels stops the charge at once; the look that follows says what came
        return await trying

    async def _open_way(self, command: OpenWay) -> Checkout:
        """One quick try, then patience. Returns why there is no address, if there is none."""
        summary = "open a further way to pay"
        try:
            return await workflow.execute_local_activity(calls.open_way, command, **calls.provider_try(summary))
        except calls.CallFailed as error:
            if calls.will_never_work(error):
                return _not_opened(PaymentStatus.FAILED, error)
            if not workflow.patched("ask-on-for-a-way"):
                return _not_opened(PaymentStatus.UNKNOWN, error)
        patience = min(OPENING_PATIENCE, self._command.expires_at - workflow.now())
        patiently = calls.provider_call(summary, patience=patience)
        patiently["cancellation_type"] = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
        trying = workflow.start_activity(calls.open_way, command, **patiently)
        await workflow.wait_condition(lambda: trying.done() or self._status not in OPEN)
        trying.cancel()  # a try that is under way is waited for: what it opens must be closed
        try:
            return await trying
        except calls.CallFailed as error:
            if self._status not in OPEN:
                return Checkout(self._status)
            return _not_opened(PaymentStatus.FAILED if calls.will_never_work(error) else PaymentStatus.UNKNOWN, error)

    async def _could_not_open(self, error: BaseException) -> None:
        await self._record(PaymentStatus.FAILED, calls.error_code(error)[0])
        self._checkout = _not_opened(PaymentStatus.FAILED, error)

    async def _linger(self) -> None:
        """A charge is over within one task, while the provider tells of it at the same moment: hear that here.

        Without it the server would refuse the task that ends the workflow, and with it the answer to the caller.
        """
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._fresh_trigger, timeout=LINGERS, timeout_summary="what the provider tells of the charge"
            )

    async def _wait_for_news(self) -> None:
        """Until an event, a cancel, or the time of the next look or of the checkout's end."""
        until_look, expiry = self._next_look(), self._command.expires_at - workflow.now()
        wait = min(until_look, expiry) if expiry > timedelta(0) and self._status in OPEN else until_look
        self._show(f"the payer, or the next look at {(workflow.now() + wait):%Y-%m-%d %H:%M:%S} UTC")
        try:
            await workflow.wait_condition(
                lambda: self._fresh_trigger or (self._cancel_requested and self._retry_in is None),
                timeout=wait,
                timeout_summary="next look at the provider",
            )
        except TimeoutError:
            self._looks_done += 1
        self._fresh_trigger = False

    def _next_look(self) -> timedelta:
        if self._retry_in is not None:
            return self._retry_in
        if self._status not in OPEN:  # the payment is done; only its other ways are watched
            return timedelta(seconds=self._command.poll.max_seconds)
        return self._command.poll.interval(self._looks_done, workflow.random().random())

    def _closing_status(self, now: datetime) -> PaymentStatus | None:
        if self._status not in OPEN:
            return None
        if self._cancel_requested:
            return PaymentStatus.CANCELED
        return PaymentStatus.EXPIRED if now >= self._command.expires_at else None

    async def _look(self) -> None:
        """Ask the provider and record what it says; a failed look keeps its triggers for the next one."""
        answered, close_as = tuple(self._triggers), self._closing_status(workflow.now())
        command = Confirm(self._command.payment_id, tuple(trigger.inbox_id for trigger in answered), close_as)
        ways_before = self._ways_changed
        try:
            confirmation = await self._ask(command)
        except calls.CallFailed as error:
            await self._look_failed(error)
        else:
            self._retry_in = None
            del self._triggers[: len(answered)]
            self._advance(confirmation)
            self._others_open = confirmation.others_open
            if self._ways_changed != ways_before and self._status not in OPEN:
                self._look_once_more()  # this look may not have seen the newest way
            await return_surplus(confirmation.surplus_ids)
        if close_as is PaymentStatus.CANCELED:
            self._cancel_tries += 1
            self._cancel_requested = self._retry_in is not None  # tried again until the provider has answered

    async def _ask(self, command: Confirm) -> Confirmation:
        if command.close_as is None:
            return await workflow.execute_local_activity(
                calls.confirm, command, **calls.provider_try(f"look at {self._command.provider}")
            )
        return await workflow.execute_activity(
            calls.confirm,
            command,
            **calls.provider_call(f"close as {command.close_as.value}", patience=CLOSING_PATIENCE),
        )

    async def _look_failed(self, error: BaseException) -> None:
        """Silence is never failure: past the end of the checkout the payment is visibly unknown until we know."""
        wait = calls.retry_after(error) or min(
            (self._retry_in or timedelta(seconds=2.5)) * 2, timedelta(seconds=self._command.poll.max_seconds)
        )
        self._retry_in = wait
        if workflow.now() >= self._command.expires_at and self._status in OPEN - {PaymentStatus.UNKNOWN}:
            await self._record(PaymentStatus.UNKNOWN, f"closing: {calls.error_code(error)[0]}")
            if self._status not in OPEN:  # a look had got through that never came back: take up what it found
                self._look_once_more()

    def _look_once_more(self) -> None:
        if workflow.patched("look-once-more"):
            self._others_open = self._fresh_trigger = True

    async def _record(self, status: PaymentStatus, reason: str) -> None:
        recorded = await workflow.execute_activity(
            calls.record_status,
            RecordStatus(self._command.payment_id, status, reason),
            **calls.own_database(f"record {status.value}"),
        )
        self._advance(recorded)

    def _advance(self, confirmation: Confirmation) -> None:
        self._status = confirmation.status
        self._receipt_id = confirmation.receipt_id or self._receipt_id
        shown = PaymentStatus.PENDING if self._status is PaymentStatus.CREATED else self._status
        if shown is not self._shown_status:
            workflow.upsert_search_attributes([PAYMENT_STATUS.value_set(shown.value)])
            self._shown_status = shown

    def _show(self, waiting_for: str) -> None:
        self._waiting_for = waiting_for
        command = self._command
        headline = f"**{self._status.value}** · {command.amount} {command.currency} · order `{command.order_id}`"
        workflow.set_current_details(f"{headline}\n\nWaiting for: {waiting_for}")

    async def _render_once(self) -> None:
        if self._receipt_id is None or self._rendered:
            return
        command = RenderReceipt(self._receipt_id)
        try:
            await workflow.execute_local_activity(calls.render_receipt, command, **calls.quick_render("render receipt"))
        except calls.CallFailed:
            await workflow.execute_activity(calls.render_receipt, command, **calls.own_database("render receipt again"))
        self._rendered = True

    def _cut_history_when_long(self) -> None:
        """A payment watched for days keeps its history short; what waits for an answer is carried over."""
        watching = self._status in OPEN or self._others_open
        if not workflow.info().is_continue_as_new_suggested() or not watching:
            return
        if self._fresh_trigger or not workflow.all_handlers_finished():
            return
        waiting = bool(self._triggers) or self._cancel_requested
        if waiting and not workflow.patched("carry-what-waits"):
            return
        watch = Watch(
            status=self._status,
            looks_done=self._looks_done,
            seen_event_ids=tuple(self._seen)[-MAX_REMEMBERED_EVENTS:],
            checkout_url=None if self._checkout is None else self._checkout.url,
            others_open=self._others_open,
            receipt_id=self._receipt_id,
            triggers=tuple(self._triggers),
            cancel_requested=self._cancel_requested,
            retry_in=self._retry_in,
        )
        workflow.continue_as_new(replace(self._command, resumed=watch))


def _not_opened(status: PaymentStatus, error: BaseException) -> Checkout:
    code, detail = calls.error_code(error)
    return Checkout(status, None, code, detail, calls.error_type(error))
