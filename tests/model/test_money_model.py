"""Payments, refunds, disputes and commissions at random, against a model of a page: the books are always equal.

The books are the real ones: activities on PostgreSQL, the provider over HTTP. The model knows sums, not rows: what was
captured, what went back, what banks hold, and one rounding rule.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

import wiring
from activities.checkout import CheckoutActivities
from activities.confirmation import ConfirmationActivities
from activities.disputes import DisputeActivities
from activities.guard import ProviderGuard
from activities.refunds import RefundActivities
from dispatch.inbox import start_command
from domain.dispute import ReconcileDisputes
from domain.money import Money
from domain.payment import Confirm, PollPlan
from domain.refund import AdvanceRefund, ReconcileRefunds, RefundState
from providers.pool import ProviderPool
from storage import commissions, ledger, payments, refunds
from storage.models import Commission, Dispute, Payment, Receipt, Refund
from tests.support.service import Service, Shop

T = TypeVar("T")
RATES = {"JPY": Fraction(10, 100), "ILS": Fraction(18, 100), "KWD": Fraction(0)}
STEP = {"JPY": 1, "ILS": 1, "KWD": 10}
"""Stripe takes three-decimal amounts in steps of ten."""
COMMISSION = Fraction(10, 100)
FEE_RATE, FEE_FIXED = Fraction(29, 1000), 3
"""The provider's fee: a share of the capture and so many minor units."""
SHARES = st.integers(1, 100)


def rounded(exact: Fraction) -> int:
    """Half up, of something that is not negative."""
    return (exact.numerator * 2 + exact.denominator) // (exact.denominator * 2)


@dataclass
class Claim:
    """A dispute in the model, minor units. `wanted` may be more than the payment has."""

    wanted: int
    held: int
    status: str = "needs_response"


@dataclass(eq=False)
class Sale:
    """A captured payment in the model, minor units."""

    payment_id: UUID
    charge_id: str
    intent_id: str
    amount: int
    vat: int
    referrer: str | None
    commission: int
    refunded: int = 0
    fee: int = 0
    fee_comes_back: bool = False
    paid_out: int | None = None
    claims: dict[str, Claim] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(claim.held for claim in self.claims.values())

    @property
    def lost(self) -> int:
        return sum(claim.held for claim in self.claims.values() if claim.status == "lost")

    @property
    def left(self) -> int:
        return self.amount - self.refunded - self.held

    def follow(self) -> None:
        """Disputes that hold less than they want take what is free, the oldest first."""
        for claim in self.claims.values():
            if claim.status in ("needs_response", "lost"):
                claim.held += min(claim.wanted - claim.held, self.left)

    def give_way(self, needed: int) -> None:
        """A refund had it first: the latest claim gives it up, an undecided one before a lost one."""
        for status in ("needs_response", "lost"):
            for claim in reversed(self.claims.values()):
                part = min(claim.held, max(needed, 0)) if claim.status == status else 0
                claim.held, needed = claim.held - part, needed - part

    @property
    def charged_back(self) -> bool:
        """Whether the provider refuses refunds because a bank has the matter in hand."""
        return any(claim.status in ("needs_response", "lost") for claim in self.claims.values())

    @property
    def vat_back(self) -> int:
        return rounded(Fraction(self.vat * self.refunded, self.amount))

    @property
    def fee_kept(self) -> int:
        back = rounded(Fraction(self.fee * self.refunded, self.amount)) if self.fee_comes_back else 0
        return self.fee - back

    @property
    def commission_back(self) -> int:
        return rounded(Fraction(self.commission * (self.refunded + self.lost), self.amount))

    @property
    def earned(self) -> int:
        return self.commission - self.commission_back

    def part(self, share: int, of: int, step: int) -> int:
        """A share in percent of a sum, at least one step."""
        return max(of * share // 100 // step, 1) * step


@dataclass(frozen=True)
class World:
    """What the machine acts on; its coroutines run on the loop that everything else runs on."""

    service: Service
    loop: asyncio.AbstractEventLoop
    guard: ProviderGuard

    def does(self, work: Awaitable[T]) -> T:
        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(60)


class Books(RuleBasedStateMachine):
    """One workspace; whatever happens in it, its books and the model's agree."""

    world: World
    sales = Bundle("sales")

    @initialize(currency=st.sampled_from(sorted(RATES)), returned=st.booleans())
    def open_shop(self, currency: str, returned: bool) -> None:  # noqa: FBT001  (a drawn value)
        self.currency, self.step, self.known = currency, STEP[currency], list[Sale]()
        self.fee_comes_back = returned
        self.shop = self.does(self._shop())
        database, sealer, guard = self.world.service.database, self.world.service.sealer, self.world.guard

        def now() -> datetime:
            return datetime.now(UTC)

        self.checkout = CheckoutActivities(database, guard, sealer, now, public_base_url="http://127.0.0.1")
        self.confirmation = ConfirmationActivities(database, guard, sealer, now)
        self.refunds = RefundActivities(database, guard, sealer, now)
        self.disputes = DisputeActivities(database, guard, now)

    def does(self, work: Awaitable[T]) -> T:
        return self.world.does(work)

    async def _shop(self) -> Shop:
        rate = Decimal(RATES[self.currency].numerator) / RATES[self.currency].denominator
        shop = await self.world.service.shop(
            callbacks=False,
            currency=self.currency,
            vat_rate=rate,
            one_capture_per_order=False,
            order_webhook_url=None,
        )
        share = format(Decimal(FEE_RATE.numerator) / FEE_RATE.denominator, "f")
        fees = {"rate": share, "fixed": str(self.money(FEE_FIXED)), "returned": self.fee_comes_back}
        answer = await shop.api.patch(f"/provider-accounts/{shop.account.id}", json={"fees": fees})
        assert answer.json()["fees"]["returned"] is self.fee_comes_back, answer.text
        return shop

    def money(self, minor: int) -> Money:
        return Money(minor, self.currency)

    @rule(target=sales, units=st.integers(60, 10**6), referrer=st.sampled_from([None, "ann", "ben"]))
    def capture(self, units: int, referrer: str | None) -> Any:
        amount = units * self.step
        payment_id, charge = self.does(self._captured(amount, referrer))
        rate = RATES[self.currency]
        share = rounded(amount * COMMISSION) if referrer else 0
        sale = Sale(
            payment_id,
            charge["id"],
            charge["payment_intent"],
            amount,
            vat=rounded(amount * rate / (1 + rate)),
            referrer=referrer,
            fee=rounded(amount * FEE_RATE) + FEE_FIXED,
            fee_comes_back=self.fee_comes_back,
            commission=share if share >= Money.parse("1", self.currency).minor else 0,
        )
        self.known.append(sale)
        return multiple(sale)

    async def _captured(self, amount: int, referrer: str | None) -> tuple[UUID, dict[str, Any]]:
        payment_id = uuid4()
        async with self.world.service.database.transaction() as session:
            payment = Payment(
                id=payment_id,
                workspace_id=self.shop.workspace.id,
                provider_account_id=self.shop.account.id,
                provider="stripe",
                order_id=f"o-{payment_id}",
                amount=self.money(amount).to_decimal(),
                currency=self.currency,
                checkout_mode="direct",
                description="x",
                referrer_id=referrer,
                customer_id="someone",
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            )
            session.add(payment)
        await self.checkout.open_checkout(start_command(payment, PollPlan()))
        async with self.world.service.database.transaction() as session:
            found = await session.get(Payment, payment_id)
        assert found is not None
        outcome = await self.shop.sandbox("POST", f"/payment_intents/{found.provider_session_id}/confirm", {})
        assert outcome == {"outcome": "paid"}
        confirmed = await self.confirmation.confirm(Confirm(payment_id))
        assert confirmed.status == "paid"
        return payment_id, await self._charge(payment_id)

    async def _charge(self, payment_id: UUID) -> dict[str, Any]:
        charges = await self.shop.sandbox("GET", "/objects?type=charge")
        return next(one for one in charges if one["metadata"]["payment_id"] == str(payment_id))

    @rule(sale=sales)
    def look_again(self, sale: Sale) -> None:
        """A late or repeated event: nothing changes."""
        self.does(self.confirmation.confirm(Confirm(sale.payment_id)))
        self.does(self.refunds.reconcile_refunds(ReconcileRefunds(sale.payment_id)))
        self.does(self.disputes.reconcile_disputes(ReconcileDisputes(sale.payment_id)))

    @rule(sale=sales, share=SHARES, silent=st.booleans())
    def refund(self, sale: Sale, share: int, silent: bool) -> None:  # noqa: FBT001  (a drawn value)
        """A part of what is left; with `silent` the provider acts and does not answer."""
        if sale.left < self.step:
            return
        minor = sale.part(share, sale.left, self.step)
        refund_id = self.does(self._requested(sale, minor))
        if silent:
            self.does(self.shop.sandbox("POST", "/faults", {"operation": "create_refund", "fault": "timeout_after:1"}))
            self.does(self._cut_off(AdvanceRefund(refund_id)))
        progress = self.does(self.refunds.advance_refund(AdvanceRefund(refund_id)))
        assert self.does(self.refunds.advance_refund(AdvanceRefund(refund_id))) == progress
        self._refunded(sale, minor, progress.state)

    async def _cut_off(self, command: AdvanceRefund) -> None:
        """The provider acts and keeps silent, and whoever asked dies before its time is up."""
        work = asyncio.create_task(self.refunds.advance_refund(command))
        while not work.done() and not await self._made(command.refund_id):
            await asyncio.sleep(0.005)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    async def _made(self, refund_id: UUID) -> bool:
        made = await self.shop.sandbox("GET", "/objects?type=refund")
        return any(one["metadata"].get("refund_id") == str(refund_id) for one in made)

    def _refunded(self, sale: Sale, minor: int, state: RefundState) -> None:
        if sale.charged_back:
            assert state is RefundState.FAILED
        else:
            assert state is RefundState.SUCCEEDED
            sale.refunded += minor

    async def _requested(self, sale: Sale, minor: int) -> UUID:
        async with self.world.service.database.transaction() as session:
            payment, _ = await payments.lock(session, sale.payment_id)
            values = {"id": uuid4(), "amount": self.money(minor).to_decimal()}
            return (await refunds.request(session, payment, values, actor="test")).id

    @rule(sale=sales, shares=st.lists(SHARES, min_size=2, max_size=4))
    def refunds_at_once(self, sale: Sale, shares: list[int]) -> None:
        """Parts of the whole at the same moment: what fits is refunded, the rest is refused."""
        parts = [sale.part(share, sale.amount, self.step) for share in shares]

        async def one(minor: int) -> tuple[int, RefundState] | None:
            try:
                refund_id = await self._requested(sale, minor)
            except refunds.OverRefund:
                return None
            return minor, (await self.refunds.advance_refund(AdvanceRefund(refund_id))).state

        async def all_at_once() -> list[tuple[int, RefundState] | None]:
            return await asyncio.gather(*(one(minor) for minor in parts))

        for done in self.does(all_at_once()):
            if done is not None:
                self._refunded(sale, *done)
        assert sale.left >= 0

    @rule(sale=sales, share=SHARES)
    def refund_at_the_provider(self, sale: Sale, share: int) -> None:
        """Somebody refunds in the provider's own dashboard."""
        if sale.left < self.step or sale.charged_back:
            return
        minor = sale.part(share, sale.left, self.step)
        self.does(self._stripe_refund(sale, minor))
        self.does(self.refunds.reconcile_refunds(ReconcileRefunds(sale.payment_id)))
        sale.refunded += minor

    @rule(sale=sales, share=SHARES, want=st.integers(1, 130))
    def dispute_that_is_heard_of_before_a_refund(self, sale: Sale, share: int, want: int) -> None:
        """Somebody refunds in the dashboard, then the bank comes, and the news of the refund is late."""
        if sale.left < self.step or sale.charged_back:
            return
        minor = sale.part(share, sale.left, self.step)
        self.does(self._stripe_refund(sale, minor))
        self.dispute(sale, want)
        self.does(self.refunds.reconcile_refunds(ReconcileRefunds(sale.payment_id)))
        sale.give_way(minor - sale.left)
        sale.refunded += minor

    @rule(sale=sales, share=SHARES, want=st.integers(1, 130))
    def dispute_while_a_refund_is_under_way(self, sale: Sale, share: int, want: int) -> None:
        """The refund has reserved its part when the bank comes, and is refused by the provider then."""
        if sale.left < self.step:
            return
        minor = sale.part(share, sale.left, self.step)
        refund_id = self.does(self._requested(sale, minor))
        wanted = sale.part(want, sale.amount, self.step)
        made = self.does(self.shop.sandbox("POST", f"/charges/{sale.charge_id}/dispute", {"amount": wanted}))
        self.does(self.disputes.reconcile_disputes(ReconcileDisputes(sale.payment_id)))
        sale.claims[made["id"]] = Claim(wanted, min(wanted, sale.left - minor))
        self._refunded(sale, minor, self.does(self.refunds.advance_refund(AdvanceRefund(refund_id))).state)
        sale.follow()

    async def _stripe_refund(self, sale: Sale, minor: int) -> None:
        async with httpx.AsyncClient(base_url=self.world.service.sandbox_url) as http:
            answer = await http.post(
                "/v1/refunds",
                data={"payment_intent": sale.intent_id, "amount": str(minor)},
                headers={"authorization": f"Bearer {self.shop.provider_key}", "idempotency-key": secrets.token_hex(8)},
            )
        answer.raise_for_status()

    @rule(sale=sales, share=st.integers(1, 130))
    def dispute(self, sale: Sale, share: int) -> None:
        """The payer's bank takes a part back for now, or more than there is."""
        minor = sale.part(share, sale.amount, self.step)
        made = self.does(self.shop.sandbox("POST", f"/charges/{sale.charge_id}/dispute", {"amount": minor}))
        self.does(self.disputes.reconcile_disputes(ReconcileDisputes(sale.payment_id)))
        sale.claims[made["id"]] = Claim(minor, 0)
        sale.follow()

    @rule(sale=sales, outcome=st.sampled_from(["won", "lost"]), pick=st.integers(0, 9))
    def decide(self, sale: Sale, outcome: str, pick: int) -> None:
        """The bank decides; sometimes it changes its mind later."""
        if not sale.claims:
            return
        dispute_id = sorted(sale.claims)[pick % len(sale.claims)]
        claim = sale.claims[dispute_id]
        self.does(self.shop.sandbox("POST", f"/disputes/{dispute_id}/{outcome}"))
        self.does(self.disputes.reconcile_disputes(ReconcileDisputes(sale.payment_id)))
        if outcome == "won":
            claim.held = 0
        claim.status = outcome
        sale.follow()

    @rule(sale=sales)
    def pay_out(self, sale: Sale) -> None:
        """The referrer gets what is left of the commission, once."""
        if not sale.commission or sale.paid_out is not None or sale.earned == 0:
            return
        if any(claim.status == "needs_response" for claim in sale.claims.values()):
            return  # an open dispute holds it
        self.does(self._paid_out(sale))
        sale.paid_out = sale.earned

    async def _paid_out(self, sale: Sale) -> None:
        async with self.world.service.database.transaction() as session:
            commission = await commissions.of_payment(session, sale.payment_id)
            assert commission is not None
            await commissions.mark_paid(
                session,
                self.shop.workspace.id,
                commission.id,
                reference="transfer",
                actor="test",
                at=datetime.now(UTC),
            )

    @invariant()
    def books_are_equal(self) -> None:
        if not self.known:
            return
        self.does(self._compare())

    async def _compare(self) -> None:
        async with self.world.service.database.transaction() as session:
            booked = await ledger.balances(session, self.shop.workspace.id)
            rows = {row.id: row for row in await session.scalars(self._mine(Payment))}
            earned = {row.payment_id: row for row in await session.scalars(self._mine(Commission))}
            documents = (await session.scalars(self._mine(Receipt))).all()
            open_refunds = [row for row in await session.scalars(self._mine(Refund)) if row.finished_at is None]
            claims = {row.provider_dispute_id: row for row in await session.scalars(self._mine(Dispute))}
        names = {f"disputed:{row.id}": f"disputed:{row.provider_dispute_id}" for row in claims.values()}
        found = {names.get(name, name): money.minor for name, money in booked.items() if money.minor}
        assert found == self._expected()
        assert not open_refunds
        for sale in self.known:
            row = rows[sale.payment_id]
            assert self._minor(row.refunded, row.refund_reserved, row.dispute_held, row.dispute_lost) == (
                sale.refunded,
                0,
                sale.held,
                sale.lost,
            )
            whole = sale.refunded == sale.amount
            assert row.status == ("refunded" if whole else "partially_refunded" if sale.refunded else "paid")
            share = earned.get(sale.payment_id)
            assert (
                (0, 0)
                if share is None
                else self._minor(share.amount, share.clawed_back)
                == (
                    sale.commission,
                    sale.commission_back,
                )
            )
            for dispute_id, claim in sale.claims.items():
                assert (claims[dispute_id].status, *self._minor(claims[dispute_id].held)) == (claim.status, claim.held)
        notes = [one for one in documents if one.kind == "credit_note"]
        assert self._minor(sum(one.total for one in notes), sum(one.vat for one in notes)) == (
            sum(sale.refunded for sale in self.known),
            sum(sale.vat_back for sale in self.known),
        )
        assert sorted(one.number for one in notes) == list(range(1, len(notes) + 1))

    def _mine(self, model: Any) -> Any:
        return select(model).where(model.workspace_id == self.shop.workspace.id)

    def _minor(self, *values: Decimal | int) -> tuple[int, ...]:
        return tuple(Money.from_decimal(Decimal(value), self.currency).minor for value in values)

    def _expected(self) -> dict[str, int]:
        """Every account's balance by the model, debit positive."""
        sums: dict[str, int] = defaultdict(int)
        for sale in self.known:
            sums[f"provider:{self.shop.account.id}"] += sale.amount - sale.refunded - sale.held - sale.fee_kept
            sums["provider_fees"] += sale.fee_kept
            sums["sales"] -= (sale.amount - sale.vat) - (sale.refunded - sale.vat_back)
            sums["vat_payable"] -= sale.vat - sale.vat_back
            sums["dispute_losses"] += sale.lost
            sums["commission_expense"] += sale.earned
            sums["commission_paid_out"] -= sale.paid_out or 0
            if sale.referrer is not None:
                sums[f"commission_payable:{sale.referrer}"] -= sale.earned - (sale.paid_out or 0)
            for dispute_id, claim in sale.claims.items():
                sums[f"disputed:{dispute_id}"] += claim.held if claim.status == "needs_response" else 0
        return {name: minor for name, minor in sums.items() if minor}

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.does(self.shop.aclose())
            self.does(self.shop.sandbox("DELETE", "/faults"))


async def test_the_books_agree_with_the_model_whatever_happens(service: Service) -> None:
    pool: ProviderPool = wiring.provider_pool(service.settings, service.sealer)
    guard = ProviderGuard(service.database, pool, lambda: datetime.now(UTC))
    Books.world = World(service, asyncio.get_running_loop(), guard)
    try:
        await asyncio.to_thread(
            run_state_machine_as_test,
            Books,
            settings=settings(
                max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        await pool.close()
