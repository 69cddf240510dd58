"""Several ways to pay one payment, through the hours and days in which they are open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

import wiring
import worker
from dispatch.inbox import start_command
from domain.payment import (
    Checkout,
    Confirmation,
    OpenWay,
    PaymentStatus,
    PollPlan,
    SurplusStatus,
)
from engine.payments import NoSuchWorkflow, PaymentEngine, PaymentIsFinal, afterlife_id, workflow_id
from storage import surplus
from storage.models import Payment, ProviderHealth, SurplusCapture
from tests.support.hands import Hands, hands
from tests.support.market import KINDS, Kind, Market, market
from tests.support.replays import replay
from tests.support.service import Service
from tests.support.time_skipping import WAIT, at_work, ended, patient, patiently, unlocked, until
from tests.workflows.conftest import Bench, skip_to_end
from tests.workflows.test_payment_workflow import fault, paid, trigger
from workflows.afterlife import AfterlifeWorkflow
from workflows.payment import OPENING_PATIENCE, PaymentWorkflow
from workflows.surplus import FIRST_WAIT, SurplusWorkflow

RARELY = PollPlan(first_seconds=3600, growth=6.0, max_seconds=6 * 3600)
"""Few looks in many days."""


def a_way(payment_id: UUID) -> OpenWay:
    return OpenWay(payment_id, uuid4())


def shut(status: PaymentStatus, *, others_open: bool = False) -> Confirmation:
    return Confirmation(status, others_open=others_open)


async def jump(environment: WorkflowEnvironment, condition: Callable[[], bool]) -> None:
    """Let time jump until something has happened."""
    async with unlocked(environment):
        await until(condition)


# opening


async def test_a_way_whose_provider_is_slow_is_tried_on_until_it_is_open(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    bench.books.ways = [fault("OutcomeUnknown"), fault("ProviderBusy", "rate_limit", 2)]
    way = a_way(command.payment_id)
    opened = await bench.engine.open_way(way, wait=WAIT)
    assert opened == Checkout(PaymentStatus.PENDING, "http://pay.example/way")
    assert bench.books.ways_asked == [way] * 3
    assert await bench.engine.open_way(way, wait=WAIT) == opened
    assert len(bench.books.ways_asked) == 3  # the same call has its answer already
    await bench.engine.signal(command.payment_id, trigger())
    bench.books.looks = [paid()]
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    await replay(await bench.history(command))


async def test_a_way_that_could_not_be_opened_for_long_is_tried_anew_when_it_is_asked_for_again(bench: Bench) -> None:
    command = bench.command(expires_at=datetime.now(UTC) + timedelta(days=2))
    await bench.start(command)
    bench.books.ways = [fault("OutcomeUnknown", "timeout") for _ in range(60)]
    way = a_way(command.payment_id)
    async with unlocked(bench.environment):
        gave_up = await bench.engine.open_way(way, wait=WAIT)
    assert gave_up is not None
    assert (gave_up.status, gave_up.url, gave_up.error_code) == (PaymentStatus.UNKNOWN, None, "timeout")
    bench.books.ways = []
    opened = await bench.engine.open_way(way, wait=WAIT, begun=OPENING_PATIENCE + timedelta(seconds=1))
    assert opened == Checkout(PaymentStatus.PENDING, "http://pay.example/way")
    await bench.engine.cancel(command.payment_id, wait=WAIT)
    await replay(await bench.history(command))


async def test_a_way_is_never_opened_by_two_tries_at_once(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    way = a_way(command.payment_id)
    bench.books.hold = {"open_way": 2}
    bench.books.ways = [fault("OutcomeUnknown")]
    first = asyncio.create_task(bench.engine.open_way(way, wait=WAIT))
    await bench.books.held.wait()
    second = asyncio.create_task(bench.engine.open_way(way, wait=WAIT, begun=OPENING_PATIENCE))
    other = await bench.engine.open_way(a_way(command.payment_id), wait=WAIT)
    assert other is not None
    assert [asked.reference for asked in bench.books.ways_asked].count(way.reference) == 2
    bench.books.let_go.set()
    assert await first == await second
    await bench.engine.cancel(command.payment_id, wait=WAIT)


async def test_a_refused_way_is_a_result_and_leaves_the_payment_open(bench: Bench) -> None:
    command = bench.command()
    await bench.start(command)
    for name in ("ProviderDeclined", "ProviderRejected", "ProviderMisconfigured"):
        bench.books.ways = [fault(name, "some_code")]
        opened = await bench.engine.open_way(a_way(command.payment_id), wait=WAIT)
        assert opened is not None
        assert (opened.status, opened.error_code, opened.error_type) == (PaymentStatus.FAILED, "some_code", name)
    assert len(bench.books.ways_asked) == 3
    await bench.engine.signal(command.payment_id, trigger())
    bench.books.looks = [paid()]
    assert (await bench.outcome(command)).status is PaymentStatus.PAID


async def test_nothing_is_opened_for_a_payment_that_is_being_closed_or_over(bench: Bench) -> None:
    command = bench.command(expires_at=datetime.now(UTC) + timedelta(days=30))
    await bench.start(command)
    bench.books.looks = [fault("OutcomeUnknown") for _ in range(20)]
    async with unlocked(bench.environment):
        assert await bench.engine.cancel(command.payment_id, wait=WAIT) is PaymentStatus.PENDING
    with pytest.raises(PaymentIsFinal):
        await bench.engine.open_way(a_way(command.payment_id), wait=WAIT)
    assert (await bench.outcome(command)).status is PaymentStatus.CANCELED
    with pytest.raises((PaymentIsFinal, NoSuchWorkflow)):
        await bench.engine.open_way(a_way(command.payment_id), wait=WAIT)
    assert bench.books.ways_asked == []


# races


@pytest.mark.parametrize("end", [PaymentStatus.PAID, PaymentStatus.CANCELED, PaymentStatus.EXPIRED])
async def test_a_way_that_opens_after_the_payment_has_ended_is_closed_by_one_more_look(
    bench: Bench, end: PaymentStatus
) -> None:
    """The provider is asked while the payment is paid, cancelled or expires; its answer comes afterwards."""
    begun = await bench.environment.get_current_time()
    lives = timedelta(seconds=10 if end is PaymentStatus.EXPIRED else 300)  # no time is skipped during an activity
    command = bench.command(expires_at=begun + lives)
    await bench.start(command)
    bench.books.ways, bench.books.hold = [fault("OutcomeUnknown")], {"open_way": 2}
    opening = asyncio.create_task(bench.engine.open_way(a_way(command.payment_id), wait=WAIT))
    await bench.books.held.wait()
    closing: asyncio.Task[Any] | None = None
    if end is PaymentStatus.PAID:
        bench.books.looks = [paid()]
        await bench.engine.signal(command.payment_id, trigger())
    else:
        bench.books.looks = [shut(end), shut(end, others_open=True), shut(end)]
        if end is PaymentStatus.CANCELED:
            closing = asyncio.create_task(bench.engine.cancel(command.payment_id, wait=WAIT))
    handle = bench.environment.client.get_workflow_handle_for(PaymentWorkflow.run, workflow_id(command.payment_id))
    await jump(bench.environment, lambda: bool(bench.books.asked))
    if closing is not None:
        assert await closing is end
    looks = len(bench.books.asked)
    assert (await handle.query(PaymentWorkflow.status)).status is end
    bench.books.let_go.set()
    opened = await opening
    assert opened is not None
    outcome = await bench.outcome(command)
    assert outcome.status is end
    assert len(bench.books.asked) > looks
    assert bench.books.asked[-1].close_as is None  # a closed payment's ways are closed by any look
    await replay(await bench.history(command))


async def test_a_look_that_got_through_without_an_answer_is_taken_up(bench: Bench) -> None:
    """The settlement is on record, but its activity timed out: its receipt is rendered and other ways are closed."""
    begun = await bench.environment.get_current_time()
    command = bench.command(expires_at=begun + timedelta(seconds=30))
    bench.books.looks = [*(fault("ProviderMisconfigured") for _ in range(3)), paid()]
    bench.books.records = [Confirmation(PaymentStatus.PAID)]
    await bench.start(command)
    outcome = await bench.outcome(command)
    assert outcome.status is PaymentStatus.PAID
    assert outcome.receipt_id is not None
    assert [rendered.receipt_id for rendered in bench.books.rendered] == [outcome.receipt_id]
    await replay(await bench.history(command))


# watching


async def test_ways_that_cannot_be_closed_are_watched_for_days_with_a_short_history(bench: Bench) -> None:
    command = bench.command(poll=PollPlan(first_seconds=600, growth=1.0, max_seconds=600))
    await bench.start(command)
    receipt = uuid4()
    watched = Confirmation(PaymentStatus.PAID, receipt, others_open=True)
    bench.books.looks = [*(watched for _ in range(850)), Confirmation(PaymentStatus.PAID, receipt)]
    await bench.engine.signal(command.payment_id, trigger())
    outcome = await bench.outcome(command)
    assert (outcome.status, outcome.receipt_id) == (PaymentStatus.PAID, receipt)
    assert len(bench.books.asked) >= 851
    assert len(bench.books.rendered) == 1
    last_run = await bench.history(command)
    assert last_run.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    await replay(last_run)


async def test_a_circuit_that_is_open_is_waited_out_without_trying(bench: Bench) -> None:
    """Looks come back when they are told to, and not before."""
    command = bench.command(expires_at=datetime.now(UTC) + timedelta(days=2))
    await bench.start(command)
    bench.books.looks = [fault("ProviderBusy", "circuit_open", 300.0), fault("ProviderBusy", "circuit_open", 290.0)]
    bench.books.looks.append(paid())
    before = await bench.environment.get_current_time()
    await bench.engine.signal(command.payment_id, trigger(1))
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    assert await bench.environment.get_current_time() - before >= timedelta(seconds=589)
    assert bench.books.recorded == []
    await replay(await bench.history(command))


# surplus


async def test_surplus_is_sent_back_once_and_followed_after_the_payment_has_ended(bench: Bench) -> None:
    command, surplus_id = bench.command(), uuid4()
    await bench.start(command)
    twice = Confirmation(PaymentStatus.PAID, uuid4(), "second_capture", others_open=True, surplus_ids=(surplus_id,))
    bench.books.looks = [twice, twice, Confirmation(PaymentStatus.PAID, twice.receipt_id, "second_capture")]
    bench.books.refunds = [fault("ProviderBusy", "refund_too_early", 600.0), *[SurplusStatus.REFUNDING] * 3]
    await bench.engine.signal(command.payment_id, trigger(1))
    await bench.engine.signal(command.payment_id, trigger(2))
    assert (await bench.outcome(command)).status is PaymentStatus.PAID
    refund = bench.environment.client.get_workflow_handle_for(SurplusWorkflow.run, f"surplus-{surplus_id}")
    async with unlocked(bench.environment):
        assert await ended(refund) is SurplusStatus.REFUNDED
    assert {asked.surplus_id for asked in bench.books.refunds_asked} == {surplus_id}
    assert len(bench.books.refunds_asked) == 5
    await replay(await bench.history(command))
    await replay(await refund.fetch_history())


async def test_the_after_life_sends_surplus_back_and_watches_what_is_left(bench: Bench) -> None:
    payment_id, surplus_id = uuid4(), uuid4()
    late = Confirmation(PaymentStatus.PAID, uuid4(), others_open=True, surplus_ids=(surplus_id,))
    bench.books.looks = [late, late, Confirmation(PaymentStatus.PAID, late.receipt_id)]
    await bench.engine.signal_afterlife(payment_id, trigger())
    handle = bench.environment.client.get_workflow_handle_for(AfterlifeWorkflow.run, afterlife_id(payment_id))
    async with unlocked(bench.environment):
        assert (await ended(handle)).receipt_id == late.receipt_id
    refund = bench.environment.client.get_workflow_handle_for(SurplusWorkflow.run, f"surplus-{surplus_id}")
    assert await ended(refund) is SurplusStatus.REFUNDED
    assert len(bench.books.asked) == 3
    await replay(await handle.fetch_history())


# the same with real activities and real providers


@dataclass
class Days:
    """A market on the time-skipping server; nobody tells us anything, so we find out by asking."""

    market: Market
    hands: Hands
    environment: WorkflowEnvironment
    engine: PaymentEngine
    clock: Clock
    started: list[UUID] = field(default_factory=list)

    async def starts(self, *kinds: Kind, lives: timedelta = timedelta(days=3)) -> UUID:
        """A payment with these ways, its workflow under way, the payers' pages open."""
        first = self.market.tills[kinds[0].provider].account
        payment = await self.hands.accept(first, method=kinds[0].method, expires_at=datetime.now(UTC) + lives)
        opened = await self.engine.start(start_command(payment, RARELY), wait=WAIT)
        assert opened is not None
        await self._sees(payment, 1)
        for number, kind in enumerate(kinds[1:], start=2):
            way = await self.hands.add_way(payment.id, kind)
            assert await self.engine.open_way(way, wait=WAIT) is not None
            await self._sees(payment, number)
        return payment.id

    async def _sees(self, payment: Payment, number: int) -> None:
        loaded = await self.market.loaded(str(payment.id))
        attempt = loaded.ways[number - 1].attempt
        assert attempt is not None
        self.market.payers[str(payment.id), number] = await self.market.shop.shown(attempt)

    async def pays(self, payment_id: UUID, number: int, kind: Kind) -> None:
        await self.market.pays(str(payment_id), number, kind)

    async def status(self, payment_id: UUID) -> str:
        return (await self.market.loaded(str(payment_id))).payment.status

    async def gives_back(self, row: SurplusCapture) -> None:
        """What the route does: decide, then start the refund."""
        async with self.market.service.database.transaction() as session:
            locked, attempt = await surplus.lock(session, row.id)
            surplus.change_status(session, locked, attempt, SurplusStatus.REFUNDING, at=datetime.now(UTC), actor="test")
        await self.engine.return_surplus(row.id)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Let time jump until something is on record."""

        async def met() -> None:
            while not await condition():
                await asyncio.sleep(0.02)

        async with unlocked(self.environment):
            await patiently(met())

    async def pass_(self, time: timedelta) -> None:
        """Jump so far, in steps that do not keep the server too long; what falls due on the way is done."""
        step = timedelta(hours=3)
        while time > timedelta(0):
            await patiently(self.environment.sleep(min(time, step)))
            time -= step


@dataclass
class Clock:
    """The activities' clock; it does not follow the server's, so a test moves it."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@asynccontextmanager
async def days_of(
    service: Service, skipping: WorkflowEnvironment, currency: str, **changes: Any
) -> AsyncIterator[Days]:
    queue, clock = f"days-{uuid4().hex[:6]}", Clock()
    pool = wiring.provider_pool(service.settings, service.sealer)
    async with (
        market(service, currency, callbacks=False, **changes) as made,
        hands(made) as activities,
        at_work(
            worker.build_worker(
                skipping.client,
                queue,
                service.database,
                service.sealer,
                pool,
                public_base_url="http://127.0.0.1:9",  # callbacks that are told with each request are lost, too
                now=clock,
            )
        ),
    ):
        yield Days(made, activities, skipping, patient(PaymentEngine(skipping.client, queue)), clock)
    await pool.close()


@pytest_asyncio.fixture(params=["ILS", "COP"])
async def days(request: pytest.FixtureRequest, service: Service, skipping: WorkflowEnvironment) -> AsyncIterator[Days]:
    async with days_of(service, skipping, request.param) as made:
        yield made


async def test_a_second_way_paid_days_later_without_a_callback_is_found_and_given_back(days: Days) -> None:
    """Every pair whose second way stays open after the first has settled and can be asked about, in this order.

    Refunds that a provider decides later are followed until it has decided.
    """
    kinds = KINDS[days.market.currency]
    pairs = [
        (first, second)
        for first in kinds
        for second in kinds
        if first != second and first.asked and second.asked and not second.closes
    ]
    assert len(pairs) == {"ILS": 2, "COP": 9}[days.market.currency]
    made = await asyncio.gather(*(days.starts(first, second) for first, second in pairs))
    await asyncio.gather(*(days.pays(one, 1, first) for one, (first, _) in zip(made, pairs, strict=True)))

    async def all_paid() -> bool:
        return {await days.status(one) for one in made} == {"paid"}

    await days.until(all_paid)
    await days.pass_(timedelta(days=2))
    for one in made:
        assert (await days.market.books(str(one))).surplus == []
    await asyncio.gather(*(days.pays(one, 2, second) for one, (_, second) in zip(made, pairs, strict=True)))
    await days.pass_(timedelta(hours=8))
    for one, (_, second) in zip(made, pairs, strict=True):
        (row,) = await days.market.surplus(str(one))
        books = await days.market.books(str(one))
        books.check()
        assert books.statuses() == ["paid", "surplus"]
        assert row.status == "proposed"
        await days.gives_back(row)
        if second.provider == "payu" and second.refundable:

            async def is_pending(one: UUID = one) -> bool:
                (row,) = await days.market.surplus(str(one))
                return row.status == "refunding" and row.accepted_at is not None

            await days.until(is_pending)
            (await days.market.books(str(one))).check()
            await days.market.tills["payu"].payer.refunds_are_decided(books.attempts[1].reference)
    await days.pass_(FIRST_WAIT * 3)
    for one, (_, second) in zip(made, pairs, strict=True):
        (row,) = await days.market.surplus(str(one))
        assert row.status == ("refunded" if second.refundable else "refund_failed"), second.name
        books = await days.market.books(str(one))
        books.check()
        assert books.held[2].minor == (0 if second.refundable else books.payment.money.minor)
        assert await skip_to_end(days.environment, workflow_id(one)) is not None


async def test_a_way_that_nobody_pays_is_watched_until_it_has_lapsed(
    service: Service, skipping: WorkflowEnvironment
) -> None:
    stripe, _, _, wompi, cash = KINDS["COP"]
    async with days_of(service, skipping, "COP") as days:
        payment_id = await days.starts(stripe, wompi, cash)
        await days.pays(payment_id, 1, stripe)

        async def is_paid() -> bool:
            return await days.status(payment_id) == "paid"

        await days.until(is_paid)
        await days.pass_(timedelta(hours=8))
        handle = days.environment.client.get_workflow_handle_for(PaymentWorkflow.run, workflow_id(payment_id))
        assert (await handle.query(PaymentWorkflow.status)).status is PaymentStatus.PAID
        assert await days.market.books_at(str(payment_id)) == ["paid", "pending", "pending"]
        days.clock.ahead = timedelta(days=4, minutes=1)
        assert (await skip_to_end(days.environment, workflow_id(payment_id))).receipt_id is not None
        assert await days.market.books_at(str(payment_id)) == ["paid", "expired", "expired"]


async def test_every_way_is_closed_when_nobody_pays_and_late_money_is_settled(
    service: Service, skipping: WorkflowEnvironment
) -> None:
    stripe, card, _, wompi, _ = KINDS["COP"]
    async with days_of(service, skipping, "COP") as days:
        closable, watched = await asyncio.gather(days.starts(stripe), days.starts(stripe, wompi, card))
        assert (await skip_to_end(days.environment, workflow_id(closable))).status is PaymentStatus.EXPIRED
        await days.market.tries_to_pay(str(closable), 1, stripe)

        async def is_expired() -> bool:
            return await days.status(watched) == "expired"

        await days.until(is_expired)
        await days.market.tries_to_pay(str(watched), 1, stripe)
        await days.pays(watched, 3, card)
        await days.pass_(timedelta(hours=8))
        assert await days.status(watched) == "paid"
        (await days.market.books(str(watched))).check()


async def tried(handle: WorkflowHandle[Any, Any]) -> int:
    """Which try of the activity that is under way comes next."""
    described = await handle.describe()
    return max((one.attempt for one in described.raw_description.pending_activities), default=0)


async def test_an_opening_waits_for_an_open_circuit_and_goes_on_by_itself(
    service: Service, skipping: WorkflowEnvironment
) -> None:
    """The provider is not asked while the circuit is open; the activity comes back when it was told to."""
    stripe = KINDS["ILS"][0]
    async with days_of(service, skipping, "ILS") as days:
        account = days.market.tills["stripe"].account
        async with service.database.transaction() as session:
            session.add(ProviderHealth(provider_account_id=account.id, failures=10, opened_at=days.clock()))
        payment = await days.hands.accept(account, method=stripe.method)
        starting = asyncio.create_task(days.engine.start(start_command(payment, PollPlan()), wait=timedelta(minutes=1)))

        handle = skipping.client.get_workflow_handle(workflow_id(payment.id))

        async def refused_once() -> None:
            while await days.status(payment.id) != "unknown" or await tried(handle) < 2:
                await asyncio.sleep(0.02)

        await patiently(refused_once())
        before = await skipping.get_current_time()
        days.clock.ahead = timedelta(minutes=5)
        async with unlocked(skipping):
            opened = await starting
        assert opened is not None
        assert opened.url is not None
        assert timedelta(minutes=4) < await skipping.get_current_time() - before < timedelta(minutes=9)
        tries = [
            event.activity_task_started_event_attributes.attempt
            for event in (await handle.fetch_history()).events
            if event.HasField("activity_task_started_event_attributes")
        ]
        assert max(tries) == 2  # refused once, then opened: nothing in between
        async with service.database.transaction() as session:
            health = await session.get(ProviderHealth, account.id)
        assert health is not None
        assert (health.failures, health.opened_at) == (0, None)
        assert await days.engine.cancel(payment.id, wait=WAIT) is PaymentStatus.CANCELED
