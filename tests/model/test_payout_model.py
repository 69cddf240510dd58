"""Accruals, refunds, disputes, reviews, payouts at random: balance = accrued - clawed back - paid, to the minor unit.

The books are the real ones, on PostgreSQL; the model is a page of sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, update

from activities.payouts import PayoutActivities
from api.referrers import statement_of
from domain.dispute import DisputeState
from domain.money import Money
from domain.payout import DecidePayout, LineStatus, PayoutStatus, PreparePayout
from storage import commissions, payouts
from storage.models import Commission, Payout, PayoutLine
from tests.support.referrals import balances, disputed, now, refunded, sold
from tests.support.service import Service, Shop

T = TypeVar("T")
RATE = Fraction(10, 100)
NAMES = ("ann", "ben")


def rounded(exact: Fraction) -> int:
    """Half up, of something that is not negative."""
    return (exact.numerator * 2 + exact.denominator) // (exact.denominator * 2)


@dataclass(eq=False)
class Sale:
    """An order with its commission, minor units. `out` is how the commission leaves: reserved, sent, paid or hand."""

    payment_id: UUID
    referrer: str
    amount: int
    commission: int
    refunded: int = 0
    held: int = 0
    claim: str | None = None
    rejected: bool = False
    out: str | None = None

    @property
    def back(self) -> int:
        gone = self.refunded + (self.held if self.claim == "lost" else 0)
        return self.commission if self.rejected else rounded(Fraction(self.commission * gone, self.amount))

    @property
    def left(self) -> int:
        return self.commission - self.back

    @property
    def may_be_paid(self) -> bool:
        return self.left > 0 and self.claim != "needs_response"


@dataclass(eq=False)
class Line:
    """One referrer's part of the batch."""

    line_id: UUID
    referrer: str
    gross: int
    amount: int
    sales: list[Sale]


@dataclass(frozen=True)
class World:
    """What the machine acts on; its coroutines run on the loop that everything else runs on."""

    service: Service
    loop: asyncio.AbstractEventLoop

    def does(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(60)


@dataclass
class Batch:
    """The open batch."""

    payout_id: UUID
    status: PayoutStatus
    lines: list[Line] = field(default_factory=list)


class Payouts(RuleBasedStateMachine):
    """One workspace and two referrers."""

    world: World
    sales = Bundle("sales")

    @initialize(currency=st.sampled_from(["ILS", "JPY", "KWD"]))
    def open_shop(self, currency: str) -> None:
        self.currency, self.known, self.batch = currency, list[Sale](), None
        self.arrived: list[tuple[UUID, Line]] = []
        self.paid_out = dict.fromkeys(NAMES, 0)
        self.in_transit = 0
        self.shop: Shop = self.does(
            self.world.service.shop(
                callbacks=False,
                currency=currency,
                one_capture_per_order=False,
                order_webhook_url=None,
                commission_minimum=0,
            )
        )
        self.activities = PayoutActivities(self.world.service.database, self.world.service.sealer, now)

    batch: Batch | None

    def does(self, work: Awaitable[T]) -> T:
        return self.world.does(work)

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)

    def balance(self, name: str) -> int:
        return sum(sale.left for sale in self.known if sale.referrer == name) - self.paid_out[name]

    def debt(self, name: str) -> int:
        """What claw-backs took of commissions that had left already: zero or negative."""
        away = ("sent", "paid", "hand")
        unpaid = sum(sale.left for sale in self.known if sale.referrer == name and sale.out not in away)
        return self.balance(name) - unpaid

    @rule(target=sales, amount=st.integers(5, 10**7), referrer=st.sampled_from(NAMES))
    def capture(self, amount: int, referrer: str) -> Sale:
        payment_id = self.does(sold(self.shop, self.money(amount), referrer=referrer, guarded=False))
        sale = Sale(payment_id, referrer, amount, rounded(amount * RATE))
        self.known.append(sale)
        return sale

    @rule(sale=sales, share=st.integers(1, 100))
    def refund(self, sale: Sale, share: int) -> None:
        left = sale.amount - sale.refunded - sale.held
        if left <= 0:
            return
        part = max(left * share // 100, 1)
        self.does(refunded(self.shop, sale.payment_id, self.money(part)))
        sale.refunded += part

    @rule(sale=sales, share=st.integers(1, 120), state=st.sampled_from(["needs_response", "won", "lost"]))
    def dispute(self, sale: Sale, share: int, state: str) -> None:
        """The bank's one dispute of the order opens, or is decided, or decided anew."""
        if state == "needs_response" and sale.claim is not None:
            return
        wanted = max(sale.amount * share // 100, 1)
        self.does(disputed(self.shop, sale.payment_id, DisputeState(state), self.money(wanted)))
        if state == "won":
            sale.held = 0
        elif sale.held == 0:
            asked = wanted if sale.claim is None else getattr(sale, "asked", wanted)
            sale.held = min(asked, sale.amount - sale.refunded)
        if sale.claim is None:
            sale.asked = wanted  # type: ignore[attr-defined]  # what the bank wanted first
        sale.claim = state

    @rule(sale=sales)
    def refuse(self, sale: Sale) -> None:
        """A person refuses a commission that a guard held."""
        if sale.out is not None or sale.rejected or sale.left == 0:
            return
        self.does(self._refused(sale))
        sale.rejected = True

    async def _refused(self, sale: Sale) -> None:
        async with self.shop.service.database.transaction() as session:
            mine = Commission.payment_id == sale.payment_id
            await session.execute(update(Commission).where(mine).values(review="pending"))
            commission_id = (await session.execute(select(Commission.id).where(mine))).scalar_one()
            await commissions.review(
                session,
                self.shop.workspace.id,
                commission_id,
                approve=False,
                reason="x",
                actor="test",
                at=now(),
            )

    @rule(sale=sales)
    def pay_by_hand(self, sale: Sale) -> None:
        if sale.out is not None or sale.rejected or not sale.may_be_paid:
            return
        self.does(self._by_hand(sale))
        sale.out = "hand"
        self.paid_out[sale.referrer] += sale.left

    async def _by_hand(self, sale: Sale) -> None:
        async with self.shop.service.database.transaction() as session:
            commission = await commissions.of_payment(session, sale.payment_id)
            assert commission is not None
            await commissions.mark_paid(
                session, self.shop.workspace.id, commission.id, reference=None, actor="test", at=now()
            )

    @rule()
    def prepare(self) -> None:
        if self.batch is not None:
            return
        expected = {}
        for name in NAMES:
            chosen = [
                sale
                for sale in self.known
                if sale.referrer == name and sale.out is None and not sale.rejected and sale.may_be_paid
            ]
            gross = sum(sale.left for sale in chosen)
            if chosen and gross + self.debt(name) > 0:
                expected[name] = (gross, gross + self.debt(name), chosen)
        payout_id, rows = self.does(self._prepared())
        found = {row.referrer_id: self._minor(row.gross, row.amount) for row in rows}
        assert found == {name: (gross, amount) for name, (gross, amount, _) in expected.items()}
        for _, _, chosen in expected.values():
            for sale in chosen:
                sale.out = "reserved"
        lines = [Line(row.id, row.referrer_id, *expected[row.referrer_id]) for row in rows]
        self.batch = Batch(payout_id, PayoutStatus.PREPARED, lines) if lines else None

    async def _prepared(self) -> tuple[UUID, list[PayoutLine]]:
        database, payout_id = self.shop.service.database, uuid4()
        async with database.transaction() as session:
            await payouts.request(session, self.shop.workspace, {"id": payout_id, "cut_off": now()}, actor="test")
        for _ in range(2):  # as often as a worker may try
            progress = await self.activities.prepare_payout(PreparePayout(payout_id))
        async with database.transaction() as session:
            rows = [line for line, _ in await payouts.lines_of(session, payout_id)]
        assert progress.lines == len(rows)
        return payout_id, rows

    @rule()
    def approve(self) -> None:
        batch = self.batch
        if batch is None or batch.status is not PayoutStatus.PREPARED:
            return
        kept, changed = [], False
        for line in batch.lines:
            stay = [sale for sale in line.sales if sale.may_be_paid and not sale.rejected]
            gross = sum(sale.left for sale in stay)
            amount = gross + self.debt(line.referrer)
            changed |= (gross, amount) != (line.gross, line.amount)
            for sale in line.sales:
                sale.out = "reserved" if sale in stay and amount > 0 else None
            if amount > 0:
                kept.append(Line(line.line_id, line.referrer, gross, amount, stay))
        decided = self.does(self.activities.decide_payout(DecidePayout(batch.payout_id, "test", approve=True)))
        assert (decided.changed, decided.refused) == (changed, None)
        assert decided.progress.total_minor == sum(line.amount for line in kept)
        batch.lines = kept
        if changed:
            self.batch = batch if kept else None
            return
        batch.status = PayoutStatus.APPROVED
        for line in kept:
            self.paid_out[line.referrer] += line.amount
            self.in_transit += line.amount
            for sale in line.sales:
                sale.out = "sent"

    @rule()
    def give_up(self) -> None:
        if self.batch is None or self.batch.status is not PayoutStatus.PREPARED:
            return
        decision = DecidePayout(self.batch.payout_id, "test", approve=False)
        assert self.does(self.activities.decide_payout(decision)).progress.status is PayoutStatus.REJECTED
        for line in self.batch.lines:
            for sale in line.sales:
                sale.out = None
        self.batch = None

    @rule(paid=st.booleans(), pick=st.integers(0, 1))
    def result(self, paid: bool, pick: int) -> None:  # noqa: FBT001  (a drawn value)
        batch = self.batch
        if batch is None or batch.status is not PayoutStatus.APPROVED:
            return
        line = batch.lines.pop(pick % len(batch.lines))
        for _ in range(2):
            status = self.does(self._result(batch.payout_id, line.line_id, "paid" if paid else "failed"))
        self.in_transit -= line.amount
        if paid:
            self.arrived.append((batch.payout_id, line))
        else:
            self.paid_out[line.referrer] -= line.amount
        for sale in line.sales:
            sale.out = "paid" if paid else None
        assert status == (PayoutStatus.APPROVED if batch.lines else PayoutStatus.CLOSED)
        if not batch.lines:
            self.batch = None

    @rule(pick=st.integers(0, 9))
    def come_back(self, pick: int) -> None:
        """The bank brings back what was booked as paid, also when its batch has long been closed."""
        if not self.arrived:
            return
        payout_id, line = self.arrived.pop(pick % len(self.arrived))
        before = self.does(self._result(payout_id, line.line_id, "paid"))
        for _ in range(2):
            assert self.does(self._result(payout_id, line.line_id, "returned")) == before
        self.paid_out[line.referrer] -= line.amount
        for sale in line.sales:
            sale.out = None

    async def _result(self, payout_id: UUID, line_id: UUID, what: str) -> str:
        async with self.shop.service.database.transaction() as session:
            payout, _ = await payouts.lock(session, payout_id)
            result = LineStatus(what)
            await payouts.record_result(session, payout, line_id, result=result, reference="x", actor="test", at=now())
            return payout.status

    @invariant()
    def books_are_equal(self) -> None:
        if hasattr(self, "shop") and self.known:
            self.does(self._compare())

    async def _compare(self) -> None:
        found = await balances(self.shop)
        assert sum(money.minor for money in found.values()) == 0
        transit = [money.minor for account, money in found.items() if account.startswith("payouts_in_transit:")]
        assert -sum(transit) == self.in_transit
        today = now().date()
        async with self.shop.service.database.transaction() as session:
            rows = {
                row.payment_id: row
                for row in await session.scalars(
                    select(Commission).where(Commission.workspace_id == self.shop.workspace.id)
                )
            }
            statements = {
                name: await statement_of(
                    session, self.shop.workspace, name, today - timedelta(days=1), today + timedelta(days=1)
                )
                for name in NAMES
            }
            open_ones = (
                await session.scalars(
                    select(Payout.status).where(
                        Payout.workspace_id == self.shop.workspace.id, Payout.status.in_(["prepared", "approved"])
                    )
                )
            ).all()
        assert len(open_ones) == (self.batch is not None)
        for sale in self.known:
            row = rows.get(sale.payment_id)
            assert (
                (sale.commission, sale.back) == (0, 0)
                if row is None
                else (self._minor(row.amount, row.clawed_back) == (sale.commission, sale.back))
            )
        for name in NAMES:
            mine = [sale for sale in self.known if sale.referrer == name]
            told = statements[name]
            expected = (
                sum(sale.commission for sale in mine),
                sum(sale.back for sale in mine),
                self.paid_out[name],
                self.balance(name),
            )
            said = (told.accrued, told.clawed_back, told.paid, told.closing)
            assert tuple(Money.parse(one, self.currency).minor for one in said) == expected
            owed = found.get(f"commission_payable:{name}", self.money(0))
            assert -owed.minor == self.balance(name)

    def _minor(self, *values: Any) -> tuple[int, ...]:
        return tuple(Money.from_decimal(value, self.currency).minor for value in values)

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.does(self.shop.aclose())


async def test_a_balance_is_what_was_accrued_less_what_was_clawed_back_and_paid(service: Service) -> None:
    Payouts.world = World(service, asyncio.get_running_loop())
    await asyncio.to_thread(
        run_state_machine_as_test,
        Payouts,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_what_a_won_dispute_gives_back_after_the_payment_is_paid_with_the_next_commission(
    service: Service,
) -> None:
    """The books were said to disagree, and the referrer was paid nothing as long as that lasted."""
    Payouts.world = World(service, asyncio.get_running_loop())

    def life() -> None:
        machine = Payouts()
        try:
            machine.open_shop("ILS")
            first = machine.capture(15339, "ann")
            machine.dispute(first, 69, "lost")
            machine.capture(159, "ann")
            machine.pay_by_hand(first)
            machine.refund(first, 11)
            machine.refund(first, 88)
            machine.dispute(first, 69, "won")
            machine.prepare()
            machine.approve()
            machine.result(paid=True, pick=0)
            machine.books_are_equal()
        finally:
            machine.teardown()

    await asyncio.to_thread(life)
