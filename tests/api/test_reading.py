"""Receipts, commissions, health, limits and the description of the API."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from api.app import create_app
from api.problems import CODES
from api.services import open_services
from storage.models import Receipt
from tests.support.service import Service, Shop, admin_key, eventually, served, settings_for


async def paid(shop: Shop, **changes: Any) -> dict[str, Any]:
    payment = await shop.pays(**changes)
    await shop.pay(payment)
    return await shop.until(payment["id"], "paid")


async def test_receipts_are_numbered_listed_and_private(service: Service, shop: Shop) -> None:
    receipts = [(await paid(shop))["receipt_id"] for _ in range(3)]
    page = (await shop.api.get("/receipts", params={"limit": 2})).json()
    rest = (await shop.api.get("/receipts", params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert [row["number"] for row in page["data"] + rest["data"]] == [3, 2, 1]
    assert [row["id"] for row in page["data"] + rest["data"]] == receipts[::-1]
    one = (await shop.api.get(f"/receipts/{receipts[0]}")).json()
    assert (one["kind"], one["net"], one["vat"], one["total"]) == ("tax_invoice_receipt", "110.08", "19.82", "129.90")
    other = await service.shop()
    for path in (f"/receipts/{receipts[0]}", f"/receipts/{receipts[0]}.pdf", f"/receipts/{uuid4()}"):
        assert (await other.api.get(path)).status_code == 404
    await other.api.aclose()


async def test_a_document_without_its_picture_asks_for_a_moment(service: Service, shop: Shop) -> None:
    receipt_id = (await paid(shop))["receipt_id"]

    async def rendered() -> bool:
        return (await shop.api.get(f"/receipts/{receipt_id}.pdf")).status_code == 200

    await eventually(rendered)
    answer = await shop.api.get(f"/receipts/{receipt_id}.pdf")
    assert answer.content.startswith(b"%PDF-")
    assert answer.headers["cache-control"] == "private"
    async with service.database.transaction() as session:
        original = await session.get(Receipt, receipt_id)
        assert original is not None
        copy = {column.key: getattr(original, column.key) for column in Receipt.__mapper__.columns}
        copy |= {"id": uuid4(), "number": 99, "kind": "receipt"}
        session.add(Receipt(**copy))
    waiting = await shop.api.get(f"/receipts/{copy['id']}.pdf")
    assert (waiting.status_code, waiting.json()["code"]) == (503, "receipt_not_rendered")
    assert waiting.headers["retry-after"] == "1"


async def test_commissions_are_listed_reported_and_paid_out_once(service: Service, shop: Shop) -> None:
    for number in range(3):
        await paid(shop, referrer_id="partner-5", order_id=f"c-{number}")
    await paid(shop, referrer_id="cust-77", order_id="self")  # the customer's own id: no commission
    await paid(shop, referrer_id=None, order_id="none")
    rows = (await shop.api.get("/commissions", params={"referrer_id": "partner-5"})).json()["data"]
    assert [row["order_id"] for row in rows] == ["c-2", "c-1", "c-0"]
    path = f"/commissions/{rows[0]['id']}/paid"
    first = await shop.api.post(path, json={"reference": "transfer-1"})
    assert (first.status_code, first.json()["status"]) == (200, "paid")
    assert (await shop.api.post(path, json={"reference": "transfer-1"})).json() == first.json()
    again = await shop.api.post(path, json={"reference": "transfer-2"})
    assert (again.status_code, again.json()["code"]) == (409, "commission_already_paid")
    report = (await shop.api.get("/referrers/partner-5/report")).json()
    assert report["count"] == 3
    assert {row["status"]: (row["count"], row["amount"]) for row in report["totals"]} == {
        "accrued": (2, "25.98"),
        "paid": (1, "12.99"),
    }
    assert (await shop.api.get("/commissions", params={"status": "paid"})).json()["data"][0]["id"] == rows[0]["id"]
    assert (await shop.api.get("/referrers/nobody/report")).json()["count"] == 0
    other = await service.shop()
    assert (await other.api.post(path, json={})).status_code == 404
    assert (await other.api.get("/commissions")).json()["data"] == []
    await other.api.aclose()


async def test_ready_names_the_part_that_is_away(service: Service) -> None:
    assert (await service.http.get(f"{service.api_url}/healthz")).json()["status"] == "ok"
    good = await service.http.get(f"{service.api_url}/readyz")
    assert (good.status_code, good.json()["parts"]) == (200, {"database": "ok", "temporal": "ok"})
    broken = settings_for(service.stack, temporal_address="127.0.0.1:1", database_url="postgresql+asyncpg://h/nope")
    broken = broken.model_copy(update={"database_url": "postgresql+asyncpg://x:y@127.0.0.1:1/nope"})
    async with served(create_app(lambda: open_services(broken))) as url:
        answer = await service.http.get(f"{url}/readyz")
        assert answer.status_code == 503
        assert set(answer.json()["parts"]) == {"database", "temporal"}
        assert "ok" not in answer.json()["parts"].values()
        away = await service.http.get(f"{url}/api/v1/payments", headers={"authorization": "Bearer dp_live_x"})
        assert (away.status_code, away.json()["code"]) == (503, "temporarily_unavailable")
        assert away.headers["retry-after"]


async def test_too_many_requests_are_told_when_to_come_back(service: Service, shop: Shop) -> None:
    limited = settings_for(service.stack, rate_limit_per_minute=3)
    bearer = {"authorization": f"Bearer {shop.api_key}"}
    async with served(create_app(lambda: open_services(limited))) as url:
        answers = [await service.http.get(f"{url}/api/v1/payments", headers=bearer) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


async def test_the_loss_of_the_shared_store_refuses_nobody(service: Service, shop: Shop) -> None:
    lost = settings_for(service.stack, redis_url="redis://127.0.0.1:1/0", rate_limit_per_minute=1)
    bearer = {"authorization": f"Bearer {shop.api_key}"}
    async with served(create_app(lambda: open_services(lost))) as url:
        answers = [await service.http.get(f"{url}/api/v1/payments", headers=bearer) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_a_shared_store_that_hangs_holds_nobody_up(service: Service, shop: Shop) -> None:
    bearer = {"authorization": f"Bearer {shop.api_key}"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hangs = settings_for(service.stack, redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        async with served(create_app(lambda: open_services(hangs))) as url:
            answer = await service.http.get(f"{url}/api/v1/payments", headers=bearer)
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() < 3  # the client's own patience is 5


async def test_the_page_of_the_description_loads_nothing_from_elsewhere(service: Service) -> None:
    """A key is typed in there: it loaded the newest script of a public host."""
    page = await service.http.get(f"{service.api_url}/docs")
    assert page.status_code == 200
    assert "https:" not in page.text
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert (await service.http.get(f"{service.api_url}{name}")).status_code == 200, name
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'" in page.headers["content-security-policy"]
    described = (await service.http.get(f"{service.api_url}/openapi.json")).json()
    assert described["components"]["schemas"]["NewPayment"]["example"]["amount"] == "129.90"


def test_every_code_that_is_raised_is_in_the_table() -> None:
    raised = {
        code
        for path in Path("api").glob("*.py")
        for code in re.findall(r'(?:Problem|answer)\(\s*"([a-z_]+)"', path.read_text())
    }
    assert raised
    assert raised <= set(CODES)


async def test_the_payer_lands_on_a_page(service: Service) -> None:
    answer = await service.http.get(f"{service.api_url}/paid")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_metrics_count_everything_for_the_platform_alone(service: Service, shop: Shop) -> None:
    await paid(shop)
    url = f"{service.api_url}/metrics"
    platform = {"authorization": f"Bearer {await admin_key(service)}"}
    answer = await service.http.get(url, headers=platform)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = answer.text.splitlines()
    (number,) = [
        line.rsplit(" ", 1)[1]
        for line in lines
        if line.startswith('durable_payments_payments{provider="stripe",status="paid"}')
    ]
    assert float(number) >= 1
    closed = f'durable_payments_provider_circuit_open{{account="{shop.account.id}",provider="stripe"}} 0.0'
    assert closed in lines
    refused = await service.http.get(url, headers={"authorization": f"Bearer {shop.api_key}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await service.http.get(url)).status_code == 401


async def test_no_date_is_an_error_of_ours(shop: Shop) -> None:
    """Calendars end; each of these was a 500."""
    last = base64.urlsafe_b64encode(f"9999-12-31T23:59:59-12:00|{UUID(int=0)}".encode()).decode()
    for path, params in (
        ("/refunds", {"cursor": last}),
        ("/referrers/partner-5/statement", {"from": "9999-12-30", "to": "9999-12-31"}),
        ("/referrers/partner-5/statement", {"from": "0001-01-01", "to": "0001-01-02"}),
    ):
        answer = await shop.api.get(path, params=params)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), answer.text
    first = await shop.api.post("/payouts", json={"cut_off": "0001-01-01T00:00:00+12:00"}, params={"dry_run": True})
    assert (first.status_code, first.json()["code"]) == (422, "validation_failed"), first.text
