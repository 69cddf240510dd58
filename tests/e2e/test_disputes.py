"""The payer's bank takes money back: held, won, lost, reminded of, and never given back twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

import wiring
from activities.disputes import DisputeActivities
from activities.guard import ProviderGuard
from domain.dispute import Reminder
from domain.money import Money
from storage import ledger
from storage.models import Dispute, OrderNotice
from tests.e2e.test_next_card import begun_by_page
from tests.e2e.test_subscriptions_api import read
from tests.e2e.test_subscriptions_api import until as until_subscription
from tests.support.service import Shop, eventually


async def paid(shop: Shop, **changes: Any) -> dict[str, Any]:
    payment = await shop.pays(**changes)
    await shop.pay(payment)
    return await shop.until(payment["id"], "paid")


async def disputed(shop: Shop, payment: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The bank opens a dispute at the provider."""
    charges = await shop.sandbox("GET", "/objects?type=charge")
    charge = next(one for one in charges if one["metadata"]["payment_id"] == payment["id"])
    return dict(await shop.sandbox("POST", f"/charges/{charge['id']}/dispute", changes))


async def until(shop: Shop, payment: dict[str, Any], status: str) -> dict[str, Any]:
    async def found() -> Any:
        rows = (await shop.api.get("/disputes", params={"status": status})).json()["data"]
        return next((row for row in rows if row["payment_id"] == payment["id"]), None)

    return dict(await eventually(found, 30))


async def balances(shop: Shop) -> dict[str, str]:
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    return {name.split(":")[0]: str(amount) for name, amount in found.items() if amount.minor}


async def told(shop: Shop, payment: dict[str, Any]) -> list[str]:
    async with shop.service.database.transaction() as session:
        query = select(OrderNotice.type).where(OrderNotice.payment_id == payment["id"]).order_by(OrderNotice.seq)
        return list(await session.scalars(query))


async def test_a_lost_dispute_takes_the_money_and_the_commission(shop: Shop) -> None:
    payment = await paid(shop)
    opened = await disputed(shop, payment)
    seen = await until(shop, payment, "needs_response")
    assert (seen["amount"], seen["held"], seen["reason"]) == ("129.90", "129.90", "fraudulent")
    assert seen["evidence_due_at"]
    assert (await shop.read(payment["id"]))["disputed"] is True
    assert (await balances(shop))["disputed"] == "129.90"
    refund = await shop.api.post("/refunds", json={"payment_id": payment["id"]})
    assert (refund.status_code, refund.json()["code"]) == (422, "refund_exceeds_payment")
    assert "disputes hold" in refund.json()["detail"]
    await shop.sandbox("POST", f"/disputes/{opened['id']}/lost")
    await until(shop, payment, "lost")
    assert await balances(shop) == {"dispute_losses": "129.90", "sales": "-110.08", "vat_payable": "-19.82"}
    commission = (await shop.api.get("/commissions")).json()["data"][0]
    assert (commission["status"], commission["clawed_back"]) == ("clawed_back", "12.99")
    assert (await told(shop, payment))[-2:] == ["dispute.needs_response", "dispute.lost"]
    assert (await shop.api.post("/refunds", json={"payment_id": payment["id"]})).status_code == 422


async def test_a_won_dispute_gives_everything_back(shop: Shop) -> None:
    payment = await paid(shop)
    before = await balances(shop)
    opened = await disputed(shop, payment)
    await until(shop, payment, "needs_response")
    await shop.sandbox("POST", f"/disputes/{opened['id']}/under_review")
    await until(shop, payment, "under_review")
    await shop.sandbox("POST", f"/disputes/{opened['id']}/won")
    await until(shop, payment, "won")
    assert await balances(shop) == before
    assert (await shop.read(payment["id"]))["disputed"] is False
    refund = await shop.api.post("/refunds/preview", json={"payment_id": payment["id"]})
    assert refund.json()["amount"] == "129.90"


async def test_an_inquiry_moves_no_money(shop: Shop) -> None:
    payment = await paid(shop)
    before = await balances(shop)
    opened = await disputed(shop, payment, status="warning_needs_response")
    await until(shop, payment, "inquiry")
    assert (await balances(shop), (await shop.read(payment["id"]))["disputed"]) == (before, False)
    await shop.sandbox("POST", f"/disputes/{opened['id']}/warning_closed")
    await until(shop, payment, "closed")
    assert await balances(shop) == before


async def test_a_dispute_after_a_part_was_refunded_holds_what_is_left_even_if_it_wants_more(shop: Shop) -> None:
    payment = await paid(shop)
    done = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "29.90"})
    assert done.json()["status"] == "succeeded"
    opened = await disputed(shop, payment, amount=15000)
    seen = await until(shop, payment, "needs_response")
    assert (seen["amount"], seen["held"]) == ("150.00", "100.00")
    await shop.sandbox("POST", f"/disputes/{opened['id']}/lost")
    await until(shop, payment, "lost")
    commission = (await shop.api.get("/commissions")).json()["data"][0]
    assert (commission["clawed_back"], commission["amount"]) == ("12.99", "12.99")
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    assert found["commission_payable:partner-5"] == Money.zero("ILS")


async def test_events_out_of_order_and_twice_end_the_same(shop: Shop) -> None:
    payment = await paid(shop)
    fault = {"operation": "webhooks", "fault": "reorder", "count": 10}
    await shop.sandbox("POST", "/faults", fault)
    opened = await disputed(shop, payment)
    await shop.sandbox("POST", f"/disputes/{opened['id']}/under_review")
    await shop.sandbox("POST", f"/disputes/{opened['id']}/lost")
    await until(shop, payment, "lost")
    events = [event for event in await shop.sandbox("GET", "/objects?type=event") if "dispute" in event["type"]]
    await asyncio.gather(*(shop.sandbox("POST", f"/events/{one['id']}/resend", {"times": 5}) for one in events[:3]))
    async with shop.service.database.transaction() as session:
        rows = (await session.scalars(select(Dispute).where(Dispute.payment_id == payment["id"]))).all()
    assert [row.status for row in rows] == ["lost"]
    assert (await told(shop, payment)).count("dispute.lost") == 1
    other = await shop.service.shop()
    assert (await other.api.get(f"/disputes/{rows[0].id}")).status_code == 404
    assert (await shop.api.get(f"/disputes/{rows[0].id}")).json()["status"] == "lost"
    await other.api.aclose()


async def test_a_reminder_that_is_repeated_after_its_worker_died_is_told_once(shop: Shop) -> None:
    payment = await paid(shop)
    await disputed(shop, payment)
    row = await until(shop, payment, "needs_response")
    pool = wiring.provider_pool(shop.service.settings, wiring.sealer(shop.service.settings))
    guard = ProviderGuard(shop.service.database, pool, lambda: datetime.now(UTC))
    activities = DisputeActivities(shop.service.database, guard, lambda: datetime.now(UTC))
    due = datetime.fromisoformat(row["evidence_due_at"])
    first = Reminder(UUID(row["id"]), UUID(payment["id"]), due, 1)
    assert await activities.remind_of_dispute(first)
    assert await activities.remind_of_dispute(first)  # its completion was lost
    assert (await told(shop, payment)).count("dispute.evidence_due") == 1
    for other in (
        Reminder(first.dispute_id, first.payment_id, due, 2),
        Reminder(first.dispute_id, first.payment_id, due + timedelta(days=1), 1),
    ):
        assert await asyncio.gather(*(activities.remind_of_dispute(other) for _ in range(3))) == [True] * 3
    assert (await told(shop, payment)).count("dispute.evidence_due") == 3
    await pool.close()


async def test_a_lost_dispute_of_a_subscriptions_payment_ends_it(shop: Shop) -> None:
    """By way of the provider and its events: paused while the bank decides, cancelled after the loss."""
    made = await begun_by_page(shop)
    payment = {"id": made["latest_invoice"]["payment_id"]}
    opened = await disputed(shop, payment)

    async def is_paused() -> Any:
        found = await read(shop, made)
        return found if found["charging_paused_at"] else None

    paused = await eventually(is_paused, 30)
    assert (paused["status"], paused["no_charge_because"]) == ("active", "payment_disputed")
    await shop.sandbox("POST", f"/disputes/{opened['id']}/lost")
    await until_subscription(shop, made, "cancelled")
