"""A chargeback at PayU through the whole service: heard of by an unsigned hint, believed by the query alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest_asyncio
from sqlalchemy import func, select

from storage.models import Dispute, WebhookEvent
from tests.e2e.test_disputes import balances, told, until
from tests.providers.recorded import recording
from tests.support.service import Service, Shop, eventually


@pytest_asyncio.fixture
async def shop(service: Service) -> AsyncIterator[Shop]:
    made = await service.shop("payu")
    yield made
    await made.aclose()


async def paid(shop: Shop) -> dict[str, Any]:
    payment = await shop.pays(amount="25000.00", currency="COP", referrer_id=None)
    await shop.till.payer.pays(await shop.checkout(payment))
    return await shop.until(payment["id"], "paid")


async def hint(shop: Shop, reference: str, state: str = "LOST") -> httpx.Response:
    body = recording("payu", "dispute_notified") | {"reference": reference, "state": state}
    headers = {"content-type": "application/json"}
    return await shop.service.http.post(shop.hook_url, content=json.dumps(body).encode(), headers=headers)


async def count(shop: Shop, what: Any, *conditions: Any) -> int:
    async with shop.service.database.transaction() as session:
        return (await session.execute(select(func.count()).select_from(what).where(*conditions))).scalar_one()


async def test_a_chargeback_is_held_reminded_of_and_won_as_the_order_shows_it(shop: Shop) -> None:
    """It was seen by nobody."""
    payment = await paid(shop)
    before = await balances(shop)
    await shop.sandbox("POST", "/payu/chargebacks", {"reference": payment["id"]})
    seen = await until(shop, payment, "needs_response")
    assert (seen["amount"], seen["held"]) == ("25000.00", "25000.00")
    assert seen["evidence_due_at"]
    assert (await shop.read(payment["id"]))["disputed"] is True
    refund = await shop.api.post("/refunds", json={"payment_id": payment["id"]})
    assert (refund.status_code, refund.json()["code"]) == (422, "refund_exceeds_payment")
    await shop.sandbox("POST", "/payu/chargebacks/decide", {"reference": payment["id"], "state": "WON"})
    await until(shop, payment, "won")
    assert await balances(shop) == before
    assert (await shop.read(payment["id"]))["disputed"] is False
    assert [kind for kind in await told(shop, payment) if kind.startswith("dispute.")][:1] == ["dispute.needs_response"]


async def test_a_forged_hint_moves_nothing_and_about_strangers_is_refused(shop: Shop) -> None:
    payment = await paid(shop)
    before = await balances(shop)
    assert (await hint(shop, payment["id"])).status_code == 200
    assert (await hint(shop, payment["id"])).status_code == 200  # once more is the same one
    mine = (WebhookEvent.payment_id == payment["id"], WebhookEvent.kind == "dispute")

    async def handled() -> bool:
        return await count(shop, WebhookEvent, *mine, WebhookEvent.status == "handled") == 1

    await eventually(handled, 30)
    assert await count(shop, WebhookEvent, *mine) == 1
    assert await count(shop, Dispute, Dispute.payment_id == payment["id"]) == 0
    assert (await balances(shop), (await shop.read(payment["id"]))["disputed"]) == (before, False)
    kept = await count(shop, WebhookEvent, WebhookEvent.provider_account_id == shop.account.id)
    other = await shop.service.shop("payu")
    for reference in (str(uuid4()), (await paid(other))["id"], "order-1"):
        answer = await hint(shop, reference)
        assert answer.status_code in (400, 401), answer.text
        assert answer.json()["code"] == "signature_invalid"
    assert await count(shop, WebhookEvent, WebhookEvent.provider_account_id == shop.account.id) == kept
    await other.aclose()
