"""Every route that takes an idempotency key, over HTTP: another spelling is a repeat, another request is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.dispute import DisputeState
from domain.subscription import ChangeKind
from storage import administration
from tests.api.test_fingerprints import ROUTES
from tests.e2e.test_payment_methods import CUSTOMER, saved
from tests.e2e.test_refunds import paid
from tests.e2e.test_subscriptions_api import plan, subscribe, until
from tests.support.credit_lab import CreditLab
from tests.support.reviews import amount_mismatch
from tests.support.service import Shop, eventually

Body = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A request, the same one in another spelling, and another one."""

    body: Body | None
    same: Body | None
    other: Body
    path: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    """The API key, where the shop's own does not do."""


async def payment(_: Shop) -> Asked:
    body: Body = {"amount": "129.9", "currency": "ILS", "order_id": "A-1", "customer": {"id": "cust-1"}}
    same = {"customer": {"name": None, "id": " cust-1 "}, "metadata": {}, "order_id": "A-1", "checkout_mode": True}
    return Asked(body, body | same | {"amount": "129.90"}, body | {"amount": "129.91"})


async def refund(shop: Shop) -> Asked:
    body: Body = {"payment_id": (await paid(shop))["id"], "amount": "29.9"}
    return Asked(body, body | {"amount": "29.90", "reason": None}, body | {"amount": "29.91"})


async def settling(shop: Shop) -> Asked:
    made = await shop.api.post("/refunds", json={"payment_id": (await paid(shop))["id"], "amount": "29.90"})
    returned = made.json()
    await shop.sandbox("POST", f"/refunds/{returned['provider_refund_id']}/return")

    async def back() -> bool:
        return bool((await shop.api.get(f"/refunds/{returned['id']}")).json()["status"] == "returned")

    await eventually(back)
    return Asked({"reference": "w 1"}, {"reference": " w 1 "}, {"reference": "w 2"}, {"refund_id": returned["id"]})


async def decision(shop: Shop) -> Asked:
    body: Body = {"action": "close", "reference": "wire 4711"}
    same = {"reference": " wire 4711 ", "note": None}
    return Asked(body, body | same, {"action": "refund"}, {"payment_id": await amount_mismatch(shop)})


async def setup(_: Shop) -> Asked:
    body: Body = {"customer": CUSTOMER, "success_url": "https://shop.example"}
    return Asked(body, body | {"make_default": True, "success_url": "https://shop.example/"}, body | {"language": "he"})


async def offer(_: Shop) -> Asked:
    body: Body = {"code": f"plan-{uuid4().hex[:8]}", "name": "A", "amount": "10", "currency": "ILS"}
    return Asked(body, body | {"amount": "10.00", "interval": "month"}, body | {"amount": "10.01"})


async def subscription(shop: Shop) -> Asked:
    body: Body = {"plan": (await plan(shop))["code"], "customer": CUSTOMER}
    return Asked(body, body | {"quantity": 1, "metadata": {}}, body | {"quantity": 2})


async def running(shop: Shop) -> dict[str, str]:
    made = await subscribe(shop, await plan(shop), payment_method_id=(await saved(shop))["id"])
    await until(shop, made, "active")
    return {"subscription_id": made["id"]}


async def cancel(shop: Shop) -> Asked:
    return Asked(None, {"at": "period_end", "reason": None}, {"at": "now"}, await running(shop))


async def change(shop: Shop) -> Asked:
    other = (await plan(shop, "30.00"))["code"]
    body: Body = {"plan": other}
    return Asked(body, body | {"at": "now", "quantity": None}, body | {"at": "period_end"}, await running(shop))


async def pause(shop: Shop) -> Asked:
    at = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    body = {"resume_at": at.isoformat()}
    same = {"resume_at": f"{at + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00"}
    return Asked(body, same, {}, await running(shop))


async def resume(shop: Shop) -> Asked:
    path = await running(shop)
    assert (await shop.api.post(f"/subscriptions/{path['subscription_id']}/pause")).status_code == 200
    return Asked(None, {"reason": None}, {"reason": "is back"}, path)


async def method(shop: Shop) -> Asked:
    path, another = await running(shop), await saved(shop, "5555555555554444")
    body: Body = {"payment_method_id": another["id"]}
    return Asked(body, body | {"cancel_url": None}, {}, path)


async def referrer(_: Shop) -> Asked:
    body: Body = {"id": "partner-9", "payout_details": {"iban": "IL62", "bank": "10"}}
    same = {"payout_details": {"bank": "10", "iban": "IL62"}, "status": "active"}
    return Asked(body, body | same, body | {"payout_details": {"iban": "IL63", "bank": "10"}})


async def payout(_: Shop) -> Asked:
    return Asked({"cut_off": "2026-01-01T00:00:00Z"}, {"cut_off": "2026-01-01T02:00:00+02:00"}, {})


async def account(shop: Shop) -> Asked:
    body: Body = {
        "provider": "stripe",
        "name": "second",
        "credentials": {"secret_key": "sk_test_1234567890", "webhook_secret": "whsec_1234567890"},
    }
    same = {"credentials": {"webhook_secret": "whsec_1234567890 ", "secret_key": "sk_test_1234567890"}, "options": {}}
    return Asked(body, body | same, body | {"name": "third"}, key=await admin(shop))


async def workspace(shop: Shop) -> Asked:
    body: Body = {"slug": f"w-{uuid4().hex[:8]}", "currency": "ILS", "name": "W", "vat_rate": "0.18"}
    same = {"vat_rate": "0.180", "commission_minimum": "1", "country": "IL"}
    return Asked(body, body | same, body | {"vat_rate": "0.17"}, key=await admin(shop, platform=True))


async def api_key(shop: Shop) -> Asked:
    body: Body = {"name": "k", "scopes": ["payments:write", "payments:read"]}
    same = {"scopes": ["payments:read", "payments:write", "payments:read"]}
    return Asked(body, body | same, body | {"scopes": ["payments:read"]}, key=await admin(shop))


async def admin(shop: Shop, *, platform: bool = False) -> str:
    async with shop.service.database.transaction() as session:
        workspace_id = None if platform else shop.workspace.id
        made = administration.create_api_key(
            session, workspace_id=workspace_id, name="admin", scopes=administration.SCOPES, actor="test"
        )
    return str(made.key)


async def credited(shop: Shop) -> tuple[CreditLab, UUID]:
    """A customer with 80.00 of credit, and the payment that it comes from."""
    lab = CreditLab(shop)
    begun = await lab.subscribe(await lab.plan("100.00"), CUSTOMER["id"])
    await lab.change(begun, ChangeKind.CHANGE_PLAN, plan_id=(await lab.plan("20.00")).id)
    return lab, (await lab.paid(begun))[0].id


async def credit_payout(shop: Shop) -> Asked:
    await credited(shop)
    body: Body = {"customer_id": CUSTOMER["id"], "amount": "30"}
    return Asked(body, body | {"amount": "30.00", "reason": None}, body | {"amount": "30.01"})


async def credit_withdrawal(shop: Shop) -> Asked:
    await credited(shop)
    body: Body = {"customer_id": CUSTOMER["id"], "reason": "a mistake", "amount": "30"}
    return Asked(body, body | {"amount": "30.00", "reason": " a mistake "}, body | {"reason": "another"})


async def credit_write_off(shop: Shop) -> Asked:
    lab, payment_id = await credited(shop)
    await lab.subscribe(await lab.plan("80.00"), CUSTOMER["id"])  # is paid by it
    await lab.dispute(payment_id, DisputeState.LOST, lab.money("100.00"))
    body: Body = {"payment_id": str(payment_id), "reason": "lost"}
    return Asked(body, {"reason": "lost ", "payment_id": str(payment_id).upper()}, body | {"reason": "other"})


TABLE: dict[str, Callable[[Shop], Awaitable[Asked]]] = {
    "POST /payments": payment,
    "POST /refunds": refund,
    "POST /refunds/{refund_id}/settle-outside": settling,
    "POST /payments/{payment_id}/review": decision,
    "POST /credits/payout": credit_payout,
    "POST /credits/withdraw": credit_withdrawal,
    "POST /credits/write-off": credit_write_off,
    "POST /payment-methods": setup,
    "POST /plans": offer,
    "POST /subscriptions": subscription,
    "POST /subscriptions/{subscription_id}/cancel": cancel,
    "POST /subscriptions/{subscription_id}/change-plan": change,
    "POST /subscriptions/{subscription_id}/pause": pause,
    "POST /subscriptions/{subscription_id}/resume": resume,
    "POST /subscriptions/{subscription_id}/payment-method": method,
    "POST /referrers": referrer,
    "POST /payouts": payout,
    "POST /provider-accounts": account,
    "POST /workspaces": workspace,
    "POST /api-keys": api_key,
}


def test_the_table_has_every_route_with_a_key() -> None:
    assert set(TABLE) == set(ROUTES)


@pytest.mark.parametrize("route", TABLE)
async def test_another_spelling_is_a_repeat_and_another_request_is_refused(shop: Shop, route: str) -> None:
    asked = await TABLE[route](shop)
    path = route.removeprefix("POST ").format(**asked.path)
    headers = {"Idempotency-Key": "one"} | ({"authorization": f"Bearer {asked.key}"} if asked.key else {})

    async def ask(body: Body | None) -> httpx.Response:
        return await shop.api.post(path, json=body, headers=headers)

    first, again, other = await ask(asked.body), await ask(asked.same), await ask(asked.other)
    assert first.is_success, first.text
    assert again.is_success, again.text
    for name in ("id", "key", "effects"):
        assert first.json().get(name) == again.json().get(name)
    assert (other.status_code, other.json().get("code")) == (409, "idempotency_key_reused"), other.text


async def test_a_key_that_has_made_a_page_changes_no_method(shop: Shop) -> None:
    path, another = await running(shop), await saved(shop, "5555555555554444")
    address, headers = f"/subscriptions/{path['subscription_id']}/payment-method", {"Idempotency-Key": "page"}
    page, again = [await shop.api.post(address, json={}, headers=headers) for _ in range(2)]
    assert page.json()["setup"]["id"] == again.json()["setup"]["id"]
    refused = await shop.api.post(address, json={"payment_method_id": another["id"]}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_reused")
    fresh = await shop.api.post("/payment-methods", json={"customer": CUSTOMER}, headers=headers)
    assert fresh.is_success, "the same key of another route is another key"


async def test_a_repeat_of_a_change_is_answered_also_when_its_plan_is_no_longer_offered(shop: Shop) -> None:
    path, other = await running(shop), await plan(shop, "30.00")
    address, headers = f"/subscriptions/{path['subscription_id']}/change-plan", {"Idempotency-Key": "down"}
    first = await shop.api.post(address, json={"plan": other["code"], "at": "period_end"}, headers=headers)
    assert first.is_success, first.text
    assert (await shop.api.post(f"/plans/{other['id']}/archive")).is_success
    again = await shop.api.post(address, json={"plan": other["code"], "at": "period_end"}, headers=headers)
    assert again.json()["effects"] == first.json()["effects"]
