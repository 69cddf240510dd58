"""Commissions as money: vesting by a rule, holds, reviews, claw-backs after the payment, statements from the ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from domain.dispute import DisputeState
from domain.money import Money
from storage import commissions, referrers
from storage.models import AuditEntry, Referrer
from tests.support.referrals import (
    balances,
    commission_of,
    disputed,
    money,
    now,
    owed,
    refunded,
    sold,
    state_of,
)
from tests.support.service import Service, Shop


async def paid_by_hand(shop: Shop, payment_id: UUID) -> None:
    async with shop.service.database.transaction() as session:
        commission = await commissions.of_payment(session, payment_id)
        assert commission is not None
        await commissions.mark_paid(
            session, shop.workspace.id, commission.id, reference="bank-7", actor="test", at=now()
        )


async def test_a_commission_vests_when_the_workspaces_window_is_over(service: Service) -> None:
    shop = await service.shop(commission_holding_days=14)
    fresh = await sold(shop, money(shop)("100.00"), ago=timedelta(days=13, hours=23))
    old = await sold(shop, money(shop)("100.00"), ago=timedelta(days=14, minutes=1))
    assert (await state_of(shop, fresh), await state_of(shop, old)) == ("pending", "payable")
    for state, payment_id in (("pending", fresh), ("payable", old)):
        rows = (await shop.api.get("/commissions", params={"state": state})).json()["data"]
        assert [row["payment_id"] for row in rows] == [str(payment_id)]
        assert rows[0]["status"] == "accrued"
    await shop.aclose()


async def test_a_change_of_the_window_does_not_move_what_was_promised(service: Service) -> None:
    shop = await service.shop(commission_holding_days=90)
    payment_id = await sold(shop, money(shop)("100.00"), ago=timedelta(days=60))
    answer = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json={"commission_holding_days": 1})
    assert answer.json()["commission_holding_days"] == 1
    assert await state_of(shop, payment_id) == "pending"
    await shop.aclose()


@pytest.mark.parametrize("opened", [DisputeState.NEEDS_RESPONSE, DisputeState.INQUIRY])
async def test_an_open_dispute_holds_and_a_won_one_vests_again(shop: Shop, opened: DisputeState) -> None:
    amount = money(shop)("100.00")
    payment_id = await sold(shop, amount)
    await disputed(shop, payment_id, opened, amount)
    assert await state_of(shop, payment_id) == "held"
    with pytest.raises(commissions.CommissionHeld):
        await paid_by_hand(shop, payment_id)
    await disputed(shop, payment_id, DisputeState.WON, amount)
    assert await state_of(shop, payment_id) == "payable"
    await paid_by_hand(shop, payment_id)
    assert await owed(shop) == money(shop)("0.00")


async def test_a_lost_dispute_that_is_won_after_all_gives_the_commission_back(shop: Shop) -> None:
    amount = money(shop)("99.99")
    payment_id = await sold(shop, amount)
    before = await balances(shop)
    await refunded(shop, payment_id, money(shop)("33.33"))
    await disputed(shop, payment_id, DisputeState.LOST, amount)
    assert await state_of(shop, payment_id) == "clawed_back"
    await disputed(shop, payment_id, DisputeState.WON, amount)
    assert await state_of(shop, payment_id) == "payable"
    commission = await commission_of(shop, payment_id)
    assert commission is not None
    assert commission.clawed_back == money(shop)("3.33").to_decimal()
    await refunded(shop, payment_id, money(shop)("66.66"))
    assert await owed(shop) == money(shop)("0.00")
    assert {name: sum_ for name, sum_ in (await balances(shop)).items() if sum_.minor} == {}
    assert before


async def test_a_refund_after_the_payment_leaves_a_debt(shop: Shop) -> None:
    payment_id = await sold(shop, money(shop)("100.00"))
    await paid_by_hand(shop, payment_id)
    await refunded(shop, payment_id, money(shop)("25.00"))
    assert await owed(shop) == money(shop)("-2.50")
    assert await state_of(shop, payment_id) == "paid"


async def held(shop: Shop) -> UUID:
    """A commission that waits for a person: its referrer is suspended, until it is active again."""
    async with shop.service.database.transaction() as session:
        session.add(Referrer(workspace_id=shop.workspace.id, id="partner-5", status="suspended"))
    payment_id = await sold(shop, money(shop)("100.00"))
    async with shop.service.database.transaction() as session:
        row = await referrers.lock(session, shop.workspace.id, "partner-5")
        assert row is not None
        row.status = "active"
    commission = await commission_of(shop, payment_id)
    assert commission is not None
    assert (commission.review, commission.held_by) == ("pending", ["referrer_suspended"])
    assert await state_of(shop, payment_id) == "held"
    return commission.id


async def test_a_review_lets_a_held_commission_vest(shop: Shop) -> None:
    commission_id = await held(shop)
    url = f"/commissions/{commission_id}/review"
    body = {"decision": "approve", "reason": "we know her"}
    for _ in range(2):
        done = await shop.api.post(url, json=body)
        assert (done.status_code, done.json()["state"], done.json()["review"]) == (200, "payable", "approved")
    other = await shop.api.post(url, json={"decision": "reject", "reason": "x"})
    assert (other.status_code, other.json()["code"]) == (409, "commission_not_in_review")
    async with shop.service.database.transaction() as session:
        query = select(AuditEntry).where(AuditEntry.subject_id == str(commission_id))
        entries = (await session.scalars(query)).all()
    assert [(one.action, one.details["reason"]) for one in entries] == [("commission.review_approved", "we know her")]


async def test_a_review_that_refuses_takes_the_accrual_back_and_later_refunds_take_nothing_more(shop: Shop) -> None:
    commission_id = await held(shop)
    url = f"/commissions/{commission_id}/review"
    dry = await shop.api.post(f"{url}?dry_run=true", json={"decision": "reject", "reason": "same household"})
    assert [one["amount"] for one in dry.json()["ledger"]] == ["10.00", "-10.00"]
    assert str(await owed(shop)) == "10.00"
    done = await shop.api.post(url, json={"decision": "reject", "reason": "same household"})
    assert (done.status_code, done.json()["state"], done.json()["status"]) == (200, "rejected", "rejected")
    assert await owed(shop) == money(shop)("0.00")
    await refunded(shop, UUID(done.json()["payment_id"]), money(shop)("40.00"))
    assert await owed(shop) == money(shop)("0.00")
    refused = await shop.api.post(f"/commissions/{commission_id}/paid", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "commission_rejected")


async def test_what_nobody_holds_cannot_be_reviewed_and_other_workspaces_see_nothing(shop: Shop) -> None:
    payment_id = await sold(shop, money(shop)("100.00"))
    commission = await commission_of(shop, payment_id)
    assert commission is not None
    url, body = f"/commissions/{commission.id}/review", {"decision": "reject", "reason": "x"}
    assert (await shop.api.post(url, json=body)).json()["code"] == "commission_not_in_review"
    other = await shop.service.shop()
    assert (await other.api.post(url, json=body)).status_code == 404
    assert (await shop.api.post(url, json={"decision": "reject", "reason": ""})).status_code == 422
    await other.aclose()


async def test_a_statement_is_the_ledgers_and_sums_up(shop: Shop) -> None:
    amount = money(shop)
    first, second = await sold(shop, amount("100.00")), await sold(shop, amount("55.55"))
    await paid_by_hand(shop, first)
    await refunded(shop, first, amount("10.00"))
    await disputed(shop, second, DisputeState.LOST, amount("55.55"))
    today = datetime.now(UTC).date()
    days = {"from": str(today - timedelta(days=1)), "to": str(today + timedelta(days=1))}
    found = (await shop.api.get("/referrers/partner-5/statement", params=days)).json()
    sums = {name: found[name] for name in ("opening", "accrued", "clawed_back", "paid", "other", "closing")}
    assert sums == {
        "opening": "0.00",
        "accrued": "15.56",
        "clawed_back": "6.56",
        "paid": "10.00",
        "other": "0.00",
        "closing": "-1.00",
    }
    moved = sum((Money.parse(one["amount"], "ILS").minor for one in found["movements"]), 0)
    assert moved == -100
    assert {one["posting"] for one in found["movements"]} == {"accrual", "claw_back", "payout"}
    later = {"from": str(today + timedelta(days=2)), "to": str(today + timedelta(days=3))}
    carried = (await shop.api.get("/referrers/partner-5/statement", params=later)).json()
    assert (carried["opening"], carried["closing"], carried["movements"]) == ("-1.00", "-1.00", [])
    wrong = await shop.api.get("/referrers/partner-5/statement", params={"from": str(today), "to": "2020-01-01"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    far = {"from": "0001-01-01", "to": "9999-12-31"}
    assert (await shop.api.get("/referrers/partner-5/statement", params=far)).status_code == 422


async def test_the_worked_example_of_the_guide(service: Service) -> None:
    """Day by day as docs/affiliates.md has it."""
    shop = await service.shop(payout_minimum=5)
    today = now()

    def day(number: int) -> timedelta:
        return timedelta(days=120 - number)

    async def batch(number: int) -> dict[str, Any]:
        cut_off = today - day(number) + timedelta(hours=1)
        answer = await shop.api.post("/payouts", json={"cut_off": cut_off.isoformat()})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def balance() -> str:
        return str(await owed(shop))

    first = await sold(shop, money(shop)("100.00"), ago=day(1))
    assert await balance() == "10.00"
    one = await batch(31)
    assert [(line["gross"], line["amount"]) for line in one["lines"]] == [("10.00", "10.00")]
    assert (await shop.api.post(f"/payouts/{one['id']}/approve")).status_code == 200
    assert await balance() == "0.00"
    await refunded(shop, first, money(shop)("40.00"))
    assert await balance() == "-4.00"
    await shop.api.post(f"/payouts/{one['id']}/lines/{one['lines'][0]['id']}/paid", json={})
    await sold(shop, money(shop)("80.00"), ago=day(40))
    assert await balance() == "4.00"
    assert (await batch(71))["status"] == "empty"
    await sold(shop, money(shop)("55.55"), ago=day(75))
    assert await balance() == "9.56"
    three = await batch(106)
    assert [(line["gross"], line["carried"], line["amount"]) for line in three["lines"]] == [("13.56", "-4.00", "9.56")]
    await shop.api.post(f"/payouts/{three['id']}/approve")
    await shop.api.post(f"/payouts/{three['id']}/lines/{three['lines'][0]['id']}/paid", json={})
    assert await balance() == "0.00"
    await shop.aclose()
