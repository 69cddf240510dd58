"""Names that a tax document must carry are refused where they are given, if no font of the documents has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.support.service import Service, Shop, admin_key

PRINTED = ["Ирина Петрова", "محمد أحمد", "王小明", "Nguyễn Thị Ánh", "בן‑דוד", "Anne-Marie O’Brien"]
NOT_PRINTED = [("Dana 🙂", "character 6"), ("𒀀", "character 1"), ("\u2060\u3164", "nothing of it can be seen")]


@pytest_asyncio.fixture
async def platform(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a platform administrator's key."""
    key = await admin_key(service)
    async with httpx.AsyncClient(
        base_url=f"{service.api_url}/api/v1", headers={"authorization": f"Bearer {key}"}
    ) as client:
        yield client


def refused(answer: httpx.Response, field: str, says: str, sent: str) -> None:
    body = answer.json()
    assert (answer.status_code, body["code"], body["field"]) == (422, "name_not_printable", field), answer.text
    assert [fault["field"] for fault in body["errors"]] == [field]
    assert says in body["detail"]
    assert sent not in answer.text


@pytest.mark.parametrize(("name", "says"), NOT_PRINTED)
async def test_a_customers_name_that_cannot_be_printed_is_refused(shop: Shop, name: str, says: str) -> None:
    plan = {"code": f"p-{uuid4().hex[:8]}", "name": "Gold", "amount": "10.00", "currency": "ILS"}
    assert (await shop.api.post("/plans", json=plan)).status_code == 201
    customer = {"id": "c-1", "name": name, "email": "dana@example.com"}
    bodies: dict[str, dict[str, Any]] = {
        "/payments": shop.order(customer=customer),
        "/subscriptions": {"plan": plan["code"], "customer": customer},
    }
    for path, body in bodies.items():
        refused(await shop.api.post(path, json=body), "customer.name", says, name)


@pytest.mark.parametrize("name", PRINTED)
async def test_names_in_every_script_are_taken(shop: Shop, name: str) -> None:
    made = await shop.api.post("/payments", json=shop.order(customer={"name": name}))
    assert made.status_code == 201, made.text


async def test_other_texts_are_taken_as_they_are(shop: Shop) -> None:
    made = await shop.api.post("/payments", json=shop.order(description="Massage 🙂"))
    assert made.status_code == 201, made.text


@pytest.mark.parametrize(("name", "says"), NOT_PRINTED)
@pytest.mark.parametrize("field", ["name", "legal_name", "legal_name_he"])
async def test_a_sellers_name_that_cannot_be_printed_is_refused(
    platform: httpx.AsyncClient, shop: Shop, field: str, name: str, says: str
) -> None:
    body = {"slug": f"shop-{uuid4().hex[:8]}", "name": "Clinic", "currency": "ILS"}
    refused(await platform.post("/workspaces", json=body | {field: name}), field, says, name)
    refused(await platform.patch(f"/workspaces/{shop.workspace.id}", json={field: name}), field, says, name)
