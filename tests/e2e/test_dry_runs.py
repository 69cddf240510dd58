"""What an operator asks beforehand is what then happens, and asking changes nothing."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from storage.models import AuditEntry, Commission, LedgerEntry, OrderNotice, SurplusCapture
from tests.support.service import Shop, eventually

DRY = {"dry_run": True}


async def written(shop: Shop) -> list[int]:
    """How many rows the workspace has of all that a decision could write."""
    async with shop.service.database.transaction() as session:
        return [
            int(await session.scalar(select(func.count()).where(model.workspace_id == shop.workspace.id)) or 0)
            for model in (AuditEntry, LedgerEntry, OrderNotice)
        ]


async def paid(shop: Shop, **changes: Any) -> dict[str, Any]:
    payment = await shop.pays(**changes)
    await shop.pay(payment)
    return await shop.until(payment["id"], "paid")


async def test_paying_out_a_commission(shop: Shop) -> None:
    await paid(shop)
    commission = (await shop.api.get("/commissions")).json()["data"][0]
    before, path = await written(shop), f"/commissions/{commission['id']}/paid"
    said = (await shop.api.post(path, params=DRY, json={"reference": "bank-1"})).json()
    assert {line["account"]: line["amount"] for line in said["ledger"]} == {
        "commission_payable:partner-5": "12.99",
        "commission_paid_out": "-12.99",
    }
    assert ("status", "accrued", "paid") in {(one["field"], one["from"], one["to"]) for one in said["changes"]}
    assert await written(shop) == before
    done = await shop.api.post(path, json={"reference": "bank-1"})
    assert done.json()["status"] == "paid"
    refused = await shop.api.post(path, params=DRY, json={"reference": "bank-2"})
    assert (refused.status_code, refused.json()["code"]) == (409, "commission_already_paid")


async def test_deciding_about_surplus(shop: Shop) -> None:
    first = await paid(shop, order_id="once")
    second = await shop.pays(order_id="once")
    await shop.pay(second)

    async def recorded() -> Any:
        return (await shop.api.get("/surplus")).json()["data"]

    row = (await eventually(recorded))[0]
    before = await written(shop)
    kept = (await shop.api.post(f"/surplus/{row['id']}/keep", params=DRY)).json()
    assert [(one["subject"], one["from"], one["to"]) for one in kept["changes"]] == [
        ("payments", "order_paid_twice", None),
        ("surplus_captures", "proposed", "kept"),
    ]
    back = (await shop.api.post(f"/surplus/{row['id']}/refund", params=DRY)).json()
    assert sorted(line["amount"] for line in back["ledger"]) == ["-129.90", "129.90"]
    assert back["audit"] == ["surplus.refunding", "surplus.refunded"]
    assert await written(shop) == before
    async with shop.service.database.transaction() as session:
        stored = await session.get_one(SurplusCapture, row["id"])
        commissions = await session.scalar(select(func.count()).where(Commission.payment_id == first["id"]))
    assert (stored.status, commissions) == ("proposed", 1)


async def test_cancelling_a_payment(shop: Shop) -> None:
    payment = await shop.pays()
    before, path = await written(shop), f"/payments/{payment['id']}/cancel"
    said = (await shop.api.post(path, params=DRY)).json()
    assert [(way["provider"], way["closes"]) for way in said["ways"]] == [("stripe", True)]
    assert [(one["field"], one["to"]) for one in said["changes"]] == [("status", "canceled")]
    assert said["notices"] == ["payment.canceled"]
    assert (await written(shop), (await shop.read(payment["id"]))["status"]) == (before, "pending")
    assert (await shop.api.post(path)).json()["status"] == "canceled"
    refused = await shop.api.post(path, params=DRY)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_is_final")
