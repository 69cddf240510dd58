"""The payment's workflow through its long waits."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import WorkflowHistory
from temporalio.exceptions import ApplicationError

from domain.payment import Checkout, Confirmation, PaymentStatus, PollPlan, ProviderTrigger, StartPayment
from engine.payments import NoSuchWorkflow, PaymentIsFinal, afterlife_id, workflow_id
from tests.support.replays import replay
from tests.support.time_skipping import WAIT, ended, unlocked
from tests.workflows.conftest import Bench, Lab
from workflows.afterlife import AfterlifeWorkflow
from workflows.payment import PaymentWorkflow

HISTORIES = Path(__file__).parent.parent / "histories"


def paid(*, receipt: bool = True) -> Confirmation:
    return Confirmation(PaymentStatus.PAID, uuid4() if receipt else None)


def fault(name: str, code: str = "x", seconds: float | None = None) -> ApplicationError:
    return ApplicationError("detail", code, seconds, type=name)


def trigger(number: int = 1) -> ProviderTrigger:
    return ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind="captured")


async def test_all_webhooks_lost_and_the_payment_is_still_settled_once(lab: Lab) -> None:
    payment = await lab.accept()
    opened = await lab.start(payment)
    assert opened.url is not None
    await lab.shop.sandbox("POST", f"/sessions/{opened.url.rsplit('/', 1)[1]}/pay", {})
    outcome = await lab.outcome(payment.id)
    assert (outcome.status, outcome.receipt_id is not None) == (PaymentStatus.PAID, True)
    assert (await lab.shop.read(str(payment.id)))["status"] == "paid"
    assert (await lab.shop.totals(str(payment.id)))["charges"] == 1
    await replay(await lab.history(payment.id))


async def test_nobody_pays_and_the_checkout_is_closed_at_the_provider(lab: Lab) -> None:
    payment = await lab.accept()
    opened = await lab.start(payment)
    outcome = await lab.outcome(payment.id)
    assert outcome.status is PaymentStatus.EXPIRED
    assert opened.url is not None
    paid_late = await lab.shop.sandbox("POST", f"/sessions/{opened.url.rsplit('/', 1)[1]}/pay", {})
    assert paid_late["outcome"] == "This page has expired."
    await replay(await lab.history(payment.id))


async def test_a_restarted_payment_gives_the_same_checkout(lab: Lab) -> None:
    payment = await lab.accept()
    first, second = await lab.start(payment), await lab.start(payment)
    assert first == second
    assert (await lab.shop.totals(str(payment.id)))["sessions"] == 1
    assert await lab.engine.cancel(payment.id, wait=WAIT) is PaymentStatus.CANCELED
    assert (await lab.outcome(payment.id)).status is PaymentStatus.CANCELED


async def test_looks_become_rarer_and_one_falls_on_the_expiry(bench: Bench) -> None:
    command = bench.command(poll=PollPlan(jitter=0.0))
    begun = await bench.environment.get_current_time()
    command = bench.command(poll=PollPlan(jitter=0.0), expires_at=begun + timedelta(minutes=30))
    await bench.start(command)
    outcome = await bench.outcome(command)
    assert outcome.status is PaymentStatus.EXPIRED
    closings = [asked.close_as for asked in bench.books.asked]
    # after 1, 3, 7 and 15 minutes, then at the end of the checkout
    assert closings == [None, None, None, None, PaymentStatus.EXPIRED]


async def test_silence_at_the_end_is_unknown_until_the_provider_answers(bench: Bench) -> None:
    begun = await bench.environment.get_current_time()
    command = bench.command(expires_at=begun + timedelta(seconds=30))
    bench.books.looks = [*(fault("OutcomeUnknown") for _ in range(12)), paid()]
    await bench.start(command)
    outcome = await bench.outcome(command)
    assert outcome.status is PaymentStatus.PAID
    assert [recorded.status for recorded in bench.books.recorded] == [PaymentStatus.UNKNOWN]
    await replay(await bench.history(command))


async def test_a_declined_or_wrong_request_is_tried_once(bench: Bench) -> None:
    for name in ("ProviderDeclined", "ProviderRejected", "ProviderMisconfigured"):
        bench.books.opens, bench.books.opened = [fault(name, "some_code")], 0
        command = bench.command()
        opened = await bench.start(command)
        assert (opened.status, opened.error_code) == (PaymentStatus.FAILED, "some_code")
        assert bench.books.opened == 1
        assert (await bench.outcome(command)).status is PaymentStatus.FAILED
        await replay(await bench.history(command))


async def test_an_unknown_opening_is_visible_and_resolved(bench: Bench) -> None:
    bench.books.opens = [fault("OutcomeUnknown"), fault("ProviderBusy", "rate_limit", 2)]
    command = bench.command()
    opened = await bench.start(command)
    assert opened.url == "http://pay.example/c"
    assert [recorded.status for recorded in bench.books.recorded] == [PaymentStatus.UNKNOWN]
    await bench.engine.signal(command.payment_id, trigger())
    bench.books.looks = [paid()]
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    await replay(await bench.history(command))


async def test_an_opening_that_never_answers_is_watched_to_its_end(bench: Bench) -> None:
    bench.books.opens = [fault("OutcomeUnknown") for _ in range(100)]
    command = bench.command()
    await bench.environment.client.start_workflow(
        PaymentWorkflow.run, command, id=workflow_id(command.payment_id), task_queue=bench.engine.task_queue
    )
    outcome = await bench.outcome(command)
    assert outcome.status is PaymentStatus.EXPIRED
    await replay(await bench.history(command))


async def test_a_rejected_second_try_fails_the_payment(bench: Bench) -> None:
    bench.books.opens = [fault("OutcomeUnknown"), fault("ProviderRejected", "checkout_window_passed")]
    command = bench.command()
    opened = await bench.start(command)
    assert (opened.status, opened.error_code) == (PaymentStatus.FAILED, "checkout_window_passed")
    assert (await bench.outcome(command)).status is PaymentStatus.FAILED


async def test_a_signal_is_answered_once_however_often_it_comes(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    bench.books.looks = [paid()]
    for _ in range(5):
        await bench.engine.signal(command.payment_id, trigger())
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert {number for asked in bench.books.asked for number in asked.inbox_ids} == {1}
    assert len(bench.books.rendered) >= 1
    with pytest.raises(NoSuchWorkflow):
        await bench.engine.signal(command.payment_id, trigger(2))


async def test_a_failed_look_waits_as_long_as_the_provider_asks_and_keeps_the_event(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    bench.books.looks = [fault("ProviderBusy", "rate_limit", 30.0), paid()]
    before = await bench.environment.get_current_time()
    await bench.engine.signal(command.payment_id, trigger())
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert bench.books.asked[-1].inbox_ids == (1,)
    assert await bench.environment.get_current_time() - before >= timedelta(seconds=29)


async def test_a_renderer_in_trouble_does_not_hold_up_the_status(bench: Bench) -> None:
    command = bench.command()
    bench.books.render_faults = 3
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger())
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert len(bench.books.rendered) >= 4


async def test_cancel_while_the_provider_is_silent_is_kept_and_done(bench: Bench) -> None:
    command = bench.command(expires_at=datetime.now(UTC) + timedelta(days=30))
    await bench.start(command)
    bench.books.looks = [fault("OutcomeUnknown") for _ in range(40)]
    async with unlocked(bench.environment):
        answered = await bench.engine.cancel(command.payment_id, wait=WAIT)
    assert answered is PaymentStatus.PENDING  # not closed yet: the caller is told so, the workflow goes on trying
    assert (await bench.outcome(command)).status is PaymentStatus.CANCELED
    await replay(await bench.history(command))


async def test_a_final_payment_refuses_cancel(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    bench.books.looks = [paid(receipt=False)]
    await bench.engine.signal(command.payment_id, trigger())
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    with pytest.raises((PaymentIsFinal, NoSuchWorkflow)):
        await bench.engine.cancel(command.payment_id, wait=WAIT)


async def test_status_query_and_details(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    handle = bench.environment.client.get_workflow_handle_for(PaymentWorkflow.run, workflow_id(command.payment_id))
    view = await handle.query(PaymentWorkflow.status)
    assert (view.status, view.looks_done) == (PaymentStatus.PENDING, 0)
    assert "the payer" in view.waiting_for
    await bench.engine.cancel(command.payment_id, wait=WAIT)
    await bench.outcome(command)


async def test_a_late_event_finds_its_home(bench: Bench) -> None:
    payment_id = uuid4()
    bench.books.looks = [paid()]
    await bench.engine.signal_afterlife(payment_id, trigger())
    await bench.engine.signal_afterlife(payment_id, trigger())
    handle = bench.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    assert (await ended(handle)).status is PaymentStatus.PAID
    assert len(bench.books.rendered) == 1
    await replay(await bench.environment.client.get_workflow_handle(afterlife_id(payment_id)).fetch_history())


async def test_a_payment_watched_for_days_cuts_its_history(bench: Bench) -> None:
    begun = await bench.environment.get_current_time()
    command = bench.command(
        expires_at=begun + timedelta(days=6), poll=PollPlan(first_seconds=600, growth=1.0, max_seconds=600)
    )
    opened = await bench.start(command)
    outcome = await bench.outcome(command)
    assert outcome.status is PaymentStatus.EXPIRED
    assert opened == Checkout(PaymentStatus.PENDING, "http://pay.example/c")
    assert len(bench.books.asked) > 800
    last_run = await bench.history(command)
    assert last_run.events[0].workflow_execution_started_event_attributes.continued_execution_run_id


async def test_an_event_that_waits_for_an_answer_is_kept_when_the_history_is_cut(bench: Bench) -> None:
    command = bench.command(
        expires_at=datetime.now(UTC) + timedelta(days=30),
        poll=PollPlan(first_seconds=600, growth=1.0, max_seconds=600),
    )
    await bench.start(command)
    bench.books.looks = [fault("OutcomeUnknown") for _ in range(3000)]
    await bench.engine.signal(command.payment_id, trigger(7))
    async with unlocked(bench.environment):
        while not await _was_cut(bench, command):
            await asyncio.sleep(0.1)
    bench.books.looks = [paid()]
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert bench.books.asked[-1].inbox_ids == (7,)


async def _was_cut(bench: Bench, command: StartPayment) -> bool:
    started = (await bench.history(command)).events[0].workflow_execution_started_event_attributes
    return bool(started.continued_execution_run_id)


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*.json")), ids=lambda path: path.stem)
async def test_recorded_histories_replay(path: Path) -> None:
    await replay(WorkflowHistory.from_json(path.stem, path.read_text()))


def test_there_is_a_history_of_every_outcome() -> None:
    recorded = {tuple(path.stem.split("-")[:2]) for path in HISTORIES.glob("*.json")}
    expected = {
        "payment": {"paid", "expired", "canceled", "failed", "unknown"},
        "refund": {"succeeded", "failed"},
        "surplus": {"refunded", "refund_failed"},
        "dispute": {"won", "lost"},
        "afterlife": {"paid", "partially_refunded"},
        "payout": {"closed", "rejected", "empty"},
        "subscription": {"cancelled", "expired"},
    }
    assert recorded >= {(kind, outcome) for kind, outcomes in expected.items() for outcome in outcomes}
