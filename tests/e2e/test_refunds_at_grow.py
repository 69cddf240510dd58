"""Grow's own limits on refunds, through the whole service: two by call, and none while the business has no balance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.support.service import Service, Shop


@pytest_asyncio.fixture
async def grow(service: Service) -> AsyncIterator[Shop]:
    made = await service.shop("meshulam")
    yield made
    await made.till.payer.behaves()
    await made.aclose()


async def paid(shop: Shop) -> dict[str, Any]:
    payment = await shop.pays(amount="100.00")
    await shop.till.payer.pays(await shop.checkout(payment))
    return await shop.until(payment["id"], "paid")


async def test_a_third_refund_is_refused_before_grow_is_asked(grow: Shop) -> None:
    payment = await paid(grow)
    for amount in ("10.00", "20.00"):
        made = await grow.api.post("/refunds", json={"payment_id": payment["id"], "amount": amount})
        assert (made.status_code, made.json()["status"]) == (201, "succeeded"), made.text
    third = {"payment_id": payment["id"], "amount": "30.00"}
    for path in ("/refunds", "/refunds?dry_run=true", "/refunds/preview"):
        refused = await grow.api.post(path, json=third)
        assert (refused.status_code, refused.json()["code"]) == (422, "refund_not_supported")
        assert "2 refunds" in refused.json()["detail"]
    assert (await grow.api.get(f"/payments/{payment['id']}")).json()["status"] == "partially_refunded"


async def test_without_balance_a_refund_is_neither_made_nor_failed(grow: Shop) -> None:
    payment = await paid(grow)
    await grow.till.payer.behaves("no_balance")
    asked = await grow.api.post("/refunds", json={"payment_id": payment["id"], "amount": "10.00"})
    assert (asked.status_code, asked.json()["status"]) == (202, "requested"), asked.text
    assert (await grow.api.get(f"/payments/{payment['id']}")).json()["status"] == "paid"
