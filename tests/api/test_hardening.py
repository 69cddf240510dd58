"""What one tenant, or a stranger at the callback addresses, must not be able to do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select, update

from api.app import create_app
from api.services import open_services
from storage.models import ProviderAccount, WebhookRejection
from tests.support.service import Service, Shop, admin_key, served, settings_for

INSIDE = "http://169.254.169.254"


@pytest_asyncio.fixture(scope="module")
async def production(service: Service) -> AsyncIterator[str]:
    """The same service as it is set in production."""
    settings = settings_for(service.stack, environment="production")
    async with served(create_app(lambda: open_services(settings))) as url:
        yield f"{url}/api/v1"


@pytest_asyncio.fixture
async def tenant(production: str, shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=production, headers={"authorization": f"Bearer {shop.api_key}"}, timeout=30
    ) as client:
        yield client


@pytest_asyncio.fixture
async def platform(production: str, service: Service) -> AsyncIterator[httpx.AsyncClient]:
    key = await admin_key(service)
    async with httpx.AsyncClient(base_url=production, headers={"authorization": f"Bearer {key}"}) as client:
        yield client


def account(provider: str, options: dict[str, Any]) -> dict[str, Any]:
    credentials = {
        "stripe": {"secret_key": "sk_test_x", "webhook_secret": "whsec_x"},
        "payplus": {"api_key": "k", "secret_key": "s", "payment_page_uid": "p"},
        "meshulam": {"user_id": "u", "page_code": "c", "callback_token": "t" * 8},
        "payu": {"api_key": "k", "api_login": "l", "merchant_id": "1", "account_id": "2"},
        "efecty": {"agreement": "110954", "callback_secret": "long enough a secret"},
    }[provider]
    return {"provider": provider, "name": uuid4().hex, "credentials": credentials, "options": options}


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("stripe", {"api_base": INSIDE}),
        ("stripe", {"api_base": "169.254.169.254"}),
        ("payu", {"checkout_base": "https://phish.example"}),
        ("payu", {"report_url": "https://inside.example"}),
        ("payu", {"agreements": {"efecty": f"{INSIDE}/"}}),
    ],
)
async def test_a_tenant_cannot_point_us_anywhere(
    tenant: httpx.AsyncClient, platform: httpx.AsyncClient, shop: Shop, provider: str, options: dict[str, Any]
) -> None:
    refused = await tenant.post("/provider-accounts", json=account(provider, options))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    changed = await tenant.patch(f"/provider-accounts/{shop.account.id}", json={"options": options})
    assert (changed.status_code, changed.json()["code"]) == (403, "forbidden")


async def test_what_the_platform_set_a_tenants_other_changes_leave_alone(
    tenant: httpx.AsyncClient, shop: Shop, service: Service
) -> None:
    path, base = f"/provider-accounts/{shop.account.id}", {"api_base": service.sandbox_url}
    assert (await tenant.patch(path, json={"options": {}})).status_code == 403  # that would be another address too
    kept = await tenant.patch(path, json={"options": base | {"minimum_amount": "5"}})
    assert (kept.status_code, kept.json()["options"]) == (200, base | {"minimum_amount": "5"})


async def test_the_platform_may_and_a_page_for_payers_is_everybodys(
    tenant: httpx.AsyncClient, platform: httpx.AsyncClient, shop: Shop
) -> None:
    own = {"workspace_id": str(shop.workspace.id)}
    made = await platform.post("/provider-accounts", json=account("stripe", {"api_base": "https://eu.example"}) | own)
    assert made.status_code == 201
    voucher = {"voucher_url": "https://shop.example/voucher?code={code}"}
    assert (await tenant.post("/provider-accounts", json=account("efecty", voucher))).status_code == 201


@pytest.mark.parametrize(
    ("provider", "options", "named"),
    [
        ("stripe", {"api_base": 7}, "api_base"),
        ("stripe", {"api_base": "https://user:pw@x.example"}, "api_base"),
        ("payu", {"checkout_base": "https://x.example; script-src *"}, "checkout_base"),
        ("payu", {"test": "yes"}, "test"),
        ("efecty", {"code_length": 99}, "code_length"),
        ("stripe", {"minimum_amount": "NaN"}, "minimum_amount"),
        ("stripe", {"minimum_amount": "1,500"}, "minimum_amount"),
        ("stripe", {"maximum_amount": 99.5}, "maximum_amount"),
        ("stripe", {"maximum_amount": "-1"}, "maximum_amount"),
        ("stripe", {"minimum_amount": "100", "maximum_amount": "99.99"}, "minimum_amount is above maximum_amount"),
        ("stripe", {"methods": "card"}, "methods is a list of some of: card, link"),
        ("stripe", {"methods": []}, "methods"),
        ("payu", {"methods": ["card", "cheque"]}, "methods"),
        ("payplus", {"enviroment": "staging"}, "payplus has no enviroment; it has api_base, auth_form"),
        ("meshulam", {"sandbox": "true"}, "sandbox is true or false"),
    ],
)
async def test_options_that_cannot_work_are_refused_when_they_are_given(
    platform: httpx.AsyncClient, shop: Shop, provider: str, options: dict[str, Any], named: str
) -> None:
    body = account(provider, options) | {"workspace_id": str(shop.workspace.id)}
    refused = await platform.post("/provider-accounts", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert named in refused.json()["detail"]
    for secret in body["credentials"].values():
        assert len(secret) < 3 or secret not in refused.text


async def test_an_option_from_before_names_were_checked_holds_up_no_new_credential(
    service: Service, shop: Shop
) -> None:
    before = shop.account.options | {"note": "from the year before"}
    async with service.database.transaction() as session:
        await session.execute(
            update(ProviderAccount).where(ProviderAccount.id == shop.account.id).values(options=before)
        )
    path = f"/provider-accounts/{shop.account.id}"
    rotated = await shop.api.patch(path, json={"credentials": {"webhook_secret": "whsec_next"}})
    assert (rotated.status_code, rotated.json()["options"]) == (200, before)
    refused = await shop.api.patch(path, json={"options": before | {"memo": "new"}})
    assert (refused.status_code, "stripe has no memo;" in refused.json()["detail"]) == (422, True)


@pytest.mark.parametrize("provider", ["stripe", "efecty"])
async def test_what_is_secret_has_no_place_among_the_options(
    platform: httpx.AsyncClient, shop: Shop, provider: str
) -> None:
    for name in ("webhook_secret", "callback_secret", "API_KEY", "password"):
        body = account(provider, {name: "hush-hush"}) | {"workspace_id": str(shop.workspace.id)}
        refused = await platform.post("/provider-accounts", json=body)
        assert (refused.status_code, name in refused.json()["detail"]) == (422, True)
        assert "hush-hush" not in refused.text


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest",
        "https://10.0.0.8/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.8]/",
        "https://[::1",
        "https://localhost/",
        "https://temporal/",
        "https://db.internal/",
        "https://printer.local./",
        "https://127.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://127\u30020.0.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:0:0]/",
        "https://[fec0::1]/",
        "https://224.0.0.1/",
        "https://127.0.0.1.nip.io/",
        "https://x-10-0-0-8.sslip.io/",
        "https://app.169.254.169.254.nip.io/",
        "https://payments.svc.cluster.local/",
        "https://xn--/",
        "https://",
    ],
)
async def test_a_tenants_notices_go_outside(
    tenant: httpx.AsyncClient, platform: httpx.AsyncClient, shop: Shop, url: str
) -> None:
    path = f"/workspaces/{shop.workspace.id}"
    refused = await tenant.patch(path, json={"order_webhook_url": url})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    for good in ("https://hooks.shop.example/x", "https://cafe.bed/x", "https://8.8.8.8/x", None):
        assert (await tenant.patch(path, json={"order_webhook_url": good})).status_code == 200
    assert (await platform.patch(path, json={"order_webhook_url": "https://orders/x"})).status_code == 200


async def test_a_stranger_cannot_fill_the_table_of_refusals(service: Service) -> None:
    url, body = f"{service.api_url}/api/v1/webhooks", b"x" * 1_100_000
    before = await refusals(service)
    for provider in ("stripe", f"none-{uuid4().hex}"):
        for _ in range(3):
            answer = await service.http.post(f"{url}/{provider}/{uuid4()}", content=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
            answer = await service.http.post(f"{url}/{provider}/{uuid4().hex}-{uuid4().hex}/token", content=body)
            assert answer.status_code == 404
    assert await refusals(service) - before <= {("unknown", "stripe"), ("unknown", "unknown")}


async def refusals(service: Service) -> set[tuple[str, str]]:
    async with service.database.transaction() as session:
        rows = await session.execute(select(WebhookRejection.account, WebhookRejection.provider))
        return {(row[0], row[1]) for row in rows}


async def test_an_error_in_the_database_shows_no_value(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Exception, match="hidden") as failed:
        async with service.database.transaction() as session:
            await session.execute(select(WebhookRejection).where(WebhookRejection.count == "dana@example.com"))
    assert "dana" not in str(failed.value)
    assert "dana" not in caplog.text


async def test_a_value_that_cannot_be_stored_is_told_and_cuts_nobody_off(
    service: Service, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    for method, path, body in (
        ("GET", "/payments?order_id=%00", None),
        ("POST", "/plans", {"name": "\x00", "amount": "1.00", "interval": "month"}),
    ):
        answer = await shop.api.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), answer.text
    assert "ASGI" not in caplog.text  # what the server says of an application that raises, before it cuts the line
