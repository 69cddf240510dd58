"""Subscriptions, changes, refunds, disputes and payouts at random: nobody ever has more than was paid.

Looked at are rows alone: of each payment, and of each customer, what is with the payer or a bank and what is left as
credit is together no more than what was captured, whatever came before. What the service itself was worth is aside.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

import wiring
from activities import credit as decisions
from api.customer_credit import CreditPayout, pay_out
from api.problems import Problem
from domain.dispute import DisputeState
from domain.money import Money
from domain.subscription import ChangeKind
from providers.pool import ProviderPool
from storage import credit, payments, refunds
from storage.models import CreditEntry, Payment, Plan
from tests.support.credit_lab import CreditLab
from tests.support.service import Service

T = TypeVar("T")
CUSTOMERS = ("ann", "ben")
PRICES = ("0.00", "0.07", "30.00", "99.99", "1200.00")
UNITS = ("week", "month", "year")
SHARES = st.one_of(st.just(100), st.integers(1, 100))
PICK = st.integers(0, 99)
WANTED = {
    "now": ChangeKind.CHANGE_PLAN,
    "period_end": ChangeKind.CHANGE_PLAN_AT_PERIOD_END,
}


class World:
    """What the machine acts on; its coroutines run on the loop that everything else runs on."""

    service: Service
    loop: asyncio.AbstractEventLoop
    pool: ProviderPool

    def does(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(120)


class Credit(RuleBasedStateMachine):
    """One shop with two customers."""

    world: World

    @initialize()
    def open_shop(self) -> None:
        self.lab = CreditLab(self.does(self.world.service.shop(callbacks=False, order_webhook_url=None)))
        self.lab.stride = timedelta(days=4)
        self.plans: dict[tuple[str, str], Plan] = {}
        self.subscriptions: list[UUID] = []
        self.under_way: list[UUID] = []
        self.disputes: list[tuple[UUID, str, Money]] = []
        self.from_outside: set[UUID] = set()
        """Payments of which money went back without being asked for."""
        for customer, unit in zip(CUSTOMERS, ("year", "month"), strict=True):  # there is credit from the beginning
            self.subscriptions.append(self.does(self.lab.subscribe(self.plan("1200.00", unit), customer)))
            self._change(len(self.subscriptions) - 1, "99.99", "month", 1, "now")
        self._live(31, None)  # and some of it has paid

    def does(self, work: Awaitable[T]) -> T:
        return self.world.does(work)

    def plan(self, price: str, unit: str) -> Plan:
        if (price, unit) not in self.plans:
            self.plans[price, unit] = self.does(self.lab.plan(price, unit))
        return self.plans[price, unit]

    @rule(
        customer=st.sampled_from(CUSTOMERS),
        price=st.sampled_from(PRICES),
        unit=st.sampled_from(UNITS),
        quantity=st.integers(1, 3),
    )
    def subscribe(self, customer: str, price: str, unit: str, quantity: int) -> None:
        if len(self.subscriptions) < 5:
            self.subscriptions.append(self.does(self.lab.subscribe(self.plan(price, unit), customer, quantity)))

    @precondition(lambda self: self.subscriptions)
    @rule(
        pick=PICK,
        price=st.sampled_from(PRICES),
        unit=st.sampled_from(UNITS),
        quantity=st.integers(1, 3),
        when=st.sampled_from(["now", "now", "now", "period_end"]),
    )
    def change(self, pick: int, price: str, unit: str, quantity: int, when: str) -> None:
        self._change(pick, price, unit, quantity, when)

    def _change(self, pick: int, price: str, unit: str, quantity: int, when: str) -> None:
        wanted = {"plan_id": self.plan(price, unit).id, "quantity": quantity}
        self.does(self.lab.change(self._any(pick), WANTED[when], **wanted))

    @precondition(lambda self: self.subscriptions)
    @rule(pick=PICK, kind=st.sampled_from([ChangeKind.CANCEL, ChangeKind.CANCEL_AT_PERIOD_END, ChangeKind.RESUME]))
    def cancel(self, pick: int, kind: ChangeKind) -> None:
        self.does(self.lab.change(self._any(pick), kind))

    @precondition(lambda self: self.subscriptions)
    @rule(days=st.sampled_from([1, 3, 12, 31]), declines=st.sampled_from([None, None, "insufficient_funds"]))
    def live(self, days: int, declines: str | None) -> None:
        self._live(days, declines)

    def _live(self, days: int, declines: str | None) -> None:
        self.lab.declines = declines
        begun = self.lab.now
        for subscription in self.subscriptions:
            self.lab.now = begun
            self.does(self.lab.live(subscription, days=days))
        self.lab.declines = None

    def _any(self, pick: int) -> UUID:
        return self.subscriptions[pick % len(self.subscriptions)]

    def _payment(self, pick: int) -> Payment | None:
        rows = [row for row in self.does(self.lab.books()).payments if row.paid_at is not None]
        return sorted(rows, key=lambda row: (row.created_at, row.id))[pick % len(rows)] if rows else None

    @rule(pick=PICK, share=SHARES, end=st.sampled_from(["made", "made", "refused", "under way"]))
    def refund(self, pick: int, share: int, end: str) -> None:
        """All of what can go back, or a part; more than that is refused."""
        payment = self._payment(pick)
        if payment is None:
            return
        most = self.does(self._refundable(payment.id))
        amount = Money(most.minor * share // 100, most.currency)
        self.does(self._more_is_refused(payment.id, most))
        if amount.minor:
            self._ends(self.does(self.lab.request(payment.id, amount)), end)

    async def _refundable(self, payment_id: UUID) -> Money:
        async with self.lab.database.transaction() as session:
            payment, _ = await payments.lock(session, payment_id)
            return (await credit.source_of(session, payment)).refundable

    async def _more_is_refused(self, payment_id: UUID, most: Money) -> None:
        try:
            await self.lab.request(payment_id, most + Money(1, most.currency))
        except refunds.OverRefund:
            return
        raise AssertionError("more than there is was accepted")

    def _ends(self, refund_id: UUID, end: str) -> None:
        if end == "under way":
            self.under_way.append(refund_id)
        else:
            self.does(self.lab.make(refund_id) if end == "made" else self.lab.refuse(refund_id))

    @precondition(lambda self: self.under_way)
    @rule(end=st.sampled_from(["made", "refused"]))
    def finish(self, end: str) -> None:
        self._ends(self.under_way.pop(0), end)

    @rule(pick=PICK, share=SHARES)
    def refund_at_the_provider(self, pick: int, share: int) -> None:
        """Nobody asks whether credit of it was used."""
        payment = self._payment(pick)
        left = None if payment is None else refunds.left_of(payment)
        if payment is None or left is None or left.minor * share // 100 == 0:
            return
        self.from_outside.add(payment.id)
        self.does(self.lab.refund_at_the_provider(payment.id, Money(left.minor * share // 100, left.currency)))

    @rule(pick=PICK, share=st.integers(1, 130))
    def dispute(self, pick: int, share: int) -> None:
        payment = self._payment(pick)
        if payment is None:
            return
        name, amount = uuid4().hex[:6], Money(max(payment.money.minor * share // 100, 1), payment.currency)
        self.from_outside.add(payment.id)
        self.disputes.append((payment.id, name, amount))
        self.does(self.lab.dispute(payment.id, DisputeState.NEEDS_RESPONSE, amount, name))

    @precondition(lambda self: self.disputes)
    @rule(pick=PICK, outcome=st.sampled_from([DisputeState.WON, DisputeState.LOST]))
    def decide(self, pick: int, outcome: DisputeState) -> None:
        """The bank decides; sometimes it changes its mind later."""
        payment_id, name, amount = self.disputes[pick % len(self.disputes)]
        self.does(self.lab.dispute(payment_id, outcome, amount, name))

    @rule(customer=st.sampled_from(CUSTOMERS), end=st.sampled_from(["made", "refused", "under way"]))
    def pay_credit_out(self, customer: str, end: str) -> None:
        for refund_id in self.does(self._paid_out(customer)):
            self._ends(refund_id, end)

    async def _paid_out(self, customer: str) -> list[UUID]:
        before = await self.lab.credit(customer)
        try:
            async with self.lab.database.transaction() as session:
                body, workspace = CreditPayout(customer_id=customer), self.lab.shop.workspace
                done = await pay_out(session, self.world.pool, workspace, body, actor="test")
        except Problem:
            assert before == "0.00", "all of it has a source here"
            return []
        assert (str(done.amount), await self.lab.credit(customer)) == (before, "0.00")
        return [one.id for one in done.refunds]

    @rule(customer=st.sampled_from(CUSTOMERS), share=SHARES)
    def withdraw(self, customer: str, share: int) -> None:
        self.does(self._withdrawn(customer, share))

    async def _withdrawn(self, customer: str, share: int) -> None:
        owner, workspace = self.lab.owner(customer), self.lab.shop.workspace
        async with self.lab.database.transaction() as session:
            balance = await credit.lock(session, owner)
            amount = Money(balance.minor * share // 100, balance.currency)
            parts = await decisions.withdraw(
                session, workspace, owner, amount, cause=uuid4(), reason="x", actor="test", at=self.lab.now
            )
        assert sum(part.amount.minor for part in parts) == amount.minor

    @rule(pick=PICK)
    def write_off(self, pick: int) -> None:
        payment = self._payment(pick)
        if payment is not None:
            self.does(self._written_off(payment.id))

    async def _written_off(self, payment_id: UUID) -> None:
        async with self.lab.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            lost = (await credit.source_of(session, payment)).overdrawn
            if lost.minor:
                await decisions.write_off(
                    session, workspace, payment, cause=uuid4(), reason="x", actor="test", at=self.lab.now
                )
                assert not (await credit.source_of(session, payment)).overdrawn.minor

    @invariant()
    def nobody_has_more_than_was_paid(self) -> None:
        if hasattr(self, "lab"):
            self.does(self._compare())

    async def _compare(self) -> None:
        books = await self.lab.books()
        async with self.lab.database.transaction() as session:
            mine = CreditEntry.workspace_id == self.lab.shop.workspace.id
            entries = list(await session.scalars(select(CreditEntry).where(mine)))
        unused, used, of_customer = defaultdict[Any, Any](int), defaultdict[Any, Any](int), defaultdict[Any, Any](int)
        for one in entries:
            assert one.payment_id is not None
            unused[one.payment_id] += one.unused
            used[one.payment_id] += one.used
            of_customer[one.customer_id] += one.unused
        captured, gone = defaultdict[Any, Any](int), defaultdict[Any, Any](int)
        for row in books.payments:
            if row.paid_at is None:
                continue
            away = row.refunded + row.refund_reserved + row.dispute_held
            captured[row.customer_id] += row.amount
            gone[row.customer_id] += away
            assert unused[row.id] >= 0
            assert used[row.id] >= 0
            assert away + unused[row.id] <= row.amount
            overdrawn = max(away + unused[row.id] + used[row.id] - row.amount, 0)
            assert not overdrawn or row.id in self.from_outside
            assert not overdrawn or unused[row.id] == 0
            assert not overdrawn or row.flag is not None, "used credit without money, and nobody is told"
        for row in books.credits:
            assert row.balance == of_customer[row.customer_id] >= 0
            assert row.balance + gone[row.customer_id] <= captured[row.customer_id]
            owed = books.ledger.get(f"customer_credit:{row.customer_id}")
            assert (0 if owed is None else -owed.to_decimal()) == row.balance
        adjusted = books.ledger.get("credit_adjustments")
        assert (0 if adjusted is None else adjusted.to_decimal()) == sum(of_customer.values())

    def teardown(self) -> None:
        if hasattr(self, "lab"):
            self.does(self.lab.shop.aclose())


async def test_nobody_ever_has_more_than_was_paid(service: Service) -> None:
    world = World()
    world.service, world.loop = service, asyncio.get_running_loop()
    world.pool = wiring.provider_pool(service.settings, service.sealer)
    Credit.world = world
    try:
        await asyncio.to_thread(
            run_state_machine_as_test,
            Credit,
            settings=settings(
                max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        await world.pool.close()
