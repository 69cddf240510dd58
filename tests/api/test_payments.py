"""What a caller may send to the payments routes, and what each mistake is answered."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select, update

from api.app import create_app
from api.payments import NewPayment, _values
from api.routing import Fit
from api.services import open_services
from providers.registry import capabilities_of
from storage import payments
from storage.models import Payment
from storage.models import ProviderAccount as Account
from tests.support.service import Service, Shop, eventually, served, settings_for

PROBLEM = "application/problem+json"


async def payments_of(shop: Shop) -> int:
    async with shop.service.database.transaction() as session:
        return int(await session.scalar(select(func.count()).where(Payment.workspace_id == shop.workspace.id)) or 0)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"].endswith(code)
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"amount": 129.9}, "amount", "string"),
        ({"amount": 129}, "amount", "string"),
        ({"amount": "129.901"}, "amount", "2 decimal digits"),
        ({"amount": "0"}, "amount", "greater than zero"),
        ({"amount": "-5.00"}, "amount", ""),
        ({"amount": "1e3"}, "amount", ""),
        ({"amount": "NaN"}, "amount", ""),
        ({"amount": "١٢"}, "amount", ""),
        ({"amount": None}, "amount", "string"),
        ({"currency": "XYZ"}, "currency", "XYZ"),
        ({"currency": "ils"}, "currency", "three capital letters"),
        ({"currency": None}, "currency", ""),
        ({"order_id": ""}, "order_id", ""),
        ({"order_id": "a\u0000b"}, "order_id", "control"),
        ({"order_id": "x" * 129}, "order_id", ""),
        ({"customer": {"email": "not an address"}}, "customer.email", "email"),
        ({"success_url": "javascript:alert(1)"}, "success_url", "URL"),
        ({"expires_in_seconds": 5}, "expires_in_seconds", ""),
        ({"metadata": {"k": "v" * 501}}, "metadata", "500"),
        ({"unheard_of": 1}, "unheard_of", "no such field"),
    ],
)
async def test_a_mistake_is_named_with_its_field_and_nothing_is_started(
    shop: Shop, change: dict[str, Any], field: str, says: str
) -> None:
    body = problem(await shop.api.post("/payments", json=shop.order(**change)), 422, "validation_failed")
    assert [fault["field"] for fault in body["errors"]] == [field]
    assert says in body["errors"][0]["message"]
    assert await payments_of(shop) == 0


async def test_what_was_sent_is_not_sent_back(shop: Shop) -> None:
    address = problem(await shop.api.post("/payments", json=shop.order(success_url="shop")), 422, "validation_failed")
    assert address["detail"] == "success_url: a whole address, such as https://shop.example/thanks"
    answer = await shop.api.post("/payments", json=shop.order(customer={"email": "dana-at-home", "name": "D"}))
    assert "dana-at-home" not in answer.text


@pytest.mark.parametrize("field", ["amount", "currency", "order_id"])
async def test_a_missing_field_is_named(shop: Shop, field: str) -> None:
    order = shop.order()
    del order[field]
    body = problem(await shop.api.post("/payments", json=order), 422, "validation_failed")
    assert field in body["detail"]


async def test_a_body_that_is_not_json(shop: Shop) -> None:
    answer = await shop.api.post("/payments", content=b"{amount", headers={"content-type": "application/json"})
    problem(answer, 400, "malformed_body")


async def test_a_body_without_its_content_type_says_which_header_is_missing(shop: Shop) -> None:
    answer = await shop.api.post(
        "/payments", content=json.dumps(shop.order()), headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert "Content-Type: application/json" in problem(answer, 422, "validation_failed")["detail"]


async def test_another_address_or_method_says_what_there_is(shop: Shop) -> None:
    assert "/docs" in problem(await shop.api.get("/paiments"), 404, "not_found")["detail"]
    refused = await shop.api.delete("/payments")
    assert "DELETE" in problem(refused, 405, "method_not_allowed")["detail"]


async def test_another_currency_than_the_workspaces(shop: Shop) -> None:
    body = problem(await shop.api.post("/payments", json=shop.order(currency="USD")), 422, "currency_not_of_workspace")
    assert "ILS" in body["detail"]


async def test_no_key_a_wrong_key_and_a_key_without_the_scope(service: Service, shop: Shop) -> None:
    url = f"{service.api_url}/api/v1/payments"
    for headers in ({}, {"authorization": "Basic abc"}, {"authorization": "Bearer sk_live_x"}):
        answer = await service.http.get(url, headers=headers)
        assert "payment-cli api-key create" in problem(answer, 401, "unauthenticated")["detail"]
        assert answer.headers["www-authenticate"] == "Bearer"
    wrong = await service.http.get(url, headers={"authorization": "Bearer dp_live_wrong"})
    problem(wrong, 401, "unauthenticated")
    made = await shop.api.post("/api-keys", json={"name": "reader", "scopes": ["payments:read"]})
    reader = {"authorization": f"Bearer {made.json()['key']}"}
    assert (await service.http.get(url, headers=reader)).status_code == 200
    refused = problem(await service.http.post(url, headers=reader, json=shop.order()), 403, "forbidden")
    assert "payments:write" in refused["detail"]
    problem(await service.http.get(f"{service.api_url}/api/v1/workspaces", headers=reader), 403, "forbidden")


async def test_no_provider_account_says_how_to_connect_one(shop: Shop) -> None:
    answer = await shop.api.post("/payments", json=shop.order(provider_account_id=str(uuid4())))
    assert "payment-cli account create" in problem(answer, 422, "no_provider_account")["detail"]
    async with shop.service.database.transaction() as session:
        await session.execute(update(Account).where(Account.id == shop.account.id).values(enabled=False))
    refused = problem(await shop.api.post("/payments", json=shop.order()), 422, "no_provider_account")
    assert f"payment-cli account enable {shop.account.id}" in refused["detail"]


async def test_a_provider_that_is_slow_to_answer_is_told_as_far_as_it_is_known(service: Service, shop: Shop) -> None:
    await shop.sandbox("POST", "/faults", {"operation": "*", "fault": "error:500", "count": 10_000})
    hasty = settings_for(service.stack, checkout_wait_seconds=0.5)
    headers, order = {"authorization": f"Bearer {shop.api_key}", "Idempotency-Key": "slow"}, shop.order()
    async with served(create_app(lambda: open_services(hasty))) as url:

        async def told() -> Any:
            """Before the first try has failed, nothing is known yet."""
            answer = await service.http.post(f"{url}/api/v1/payments", json=order, headers=headers)
            body = answer.json()
            assert (answer.status_code, body["checkout_url"]) == (202, None), answer.text
            assert body["status"] in ("created", "unknown")
            return body if body["status"] == "unknown" else None

        body = await eventually(told)
    assert body["status_reason"] == "opening: http_500"
    await shop.sandbox("DELETE", "/faults")
    assert (await shop.until(body["id"], "pending"))["checkout_url"]


async def test_an_unknown_provider(shop: Shop) -> None:
    body = problem(await shop.api.post("/payments", json=shop.order(provider="paypal")), 422, "unknown_provider")
    assert "stripe" in body["detail"]


async def test_refused_credentials_name_the_account_check(shop: Shop) -> None:
    patch = await shop.api.patch(
        f"/provider-accounts/{shop.account.id}", json={"credentials": {"secret_key": "sk_test_invalid"}}
    )
    assert patch.status_code == 200
    answer = await shop.api.post("/payments", json=shop.order())
    body = problem(answer, 502, "provider_misconfigured")
    assert f"Run payment-cli account check {shop.account.id}." in body["detail"]
    assert "sk_test" not in answer.text
    assert (await shop.read(body["payment_id"]))["status"] == "failed"


async def test_an_amount_that_the_provider_refuses(shop: Shop) -> None:
    body = problem(await shop.api.post("/payments", json=shop.order(amount="0.01")), 422, "provider_rejected")
    assert body["provider_code"] == "amount_too_small"


async def test_a_repeat_finds_the_first_payment_and_another_body_is_refused(shop: Shop) -> None:
    order, headers = shop.order(), {"Idempotency-Key": "order-1-try"}
    first = await shop.api.post("/payments", json=order, headers=headers)
    again = await shop.api.post("/payments", json=order, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["checkout_url"] == again.json()["checkout_url"]
    assert first.headers["location"] == f"/api/v1/payments/{first.json()['id']}"
    same_amount = await shop.api.post("/payments", json=order | {"amount": "129.9"}, headers=headers)
    assert same_amount.status_code == 200
    other = await shop.api.post("/payments", json=order | {"amount": "130.00"}, headers=headers)
    assert problem(other, 409, "idempotency_key_reused")["payment_id"] == first.json()["id"]
    assert await payments_of(shop) == 1
    too_long = await shop.api.post("/payments", json=order, headers={"Idempotency-Key": "k" * 256})
    problem(too_long, 422, "validation_failed")


@pytest.mark.parametrize("change", ["account disabled", "payments disabled"])
async def test_a_repeat_finds_its_payment_when_new_ones_are_no_longer_taken(shop: Shop, change: str) -> None:
    """Told 'no account', a caller would ask for another payment while the first one's page is open."""
    order, headers = shop.order(), {"Idempotency-Key": "order-1-try"}
    first = (await shop.api.post("/payments", json=order, headers=headers)).json()
    if change == "account disabled":
        changed = await shop.api.patch(f"/provider-accounts/{shop.account.id}", json={"enabled": False})
    else:
        changed = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json={"payments_enabled": False})
    assert changed.status_code == 200
    again = await shop.api.post("/payments", json=order, headers=headers)
    assert (again.status_code, again.json().get("id")) == (200, first["id"])
    other = await shop.api.post("/payments", json=order | {"amount": "130.00"}, headers=headers)
    problem(other, 409, "idempotency_key_reused")
    assert (await shop.api.post("/payments", json=order)).status_code in (403, 422)


async def test_twenty_at_once_under_one_key_are_one_payment(shop: Shop) -> None:
    order, headers = shop.order(), {"Idempotency-Key": "burst"}
    answers = await asyncio.gather(*(shop.api.post("/payments", json=order, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await payments_of(shop) == 1


async def test_the_same_key_in_two_workspaces_is_two_payments(service: Service, shop: Shop) -> None:
    other = await service.shop()
    one = await shop.pays(idempotency_key="k-1")
    two = await other.pays(idempotency_key="k-1")
    assert one["id"] != two["id"]
    for path in (f"/payments/{one['id']}", f"/payments/{one['id']}/timeline"):
        problem(await other.api.get(path), 404, "not_found")
    problem(await other.api.post(f"/payments/{one['id']}/cancel"), 404, "not_found")
    assert (await shop.read(one["id"]))["status"] == "pending"
    await other.api.aclose()


async def test_pages_hold_every_payment_once_newest_first(shop: Shop) -> None:
    made = [(await shop.pays(order_id=f"o-{number}"))["id"] for number in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = (await shop.api.get("/payments", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]
    by_order = (await shop.api.get("/payments", params={"order_id": "o-3"})).json()["data"]
    assert [row["id"] for row in by_order] == [made[3]]
    assert (await shop.api.get("/payments", params={"status": "paid"})).json()["data"] == []


@pytest.mark.parametrize(
    "params", [{"cursor": "nonsense"}, {"cursor": "MjAyNg=="}, {"limit": 0}, {"limit": 101}, {"status": "done"}]
)
async def test_a_bad_page_is_refused(shop: Shop, params: dict[str, Any]) -> None:
    problem(await shop.api.get("/payments", params=params), 422, "validation_failed")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/payments?order_id=%00", None),
        ("GET", "/referrers/a%00b/report", None),
        ("PATCH", "/workspaces/{workspace}", {"address": "a\u0000b"}),
    ],
)
async def test_a_character_that_cannot_be_stored_is_the_callers_mistake(
    shop: Shop, method: str, path: str, body: dict[str, Any] | None
) -> None:
    answer = await shop.api.request(method, path.format(workspace=shop.workspace.id), json=body)
    problem(answer, 422, "validation_failed")


async def test_addresses_that_do_not_exist(shop: Shop) -> None:
    problem(await shop.api.get(f"/payments/{uuid4()}"), 404, "not_found")
    problem(await shop.api.get("/payments/not-a-uuid"), 422, "validation_failed")
    problem(await shop.api.get("/nowhere"), 404, "not_found")
    problem(await shop.api.put("/payments", json={}), 405, "method_not_allowed")


async def test_a_final_payment_cannot_be_cancelled_any_more(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    body = problem(await shop.api.post(f"/payments/{payment['id']}/cancel"), 409, "payment_is_final")
    assert body["status_now"] == "paid"


async def test_a_payment_that_was_accepted_and_not_started_is_started_later(shop: Shop) -> None:
    """The process died between the insert and the start: the dispatcher finds the row."""
    payment_id = uuid4()
    body = NewPayment.model_validate(shop.order())

    class Caller:
        workspace = shop.workspace

    class Services:
        limits = type("Limits", (), {"checkout_expires_seconds": 3600, "public_base_url": "http://127.0.0.1"})

        @staticmethod
        def now() -> Any:
            return datetime.now(UTC) - timedelta(minutes=2)

    fitting = [Fit(shop.account, capabilities_of("stripe"), None)]
    values = _values(Services, Caller, body, fitting, payment_id, None)  # type: ignore[arg-type]
    async with shop.service.database.transaction() as session:
        assert await payments.insert_new(session, values)

    async def opened() -> Any:
        return (await shop.read(str(payment_id)))["checkout_url"]

    assert await eventually(opened)


@pytest.mark.parametrize(("method", "days"), [("link", 20), ("card", 1)])
async def test_a_link_may_be_paid_longer_than_a_session(shop: Shop, method: str, days: int) -> None:
    asked = datetime.now(UTC) + timedelta(days=20)
    payment = await shop.pays(method=method, expires_in_seconds=20 * 86400)
    lives = datetime.fromisoformat(payment["expires_at"]) - datetime.fromisoformat(payment["created_at"])
    assert lives == timedelta(days=days)
    assert datetime.fromisoformat(payment["expires_at"]) < asked + timedelta(minutes=1)
    assert payment["checkout_url"]
    assert (await shop.api.post(f"/payments/{payment['id']}/cancel")).json()["status"] == "canceled"
