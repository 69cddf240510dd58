"""Subscriptions over time: what is due now, and the merchant's wishes. Each call is one transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import billing
from activities.billing import Held
from activities.disputed_subscriptions import charging_is_paused
from activities.subscription_changes import Refused, apply, resume
from domain.dunning import Next
from domain.idempotency import is_repeat
from domain.payment import CAPTURED, OPEN, PaymentStatus, PollPlan
from domain.refund import StartRefund
from domain.review import UNBOOKED
from domain.subscription import (
    ENDED,
    AdvanceSubscription,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStatus,
    SubscriptionStep,
    attempt_payment_id,
)
from storage import payments, plans, refunds, subscriptions
from storage.models import Invoice, Payment
from storage.session import Database

log = structlog.get_logger()

MOST_STEPS = 50
"""Steps of one call: more means that a rule runs in circles."""
LOOK_AGAIN = timedelta(minutes=65)
"""How often a running payment is looked at when nothing is heard of it.

Not at full hours, so that no look comes at the moment at which the payment closes itself.
"""
LOOK_DAILY = timedelta(days=1)
"""How often a subscription that the provider manages is looked at when no event comes."""
CLOSING = timedelta(minutes=5)
INCOMPLETE_FOR = billing.LINK_LIFE + CLOSING
"""How long the first payment may take: its link's life, and the time in which the payment closes itself."""
TRIAL_NOTICE = timedelta(days=3)


class SubscriptionActivities:
    """The database holds how a subscription stands; its workflow is the clock. All times come from that clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    @activity.defn
    async def advance_subscription(self, command: AdvanceSubscription) -> SubscriptionStep:
        """Do all that is due at the command's moment and say what comes next. Safe to repeat."""
        async with self._database.transaction() as session:
            held = await billing.hold(session, command.subscription_id, at=command.at, actor="workflow")
            if held is None:
                raise ApplicationError("no such subscription", type="PaymentNotFound")
            step = await _advance(held)
            held.row.wake_wanted_at = None
            held.row.next_action_at = step.wake_at
        log.info("subscription", subscription_id=str(held.row.id), status=step.status.value, waits=step.waiting_for)
        return step

    @activity.defn
    async def change_subscription(self, command: SubscriptionChange) -> SubscriptionChanged:
        """Carry out a wish once; a repeat gets the first answer. A refusal is an answer too, and is not kept."""
        async with self._database.transaction() as session:
            at = command.at or self._now()
            held = await billing.hold(session, command.subscription_id, at=at, actor=command.actor)
            if held is None:
                raise ApplicationError("no such subscription", type="PaymentNotFound")
            known, status = await subscriptions.answered(session, command.change_id), held.status
            if known is not None:
                return _repeated(held, command, *known)
            try:
                answer = await apply(held, command)
            except Refused as refused:
                await session.rollback()
                return SubscriptionChanged(status, {}, refused.code, refused.detail)
            held.row.wake_wanted_at = at
            subscriptions.keep_answer(session, command, answer, at)
        log.info("subscription changed", subscription_id=str(held.row.id), kind=command.kind.value)
        return answer


def _repeated(
    held: Held, wish: SubscriptionChange, answer: SubscriptionChanged, fingerprint: str | None
) -> SubscriptionChanged:
    """The first answer, unless the same key comes with another wish."""
    known, asked = (None if text is None else bytes.fromhex(text) for text in (fingerprint, wish.fingerprint))
    if asked is not None and not is_repeat(known, asked):
        words = "This Idempotency-Key was used with another body."
        return SubscriptionChanged(held.status, {}, "idempotency_key_reused", words)
    return answer


async def _advance(held: Held) -> SubscriptionStep:
    if held.row.managed_by == "provider" and held.status not in ENDED:
        return SubscriptionStep(held.status, "the provider, who manages it", wake_at=held.at + LOOK_DAILY, sync=True)
    for _ in range(MOST_STEPS):
        step = await _next(held)
        if step is not None:
            return step
    raise RuntimeError("a subscription does not come to rest")


async def _next(held: Held) -> SubscriptionStep | None:
    """One thing that is due; None when it was done and there may be more."""
    status = held.status
    if status in ENDED:
        return await _wind_up(held)
    paused = await charging_is_paused(held)
    invoice = await subscriptions.open_invoice(held.session, held.row.id)
    if invoice is not None:
        return await _collect_unless(held, invoice, paused=paused)
    if status is SubscriptionStatus.INCOMPLETE:
        await billing.issue(held, await held.plan(), kind="first")
        return None
    if status is SubscriptionStatus.PAUSED:
        return await _paused(held)
    if status is SubscriptionStatus.TRIALING and not held.row.trial_notice_sent:
        return await _before_the_trial_ends(held)
    return await _at_the_period_end(held, paused=paused)


async def _wind_up(held: Held) -> SubscriptionStep:
    """After the end: payments that are still open are closed, and seen to their own end."""
    left = [payment.id for payment in await subscriptions.open_payments(held.session, held.row.id)]
    back = tuple(
        StartRefund(refund.id, refund.payment_id)
        for refund in await refunds.requested_of_subscription(held.session, held.row.id)
    )
    if not left:
        return SubscriptionStep(held.status, "nothing, it has ended", ended=True, refunds=back)
    return SubscriptionStep(held.status, "its last payment to be closed", wake_at=held.at + CLOSING, close=tuple(left))


async def _paused(held: Held) -> SubscriptionStep | None:
    row = held.row
    if row.resume_at is None or held.at < row.resume_at:
        return SubscriptionStep(held.status, "its resumption", wake_at=row.resume_at)
    await resume(held, reason="the date of its resumption")
    return None


async def _before_the_trial_ends(held: Held) -> SubscriptionStep | None:
    row = held.row
    due = max(row.current_period_end - TRIAL_NOTICE, row.created_at)
    if held.at < due:
        return SubscriptionStep(held.status, "the end of the trial to come near", wake_at=due)
    row.trial_notice_sent = True
    method = (await billing.charged_next(held)).method
    await billing.tell(held, "trial_ending", key="trial", trial_end=row.trial_end, has_method=method is not None)
    return None


def _until_decided(held: Held) -> SubscriptionStep:
    return SubscriptionStep(held.status, "the bank's decision about a disputed payment", wake_at=held.at + LOOK_DAILY)


async def _at_the_period_end(held: Held, *, paused: bool) -> SubscriptionStep | None:
    row = held.row
    if held.at < row.current_period_end:
        return SubscriptionStep(held.status, "the end of the period", wake_at=row.current_period_end)
    if row.cancel_at_period_end:
        await billing.end(held, SubscriptionStatus.CANCELLED, reason="cancelled to the period's end", why="cancelled")
        return None
    if paused:  # what is due is charged then, period by period
        return _until_decided(held)
    if row.pending_plan_id is not None or row.pending_quantity is not None:
        await _take_pending_plan(held)
    await billing.begin_period(held, await held.plan(), kind="renewal")
    return None


async def _take_pending_plan(held: Held) -> None:
    row = held.row
    before, (after, quantity) = await held.plan(), await billing.coming(held)
    if plans.interval_of(before) != plans.interval_of(after):
        end = billing.agreed_end(held, before)
        billing.set_anchor(held, end, period=row.period + 1, moment=row.current_period_end)
    row.plan_id, row.quantity = after.id, quantity
    row.pending_plan_id = row.pending_quantity = None
    billing.note(held, "plan_changed", plan=after.code, plan_version=after.version, quantity=row.quantity)
    await billing.tell(held, "plan_changed", key=f"period-{row.period + 1}", plan=after.code, quantity=row.quantity)


async def _collect_unless(held: Held, invoice: Invoice, *, paused: bool) -> SubscriptionStep | None:
    """Collect an open invoice; while charging is paused only an attempt that is under way is followed."""
    if paused:
        last = await _last_attempt(held, invoice) if invoice.attempts else None
        if last is None or last.status not in OPEN | CAPTURED:
            return _until_decided(held)
    return await _collect(held, invoice)


async def _collect(held: Held, invoice: Invoice) -> SubscriptionStep | None:
    """Bring in the money of an open invoice, or give it up."""
    if invoice.attempts == 0:
        return await _charge(held, invoice, reason="the period has begun")
    payment = await _last_attempt(held, invoice)
    status = PaymentStatus(payment.status)
    if (
        status in CAPTURED and payment.status_reason not in UNBOOKED
    ):  # settlement has marked it; not where the order was paid by an earlier attempt
        await billing.paid(held, invoice, payment)
        return None
    if status in OPEN:
        return await _follow(held, invoice, payment)
    if invoice.failed_attempt < invoice.attempts:
        if billing.is_too_small(invoice, payment):
            await billing.forgive(held, invoice)
            return None
        decision = await billing.failed(held, invoice, payment)
        if decision.next is Next.GIVE_UP and held.status is not SubscriptionStatus.INCOMPLETE:
            await billing.give_up(held, invoice)
            return None
    return await _after_a_failure(held, invoice, payment)


async def _charge(held: Held, invoice: Invoice, *, reason: str, retry: bool = False) -> SubscriptionStep | None:
    """Make the next attempt; None when nothing that can be charged is left, and the invoice is paid."""
    if not await billing.fit_to_step(held, invoice):
        return None
    return _under_way(held, invoice, await billing.charge(held, invoice, retry=retry, reason=reason))


async def _last_attempt(held: Held, invoice: Invoice) -> Payment:
    found = await payments.get(held.session, held.row.workspace_id, attempt_payment_id(invoice.id, invoice.attempts))
    assert found is not None  # noqa: S101  (made with the count of attempts)
    return found


def _under_way(held: Held, invoice: Invoice, payment: Payment) -> SubscriptionStep:
    """A charge whose payment has to be started, or is still at work."""
    fresh = payment.status == PaymentStatus.CREATED
    return SubscriptionStep(
        held.status,
        f"attempt {invoice.attempts} of {invoice.money} {invoice.currency}",
        wake_at=held.at + LOOK_AGAIN,
        start=payments.start_command(payment, PollPlan()) if fresh else None,
        first_ready=not fresh,
    )


async def _follow(held: Held, invoice: Invoice, payment: Payment) -> SubscriptionStep:
    """An attempt that is not decided yet. An unknown outcome is resolved by its own workflow before anything else."""
    status = PaymentStatus(payment.status)
    if status in (PaymentStatus.CREATED, PaymentStatus.UNKNOWN):
        return _under_way(held, invoice, payment)
    waits_for_payer = status is PaymentStatus.REQUIRES_ACTION or payment.payment_method_id is None
    chosen = await billing.charged_next(held, invoice)
    better = waits_for_payer and chosen.method is not None and chosen.at_once
    if waits_for_payer and not better and held.status is not SubscriptionStatus.INCOMPLETE:
        await billing.wait_for_payer(held, invoice, payment)
    end = _last_moment(held, invoice)
    if better or held.at >= end:
        return SubscriptionStep(
            held.status, "the running attempt to be closed", wake_at=held.at + CLOSING, close=(payment.id,)
        )
    wait = "the payer" if waits_for_payer else "the provider"
    return SubscriptionStep(held.status, wait, wake_at=min(held.at + LOOK_AGAIN, end))


def _last_moment(held: Held, invoice: Invoice) -> datetime:
    """When patience with an invoice ends."""
    if held.status is SubscriptionStatus.INCOMPLETE:
        return held.row.created_at + INCOMPLETE_FOR
    return invoice.grace_until or subscriptions.policy_of(held.workspace).grace_until(held.at)


async def _after_a_failure(held: Held, invoice: Invoice, payment: Payment) -> SubscriptionStep | None:
    """Between attempts: the next one when it is due or another method is to be charged, else the end of patience."""
    due, end = invoice.next_attempt_at, _last_moment(held, invoice)
    incomplete = held.status is SubscriptionStatus.INCOMPLETE
    chosen = await billing.charged_next(held, invoice)
    if chosen.at_once and held.at < end:
        given = "the payer is asked by link" if chosen.method is None else "another payment method was given"
        return await _charge(held, invoice, reason=given)
    if incomplete and (payment.payment_method_id is None or held.at >= end):
        await billing.end(held, SubscriptionStatus.EXPIRED, reason="the first payment was not made", why="unpaid")
        return None
    if due is not None and held.at >= due and not incomplete:
        faulty = billing.is_fault(held, payment)  # then it is no retry of the dunning's
        reason = "tried again after a fault" if faulty else f"retry {invoice.retries + 1}"
        return await _charge(held, invoice, retry=not faulty, reason=reason)
    if held.at >= end:
        await billing.give_up(held, invoice)
        return None
    if due is None or incomplete:
        return SubscriptionStep(held.status, "another payment method", wake_at=end)
    return SubscriptionStep(held.status, "the next retry", wake_at=min(due, end) if due <= end else end)
