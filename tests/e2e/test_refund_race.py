"""Refunds that meet each other, the settlement and the provider's own, at the same moment."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from sqlalchemy import select

import wiring
from activities.guard import ProviderGuard
from activities.refunds import RefundActivities
from domain.money import Money
from domain.refund import AdvanceRefund, RefundState
from storage import ledger
from storage.models import WebhookEvent
from tests.providers.payers import payer_class
from tests.support.service import Service, Shop, eventually
from tests.support.wire import wired
from worker import utc_now


async def test_a_provider_without_keys_is_asked_once(service: Service) -> None:
    """The second one comes after the first has looked and before it has asked."""
    shop = await service.shop("payplus")
    payer = payer_class("payplus")(service.sandbox_url)
    pool = wiring.provider_pool(service.settings, service.sealer)
    other = RefundActivities(service.database, ProviderGuard(service.database, pool, utc_now), service.sealer, utc_now)
    base = str(payer.account().options["api_base"])
    async with wired(base) as wire:
        till = await service.connect(shop.workspace, payer, name="held", options={"api_base": wire.url})
        payment = await shop.pays(provider_account_id=str(till.account.id))
        await payer.pays(await shop.checkout(payment))
        await shop.until(payment["id"], "paid")
        wire.hold_back("RefundByTransactionUID")
        body = {"payment_id": payment["id"], "amount": "10.00"}
        asking = asyncio.create_task(shop.api.post("/refunds", json=body))
        await wire.reached.wait()
        refund_id = UUID((await shop.api.get("/refunds")).json()["data"][0]["id"])
        second = asyncio.create_task(other.advance_refund(AdvanceRefund(refund_id)))
        await asyncio.wait({second}, timeout=1.5)
        wire.let_go()
        await asyncio.gather(asking, second, return_exceptions=True)
        assert wire.held == 1

        async def succeeded() -> bool:
            return bool((await shop.api.get(f"/refunds/{refund_id}")).json()["status"] == RefundState.SUCCEEDED)

        await eventually(succeeded)
        assert (await shop.read(payment["id"]))["refunded"] == "10.00"
    await pool.close()
    await payer.http.aclose()
    await shop.aclose()


async def refunded_at_stripe(shop: Shop, intent: str, minor: int) -> None:
    """Somebody refunds in Stripe's own dashboard."""
    answer = await shop.service.http.post(
        f"{shop.service.sandbox_url}/v1/refunds",
        data={"payment_intent": intent, "amount": str(minor)},
        headers={"authorization": f"Bearer {shop.provider_key}"},
    )
    assert answer.status_code == 200, answer.text


async def until_refunded(shop: Shop, payment_id: str, amount: str) -> list[dict[str, Any]]:
    """The refunds, once all are done and add up in the payment, at the provider and in the ledger."""

    async def done() -> bool:
        return bool((await shop.read(payment_id))["refunded"] == amount)

    await eventually(done, 30)
    rows = (await shop.api.get("/refunds", params={"payment_id": payment_id, "limit": 100})).json()["data"]
    total = Money.parse(amount, "ILS")
    assert sum(Money.parse(row["amount"], "ILS").minor for row in rows if row["status"] == "succeeded") == total.minor
    assert (await shop.totals(payment_id))["refunded"] == total.minor
    async with shop.service.database.transaction() as session:
        booked = await ledger.balances(session, shop.workspace.id)
    assert booked[f"provider:{shop.account.id}"] == Money.parse("129.90", "ILS") - total
    return list(rows)


async def test_ours_and_the_dashboards_at_once(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.pay(payment)
    intent = (await shop.until(payment["id"], "paid"))["provider_transaction_id"]
    ours = [shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "10.00"}) for _ in range(3)]
    theirs = [refunded_at_stripe(shop, intent, 1111) for _ in range(3)]
    await asyncio.gather(*ours, *theirs)
    rows = await until_refunded(shop, payment["id"], "63.33")
    assert sum(row["origin"] == "merchant" for row in rows) == 3


async def test_the_dashboard_refunds_what_is_not_settled_yet(service: Service) -> None:
    """The provider tells of the refund while the look that will settle the payment is still under way."""
    shop = await service.shop()
    payer = payer_class("stripe")(service.sandbox_url)
    async with wired(service.sandbox_url) as wire:
        till = await service.connect(shop.workspace, payer, name="held", options={"api_base": wire.url})
        shop.account, shop.till = till.account, till
        payment = await shop.pays(provider_account_id=str(till.account.id))
        session_id = payment["checkout_url"].rsplit("/", 1)[1]
        wire.hold(session_id, "GET")
        assert await shop.pay(payment) == "paid"
        await wire.reached.wait()
        refused = await shop.api.post("/refunds", json={"payment_id": payment["id"]})
        assert (refused.status_code, refused.json()["code"]) == (409, "payment_not_refundable")
        sessions = await shop.sandbox("GET", "/objects?type=checkout.session")
        intent = next(one["payment_intent"] for one in sessions if one["id"] == session_id)
        await refunded_at_stripe(shop, intent, 2990)

        async def told() -> bool:
            query = select(WebhookEvent.id).where(
                WebhookEvent.type == "charge.refunded", WebhookEvent.provider_account_id == till.account.id
            )
            async with service.database.transaction() as session:
                return await session.scalar(query) is not None

        await eventually(told)
        wire.let_go()
        rows = await until_refunded(shop, payment["id"], "29.90")
        assert [(row["origin"], row["status"]) for row in rows] == [("provider", "succeeded")]
        assert (await shop.read(payment["id"]))["status"] == "partially_refunded"
    await payer.http.aclose()
    await shop.aclose()
