"""Records the history of each outcome on a real server into tests/histories; run it once for a new outcome.

`python -m tests.workflows.record NAME` with a name of RECORDINGS, SUBSCRIPTIONS, DAYS, PAYOUTS or SETUPS. A history
that exists is never written again: it stands for a payment that is running somewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

import process
from domain.dispute import DisputeState, DisputeView
from domain.payment import (
    Checkout,
    Confirmation,
    OpenWay,
    PaymentStatus,
    PollPlan,
    ProviderTrigger,
    StartPayment,
    SurplusStatus,
)
from domain.payout import PayoutStatus
from domain.refund import Reconciled, RefundState, StartRefund
from domain.risk import RiskReconciled
from domain.setup import OpenedSetup, SetupStatus, setup_workflow_id
from domain.subscription import SubscriptionStatus, subscription_workflow_id
from embedded.temporal import binary
from engine.client import register_search_attributes
from engine.payments import afterlife_id, refund_workflow_id, workflow_id
from engine.payouts import payout_workflow_id
from engine.setups import detach_workflow_id, methods_workflow_id
from tests.support.scripted_billing import Stage, Turn, stage_on
from tests.support.service import eventually
from tests.support.time_skipping import unlocked, until
from tests.workflows.conftest import Bench, bench_on
from tests.workflows.test_after_the_payment import Desk, desk_on
from tests.workflows.test_payout_workflow import Desk as PayoutDesk
from tests.workflows.test_payout_workflow import payout_desk_on
from tests.workflows.test_setup_workflow import SetupDesk, setup_desk_on
from workflows.dispute import DisputeWorkflow

HISTORIES = Path(__file__).parent.parent / "histories"
QUICK = PollPlan(first_seconds=1, growth=2, max_seconds=2)


WAIT = timedelta(seconds=20)


def fault(name: str, code: str = "some_code", seconds: float | None = None) -> ApplicationError:
    return ApplicationError("detail", code, seconds, type=name)


def paid() -> Confirmation:
    return Confirmation(PaymentStatus.PAID, uuid4())


def trigger(number: int) -> ProviderTrigger:
    return ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind="captured")


async def by_webhook(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def by_webhook_after_a_decline(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    await asyncio.sleep(0.5)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(2))
    return workflow_id(command.payment_id)


async def by_poll(bench: Bench) -> str:
    command = bench.command(poll=QUICK)
    bench.books.looks = [Confirmation(PaymentStatus.PENDING), Confirmation(PaymentStatus.REQUIRES_ACTION), paid()]
    await bench.start(command)
    return workflow_id(command.payment_id)


async def with_the_receipt_rendered_late(bench: Bench) -> str:
    command = bench.command()
    bench.books.render_faults = 2
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def expired(bench: Bench) -> str:
    command = bench.command(poll=QUICK, expires_at=datetime.now(UTC) + timedelta(seconds=4))
    await bench.start(command)
    return workflow_id(command.payment_id)


async def canceled(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    await bench.engine.cancel(command.payment_id, wait=timedelta(seconds=10))
    return workflow_id(command.payment_id)


async def refused(bench: Bench) -> str:
    command = bench.command()
    bench.books.opens = [fault("ProviderRejected")]
    await bench.start(command)
    return workflow_id(command.payment_id)


async def failed_later(bench: Bench) -> str:
    command = bench.command()
    bench.books.looks = [Confirmation(PaymentStatus.FAILED)]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def unknown_then_opened(bench: Bench) -> str:
    command = bench.command()
    bench.books.opens = [fault("OutcomeUnknown"), fault("ProviderBusy")]
    bench.books.looks = [paid()]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def unknown_at_the_end(bench: Bench) -> str:
    command = bench.command(poll=QUICK, expires_at=datetime.now(UTC) + timedelta(seconds=2))
    bench.books.looks = [fault("OutcomeUnknown"), fault("ProviderMisconfigured"), paid()]
    await bench.start(command)
    return workflow_id(command.payment_id)


def way(command: StartPayment) -> OpenWay:
    return OpenWay(command.payment_id, uuid4())


async def two_ways_one_closed(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    await bench.engine.open_way(way(command), wait=WAIT)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def two_ways_one_watched(bench: Bench) -> str:
    """The other way's provider cannot close it, so it is looked at until it lapses."""
    command = bench.command(poll=QUICK)
    await bench.start(command)
    await bench.engine.open_way(way(command), wait=WAIT)
    first = paid()
    bench.books.looks = [replace(first, others_open=True), replace(first, others_open=True), first]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def second_capture(bench: Bench) -> str:
    command = bench.command(poll=QUICK)
    await bench.start(command)
    await bench.engine.open_way(way(command), wait=WAIT)
    twice = replace(paid(), flag="second_capture", others_open=True, surplus_ids=(uuid4(),))
    bench.books.looks = [twice, replace(twice, others_open=False)]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def failed_over(bench: Bench) -> str:
    """The first account's circuit is open when the payment begins; when it is asked again another one opens."""
    command = bench.command()
    bench.books.opens = [fault("ProviderBusy", "circuit_open", 1.0)]
    bench.books.looks = [paid()]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def way_opened_too_late(bench: Bench) -> str:
    """The provider of a further way is slow; the payment is paid meanwhile, and one more look closes the new way."""
    command = bench.command()
    await bench.start(command)
    bench.books.ways, bench.books.hold = [fault("OutcomeUnknown")], {"open_way": 2}
    opening = asyncio.create_task(bench.engine.open_way(way(command), wait=WAIT))
    await bench.books.held.wait()
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    await until(lambda: bool(bench.books.asked))
    bench.books.let_go.set()
    await opening
    return workflow_id(command.payment_id)


async def way_of_a_silent_provider(bench: Bench) -> str:
    """A further way that its provider answers at the third try only."""
    command = bench.command()
    await bench.start(command)
    bench.books.ways = [fault("OutcomeUnknown"), fault("ProviderBusy")]
    await bench.engine.open_way(way(command), wait=WAIT)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def way_refused(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    bench.books.ways = [fault("ProviderRejected")]
    await bench.engine.open_way(way(command), wait=WAIT)
    await bench.engine.cancel(command.payment_id, wait=WAIT)
    return workflow_id(command.payment_id)


async def circuit_open_while_watching(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    bench.books.looks = [fault("ProviderBusy", "circuit_open", 1.5), fault("ProviderBusy", "circuit_open", 1.0), paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def found_while_recording_unknown(bench: Bench) -> str:
    """A look settled the payment and its answer was lost; the record that it is unknown finds it paid."""
    command = bench.command(poll=QUICK, expires_at=datetime.now(UTC) + timedelta(seconds=3))
    bench.books.looks = [fault("ProviderMisconfigured"), fault("ProviderMisconfigured"), paid()]
    bench.books.records = [Confirmation(PaymentStatus.PAID)]
    await bench.start(command)
    return workflow_id(command.payment_id)


CHARGED = Checkout(PaymentStatus.PENDING, look_now=True)


async def saved_method(bench: Bench, *opens: Checkout | ApplicationError, subscription_id: UUID | None = None) -> str:
    """The charge of a saved method; what the provider tells of it comes while the workflow still listens."""
    command = bench.command(payment_method_id=uuid4(), subscription_id=subscription_id)
    done = paid()
    bench.books.opens, bench.books.looks = list(opens), [done, done]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def renewal(bench: Bench) -> str:
    return await saved_method(bench, CHARGED, subscription_id=uuid4())


async def saved_method_declined(bench: Bench) -> str:
    command = bench.command(payment_method_id=uuid4())
    bench.books.opens = [fault("ProviderDeclined", "insufficient_funds")]
    await bench.start(command)
    return workflow_id(command.payment_id)


async def saved_method_confirmed_by_the_payer(bench: Bench) -> str:
    command = bench.command(payment_method_id=uuid4())
    bench.books.opens = [Checkout(PaymentStatus.REQUIRES_ACTION, "http://us.example/checkout/x")]
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def saved_method_canceled_in_retries(bench: Bench) -> str:
    command = bench.command(payment_method_id=uuid4())
    bench.books.opens = [fault("OutcomeUnknown") for _ in range(50)]
    starting = asyncio.create_task(bench.engine.start(command, wait=WAIT))
    async with asyncio.timeout(20):
        while bench.books.opened < 2:
            await asyncio.sleep(0.05)
    await bench.engine.cancel(command.payment_id, wait=WAIT)
    await starting
    return workflow_id(command.payment_id)


async def charge_of_a_subscription(bench: Bench) -> str:
    """The subscription is told of each status; its workflow is not there in this recording."""
    command = bench.command(subscription_id=uuid4())
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def late_event_of_a_subscription(bench: Bench) -> str:
    payment_id = uuid4()
    bench.books.looks = [replace(paid(), subscription_id=uuid4())]
    await bench.engine.signal_afterlife(payment_id, trigger(1))
    return afterlife_id(payment_id)


async def late_event(bench: Bench) -> str:
    payment_id = uuid4()
    bench.books.looks = [paid()]
    await bench.engine.signal_afterlife(payment_id, trigger(1))
    await bench.engine.signal_afterlife(payment_id, trigger(2))
    return afterlife_id(payment_id)


async def refund(desk: Desk, *states: RefundState | ApplicationError) -> str:
    desk.books.refund = list(states)
    command = StartRefund(uuid4(), uuid4())
    await desk.engine.start_refund(command, wait=WAIT)
    return refund_workflow_id(command.refund_id)


async def dispute(desk: Desk, *states: DisputeState, due: bool = False) -> str:
    evidence_due_at = await desk.environment.get_current_time() + timedelta(days=7) if due else None
    view = DisputeView(uuid4(), uuid4(), DisputeState.NEEDS_RESPONSE, evidence_due_at)
    desk.books.disputes = [replace(view, state=state) for state in states]
    handle = await desk.environment.client.start_workflow(
        DisputeWorkflow.run, view, id=f"dispute-{view.dispute_id}", task_queue=desk.queue
    )
    return handle.id


async def inquiry_became_a_dispute(desk: Desk) -> str:
    """First an inquiry, then the bank wants evidence, which nobody gives."""
    due = await desk.environment.get_current_time() + timedelta(days=7)
    view = DisputeView(uuid4(), uuid4(), DisputeState.INQUIRY, None)
    asked = replace(view, state=DisputeState.NEEDS_RESPONSE, evidence_due_at=due)
    desk.books.disputes = [view, asked, replace(asked, state=DisputeState.LOST)]
    handle = await desk.environment.client.start_workflow(
        DisputeWorkflow.run, view, id=f"dispute-{view.dispute_id}", task_queue=desk.queue
    )
    return handle.id


async def surplus(desk: Desk, *states: SurplusStatus) -> str:
    desk.books.surplus = list(states)
    surplus_id = uuid4()
    await desk.engine.return_surplus(surplus_id)
    return f"surplus-{surplus_id}"


async def after_the_end(desk: Desk, kind: str) -> str:
    """An event about a payment whose workflow has ended."""
    payment_id = uuid4()
    desk.books.looks = [Confirmation(PaymentStatus.PARTIALLY_REFUNDED, uuid4())]
    desk.books.reconciled = [Reconciled(open_refunds=(uuid4(),)), Reconciled(receipt_ids=(uuid4(),))]
    view = DisputeView(uuid4(), payment_id, DisputeState.NEEDS_RESPONSE, None)
    desk.books.disputes = [view, replace(view, state=DisputeState.WON)]
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind=kind))
    return afterlife_id(payment_id)


async def refund_failed_for_good(desk: Desk) -> str:
    """Its event is left to the inbox; the dispute that came behind it is followed."""
    payment_id, books = uuid4(), desk.books
    books.looks = [Confirmation(PaymentStatus.PAID)]
    books.reconciled = [fault("Unprocessable")]
    books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
    for number, kind in enumerate(("refund", "dispute"), 1):
        event = ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind=kind)
        await desk.engine.signal_afterlife(payment_id, event)
        await eventually(lambda: _looked(books))
    return afterlife_id(payment_id)


async def _looked(books: Any) -> bool:
    return bool(books.asked_at)


async def warned(desk: Desk) -> str:
    """The payer's bank reports fraud, and by the workspace's policy the payment is refunded."""
    payment_id, books = uuid4(), desk.books
    books.looks, books.reconciled = [Confirmation(PaymentStatus.PAID)], [Reconciled()]
    books.disputes = [DisputeView(uuid4(), payment_id, DisputeState.WON, None)]
    books.risks, books.refund = [RiskReconciled((uuid4(),))], [RefundState.SUCCEEDED]
    await desk.engine.signal_afterlife(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="risk"))
    return afterlife_id(payment_id)


async def surplus_after_the_end(desk: Desk) -> str:
    payment_id = uuid4()
    late = Confirmation(PaymentStatus.PAID, uuid4(), "second_capture", others_open=True, surplus_ids=(uuid4(),))
    desk.books.looks, desk.books.surplus = [late, replace(late, others_open=False)], [SurplusStatus.REFUNDED]
    await desk.engine.signal_afterlife(payment_id, trigger(1))
    return afterlife_id(payment_id)


async def batch(desk: PayoutDesk, *, approve: bool, changes: int = 0, reminders: int = 0, empty: bool = False) -> str:
    """A batch of payments to referrers; people decide after so many reminders, and results come after two more."""
    desk.books.changes = changes
    desk.books.status = PayoutStatus.EMPTY if empty else PayoutStatus.PREPARED
    await desk.begin()
    if not empty:
        async with unlocked(desk.environment):
            while len(desk.books.reminded_at) < reminders:
                await asyncio.sleep(0.01)
        desk.books.close_after_reminders = len(desk.books.reminded_at) + 2
        for _ in range(changes + 1):
            await desk.decide(approve=approve)
    return payout_workflow_id(desk.command.payout_id)


PAYOUTS: dict[str, Callable[[PayoutDesk], Awaitable[str]]] = {
    "payout-closed-approved_at_once": lambda desk: batch(desk, approve=True),
    "payout-closed-approved_after_a_change_and_reminders": lambda desk: batch(
        desk, approve=True, changes=1, reminders=2
    ),
    "payout-rejected-by_a_person": lambda desk: batch(desk, approve=False),
    "payout-empty-nothing_to_pay": lambda desk: batch(desk, approve=True, empty=True),
}
_SILENCE = fault("OutcomeUnknown", "timeout")
DAYS: dict[str, Callable[[Desk], Awaitable[str]]] = {
    "refund-succeeded-at_once": lambda desk: refund(desk, RefundState.SUCCEEDED),
    "refund-succeeded-after_days": lambda desk: refund(
        desk, RefundState.PENDING, RefundState.PENDING, RefundState.PENDING, RefundState.SUCCEEDED
    ),
    "refund-failed-refused_by_provider": lambda desk: refund(desk, RefundState.FAILED),
    "refund-succeeded-unknown_and_looked_up": lambda desk: refund(desk, _SILENCE, _SILENCE, RefundState.SUCCEEDED),
    "dispute-won-reminded_of_the_evidence": lambda desk: dispute(
        desk, DisputeState.UNDER_REVIEW, DisputeState.WON, due=True
    ),
    "dispute-lost-nobody_answered": lambda desk: dispute(desk, DisputeState.NEEDS_RESPONSE, DisputeState.LOST),
    "dispute-lost-first_an_inquiry": inquiry_became_a_dispute,
    "surplus-refunded-after_days": lambda desk: surplus(
        desk, SurplusStatus.REFUNDING, SurplusStatus.REFUNDING, SurplusStatus.REFUNDED
    ),
    "surplus-refund_failed-refused_by_provider": lambda desk: surplus(desk, SurplusStatus.REFUND_FAILED),
    "afterlife-partially_refunded-refund": lambda desk: after_the_end(desk, "refund"),
    "afterlife-partially_refunded-refund_waited_for_aside": lambda desk: after_the_end(desk, "refund"),
    "afterlife-paid-dispute": lambda desk: after_the_end(desk, "dispute"),
    "afterlife-paid-warned_and_refunded": warned,
    "afterlife-paid-surplus_given_back": surplus_after_the_end,
    "afterlife-failed-refund_left_to_the_inbox": refund_failed_for_good,
}
"""Recorded on the server that skips time, since they wait for days."""


async def renewed_and_cancelled(stage: Stage) -> str:
    """Charged, a month of sleep, renewed, and cancelled by the merchant in the middle of the next."""
    active, month = SubscriptionStatus.ACTIVE, timedelta(days=30)
    stage.script.charges = [PaymentStatus.PAID, PaymentStatus.PAID]
    stage.script.turns = [
        Turn(SubscriptionStatus.INCOMPLETE, sleep=timedelta(hours=1), charge=True),
        Turn(active, sleep=timedelta(seconds=3)),
        Turn(active, sleep=timedelta(hours=1), charge=True),
        Turn(active, sleep=month),
        Turn(SubscriptionStatus.CANCELLED, ended=True),
    ]
    await stage.begin()
    await asyncio.sleep(6)
    await stage.cancel()
    return subscription_workflow_id(stage.script.subscription_id)


async def given_up(stage: Stage) -> str:
    """Declined, retried, declined again: the grace ends it."""
    late, soon = SubscriptionStatus.PAST_DUE, timedelta(seconds=2)
    stage.script.charges = [PaymentStatus.FAILED, PaymentStatus.FAILED]
    stage.script.turns = [
        Turn(SubscriptionStatus.ACTIVE, sleep=timedelta(hours=1), charge=True),
        Turn(late, sleep=soon),
        Turn(late, sleep=timedelta(hours=1), charge=True),
        Turn(late, sleep=soon),
        Turn(SubscriptionStatus.EXPIRED, ended=True),
    ]
    await stage.begin()
    return subscription_workflow_id(stage.script.subscription_id)


async def cancelled_while_the_payer_is_asked(stage: Stage) -> str:
    """A charge waits for the payer's bank when the merchant cancels: it is closed."""
    stage.script.charges = [None]
    stage.script.turns = [
        Turn(SubscriptionStatus.ACTIVE, sleep=timedelta(hours=1), charge=True),
        Turn(SubscriptionStatus.PAST_DUE, sleep=timedelta(hours=1)),
        Turn(SubscriptionStatus.CANCELLED, sleep=timedelta(minutes=5), close=True),
        Turn(SubscriptionStatus.CANCELLED, ended=True),
    ]
    await stage.begin()
    await asyncio.sleep(1)
    await stage.cancel()
    return subscription_workflow_id(stage.script.subscription_id)


SUBSCRIPTIONS: dict[str, Callable[[Stage], Awaitable[str]]] = {
    "subscription-cancelled-renewed_before": renewed_and_cancelled,
    "subscription-expired-given_up": given_up,
    "subscription-cancelled-while_the_payer_is_asked": cancelled_while_the_payer_is_asked,
}

RECORDINGS: dict[str, Callable[[Bench], Awaitable[str]]] = {
    "payment-paid-by_webhook": by_webhook,
    "payment-paid-by_webhook_after_a_decline": by_webhook_after_a_decline,
    "payment-paid-by_poll": by_poll,
    "payment-paid-receipt_rendered_late": with_the_receipt_rendered_late,
    "payment-expired-nobody_paid": expired,
    "payment-canceled-by_caller": canceled,
    "payment-failed-refused_by_provider": refused,
    "payment-failed-slow_method_bounced": failed_later,
    "payment-unknown-then_opened": unknown_then_opened,
    "payment-unknown-at_the_end": unknown_at_the_end,
    "payment-paid-other_way_closed": two_ways_one_closed,
    "payment-paid-other_way_watched": two_ways_one_watched,
    "payment-paid-second_capture_given_back": second_capture,
    "payment-paid-failed_over": failed_over,
    "payment-paid-way_opened_too_late": way_opened_too_late,
    "payment-paid-way_of_a_silent_provider": way_of_a_silent_provider,
    "payment-canceled-way_refused": way_refused,
    "payment-paid-circuit_open_while_watching": circuit_open_while_watching,
    "payment-paid-found_while_recording_unknown": found_while_recording_unknown,
    "payment-paid-saved_method": lambda bench: saved_method(bench, CHARGED),
    "payment-paid-saved_method_after_silence": lambda bench: saved_method(bench, fault("OutcomeUnknown"), CHARGED),
    "payment-paid-saved_method_of_a_subscription": renewal,
    "payment-failed-saved_method_declined": saved_method_declined,
    "payment-paid-saved_method_confirmed_by_the_payer": saved_method_confirmed_by_the_payer,
    "payment-canceled-saved_method_in_retries": saved_method_canceled_in_retries,
    "payment-paid-charge_of_a_subscription": charge_of_a_subscription,
    "afterlife-paid-of_a_subscription": late_event_of_a_subscription,
    "afterlife-paid-late_event": late_event,
}


async def setup(
    desk: SetupDesk, *looks: SetupStatus | ApplicationError, signal: bool = False, late: bool = False
) -> str:
    """A set-up of a payment method; `late`: what ended it comes after its end."""
    command = await desk.command()
    if late:
        await desk.engine.start(command, wait=WAIT)
        async with unlocked(desk.environment):
            await desk.environment.client.get_workflow_handle(setup_workflow_id(command.setup_id)).result()
        desk.books.opens = [OpenedSetup(SetupStatus.EXPIRED)]
    else:
        await desk.engine.start(command, wait=WAIT)
    desk.books.looks = list(looks)
    if signal:
        await desk.engine.signal(command, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="setup"))
    return setup_workflow_id(command.setup_id)


async def setup_refused(desk: SetupDesk) -> str:
    desk.books.opens = [fault("ProviderRejected")]
    return await setup(desk)


async def setup_opened_late(desk: SetupDesk) -> str:
    desk.books.opens = [fault("OutcomeUnknown"), fault("ProviderBusy")]
    return await setup(desk, _SILENCE, SetupStatus.SUCCEEDED, signal=True)


async def methods_changed(desk: SetupDesk) -> str:
    reference = uuid4()
    await desk.engine.signal_methods(reference, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="method"))
    return methods_workflow_id(reference)


async def method_detached(desk: SetupDesk) -> str:
    method_id, desk.books.faults = uuid4(), 2
    await desk.engine.detach(method_id, wait=timedelta(seconds=1))
    return detach_workflow_id(method_id)


SETUPS: dict[str, Callable[[SetupDesk], Awaitable[str]]] = {
    "setup-succeeded-by_callback": lambda desk: setup(desk, SetupStatus.SUCCEEDED, signal=True),
    "setup-succeeded-by_poll": lambda desk: setup(desk, SetupStatus.PENDING, SetupStatus.SUCCEEDED),
    "setup-succeeded-after_its_end": lambda desk: setup(desk, SetupStatus.SUCCEEDED, signal=True, late=True),
    "setup-succeeded-opened_late": setup_opened_late,
    "setup-expired-nobody_came": setup,
    "setup-expired-silence": lambda desk: setup(desk, _SILENCE),
    "setup-failed-refused_by_provider": setup_refused,
    "methods-changed_at_provider": methods_changed,
    "detach-done-after_silence": method_detached,
}
"""Recorded on the server that skips time as well."""


def without_place(history: str) -> str:
    """The history without the names of the machine and folder that it was recorded on."""

    def cleaned(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: cleaned(value) for name, value in node.items() if name not in ("stackTrace", "identity")}
        return [cleaned(item) for item in node] if isinstance(node, list) else node

    return json.dumps(cleaned(json.loads(history)), indent=1)


async def record(names: list[str]) -> int:
    for name in names:
        if (HISTORIES / f"{name}.json").exists():
            print(f"{name} exists; it stands for payments that are running", flush=True)
    wanted = [name for name in names if not (HISTORIES / f"{name}.json").exists()]
    if any(name in RECORDINGS or name in SUBSCRIPTIONS for name in wanted):
        local = await WorkflowEnvironment.start_local(
            dev_server_existing_path=binary("temporal"), data_converter=pydantic_data_converter
        )
        await register_search_attributes(local.client)
        async with local:
            for name in filter(RECORDINGS.__contains__, wanted):
                async with bench_on(local) as bench:
                    await _keep(name, local, await RECORDINGS[name](bench))
            for name in filter(SUBSCRIPTIONS.__contains__, wanted):
                async with stage_on(local) as stage:
                    await _keep(name, local, await SUBSCRIPTIONS[name](stage))
    for name in filter(DAYS.__contains__, wanted):  # a server each, since time never goes back
        skipping = await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=binary("temporal-test-server"), data_converter=pydantic_data_converter
        )
        await register_search_attributes(skipping.client)
        async with skipping, desk_on(skipping) as desk:
            recorded_id = await DAYS[name](desk)
            async with unlocked(skipping):
                await _keep(name, skipping, recorded_id)
    for name in filter(PAYOUTS.__contains__, wanted):
        skipping = await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=binary("temporal-test-server"), data_converter=pydantic_data_converter
        )
        async with skipping, payout_desk_on(skipping) as payouts:
            recorded_id = await PAYOUTS[name](payouts)
            async with unlocked(skipping):
                await _keep(name, skipping, recorded_id)
    for name in filter(SETUPS.__contains__, wanted):
        skipping = await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=binary("temporal-test-server"), data_converter=pydantic_data_converter
        )
        async with skipping, setup_desk_on(skipping) as setup_desk:
            recorded_id = await SETUPS[name](setup_desk)
            async with unlocked(skipping):
                await _keep(name, skipping, recorded_id)
    return 0


async def _keep(name: str, environment: WorkflowEnvironment, recorded_id: str) -> None:
    handle = environment.client.get_workflow_handle(recorded_id)
    with suppress(WorkflowFailureError):  # a run that leaves an event to the inbox is no success
        await handle.result()
    (HISTORIES / f"{name}.json").write_text(without_place((await handle.fetch_history()).to_json()))
    print(f"recorded {name}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.workflows.record", description=__doc__)
    every = [*RECORDINGS, *SUBSCRIPTIONS, *DAYS, *PAYOUTS, *SETUPS]
    parser.add_argument("name", nargs="*", metavar="NAME", help="an outcome; all of them when none is named")
    chosen = parser.parse_args().name
    unknown = [name for name in chosen if name not in every]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; outcomes are {', '.join(every)}")
    return asyncio.run(record(chosen or every))


if __name__ == "__main__":
    process.end(main)
