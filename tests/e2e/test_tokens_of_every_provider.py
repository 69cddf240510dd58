"""Saved methods through the whole service, at the providers that have no idempotency keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from providers.base import OpenedCheckout
from storage.models import Attempt, MethodSetup, PaymentMethod, WebhookEvent
from tests.support.service import CUSTOMERS, Service, Shop, eventually


@pytest_asyncio.fixture(params=["meshulam", "payplus"])
async def saver(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Shop]:
    """A shop whose provider has a page to save a method."""
    made = await service.shop(request.param, saving=True)
    yield made
    await made.aclose()
    await made.sandbox("DELETE", "/faults")


@pytest_asyncio.fixture
async def payu(service: Service) -> AsyncIterator[Shop]:
    made = await service.shop("payu", saving=True)
    yield made
    await made.aclose()
    await made.sandbox("DELETE", "/faults")


def owner(shop: Shop) -> dict[str, Any]:
    person = CUSTOMERS[shop.till.payer.currency]
    return {name: person[name] for name in ("id", "name", "email", "phone")}


async def saved(shop: Shop) -> dict[str, Any]:
    answer = await shop.api.post("/payment-methods", json={"customer": owner(shop)})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    async with shop.service.database.transaction() as session:
        row = await session.get(MethodSetup, made["id"])
    assert row is not None
    await shop.till.payer.saves(OpenedCheckout(str(row.session_id), made["url"]))

    async def done() -> Any:
        found = (await shop.api.get(f"/payment-methods/setups/{made['id']}")).json()
        return found if found["status"] == "succeeded" else None

    method_id = (await eventually(done))["payment_method_id"]
    return dict((await shop.api.get(f"/payment-methods/{method_id}")).json())


async def charge(shop: Shop, method: dict[str, Any]) -> Any:
    return await shop.api.post(
        "/payments", json=shop.order(payment_method_id=method["id"], customer=CUSTOMERS[shop.till.payer.currency])
    )


async def token_of(shop: Shop, method: dict[str, Any]) -> str:
    async with shop.service.database.transaction() as session:
        row = await session.get(PaymentMethod, method["id"])
    assert row is not None
    return shop.service.sealer.open(row.token)


async def reference_of(shop: Shop, payment: dict[str, Any]) -> Any:
    async with shop.service.database.transaction() as session:
        return await session.scalar(select(Attempt.reference).where(Attempt.payment_id == payment["id"]))


async def test_a_callback_saves_the_method_and_it_can_be_charged(saver: Shop) -> None:
    method = await saved(saver)
    assert (method["status"], method["is_default"], method["last4"]) == (
        "active",
        True,
        saver.till.payer.method_seen[1],
    )
    answer = await charge(saver, method)
    assert (answer.status_code, answer.json()["status"]) == (201, "paid"), answer.text
    payment = await saver.read(answer.json()["id"])
    assert payment["receipt_id"]
    assert await saver.till.payer.charges_of(await reference_of(saver, payment)) == 1
    token = await token_of(saver, method)
    async with saver.service.database.transaction() as session:
        bodies = (
            await session.scalars(select(WebhookEvent.body).where(WebhookEvent.provider_account_id == saver.account.id))
        ).all()
    assert bodies
    assert not any(token.encode() in body for body in bodies)


async def test_a_provider_without_keys_that_is_silent_charges_once(saver: Shop) -> None:
    method = await saved(saver)
    operation = saver.till.payer.operations["charge"]
    await saver.sandbox("POST", "/faults", {"operation": operation, "fault": "timeout_after:4", "count": 1})
    answer = await charge(saver, method)
    assert answer.status_code in (201, 202), answer.text
    paid = await saver.until(answer.json()["id"], "paid", 30)
    assert await saver.till.payer.charges_of(await reference_of(saver, paid)) == 1


async def test_a_decline_has_our_words(saver: Shop) -> None:
    method = await saved(saver)
    await saver.till.payer.will(await token_of(saver, method), "hard")
    answer = await charge(saver, method)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["decline_class"]) == (422, "provider_declined", "hard")


@pytest.mark.parametrize(
    ("outcome", "status"), [(1034, "active"), (819, "active"), (1031, "expired"), (1032, "detached"), (453, "detached")]
)
async def test_a_card_that_grow_declines_for_good_is_not_kept(service: Service, outcome: int, status: str) -> None:
    shop = await service.shop("meshulam", saving=True)
    try:
        method = await saved(shop)
        token = await token_of(shop, method)
        await shop.sandbox("POST", f"/meshulam/cards/{token}/outcomes", {"outcomes": [outcome]})
        assert (await charge(shop, method)).json()["code"] == "provider_declined"
        assert (await shop.api.get(f"/payment-methods/{method['id']}")).json()["status"] == status
    finally:
        await shop.aclose()


async def test_a_payer_may_have_the_card_saved_while_paying(saver: Shop) -> None:
    payment = await saver.pays(save_method=True)
    await saver.till.payer.pays(await saver.checkout(payment))
    await saver.until(payment["id"], "paid")
    methods = (await saver.api.get("/payment-methods")).json()["data"]
    assert [one["customer_id"] for one in methods] == ["cust-77"]


async def test_a_token_of_the_providers_library_is_taken_over_and_charged(payu: Shop) -> None:
    made = await payu.sandbox("POST", "/payu/tokens", {"api_key": payu.till.credentials["api_key"]})
    body = {"customer": owner(payu), "exp_month": 5, "exp_year": 2031} | made
    answer = await payu.api.post("/payment-methods/tokens", json=body)
    assert answer.status_code == 201, answer.text
    method = answer.json()
    assert (method["brand"], method["last4"], method["is_default"]) == ("visa", "1111", True)
    again = await payu.api.post("/payment-methods/tokens", json=body)
    assert again.json()["id"] == method["id"]
    paid = await charge(payu, method)
    assert (paid.status_code, paid.json()["status"]) == (201, "paid"), paid.text
    assert await payu.till.payer.charges_of(await reference_of(payu, paid.json())) == 1


async def test_a_card_number_is_refused_and_not_repeated(payu: Shop) -> None:
    for number in ("4111111111111111", "4111 1111 1111 1111"):
        answer = await payu.api.post(
            "/payment-methods/tokens", json={"customer": owner(payu), "token": number, "brand": "VISA"}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert number not in answer.text
    nothing = await payu.api.post(
        "/payment-methods/tokens", json={"customer": owner(payu), "token": "0f0c8c0e-1111", "brand": "X"}
    )
    assert (nothing.status_code, nothing.json()["code"]) == (422, "provider_rejected")
    page = await payu.api.post("/payment-methods", json={"customer": owner(payu)})
    assert (page.status_code, page.json()["code"]) == (422, "method_unavailable")


async def test_what_a_provider_must_know_of_who_is_charged_is_asked_for_before_anything_is_done(
    service: Service,
) -> None:
    shop = await service.shop("meshulam", saving=True)
    try:
        method = await saved(shop)
        bare = {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com"}
        plan = {"code": "gold", "name": "Gold", "amount": "50.00", "currency": "ILS", "interval": "month"}
        assert (await shop.api.post("/plans", json=plan)).status_code == 201
        renewing = {"plan": "gold", "customer": bare, "payment_method_id": method["id"]}
        for path, body in (
            ("/payments", shop.order(payment_method_id=method["id"], customer=bare)),
            ("/subscriptions", renewing),
            ("/payment-methods", {"customer": bare}),
        ):
            answer = await shop.api.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "payer_data_missing"), (path, answer.text)
            assert "customer.phone" in answer.json()["detail"]
        assert (await charge(shop, method)).json()["status"] == "paid"
    finally:
        await shop.aclose()
