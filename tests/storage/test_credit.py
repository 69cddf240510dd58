"""Credit comes from captured money, and is gone when that money goes back: nobody has the same money twice."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from activities.credit import write_off
from domain.dispute import DisputeState
from domain.review import ReviewReason
from domain.subscription import ChangeKind
from embedded.stack import ROOT
from storage import credit, payments, refunds
from storage.models import CustomerCredit, Payment, Plan, Workspace
from tests.support.credit_lab import CUSTOMER, CreditLab
from tests.support.service import Service

NOW, LATER = ChangeKind.CHANGE_PLAN, ChangeKind.CHANGE_PLAN_AT_PERIOD_END


@pytest_asyncio.fixture
async def lab(service: Service) -> AsyncIterator[CreditLab]:
    shop = await service.shop(callbacks=False)
    yield CreditLab(shop)
    await shop.aclose()


async def a_year_changed_to_months(lab: CreditLab) -> tuple[UUID, Payment, Plan]:
    """1,200.00 for a year; on the second day 100.00 a month."""
    subscription = await lab.subscribe(await lab.plan("1200.00", "year"))
    monthly = await lab.plan("100.00")
    await lab.live(subscription, days=1)
    done = await lab.change(subscription, NOW, plan_id=monthly.id)
    assert (done.effects["credit"], done.effects["carried_forward"]) == ("1196.71", "1096.71")
    (payment,) = await lab.paid(subscription)
    return subscription, payment, monthly


async def test_a_full_refund_after_a_change_to_a_cheaper_plan_leaves_nothing(lab: CreditLab) -> None:
    """The year went back in full, and its credit went on paying the months: the same money twice."""
    subscription, payment, _ = await a_year_changed_to_months(lab)
    await lab.refund(payment.id)
    row = await lab.row(subscription)
    assert (row.status, row.end_reason, await lab.credit()) == (
        "cancelled",
        "its payment was refunded in full",
        "0.00",
    )
    await lab.live(subscription, days=70)
    assert len(await lab.paid(subscription)) == 1
    booked = await lab.balances()
    assert (str(booked[f"customer_credit:{CUSTOMER}"]), str(booked["credit_adjustments"])) == ("0.00", "0.00")
    (told,) = await lab.told("refund.succeeded")
    assert told["credit_taken_back"] == "1096.71"


async def test_a_refund_takes_unused_credit_first_and_what_was_used_cannot_be_refunded_as_well(lab: CreditLab) -> None:
    subscription, payment, _ = await a_year_changed_to_months(lab)
    await lab.refund(payment.id, lab.money("96.71"))
    assert await lab.credit() == "1000.00"
    await lab.live(subscription, days=32)  # a month is paid by credit
    assert await lab.credit() == "900.00"
    with pytest.raises(refunds.OverRefund, match=r"1003\.29 ILS is left"):
        await lab.request(payment.id, lab.money("1003.30"))
    await lab.refund(payment.id, lab.money("1003.29"))
    assert await lab.credit() == "0.00"
    assert (await lab.row(subscription)).status == "active"  # the month that credit has paid goes on
    await lab.live(subscription, days=31)
    assert [str(one.money) for one in await lab.paid(subscription)] == ["1200.00", "100.00"]


async def test_a_refund_that_is_refused_gives_the_credit_back(lab: CreditLab) -> None:
    subscription, payment, _ = await a_year_changed_to_months(lab)
    refund = await lab.request(payment.id, lab.money("500.00"))
    assert await lab.credit() == "596.71"  # not there to be used while the provider is asked
    await lab.refuse(refund)
    assert await lab.credit() == "1096.71"
    assert (await lab.row(subscription)).status == "active"


@pytest.mark.parametrize("by", ["refund at the provider", "dispute"])
async def test_used_credit_whose_money_went_back_is_shown_and_ends(lab: CreditLab, by: str) -> None:
    subscription, payment, _ = await a_year_changed_to_months(lab)
    await lab.live(subscription, days=63)  # two months by credit
    assert await lab.credit() == "896.71"
    if by == "dispute":
        await lab.dispute(payment.id, DisputeState.NEEDS_RESPONSE, lab.money("1200.00"))
    else:
        await lab.refund_at_the_provider(payment.id, lab.money("1200.00"))
    assert await lab.credit() == "0.00"
    source = (await lab.sources())[payment.id]
    assert (str(source.used), str(source.overdrawn), str(source.refundable)) == ("200.00", "200.00", "0.00")
    assert (await lab.payment(payment.id)).flag == ReviewReason.CREDIT_OVERDRAWN
    (told,) = await lab.told("credit.overdrawn")
    assert told["amount"] == "200.00"
    if by == "dispute":
        await lab.dispute(payment.id, DisputeState.WON, lab.money("1200.00"))
        assert (await lab.credit(), (await lab.payment(payment.id)).flag) == ("896.71", None)
    else:
        assert (await lab.row(subscription)).status == "cancelled"  # its month was of this payment's credit


async def test_a_dispute_takes_credit_as_it_holds_money_and_gives_it_back_when_it_is_won(lab: CreditLab) -> None:
    _, payment, _ = await a_year_changed_to_months(lab)
    await lab.dispute(payment.id, DisputeState.NEEDS_RESPONSE, lab.money("300.00"))
    await lab.dispute(payment.id, DisputeState.NEEDS_RESPONSE, lab.money("2000.00"), "dp-2")
    assert await lab.credit() == "0.00"
    await lab.dispute(payment.id, DisputeState.LOST, lab.money("300.00"))
    assert await lab.credit() == "0.00"
    await lab.dispute(payment.id, DisputeState.WON, lab.money("2000.00"), "dp-2")
    assert await lab.credit() == "796.71"
    await lab.dispute(payment.id, DisputeState.WON, lab.money("300.00"))  # the bank turns its decision round
    assert await lab.credit() == "1096.71"


@pytest.mark.parametrize(("kind", "most"), [("forgiven", "100.00"), ("refunded", "30.00"), ("disputed", "20.00")])
async def test_a_time_that_was_not_paid_for_gives_no_credit(lab: CreditLab, kind: str, most: str) -> None:
    """Nor does one whose money is with the payer again, or with a bank."""
    subscription = await lab.subscribe(await lab.plan("100.00"))
    (payment,) = await lab.paid(subscription)
    if kind == "forgiven":
        lab.declines = "amount_too_small"
        await lab.change(subscription, NOW, plan_id=(await lab.plan("300.00")).id)
        assert [one.status for one in await lab.invoices(subscription)] == ["paid", "uncollectible"]
    if kind == "refunded":
        await lab.refund(payment.id, lab.money("70.00"))
    if kind == "disputed":
        await lab.dispute(payment.id, DisputeState.NEEDS_RESPONSE, lab.money("80.00"))
    done = await lab.change(subscription, NOW, plan_id=(await lab.plan("0.00")).id)
    assert (done.effects["credit"], await lab.credit()) == (most, most)


async def test_a_free_time_and_a_trial_give_no_credit(lab: CreditLab) -> None:
    free, small = await lab.plan("0.00"), await lab.plan("1.00")
    subscription = await lab.subscribe(free)
    done = await lab.change(subscription, NOW, plan_id=small.id)
    assert (done.effects["credit"], done.effects["due_now"]) == ("0.00", "1.00")
    trial = await lab.subscribe(await lab.plan("100.00", trial_days=7), "cust-trial")
    done = await lab.change(trial, NOW, plan_id=small.id)
    assert (done.effects["credit"], await lab.credit("cust-trial")) == ("0.00", "0.00")


async def test_what_was_refunded_of_a_change_is_not_credited_by_the_next_one(lab: CreditLab) -> None:
    small = await lab.plan("30.00")
    subscription = await lab.subscribe(small)
    up = await lab.change(subscription, NOW, plan_id=(await lab.plan("300.00")).id)
    assert up.effects["due_now"] == "270.00"
    first, change = sorted(await lab.paid(subscription), key=lambda one: one.amount)
    await lab.refund(change.id)
    down = await lab.change(subscription, NOW, plan_id=small.id)
    assert (down.effects["credit"], down.effects["credit_not_paid_for"]) == ("30.00", "270.00")
    assert (down.effects["carried_forward"], await lab.credit()) == ("0", "0.00")
    assert (await lab.payment(first.id)).status == "paid"


async def test_a_period_paid_by_credit_gives_its_credit_back_to_the_payment_it_came_from(lab: CreditLab) -> None:
    subscription, payment, _ = await a_year_changed_to_months(lab)
    await lab.live(subscription, days=31)  # a month by credit has just begun
    assert await lab.credit() == "996.71"
    free = await lab.plan("0.00")
    done = await lab.change(subscription, NOW, plan_id=free.id)
    source = (await lab.sources())[payment.id]
    given = lab.money(str(done.effects["carried_forward"]))
    assert source.unused == lab.money("996.71") + given
    assert source.used == lab.money("100.00") - given
    assert given <= lab.money("100.00")
    assert lab.money("90.00") <= given


async def test_a_change_begun_by_another_interval_is_bounded_by_both_payments(lab: CreditLab) -> None:
    """Half of the month's money carries the year; what is left of either is no more than was paid."""
    subscription = await lab.subscribe(await lab.plan("30.00"))
    yearly, free = await lab.plan("300.00", "year"), await lab.plan("0.00", "year")
    up = await lab.change(subscription, NOW, plan_id=yearly.id)
    assert (up.effects["credit"], up.effects["due_now"]) == ("30.00", "270.00")
    first, year = sorted(await lab.paid(subscription), key=lambda one: one.amount)
    down = await lab.change(subscription, NOW, plan_id=free.id)
    assert down.effects["carried_forward"] == "300.00"
    found = await lab.sources()
    assert (str(found[year.id].unused), str(found[first.id].unused)) == ("270.00", "30.00")


async def test_credit_that_the_end_of_a_subscription_frees_is_not_lost(lab: CreditLab) -> None:
    """An open invoice had used it; the end gives it back, as far as its money is still there."""
    subscription, payment, _ = await a_year_changed_to_months(lab)
    bigger = await lab.plan("2000.00")
    await lab.change(subscription, LATER, plan_id=bigger.id)
    lab.declines = "insufficient_funds"
    await lab.live(subscription, days=32)
    assert (await lab.credit(), (await lab.row(subscription)).status) == ("0.00", "past_due")
    await lab.refund_at_the_provider(payment.id, lab.money("200.00"))
    await lab.change(subscription, ChangeKind.CANCEL)
    # 1,096.71 was used, 103.29 was kept: 200.00 went back, so 96.71 of what was used has no money behind it
    assert (await lab.row(subscription)).status == "cancelled"
    assert await lab.credit() == "1000.00"
    source = (await lab.sources())[payment.id]
    assert (str(source.used), str(source.overdrawn)) == ("0.00", "0.00")


async def test_late_money_takes_again_no_more_credit_than_there_is(lab: CreditLab) -> None:
    """Given back at the end and used elsewhere since: late money revives the period all the same."""
    async with lab.database.transaction() as session:
        rules = await session.get_one(Workspace, lab.shop.workspace.id)
        rules.dunning_final_action, rules.dunning_retry_days, rules.dunning_grace_days = "expire", [2], 4
    subscription = await lab.subscribe(await lab.plan("100.00"))
    bigger = await lab.plan("500.00")
    await lab.change(subscription, NOW, plan_id=(await lab.plan("20.00")).id)
    assert await lab.credit() == "80.00"
    await lab.change(subscription, LATER, plan_id=bigger.id)
    lab.declines = "insufficient_funds"
    await lab.live(subscription, days=38)
    assert ((await lab.row(subscription)).status, await lab.credit()) == ("expired", "80.00")
    lab.declines = None
    await lab.subscribe(await lab.plan("70.00"))  # the same customer's other one
    assert await lab.credit() == "10.00"
    await lab.pay((await lab.tried(subscription))[-1].id)
    assert ((await lab.row(subscription)).status, await lab.credit()) == ("active", "0.00")


async def test_credit_without_a_source_pays_invoices_and_is_not_refunded(lab: CreditLab) -> None:
    async with lab.database.transaction() as session:
        session.add(
            CustomerCredit(
                workspace_id=lab.shop.workspace.id, customer_id=CUSTOMER, currency="ILS", balance=Decimal("150.00")
            )
        )
    subscription = await lab.subscribe(await lab.plan("100.00"))
    assert (await lab.paid(subscription), await lab.credit()) == ([], "50.00")
    done = await lab.change(subscription, NOW, plan_id=(await lab.plan("40.00")).id)
    assert (done.effects["carried_forward"], await lab.credit()) == ("60.00", "110.00")
    assert [key for key, source in (await lab.sources()).items() if source.unused.minor] == [None]
    await lab.live(subscription, days=95)
    assert [str(one.money) for one in await lab.paid(subscription)] == ["10.00"]


async def test_two_changes_of_plan_never_credit_the_same_money(lab: CreditLab) -> None:
    """There, back and there again: what is credited twice would be paid out twice."""
    subscription, _, monthly = await a_year_changed_to_months(lab)
    yearly = await lab.plan("1200.00", "year")
    for plan in (yearly, monthly, yearly, monthly):
        await lab.change(subscription, NOW, plan_id=plan.id)
        found = await lab.sources()
        for source in found.values():
            assert source.overdrawn.minor == 0
        paid = sum(one.money.minor for one in await lab.paid(subscription))
        assert sum(source.unused.minor for source in found.values()) <= paid


async def test_credit_from_before_is_tied_to_the_payment_that_it_came_from(lab: CreditLab) -> None:
    """The migration, on the rows that the release before has left: what was granted, and what is there of it."""
    subscription, payment, _ = await a_year_changed_to_months(lab)
    await lab.live(subscription, days=32)
    (path,) = (Path(ROOT) / "alembic" / "versions").glob("*_credit_by_source.py")
    tie = runpy.run_path(str(path))["_tie"]
    async with lab.database.transaction() as session:
        connection = await session.connection()
        await connection.execute(text("SET LOCAL session_replication_role = replica"))  # entries are never taken away
        await connection.execute(text("DELETE FROM credit_entries"))
        (before,) = (await credit.sources(session, lab.owner())).values()
        assert (before.payment_id, str(before.unused)) == (None, "996.71")
        await connection.run_sync(tie)
        found = await credit.sources(session, lab.owner())
        assert [str(one.unused) for one in found.values()] == ["0.00", "996.71"]
        assert (str(found[payment.id].used), str(found[payment.id].refundable)) == ("100.00", "1100.00")
        await session.rollback()


async def test_what_was_written_off_is_not_credited_by_the_next_change(lab: CreditLab) -> None:
    """A bank took 1,106.70 of 1,200.00, so that 6.70 of the month that credit has paid has no money behind it."""
    subscription, payment, _ = await a_year_changed_to_months(lab)
    await lab.live(subscription, days=31)
    await lab.dispute(payment.id, DisputeState.NEEDS_RESPONSE, lab.money("1106.70"))
    source = (await lab.sources())[payment.id]
    assert (str(source.unused), str(source.overdrawn)) == ("0.00", "6.70")
    async with lab.database.transaction() as session:
        row, workspace = await payments.lock(session, payment.id)
        lost = await write_off(session, workspace, row, cause=uuid4(), reason="small", actor="test", at=lab.now)
    assert str(lost) == "6.70"
    done = await lab.change(subscription, NOW, plan_id=(await lab.plan("0.00")).id)
    source = (await lab.sources())[payment.id]
    assert done.effects["credit"] == str(source.unused)
    assert lab.money("80.00") < source.unused <= lab.money("93.30")
    assert (source.unused + source.used, source.overdrawn) == (lab.money("93.30"), lab.money("0.00"))
