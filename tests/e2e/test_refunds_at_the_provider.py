"""Refunds that are made at the provider: one record each, by its id there, whatever becomes of it and in any order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from domain.money import Money
from storage import ledger, refunds
from storage.models import OrderNotice, Payment, Refund, SurplusCapture
from tests.support.service import Shop, admin_key, eventually


async def paid(shop: Shop, **changes: Any) -> dict[str, Any]:
    payment = await shop.pays(**changes)
    await shop.pay(payment)
    return await shop.until(payment["id"], "paid")


async def charge_of(shop: Shop, payment: dict[str, Any]) -> str:
    intent = payment["provider_transaction_id"]
    charges = await shop.sandbox("GET", "/objects?type=charge")
    return str(next(one["id"] for one in charges if one["payment_intent"] == intent))


async def at_the_provider(shop: Shop, payment: dict[str, Any], amount: int, status: str = "succeeded") -> str:
    body = {"amount": amount, "status": status}
    return str((await shop.sandbox("POST", f"/charges/{await charge_of(shop, payment)}/refund", body))["id"])


async def ours(shop: Shop, payment: dict[str, Any], amount: str) -> dict[str, Any]:
    answer = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": amount})
    assert answer.status_code in (201, 202), answer.text
    return dict(answer.json())


async def rows_of(shop: Shop, payment: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Origin, amount and status of each, oldest first."""
    async with shop.service.database.transaction() as session:
        rows = await session.scalars(
            select(Refund).where(Refund.payment_id == payment["id"]).order_by(Refund.created_at, Refund.id)
        )
        return [(row.origin, str(row.money), row.status) for row in rows]


def stand(shop: Shop, payment: dict[str, Any], *wanted: tuple[str, str, str]) -> Callable[[], Awaitable[bool]]:
    async def they_do() -> bool:
        return sorted(await rows_of(shop, payment)) == sorted(wanted)

    return they_do


async def balances(shop: Shop) -> dict[str, str]:
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    return {name.split(":")[0]: str(amount) for name, amount in found.items() if amount.minor}


async def told(shop: Shop, payment: dict[str, Any]) -> list[str]:
    async with shop.service.database.transaction() as session:
        found = await session.scalars(
            select(OrderNotice.type).where(OrderNotice.payment_id == payment["id"]).order_by(OrderNotice.seq)
        )
        return [name for name in found if name.startswith("refund.")]


async def test_the_only_refund_comes_back_and_that_is_noticed(shop: Shop) -> None:
    """The total is zero again then, which is not the same as being told nothing."""
    payment = await paid(shop, amount="100.00", referrer_id=None)
    made = await at_the_provider(shop, payment, 2000)
    await eventually(stand(shop, payment, ("provider", "20.00", "succeeded")))
    await shop.sandbox("POST", f"/refunds/{made}/return")
    await eventually(stand(shop, payment, ("provider", "20.00", "returned")))
    assert (await shop.read(payment["id"]))["flag"] == "refund_returned"
    assert await told(shop, payment) == ["refund.succeeded", "refund.returned"]
    assert (await balances(shop))["payer_credit"] == "-20.00"


async def test_one_that_is_pending_is_pending_until_it_is_decided(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00", referrer_id=None)
    made = await at_the_provider(shop, payment, 2000, "pending")
    await eventually(stand(shop, payment, ("provider", "20.00", "pending")))
    seen = await shop.read(payment["id"])
    assert (seen["status"], seen["refunded"]) == ("paid", "0.00")
    assert await told(shop, payment) == []
    too_much = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "90.00"})
    assert too_much.json()["code"] == "refund_exceeds_payment"  # what is on its way is reserved
    await shop.sandbox("POST", f"/refunds/{made}/settle", {"succeeded": True})
    await eventually(stand(shop, payment, ("provider", "20.00", "succeeded")))
    assert (await shop.until(payment["id"], "partially_refunded"))["refunded"] == "20.00"


async def test_one_that_was_pending_and_fails_frees_what_it_held(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00", referrer_id=None)
    made = await at_the_provider(shop, payment, 2000, "pending")
    await eventually(stand(shop, payment, ("provider", "20.00", "pending")))
    await shop.sandbox("POST", f"/refunds/{made}/settle", {"succeeded": False})
    await eventually(stand(shop, payment, ("provider", "20.00", "failed")))
    assert (await ours(shop, payment, "100.00"))["status"] == "succeeded"
    assert (await told(shop, payment))[0] == "refund.failed"


async def test_a_sum_that_occurs_twice_is_two_refunds_and_holds_up_no_dispute(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00", referrer_id=None)
    first = await at_the_provider(shop, payment, 2000)
    await eventually(stand(shop, payment, ("provider", "20.00", "succeeded")))
    await ours(shop, payment, "10.00")
    await shop.sandbox("POST", f"/refunds/{first}/return")
    kept = (("provider", "20.00", "returned"), ("merchant", "10.00", "succeeded"))
    await eventually(stand(shop, payment, *kept))
    await at_the_provider(shop, payment, 1000)
    await shop.sandbox("POST", f"/charges/{await charge_of(shop, payment)}/dispute")
    await eventually(stand(shop, payment, *kept, ("provider", "10.00", "succeeded")))

    async def disputed() -> bool:
        return bool((await shop.read(payment["id"]))["disputed"])

    await eventually(disputed)


async def test_ours_and_theirs_of_one_amount_at_one_time_are_told_apart(shop: Shop) -> None:
    """Ours was made and its answer lost, so that it is open here while the other is found."""
    payment = await paid(shop, amount="100.00", referrer_id=None)
    await shop.sandbox("POST", "/faults", {"operation": "create_refund", "fault": "timeout_after:3", "count": 1})
    await ours(shop, payment, "10.00")
    await at_the_provider(shop, payment, 1000)
    await eventually(stand(shop, payment, ("merchant", "10.00", "succeeded"), ("provider", "10.00", "succeeded")), 40)
    assert (await shop.read(payment["id"]))["refunded"] == "20.00"


async def test_several_of_one_amount_and_one_that_returns_are_each_known(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00", referrer_id=None)
    made = [await at_the_provider(shop, payment, 1000) for _ in range(3)]
    await eventually(stand(shop, payment, *[("provider", "10.00", "succeeded")] * 3))
    await shop.sandbox("POST", f"/refunds/{made[1]}/return")
    left = [("provider", "10.00", "succeeded")] * 2
    await eventually(stand(shop, payment, *left, ("provider", "10.00", "returned")))
    async with shop.service.database.transaction() as session:
        rows = await session.scalars(select(Refund).where(Refund.payment_id == payment["id"]))
        assert {row.provider_refund_id: row.status for row in rows}[made[1]] == "returned"


async def test_one_that_had_failed_before_it_was_seen_is_on_record_as_failed(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00", referrer_id=None)
    charge = await charge_of(shop, payment)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 4})
    made = await at_the_provider(shop, payment, 2000, "pending")
    await shop.sandbox("POST", f"/refunds/{made}/settle", {"succeeded": False})
    await shop.sandbox("POST", f"/charges/{charge}/refund", {"amount": 500})
    await eventually(stand(shop, payment, ("provider", "20.00", "failed"), ("provider", "5.00", "succeeded")))
    assert (await shop.read(payment["id"]))["refunded"] == "5.00"


async def test_what_was_put_on_record_by_its_sum_is_found_in_the_list(shop: Shop) -> None:
    """Records of before the provider's list was read have no id of the provider's, and one may stand for two."""
    payment = await paid(shop, amount="100.00", referrer_id=None)
    made = await at_the_provider(shop, payment, 2000)
    await eventually(stand(shop, payment, ("provider", "20.00", "succeeded")))
    async with shop.service.database.transaction() as session:
        row = (await session.scalars(select(Refund).where(Refund.payment_id == payment["id"]))).one()
        row.provider_refund_id = None
    await shop.sandbox("POST", f"/refunds/{made}/return")
    await eventually(stand(shop, payment, ("provider", "20.00", "returned")))


async def test_more_than_is_left_is_in_no_books_and_waits_for_a_person(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00", referrer_id=None)
    async with shop.service.database.transaction() as session:
        row = await session.get(Payment, payment["id"])
        assert row is not None
        row.refunded = row.amount - 10
        row.status = "partially_refunded"
    await at_the_provider(shop, payment, 2000)

    async def flagged() -> bool:
        return bool((await shop.read(payment["id"]))["flag"] == "refund_exceeds_payment")

    await eventually(flagged)
    assert await rows_of(shop, payment) == []
    await shop.sandbox("POST", f"/charges/{await charge_of(shop, payment)}/dispute")

    async def disputed() -> bool:
        return bool((await shop.read(payment["id"]))["disputed"])

    await eventually(disputed)


async def test_an_overpayment_that_goes_back_in_the_dashboard_is_not_booked_against_the_sale(shop: Shop) -> None:
    """An order that was paid twice: all that the second payment brought is owed to the payer."""
    first = await paid(shop, amount="100.00", order_id="twice", referrer_id=None)
    second = await paid(shop, amount="100.00", order_id="twice", referrer_id=None)
    assert second["flag"] == "order_paid_twice"
    await at_the_provider(shop, second, 4000)
    await at_the_provider(shop, second, 6000)

    async def back() -> bool:
        async with shop.service.database.transaction() as session:
            query = select(SurplusCapture).where(SurplusCapture.payment_id == second["id"])
            return (await session.scalars(query)).one().status == "refunded"

    await eventually(back)
    assert await rows_of(shop, second) == []
    assert (await shop.read(second["id"]))["status"] == "refunded"
    assert (await shop.read(first["id"]))["status"] == "paid"
    left = await balances(shop)
    assert left.get("payer_credit") is None
    assert left["provider"] == "100.00"
    assert Money.parse(left["sales"], "ILS") + Money.parse(left["vat_payable"], "ILS") == Money.parse("-100.00", "ILS")


async def test_an_event_that_fails_for_good_is_parked_and_the_next_goes_on(shop: Shop) -> None:
    """Its refund cannot be put on record, whatever is tried: another payment's record has its id already."""
    payment, other = await paid(shop, amount="100.00"), await paid(shop, amount="100.00")
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 2})
    made = await at_the_provider(shop, payment, 2000)
    async with shop.service.database.transaction() as session:
        values = {"id": uuid4(), "amount": Decimal("1.00"), "status": "failed", "provider_refund_id": made}
        await refunds.record_failed(
            session, await session.get_one(Payment, other["id"]), values, code="x", at=datetime.now(UTC)
        )
    event = next(one for one in await shop.events("refund.created") if one["data"]["object"]["id"] == made)
    await shop.sandbox("POST", f"/events/{event['id']}/resend", {"times": 1})
    await shop.sandbox("POST", f"/charges/{await charge_of(shop, payment)}/dispute")

    async def disputed() -> bool:
        return bool((await shop.read(payment["id"]))["disputed"])

    async def parked() -> bool:
        health = (await shop.api.get("/webhooks/health")).json()["callbacks"]
        return bool(health["counts"].get("parked") == 1)

    await eventually(disputed, 30)
    await eventually(parked, 60)
    bearer = {"authorization": f"Bearer {await admin_key(shop.service)}"}
    scraped = (await shop.service.http.get(f"{shop.service.api_url}/metrics", headers=bearer)).text
    assert 'webhook_events{provider="stripe",status="parked"}' in scraped
