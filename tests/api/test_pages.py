"""The pages that payers see from us: framed by nobody, leading nowhere else, and gone when nothing is to be paid."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import update

from api.pages import _origin
from storage.models import Payment
from tests.support.service import Service, Shop

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@pytest_asyncio.fixture
async def colombian(service: Service) -> AsyncIterator[Shop]:
    shop = await service.shop("payu")
    yield shop
    await shop.aclose()


def policy_of(page: httpx.Response) -> dict[str, list[str]]:
    parts = [part.split() for part in page.headers["content-security-policy"].split(";")]
    assert len({part[0] for part in parts}) == len(parts)
    return {name: values for name, *values in parts}


def is_private(page: httpx.Response) -> bool:
    wanted = {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
    return all(page.headers[name] == value for name, value in wanted.items())


async def test_the_form_goes_to_the_provider_alone_and_the_page_runs_its_one_line_only(colombian: Shop) -> None:
    hostile = "\"><script>alert(1)</script><form action='https://evil.example'>"
    payment = await colombian.pays(description=hostile)
    page = await colombian.service.http.get(payment["checkout_url"])
    policy, sandbox = policy_of(page), urlsplit(colombian.service.sandbox_url)
    (script,) = SCRIPT.findall(page.text)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == [f"'sha256-{digest}'"]
    assert policy["form-action"] == [f"{sandbox.scheme}://{sandbox.netloc}"]
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == ["'none'"]
    assert page.text.count("<form") == 1
    assert "evil.example" in page.text  # as text
    assert is_private(page)


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "https://",
        "https://pay.example; script-src *",
        "https://user@pay.example/",
        "https://pay.example'/",
        "data:text/html,x",
    ],
)
def test_an_address_that_would_widen_the_policy_is_none(address: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        _origin(address)


async def set_payment(shop: Shop, payment: dict[str, Any], **values: Any) -> None:
    async with shop.service.database.transaction() as session:
        await session.execute(update(Payment).where(Payment.id == payment["id"]).values(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"status": "canceled"},
        {"status": "expired"},
        {"status": "paid"},
        {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"flag": "amount_mismatch"},
    ],
)
async def test_nobody_is_led_to_a_page_that_would_take_money_for_nothing(
    colombian: Shop, values: dict[str, Any]
) -> None:
    """PayU cannot close its page; ours is the way there."""
    payment = await colombian.pays()
    assert (await colombian.service.http.get(payment["checkout_url"])).status_code == 200
    await set_payment(colombian, payment, **values)
    gone = await colombian.service.http.get(payment["checkout_url"])
    assert (gone.status_code, "<form" in gone.text, is_private(gone)) == (410, False, True)


async def test_a_code_is_shown_as_long_as_it_is_good(service: Service) -> None:
    shop = await service.shop("efecty")
    payment = await shop.pays()
    page = await service.http.get(payment["checkout_url"])
    assert page.status_code == 200
    assert payment["instructions"]["code"] in page.text
    until = datetime.fromisoformat(payment["instructions"]["expires_at"]) - timedelta(hours=5)  # Colombia's clocks
    assert f"Payable until {until:%Y-%m-%d %H:%M} (America/Bogota)." in page.text
    assert policy_of(page)["form-action"] == ["'none'"]
    assert (await shop.api.post(f"/payments/{payment['id']}/cancel")).json()["status"] == "canceled"
    gone = await service.http.get(payment["checkout_url"])
    assert (gone.status_code, payment["instructions"]["code"] in gone.text) == (410, False)
    await shop.aclose()


async def test_an_app_is_named_where_there_is_no_address(service: Service) -> None:
    shop = await service.shop("wompi")
    payment = await shop.pays(method="nequi")
    assert payment["instructions"] == {"approve_in": "Nequi"}
    page = await service.http.get(payment["checkout_url"])
    assert "Approve in Nequi" in page.text
    assert policy_of(page)["form-action"] == ["'none'"]
    await shop.aclose()


async def test_a_stranger_learns_nothing(service: Service) -> None:
    unknown = await service.http.get(f"{service.api_url}/checkout/00000000-0000-4000-8000-000000000000")
    assert (unknown.status_code, is_private(unknown)) == (404, True)
    assert (await service.http.get(f"{service.api_url}/checkout/not-a-reference")).status_code == 422
    assert is_private(await service.http.get(f"{service.api_url}/paid"))
