"""Workspaces, accounts and keys: who may do what, and that secrets go in and never come out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select

from api.app import create_app
from api.services import open_services
from embedded.parts import free_port
from storage.models import AuditEntry, ProviderAccount
from tests.support.service import NOTICE_SECRET, Service, Shop, admin_key, served, settings_for

SECRETS = {"secret_key": "sk_test_verysecret1234", "webhook_secret": "whsec_alsosecret"}


@pytest_asyncio.fixture
async def platform(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The platform's administrator."""
    key = await admin_key(service)
    async with httpx.AsyncClient(
        base_url=f"{service.api_url}/api/v1", headers={"authorization": f"Bearer {key}"}
    ) as client:
        yield client


def new_workspace(**changes: Any) -> dict[str, Any]:
    return {"slug": f"clinic-{uuid4().hex[:8]}", "name": "Clinic", "currency": "ILS", "vat_rate": "0.18"} | changes


async def test_from_nothing_to_the_first_payment_by_the_api_alone(
    service: Service, platform: httpx.AsyncClient
) -> None:
    workspace = (await platform.post("/workspaces", json=new_workspace())).json()
    account = await platform.post(
        "/provider-accounts",
        json={
            "workspace_id": workspace["id"],
            "provider": "stripe",
            "credentials": {"secret_key": f"sk_test_{uuid4().hex}", "webhook_secret": "whsec_x"},
            "options": {"api_base": service.sandbox_url},
        },
    )
    assert account.status_code == 201
    checked = await platform.post(f"/provider-accounts/{account.json()['id']}/check")
    assert checked.json()["ok"] is True
    key = await platform.post(
        "/api-keys", json={"workspace_id": workspace["id"], "name": "shop", "scopes": ["payments:write"]}
    )
    paying = await service.http.post(
        f"{service.api_url}/api/v1/payments",
        headers={"authorization": f"Bearer {key.json()['key']}"},
        json={"amount": "10.00", "currency": "ILS", "order_id": "o-1"},
    )
    assert paying.status_code == 201, paying.text
    assert (await platform.get("/payments")).json()["code"] == "workspace_required"
    assert workspace["slug"] in {row["slug"] for row in (await platform.get("/workspaces")).json()}
    assert account.json()["id"] in {row["id"] for row in (await platform.get("/provider-accounts")).json()}


async def test_credentials_are_never_returned_logged_or_stored_in_clear(
    service: Service, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await shop.api.post(
        "/provider-accounts", json={"provider": "stripe", "name": "second", "credentials": SECRETS}
    )
    assert made.status_code == 201
    assert made.json()["hint"].endswith("1234")
    listed = await shop.api.get("/provider-accounts")
    async with service.database.transaction() as session:
        row = await session.get(ProviderAccount, made.json()["id"])
        audited = [
            str(entry.details)
            for entry in await session.scalars(select(AuditEntry).where(AuditEntry.workspace_id == shop.workspace.id))
        ]
    assert row is not None
    output = capsys.readouterr()
    for text in (made.text, listed.text, row.credentials.decode(), *audited, output.out, output.err):
        assert "verysecret" not in text
        assert "alsosecret" not in text
    assert service.sealer.open_mapping(row.credentials) == SECRETS


async def test_an_account_is_changed_in_parts(service: Service, shop: Shop) -> None:
    path = f"/provider-accounts/{shop.account.id}"
    off = await shop.api.patch(path, json={"enabled": False})
    assert off.json()["enabled"] is False
    assert (await shop.api.post("/payments", json=shop.order())).json()["code"] == "no_provider_account"
    on = await shop.api.patch(path, json={"enabled": True, "options": {"api_base": service.sandbox_url}})
    assert on.json()["enabled"] is True
    await shop.pays()
    bad = await shop.api.patch(path, json={"credentials": {"secret_key": "sk_test_invalid"}})
    assert bad.status_code == 200
    checked = (await shop.api.post(f"{path}/check")).json()
    assert (checked["ok"], "refused" in checked["detail"]) == (False, True)
    away = {"options": shop.account.options | {"api_base": f"http://127.0.0.1:{free_port()}"}}
    assert (await shop.api.patch(path, json=away)).status_code == 200
    checked = (await shop.api.post(f"{path}/check")).json()
    assert (checked["ok"], "did not answer" in checked["detail"]) == (False, True)
    other = await service.shop()
    for answer in (
        await other.api.patch(path, json={"enabled": False}),
        await other.api.post(f"{path}/check"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    await other.api.aclose()


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ({"provider": "paypal", "credentials": SECRETS}, "unknown_provider", "stripe"),
        ({"provider": "stripe", "credentials": {}}, "validation_failed", "secret_key, webhook_secret"),
        ({"provider": "stripe", "name": "test", "credentials": SECRETS}, "already_exists", "name"),
        ({"provider": "stripe", "credentials": SECRETS, "receives_default_webhook": True}, "forbidden", "platform"),
        ({"provider": "stripe", "credentials": SECRETS, "workspace_id": str(uuid4())}, "forbidden", "another"),
    ],
)
async def test_accounts_that_cannot_be_connected(shop: Shop, body: dict[str, Any], code: str, says: str) -> None:
    answer = (await shop.api.post("/provider-accounts", json=body)).json()
    assert answer["code"] == code
    assert says in answer["detail"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("options", '{"a": ' + "[" * 700 + "]" * 700 + "}"),
        ("options", '{"a": [[[[[]]]]]}'),
        ("options", '{"a": NaN}'),
        ("options", '{"a": "' + "x" * 20_000 + '"}'),
        ("credentials", '{"secret_key": "' + "x" * 10_001 + '"}'),
        ("credentials", "{" + ", ".join(f'"c{number}": "x"' for number in range(21)) + "}"),
    ],
)
async def test_what_no_account_needs_is_refused_when_it_is_given(shop: Shop, part: str, value: str) -> None:
    body = '{"provider": "stripe", "name": "odd", "credentials": {}, '.replace(f'"{part}": {{}}, ', "")
    for method, path, sent in (
        ("POST", "/provider-accounts", f'{body}"{part}": {value}}}'),
        ("PATCH", f"/provider-accounts/{shop.account.id}", f'{{"{part}": {value}}}'),
    ):
        answer = await shop.api.request(method, path, content=sent, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), answer.text
        assert part in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"currency": "XXZ"}, "XXZ"),
        ({"slug": "Not A Slug"}, "slug"),
        ({"vat_rate": 0.18}, "string"),
        ({"vat_rate": "18"}, "fraction"),
        ({"vat_rate": "a lot"}, "fraction"),
        ({"timezone": "Mars/Olympus"}, "IANA"),
        ({"order_webhook_url": "ftp://shop.example"}, "https"),
        ({"order_webhook_url": "https://shop.example/hooks"}, "order_webhook_secret"),
        ({"order_webhook_url": "https://shop.example/hooks", "order_webhook_secret": "short"}, "whsec_"),
    ],
)
async def test_workspaces_that_cannot_be(platform: httpx.AsyncClient, change: dict[str, Any], says: str) -> None:
    answer = await platform.post("/workspaces", json=new_workspace(**change))
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert says in answer.json()["detail"]


async def test_notifications_cannot_lose_the_secret_that_signs_them(platform: httpx.AsyncClient) -> None:
    body = new_workspace(order_webhook_url="https://shop.example/hooks", order_webhook_secret=NOTICE_SECRET)
    path = f"/workspaces/{(await platform.post('/workspaces', json=body)).json()['id']}"
    refused = await platform.patch(path, json={"order_webhook_secret": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    both = await platform.patch(path, json={"order_webhook_secret": None, "order_webhook_url": None})
    assert both.status_code == 200


async def test_a_repeat_with_other_secrets_is_another_request(shop: Shop) -> None:
    """Told 'created', a caller would believe that the new secret is stored."""
    body = {"provider": "stripe", "name": "second", "credentials": SECRETS}
    headers = {"Idempotency-Key": "connect"}
    made = await shop.api.post("/provider-accounts", json=body, headers=headers)
    again = await shop.api.post("/provider-accounts", json=body, headers=headers)
    assert (made.status_code, again.json()) == (201, made.json())
    other = body | {"credentials": SECRETS | {"webhook_secret": "whsec_another"}}
    refused = await shop.api.post("/provider-accounts", json=other, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_reused")


async def test_a_workspace_is_changed_in_parts(service: Service, platform: httpx.AsyncClient, shop: Shop) -> None:
    body = new_workspace(order_webhook_url="https://shop.example/hooks", order_webhook_secret=NOTICE_SECRET)
    made = (await platform.post("/workspaces", json=body)).json()
    path = f"/workspaces/{made['id']}"
    changed = (await platform.patch(path, json={"vat_rate": "0.17"})).json()
    assert changed == made | {"vat_rate": "0.17"}
    assert (await platform.patch(path, json={"name": "Clinic South"})).json()["name"] == "Clinic South"
    own = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json={"commission_rate": "0.05"})
    assert own.json()["commission_rate"] == "0.05"
    assert (await shop.api.patch(path, json={"name": "Mine"})).json()["code"] == "forbidden"
    assert (await platform.patch(f"/workspaces/{uuid4()}", json={"name": "No"})).json()["code"] == "not_found"
    assert (await shop.api.post("/workspaces", json=new_workspace())).json()["code"] == "forbidden"
    taken = await platform.post("/workspaces", json=new_workspace(slug=made["slug"]))
    assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
    assert [row["id"] for row in (await shop.api.get("/workspaces")).json()] == [str(shop.workspace.id)]


async def test_what_an_administrator_changes_holds_from_the_next_call_on(service: Service, shop: Shop) -> None:
    """However long keys are remembered: whoever stops payments has stopped them."""
    remembering = settings_for(service.stack, key_cache_seconds=600.0)
    path = f"/workspaces/{shop.workspace.id}"
    async with (
        served(create_app(lambda: open_services(remembering))) as address,
        httpx.AsyncClient(base_url=f"{address}/api/v1", headers=shop.api.headers, timeout=30) as api,
    ):
        assert (await api.post("/payments", json=shop.order())).status_code == 201
        assert (await api.patch(path, json={"payments_enabled": False})).status_code == 200
        assert (await api.get("/workspaces")).json()[0]["payments_enabled"] is False
        assert (await api.post("/payments", json=shop.order())).json()["code"] == "payments_disabled"
        assert (await api.patch(path, json={"payments_enabled": True})).status_code == 200
        assert (await api.post("/payments", json=shop.order())).status_code == 201
        [own] = [key["id"] for key in (await api.get("/api-keys")).json()]
        assert (await api.delete(f"/api-keys/{own}")).status_code == 204
        assert (await api.get("/payments")).status_code == 401


async def test_an_order_of_accounts_names_each_once(shop: Shop) -> None:
    twice = {"provider_order": [str(shop.account.id)] * 2}
    answer = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json=twice)
    assert (answer.status_code, "twice" in answer.json()["detail"]) == (422, True)


async def test_a_key_is_shown_once_and_dies_when_revoked(service: Service, shop: Shop) -> None:
    headers = {"Idempotency-Key": "make-key-1"}
    body = {"name": "till", "scopes": ["payments:read"]}
    made = (await shop.api.post("/api-keys", json=body, headers=headers)).json()
    again = (await shop.api.post("/api-keys", json=body, headers=headers)).json()
    assert again == made
    reused = await shop.api.post("/api-keys", json=body | {"name": "other"}, headers=headers)
    assert reused.json()["code"] == "idempotency_key_reused"
    listed = {row["id"]: row for row in (await shop.api.get("/api-keys")).json()}
    assert listed[made["id"]]["key"] is None
    url, bearer = f"{service.api_url}/api/v1/payments", {"authorization": f"Bearer {made['key']}"}
    assert (await service.http.get(url, headers=bearer)).status_code == 200
    other = await service.shop()
    assert (await other.api.delete(f"/api-keys/{made['id']}")).status_code == 404
    await other.api.aclose()
    assert (await shop.api.delete(f"/api-keys/{made['id']}")).status_code == 204
    assert (await service.http.get(url, headers=bearer)).status_code == 401
    assert (await shop.api.delete(f"/api-keys/{made['id']}")).status_code == 404
    unknown = await shop.api.post("/api-keys", json={"name": "x", "scopes": ["everything"]})
    assert (unknown.status_code, "payments:read" in unknown.json()["detail"]) == (422, True)
