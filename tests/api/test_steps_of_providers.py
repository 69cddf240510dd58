"""Amounts that a provider cannot take as they are: told before it is asked, with the nearest ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest_asyncio
from sqlalchemy import update

from storage.models import Payment
from tests.support.service import Service, Shop


@pytest_asyncio.fixture
async def dinars(service: Service) -> AsyncIterator[Shop]:
    """A shop at Stripe, which takes dinars in steps of ten fils."""
    shop = await service.shop(currency="KWD", country="KW", commission_minimum=Decimal("0.1"))
    yield shop
    await shop.aclose()


def refused(answer: httpx.Response) -> str:
    body = answer.json()
    assert (answer.status_code, body["code"], body["step"]) == (422, "amount_not_representable", "0.010"), answer.text
    return str(body["detail"])


async def hold_back(shop: Shop, payment: dict[str, Any], amount: str) -> None:
    """A dispute about so much."""
    async with shop.service.database.transaction() as session:
        await session.execute(update(Payment).where(Payment.id == payment["id"]).values(dispute_held=Decimal(amount)))


async def test_a_payment_between_two_steps_is_refused_before_anything_is_asked(dinars: Shop) -> None:
    detail = refused(await dinars.api.post("/payments", json=dinars.order(amount="5.124")))
    assert detail == "stripe takes KWD in steps of 0.010: 5.120 or 5.130, not 5.124."
    for checkout_mode in (True, False):
        refused(await dinars.api.post("/payments", json=dinars.order(amount="0.001", checkout_mode=checkout_mode)))
    assert (await dinars.api.get("/payments")).json()["data"] == []
    assert (await dinars.api.get("/payments/methods")).json()[0]["step"] == "0.010"


async def test_refunds_are_in_steps_and_all_that_can_go_back_goes_back(dinars: Shop) -> None:
    payment = await dinars.pays(amount="5.120")
    await dinars.pay(payment)
    await dinars.until(payment["id"], "paid")
    for path in ("/refunds", "/refunds/preview"):
        refused(await dinars.api.post(path, json={"payment_id": payment["id"], "amount": "1.234"}))
    part = await dinars.api.post("/refunds", json={"payment_id": payment["id"], "amount": "1.230"})
    assert (part.status_code, part.json()["status"]) == (201, "succeeded"), part.text
    await hold_back(dinars, payment, "3.886")
    assert "0.010, not 0.004" in refused(await dinars.api.post("/refunds", json={"payment_id": payment["id"]}))
    await hold_back(dinars, payment, "0.003")
    said = (await dinars.api.post("/refunds/preview", json={"payment_id": payment["id"]})).json()
    assert (said["amount"], said["left_to_refund"]) == ("3.880", "0.007")
    await hold_back(dinars, payment, "0")
    rest = await dinars.api.post("/refunds", json={"payment_id": payment["id"]})
    assert (rest.json()["amount"], rest.json()["status"]) == ("3.890", "succeeded")
    assert (await dinars.read(payment["id"]))["status"] == "refunded"


async def test_a_subscription_whose_price_cannot_be_charged_does_not_begin(dinars: Shop) -> None:
    plan = {"code": "monthly", "name": "Monthly", "amount": "5.125", "currency": "KWD"}
    assert (await dinars.api.post("/plans", json=plan)).status_code == 201
    begin: dict[str, Any] = {"plan": "monthly", "customer": {"id": "cust-77"}}
    for dry_run in (True, False):
        refused(await dinars.api.post("/subscriptions", json=begin, params={"dry_run": dry_run}))
    even = await dinars.api.post("/subscriptions", json=begin | {"quantity": 2}, params={"dry_run": True})
    assert (even.status_code, even.json()["charge_now"]) == (200, "10.250"), even.text
