"""Batches while everything else goes on: one at a time, each commission once, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from activities.payouts import PayoutActivities
from domain.dispute import DisputeState
from domain.ledger import owed_to
from domain.money import Money
from domain.payout import DecidePayout, LineStatus, PayoutStatus, PreparePayout, RemindOfPayout
from storage import commissions, ledger, payouts
from storage.models import AuditEntry, Commission, OrderNotice, Payout, PayoutItem, PayoutLine
from storage.session import is_outage
from tests.support.referrals import disputed, money, now, owed, refunded, sold
from tests.support.service import Service, Shop


def desk(shop: Shop) -> PayoutActivities:
    return PayoutActivities(shop.service.database, shop.service.sealer, now)


async def requested(shop: Shop) -> UUID:
    payout_id = uuid4()
    async with shop.service.database.transaction() as session:
        await payouts.request(session, shop.workspace, {"id": payout_id, "cut_off": now()}, actor="test")
    return payout_id


async def lines_of(shop: Shop, payout_id: UUID) -> list[PayoutLine]:
    async with shop.service.database.transaction() as session:
        return [line for line, _ in await payouts.lines_of(session, payout_id)]


async def by_hand(shop: Shop, payment_id: UUID) -> bool:
    """Whether the commission could be paid by hand."""
    try:
        async with shop.service.database.transaction() as session:
            commission = await commissions.of_payment(session, payment_id)
            assert commission is not None
            await commissions.mark_paid(
                session, shop.workspace.id, commission.id, reference="hand", actor="test", at=now()
            )
    except commissions.CommissionInPayout:
        return False
    return True


async def again_after_a_deadlock(work: Any) -> Any:
    """As the engine and callers do: what PostgreSQL gave up for the sake of others is tried once more."""
    while True:
        try:
            return await work()
        except DBAPIError as error:
            if not is_outage(error):
                raise


async def test_of_batches_asked_for_at_once_one_is_opened(shop: Shop) -> None:
    for _ in range(3):
        await sold(shop, money(shop)("100.00"))
    answers = await asyncio.gather(*(shop.api.post("/payouts", json={}) for _ in range(8)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201, *([409] * 7)]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"payout_open"}
    async with shop.service.database.transaction() as session:
        mine = Payout.workspace_id == shop.workspace.id
        assert await session.scalar(select(func.count()).where(mine).select_from(Payout)) == 1


async def test_the_same_key_at_once_is_one_batch(shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"))
    headers = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*(shop.api.post("/payouts", json={}, headers=headers) for _ in range(6)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_the_database_keeps_a_commission_from_leaving_twice(shop: Shop) -> None:
    payment_id = await sold(shop, money(shop)("100.00"))
    payout_id = await requested(shop)
    await desk(shop).prepare_payout(PreparePayout(payout_id))
    async with shop.service.database.transaction() as session:
        commission = await commissions.of_payment(session, payment_id)
    assert commission is not None
    with pytest.raises(IntegrityError, match="uq_payout_items_live"):
        async with shop.service.database.transaction() as session:
            session.add(PayoutItem(commission_id=commission.id, amount=1, status="reserved"))
    with pytest.raises(IntegrityError, match="uq_payouts_one_open"):
        async with shop.service.database.transaction() as session:
            session.add(
                Payout(
                    id=uuid4(),
                    workspace_id=shop.workspace.id,
                    status="prepared",
                    cut_off=now(),
                    minimum=0,
                    currency="ILS",
                    prepared_by="x",
                )
            )


async def test_a_batch_and_a_hand_never_pay_the_same_commission(shop: Shop) -> None:
    ids = [await sold(shop, money(shop)("10.00"), guarded=False) for _ in range(20)]
    payout_id = await requested(shop)
    preparing = asyncio.create_task(desk(shop).prepare_payout(PreparePayout(payout_id)))
    paid = await asyncio.gather(*(by_hand(shop, one) for one in ids))
    await preparing
    in_batch = sum(Money.from_decimal(line.gross, "ILS").minor // 100 for line in await lines_of(shop, payout_id))
    assert in_batch + sum(paid) == 20
    assert await owed(shop) == Money(100 * in_batch, "ILS")


async def trouble(shop: Shop, payment_id: UUID, number: int) -> None:
    """What may happen to an order at any moment."""
    await asyncio.sleep(number % 7 / 30)
    kind = number % 10
    if kind < 5:
        await again_after_a_deadlock(lambda: refunded(shop, payment_id, money(shop)("3.33")))
    elif kind < 7:
        lost = money(shop)("10.00")
        await again_after_a_deadlock(lambda: disputed(shop, payment_id, DisputeState.LOST, lost))
    elif kind < 9:
        await again_after_a_deadlock(lambda: by_hand(shop, payment_id))


async def result(shop: Shop, payout_id: UUID, line_id: UUID, *, paid: bool) -> None:
    async with shop.service.database.transaction() as session:
        payout, _ = await payouts.lock(session, payout_id)
        what = LineStatus.PAID if paid else LineStatus.FAILED
        await payouts.record_result(session, payout, line_id, result=what, reference="x", actor="test", at=now())


async def batch(shop: Shop, *, paid: bool) -> None:
    """One batch from its preparation to its last result."""
    activities, payout_id = desk(shop), await requested(shop)
    progress = await again_after_a_deadlock(lambda: activities.prepare_payout(PreparePayout(payout_id)))
    while progress.status is PayoutStatus.PREPARED:
        command = DecidePayout(payout_id, "test", approve=True)
        progress = (await again_after_a_deadlock(partial(activities.decide_payout, command))).progress
    for line in await lines_of(shop, payout_id):
        if line.status == "sent":
            await again_after_a_deadlock(partial(result, shop, payout_id, line.id, paid=paid))


async def batches(shop: Shop) -> None:
    for number in range(4):
        await batch(shop, paid=number % 2 == 0)


async def test_refunds_disputes_and_hands_while_batches_are_prepared_and_approved(shop: Shop) -> None:
    """Whatever the order, the books agree: what is owed is what is left of what has not gone out, less the debt."""
    names = ["ann", "ben", "cleo"]
    ids = [await sold(shop, money(shop)("10.00"), referrer=names[n % 3], guarded=False) for n in range(30)]
    await asyncio.gather(batches(shop), *(trouble(shop, one, number) for number, one in enumerate(ids)))
    await batches(shop)
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
        rows = (await session.scalars(select(Commission).where(Commission.workspace_id == shop.workspace.id))).all()
        hands = (
            await session.execute(
                select(Commission.referrer_id, PayoutItem.amount)
                .join(PayoutItem, PayoutItem.commission_id == Commission.id)
                .where(Commission.workspace_id == shop.workspace.id, PayoutItem.line_id.is_(None))
            )
        ).all()
        mine = (PayoutLine.workspace_id == shop.workspace.id, PayoutLine.status == "paid")
        lines = (await session.scalars(select(PayoutLine).where(*mine))).all()
    assert sum(balance.minor for balance in found.values()) == 0
    assert hands
    assert lines
    for name in names:
        accrued = sum(row.amount - row.clawed_back for row in rows if row.referrer_id == name)
        hand = sum(amount for who, amount in hands if who == name)
        out = sum(line.amount for line in lines if line.referrer_id == name)
        assert -found[owed_to(name)].to_decimal() == accrued - hand - out
    assert not [name for name, balance in found.items() if "transit" in name and balance.minor]


async def test_two_results_of_one_line_at_once_are_one_result(service: Service, shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"))
    payout_id = await requested(shop)
    await desk(shop).prepare_payout(PreparePayout(payout_id))
    await desk(shop).decide_payout(DecidePayout(payout_id, "test", approve=True))
    (line,) = await lines_of(shop, payout_id)
    url = f"/payouts/{payout_id}/lines/{line.id}"
    answers = await asyncio.gather(
        *(shop.api.post(f"{url}/paid", json={"reference": "w"}) for _ in range(3)),
        *(shop.api.post(f"{url}/failed", json={"reason": "x"}) for _ in range(3)),
    )
    codes = [answer.status_code for answer in answers]
    assert sorted(codes) == [200, 200, 200, 409, 409, 409]
    (line,) = await lines_of(shop, payout_id)
    assert line.status == ("paid" if codes[0] == 200 else "failed")
    assert (await owed(shop)).minor == (0 if line.status == "paid" else 1000)


async def test_a_preparation_that_does_not_commit_leaves_no_trace(shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"))
    payout_id = await requested(shop)
    with pytest.raises(RuntimeError, match="the crash"):
        async with shop.service.database.transaction() as session:
            payout, workspace = await payouts.lock(session, payout_id)
            await payouts.prepare(session, payout, workspace, at=now())
            await session.flush()
            raise RuntimeError("the crash")
    assert await lines_of(shop, payout_id) == []
    progress = await desk(shop).prepare_payout(PreparePayout(payout_id))
    assert (progress.status, progress.lines) == (PayoutStatus.PREPARED, 1)
    assert await desk(shop).prepare_payout(PreparePayout(payout_id)) == progress


@pytest.mark.parametrize(("told", "times"), [(True, 1), (False, 0)])
async def test_a_reminder_that_is_repeated_is_told_and_noted_once(service: Service, *, told: bool, times: int) -> None:
    """Without an order service nobody is told, and nothing says that somebody was; a repeat noted it again before."""
    changes: dict[str, Any] = {} if told else {"order_webhook_url": None}
    shop = await service.shop(**changes)
    await sold(shop, money(shop)("100.00"), referrer="ann")
    batch = await requested(shop)
    await desk(shop).prepare_payout(PreparePayout(batch))
    for _ in range(2):
        assert (await desk(shop).remind_of_payout(RemindOfPayout(batch, 2))).status is PayoutStatus.PREPARED
    async with shop.service.database.transaction() as session:
        noted = select(func.count()).where(AuditEntry.subject_id == str(batch), AuditEntry.action == "payout.reminded")
        notices = select(func.count()).where(
            OrderNotice.workspace_id == shop.workspace.id, OrderNotice.type == "payout.awaiting_approval"
        )
        assert [await session.scalar(query) for query in (noted, notices)] == [times, times]
    await shop.aclose()
