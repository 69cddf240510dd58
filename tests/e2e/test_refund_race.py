"""Two processes that come to the same refund at the same moment."""

from __future__ import annotations

import asyncio
from uuid import UUID

import wiring
from activities.guard import ProviderGuard
from activities.refunds import RefundActivities
from domain.refund import AdvanceRefund, RefundState
from tests.providers.payers import payer_class
from tests.support.service import Service, eventually
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
