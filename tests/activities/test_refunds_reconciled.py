"""What the records say of refunds after a provider was asked: by its list, by its sum, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select

from activities.guard import ProviderGuard
from activities.refunds import RefundActivities, fail_refund, settle_refund
from domain.money import Money
from domain.payment import PaymentStatus, SurplusStatus
from domain.refund import CAME_BACK, FINAL_REFUND, AdvanceRefund, ReconcileRefunds, RefundState
from domain.review import ReviewReason
from providers.base import (
    Capabilities,
    ListedRefund,
    NothingMoved,
    ProviderDeclined,
    ProviderPayment,
    ProviderRefund,
    RefundStatus,
)
from storage import attempts, payments, refunds, surplus
from storage.models import Payment, Refund
from tests.support.service import Service, Shop


def money(text: str) -> Money:
    return Money.parse(text, "ILS")


def listed(name: str, amount: str, status: RefundStatus = RefundStatus.SUCCEEDED, **more: Any) -> ListedRefund:
    return ListedRefund(name, money(amount), status, **more)


@dataclass
class Scripted:
    """A provider that says what a test lets it say."""

    name: str = "stripe"
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(lists_refunds=True))
    says: ProviderPayment = field(default_factory=lambda: ProviderPayment(PaymentStatus.PAID, captured=money("100.00")))
    answer: ProviderRefund | NothingMoved | None = None

    async def look(self, _: Any) -> ProviderPayment:
        return self.says

    async def refund(self, _: Any) -> ProviderRefund:
        return await self.look_refund(None, None) or ProviderRefund("re_made", RefundStatus.PENDING)

    async def look_refund(self, _: Any, __: Any) -> ProviderRefund | None:
        if isinstance(self.answer, NothingMoved):
            raise self.answer
        return self.answer


@dataclass
class Desk:
    """A paid payment of 100.00 and its refund activities beside a scripted provider."""

    service: Service
    payment_id: UUID
    provider: Scripted
    refunds: RefundActivities

    async def hears(self, *found: ListedRefund | None, total: str | None = None) -> None:
        """The provider is asked, and lists these, or tells the sum alone; neither is `not told`."""
        shown = (
            None if total is not None or found == (None,) else tuple(self.own(one) for one in found if one is not None)
        )
        self.provider.says = replace(
            self.provider.says, refunds=shown, refunded=None if total is None else money(total)
        )
        await self.refunds.reconcile_refunds(ReconcileRefunds(self.payment_id))

    def own(self, one: ListedRefund) -> ListedRefund:
        """Under an id that no other payment's refund has."""
        return replace(one, provider_refund_id=f"{one.provider_refund_id}-{self.payment_id}")

    async def asks(self, amount: str, **more: Any) -> UUID:
        """A refund of ours is on record."""
        async with self.service.database.transaction() as session:
            payment, _ = await payments.lock(session, self.payment_id)
            values = {"id": uuid4(), "amount": Decimal(amount), "origin": "merchant"} | more
            return (await refunds.request(session, payment, values, actor="test")).id

    async def rows(self) -> list[tuple[str, str, str]]:
        async with self.service.database.transaction() as session:
            found = await session.scalars(select(Refund).where(Refund.payment_id == self.payment_id))
            return sorted((row.origin, str(row.money), row.status) for row in found)

    async def books(self) -> tuple[str, str, str | None]:
        """Refunded, reserved, review reason."""
        async with self.service.database.transaction() as session:
            row = await session.get_one(Payment, self.payment_id)
            return str(refunds.refunded_of(row)), str(Money.from_decimal(row.refund_reserved, "ILS")), row.flag


@pytest_asyncio.fixture
async def desk(shop: Shop) -> AsyncIterator[Desk]:
    payment = await shop.pays(amount="100.00", referrer_id=None)
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    provider = Scripted()

    @dataclass
    class Pool:
        def of(self, _: Any) -> Scripted:
            return provider

    def now() -> datetime:
        return datetime.now(UTC)

    database: Any = shop.service.database
    pool: Any = Pool()
    guard = ProviderGuard(database, pool, now)
    yield Desk(shop.service, UUID(payment["id"]), provider, RefundActivities(database, guard, shop.service.sealer, now))


def sums_only(desk: Desk) -> None:
    desk.provider.capabilities = Capabilities()


async def test_not_told_is_not_zero(desk: Desk) -> None:
    """Whatever is on record stays, by a list or by a sum, when an answer does not speak of refunds at all."""
    await desk.hears(listed("re_1", "20.00"))
    kept = [("provider", "20.00", "succeeded")]
    assert await desk.rows() == kept
    await desk.hears(None)
    sums_only(desk)
    await desk.hears(None)
    assert await desk.rows() == kept
    await desk.hears(total="0.00")
    assert [status for _, _, status in await desk.rows()] != ["succeeded"] or (await desk.books())[2] is None


@pytest.mark.parametrize("by_list", [True, False])
async def test_a_total_that_occurs_twice_is_another_refund(desk: Desk, by_list: bool) -> None:  # noqa: FBT001
    if by_list:
        first, back = listed("re_1", "20.00"), listed("re_1", "20.00", RefundStatus.FAILED)
        await desk.hears(first)
        await desk.hears(back)
        await desk.hears(back, listed("re_2", "15.00"))
        await desk.hears(back, listed("re_2", "15.00"), listed("re_3", "5.00"))
    else:
        sums_only(desk)
        for total in ("20.00", "0.00", "15.00", "20.00"):
            await desk.hears(total=total)
    assert await desk.rows() == [
        ("provider", "15.00", "succeeded"),
        ("provider", "20.00", "returned"),
        ("provider", "5.00", "succeeded"),
    ]


async def test_one_made_at_the_provider_waits_where_it_may_be_ours_that_is_open(desk: Desk) -> None:
    """The provider tells sums alone, or lists refunds without a mark: ours of that amount has not been answered."""
    ours = await desk.asks("10.00", status="unknown", asked_at=datetime.now(UTC))
    for unmarked in (True, False):
        if not unmarked:
            sums_only(desk)
        desk.provider.answer = ProviderRefund("", RefundStatus.PENDING)
        if unmarked:
            await desk.hears(listed("x-1", "10.00", unmarked=True))
        else:
            await desk.hears(total="10.00")
        assert [row[0] for row in await desk.rows()] == ["merchant"]
        assert (await desk.books())[:2] == ("0.00", "10.00")
    desk.provider.answer = ProviderRefund(f"x-1-{desk.payment_id}", RefundStatus.SUCCEEDED)
    await desk.refunds.advance_refund(AdvanceRefund(ours))
    desk.provider.capabilities = Capabilities(lists_refunds=True)
    await desk.hears(listed("x-1", "10.00", unmarked=True), listed("x-2", "10.00", unmarked=True))
    assert await desk.rows() == [("merchant", "10.00", "succeeded"), ("provider", "10.00", "succeeded")]


async def test_a_marked_one_of_the_same_amount_is_theirs_while_ours_is_open(desk: Desk) -> None:
    ours = await desk.asks("10.00", status="unknown", asked_at=datetime.now(UTC))
    await desk.hears(listed("re_theirs", "10.00"))
    assert await desk.rows() == [("merchant", "10.00", "unknown"), ("provider", "10.00", "succeeded")]
    await desk.hears(listed("re_theirs", "10.00"), listed("re_ours", "10.00", reference=ours))
    assert await desk.rows() == [("merchant", "10.00", "succeeded"), ("provider", "10.00", "succeeded")]
    assert (await desk.books())[:2] == ("20.00", "0.00")


async def test_a_refund_that_fails_twice_frees_only_its_own_reserve(desk: Desk) -> None:
    """By its own workflow and by the provider's list, in either order: another one's reserve is not touched."""
    failing, standing = await desk.asks("30.00"), await desk.asks("50.00")
    desk.provider.answer = ProviderDeclined("declined")
    await desk.refunds.advance_refund(AdvanceRefund(failing))
    assert (await desk.books())[:2] == ("0.00", "50.00")
    await desk.refunds.advance_refund(AdvanceRefund(failing))
    failed = listed("re_f", "30.00", RefundStatus.FAILED, reference=failing)
    await desk.hears(failed)
    await desk.hears(failed)
    assert (await desk.books())[:2] == ("0.00", "50.00")
    gone = listed("re_s", "50.00", RefundStatus.FAILED, reference=standing)
    await desk.hears(failed, gone)
    await desk.refunds.advance_refund(AdvanceRefund(standing))
    assert (await desk.books())[:2] == ("0.00", "0.00")
    assert await desk.rows() == [("merchant", "30.00", "failed"), ("merchant", "50.00", "failed")]


async def test_pending_then_every_end(desk: Desk) -> None:
    pending = [listed(f"re_{n}", "10.00", RefundStatus.PENDING) for n in range(3)]
    await desk.hears(*pending)
    assert await desk.rows() == [("provider", "10.00", "pending")] * 3
    assert (await desk.books())[:2] == ("0.00", "30.00")
    ends = (RefundStatus.SUCCEEDED, RefundStatus.FAILED, RefundStatus.PENDING)
    await desk.hears(*(replace(one, status=end) for one, end in zip(pending, ends, strict=True)))
    assert await desk.rows() == [("provider", "10.00", end) for end in ("failed", "pending", "succeeded")]
    assert (await desk.books())[:2] == ("10.00", "10.00")


async def test_what_failed_here_and_went_all_the_same_is_booked(desk: Desk) -> None:
    ours = await desk.asks("30.00")
    desk.provider.answer = ProviderDeclined("declined")
    await desk.refunds.advance_refund(AdvanceRefund(ours))
    await desk.hears(listed("re_1", "30.00", reference=ours))
    assert await desk.rows() == [("merchant", "30.00", "succeeded")]
    assert (await desk.books())[:2] == ("30.00", "0.00")


async def test_one_that_cannot_be_booked_holds_up_none_of_the_others(desk: Desk) -> None:
    await desk.hears(listed("re_1", "90.00"), listed("re_2", "500.00"), listed("re_3", "10.00"))
    assert await desk.rows() == [("provider", "10.00", "succeeded"), ("provider", "90.00", "succeeded")]
    assert await desk.books() == ("100.00", "0.00", "refund_exceeds_payment")


@pytest.mark.parametrize("answer", list(RefundStatus))
@pytest.mark.parametrize("state", list(RefundState))
async def test_a_refund_by_all_pairs_of_what_it_is_and_what_the_provider_answers(
    desk: Desk, state: RefundState, answer: RefundStatus
) -> None:
    """What is final stays; and whatever is answered how often, the reserve of another refund is not touched."""
    mine, _ = await desk.asks("30.00"), await desk.asks("40.00")
    async with desk.service.database.transaction() as session:
        payment, workspace = await payments.lock(session, desk.payment_id)
        row = await refunds.lock(session, mine)
        if state in (RefundState.SUCCEEDED, RefundState.RETURNED, RefundState.SETTLED_OUTSIDE):
            await settle_refund(session, payment, workspace, row, at=datetime.now(UTC))
        if state is RefundState.FAILED:
            await fail_refund(session, payment, workspace, row, code="refused", at=datetime.now(UTC))
        row.status = state.value
        row.outside_reference = "wire-1" if state is RefundState.SETTLED_OUTSIDE else None
    final = state in FINAL_REFUND
    expected = state if final else RefundState(answer.value)
    for _ in range(2):
        told = ProviderRefund(f"re_{mine}", answer)
        assert (await desk.refunds._record(mine, told)).state is expected
        refunded, reserved, _ = await desk.books()
        kept = expected in (RefundState.SUCCEEDED, *CAME_BACK)
        assert (refunded, reserved) == (
            "30.00" if kept else "0.00",
            "70.00" if expected not in FINAL_REFUND else "40.00",
        )


@pytest.mark.parametrize(("total", "booked"), [("20.00", []), ("35.00", [("provider", "15.00", "succeeded")])])
async def test_where_sums_are_told_an_overpayment_that_went_back_is_none_of_the_sales(
    desk: Desk, total: str, booked: list[tuple[str, str, str]]
) -> None:
    sums_only(desk)
    async with desk.service.database.transaction() as session:
        payment, workspace = await payments.lock(session, desk.payment_id)
        paid = (await attempts.of_payment(session, desk.payment_id))[0]
        name = f"beyond-{desk.payment_id}"
        assert await surplus.record(
            session,
            workspace,
            payment,
            paid,
            transaction_id=name,
            amount=money("20.00"),
            reason=ReviewReason.SECOND_CAPTURE,
        )
        rows = await surplus.of_payment(session, desk.payment_id)
        rows[0].status = SurplusStatus.REFUNDED.value
    for _ in range(2):
        await desk.hears(total=total)
        assert await desk.rows() == booked
