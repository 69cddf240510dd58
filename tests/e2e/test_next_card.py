"""Which card is charged when a charge has failed and another card comes: every reason, invoice and route.

The first card's next charge would succeed again, so that a test sees it where it is charged a second time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from domain.declines import DeclineClass, decline_class
from storage.models import Payment, PaymentMethod
from tests.e2e.test_payment_methods import CUSTOMER, saved, token_of, will
from tests.e2e.test_subscriptions_api import let_a_month_pass, plan, read, subscribe, told, until
from tests.support.service import Shop, eventually

FIRST, SECOND = "4242", "4444"
SECOND_CARD = "5555555555554444"
Found = dict[str, Any]


async def first(shop: Shop, reason: str) -> Found:
    """The very first charge of a named card fails."""
    card = await saved(shop)
    await will(shop, card, reason)
    made = await subscribe(shop, await plan(shop), payment_method_id=card["id"])
    return await failing(shop, made, "incomplete")


async def renewal(shop: Shop, reason: str) -> Found:
    """The subscription began by page; the renewal fails."""
    made = await begun_by_page(shop)
    await will(shop, {"id": made["payment_method_id"]}, reason)
    await let_a_month_pass(shop, made)
    return await failing(shop, made, "past_due")


async def change(shop: Shop, reason: str) -> Found:
    """An upgrade within the period fails to be charged."""
    made = await begun_by_page(shop)
    await will(shop, {"id": made["payment_method_id"]}, reason)
    dearer = await plan(shop, "500.00")
    changed = await shop.api.post(f"/subscriptions/{made['id']}/change-plan", json={"plan": dearer["code"]})
    assert changed.status_code == 200, changed.text
    return await failing(shop, made, "past_due")


async def begun_by_page(shop: Shop) -> Found:
    made = await subscribe(shop, await plan(shop))
    assert await shop.pay({"checkout_url": made["latest_invoice"]["checkout_url"]}) == "paid"

    async def saved_too() -> Any:
        found = await until(shop, made, "active")
        return found if found["payment_method_id"] is not None else None

    return dict(await eventually(saved_too))


async def failing(shop: Shop, made: Found, status: str) -> Found:
    """As soon as the charge has failed and, where nothing saved is left, the payer has a link."""

    async def settled() -> Any:
        found = await until(shop, made, status)
        invoice = found["latest_invoice"]
        hard = decline_class(invoice["decline_code"]) is DeclineClass.HARD
        return found if invoice["decline_code"] and (not hard or invoice["checkout_url"]) else None

    return dict(await eventually(settled))


async def by_page(shop: Shop, failed: Found) -> None:
    """The page that the subscription's own address gives."""
    made = await shop.api.post(f"/subscriptions/{failed['id']}/payment-method", json={})
    session_id = made.json()["setup"]["url"].rsplit("/", 1)[1]
    assert (await shop.sandbox("POST", f"/sessions/{session_id}/pay", {"card": SECOND_CARD}))["outcome"] == "paid"


async def by_default(shop: Shop, failed: Found) -> None:
    card = await saved(shop, SECOND_CARD, make_default=False)
    assert (await shop.api.post(f"/payment-methods/{card['id']}/default")).status_code == 200


async def by_set_up(shop: Shop, failed: Found) -> None:
    await saved(shop, SECOND_CARD, make_default=True)


async def by_name(shop: Shop, failed: Found) -> None:
    card = await saved(shop, SECOND_CARD, make_default=False)
    body = {"payment_method_id": card["id"]}
    named = await shop.api.post(f"/subscriptions/{failed['id']}/payment-method", json=body)
    assert named.json()["effects"]["retried_now"] == failed["latest_invoice"]["total"]


async def by_link(shop: Shop, failed: Found) -> None:
    assert await shop.pay(failed["latest_invoice"], SECOND_CARD) == "paid"


Step = Callable[[Shop, Found], Awaitable[None]]


async def charges(shop: Shop, subscription: Found) -> list[tuple[str, str | None]]:
    """Status and last digits of each try of the latest invoice; None is a link."""
    async with shop.service.database.transaction() as session:
        rows = await session.execute(
            select(Payment.status, PaymentMethod.last4)
            .outerjoin(PaymentMethod, PaymentMethod.id == Payment.payment_method_id)
            .where(Payment.invoice_id == UUID(subscription["latest_invoice"]["id"]))
            .order_by(Payment.created_at)
        )
        return [(status, last4) for status, last4 in rows]


@pytest.mark.parametrize("reason", ["insufficient_funds", "stolen_card"])
@pytest.mark.parametrize("invoice", [first, renewal, change])
@pytest.mark.parametrize("route", [by_page, by_default, by_set_up, by_name, by_link])
async def test_the_card_that_is_given_is_charged_and_the_one_that_failed_is_not(
    shop: Shop, reason: str, invoice: Callable[[Shop, str], Awaitable[Found]], route: Step
) -> None:
    hard = decline_class(reason) is DeclineClass.HARD
    if route is by_link and not hard:
        return  # a soft decline waits for its retry; there is no link to pay by
    failed = await invoice(shop, reason)
    await route(shop, failed)
    active = await until(shop, failed, "active")
    link = [("paid" if route is by_link else "canceled", None)] if hard else []
    paid = [] if route is by_link else [("paid", SECOND)]
    assert await charges(shop, active) == [("failed", FIRST), *link, *paid]
    assert active["latest_invoice"]["status"] == "paid"

    async def now_the_subscriptions() -> Any:
        found = await read(shop, failed)
        method = (await shop.api.get(f"/payment-methods/{found['payment_method_id']}")).json()
        return found if method.get("last4") == SECOND else None

    kept = await eventually(now_the_subscriptions)
    await let_a_month_pass(shop, failed)
    renewed = await until(shop, failed, "active", period=kept["period"] + 1)

    async def renewal_is_paid() -> Any:
        return await charges(shop, await read(shop, renewed)) == [("paid", SECOND)]

    await eventually(renewal_is_paid)
    failures = [one for one in told(shop, failed) if one == "payment_failed"]
    assert len(failures) == 1, "what we close ourselves is no failure"


@pytest.mark.parametrize("reason", ["insufficient_funds", "stolen_card", "expired_card"])
async def test_a_card_that_its_bank_renews_is_charged_again(shop: Shop, reason: str) -> None:
    failed = await renewal(shop, reason)
    token = await token_of(shop, {"id": failed["payment_method_id"]})
    await shop.sandbox("POST", f"/payment_methods/{token}/renew", {"exp_year": 2044})
    active = await until(shop, failed, "active")
    assert (await charges(shop, active))[-1] == ("paid", FIRST)


async def test_what_the_bank_changes_beside_the_card_is_no_reason_to_charge_a_stolen_one(shop: Shop) -> None:
    failed = await renewal(shop, "stolen_card")
    method = failed["payment_method_id"]
    token = await token_of(shop, {"id": method})
    await shop.sandbox("POST", f"/payment_methods/{token}/renew", {"brand": "visa-debit"})

    async def heard() -> Any:
        return (await shop.api.get(f"/payment-methods/{method}")).json()["brand"] == "visa-debit"

    await eventually(heard)
    again = await saved(shop, make_default=True)  # the same card once more
    assert again["last4"] == FIRST
    named = await shop.api.post(
        f"/subscriptions/{failed['id']}/payment-method", json={"payment_method_id": again["id"]}
    )
    assert named.json()["effects"]["retried_now"] is None
    later = await read(shop, failed)
    assert later["status"] == "past_due"
    assert await charges(shop, later) == [("failed", FIRST), ("pending", None)]


async def test_a_stolen_card_is_passed_over_for_another_that_is_saved(shop: Shop) -> None:
    made = await begun_by_page(shop)
    await saved(shop, SECOND_CARD, make_default=False)
    await will(shop, {"id": made["payment_method_id"]}, "stolen_card")
    await let_a_month_pass(shop, made)
    active = await until(shop, made, "active", period=2)

    async def paid() -> Any:
        return await charges(shop, await read(shop, active)) == [("failed", FIRST), ("paid", SECOND)]

    await eventually(paid)


async def default_of(shop: Shop) -> Any:
    rows = (await shop.api.get("/payment-methods", params={"customer_id": "cust-77", "status": "active"})).json()[
        "data"
    ]
    return next((row for row in rows if row["is_default"]), None)


async def test_the_default_is_deleted_and_the_renewal_charges_what_was_charged_last(shop: Shop) -> None:
    charged_before = await saved(shop, SECOND_CARD)
    await shop.api.post("/payments", json=shop.order(payment_method_id=charged_before["id"], customer=CUSTOMER))
    unused = await saved(shop, "4000056655665556", make_default=False)
    deleted = await saved(shop, make_default=True)
    made = await subscribe(shop, await plan(shop), payment_method_id=deleted["id"])
    await until(shop, made, "active")
    assert (await shop.api.delete(f"/payment-methods/{deleted['id']}")).json()["is_default"] is False
    assert (await default_of(shop))["id"] == charged_before["id"]
    await let_a_month_pass(shop, made)
    renewed = await until(shop, made, "active", period=2)

    async def paid() -> Any:
        return await charges(shop, await read(shop, renewed)) == [("paid", SECOND)]

    await eventually(paid)
    for one, heir in ((charged_before, unused["id"]), (unused, None)):
        await shop.api.delete(f"/payment-methods/{one['id']}")
        now = await default_of(shop)
        assert (None if now is None else now["id"]) == heir


async def test_the_same_card_saved_three_times_is_one_method(shop: Shop) -> None:
    """By two set-ups and while paying; deleted, no token of it is left at the provider."""
    one, again = await saved(shop), await saved(shop)
    body = shop.order(customer=CUSTOMER, save_method=True)
    made = (await shop.api.post("/payments", json=body)).json()
    assert await shop.pay(made) == "paid"
    await shop.until(made["id"], "paid")
    newest = await saved(shop)
    rows = (await shop.api.get("/payment-methods", params={"customer_id": "cust-77"})).json()["data"]
    assert {one["id"], again["id"], newest["id"]} == {row["id"] for row in rows} == {one["id"]}
    async with shop.service.database.transaction() as session:
        row = await session.get(PaymentMethod, UUID(one["id"]))
    assert row is not None

    async def attached() -> int:
        known = await shop.sandbox("GET", "/objects?type=payment_method")
        return sum(found["customer"] == row.provider_customer_id for found in known)

    assert await attached() == 4
    assert (await shop.api.delete(f"/payment-methods/{one['id']}")).status_code == 200
    assert await attached() == 0


async def test_a_subscription_keeps_its_price_unless_another_version_is_named(shop: Shop) -> None:
    card = await saved(shop)
    old = await plan(shop, "100.00")
    made = await subscribe(shop, old, payment_method_id=card["id"])
    await until(shop, made, "active")
    new = await plan(shop, "150.00", code=old["code"])

    async def change_to(**body: Any) -> Any:
        address = f"/subscriptions/{made['id']}/change-plan"
        return (await shop.api.post(address, params={"dry_run": True}, json={"at": "period_end"} | body)).json()

    for named in ({"quantity": 2}, {"plan": old["code"], "quantity": 2}):
        assert (await change_to(**named))["effects"]["next_charge"] == "200.00"
    moved = await change_to(plan=old["code"], plan_version=new["version"], quantity=2)
    assert moved["effects"]["next_charge"] == "300.00"
    shown = await shop.api.get(
        f"/subscriptions/{made['id']}/change-plan/preview", params={"plan": old["code"], "plan_version": 2}
    )
    assert shown.json()["effects"]["next_charge"] == "150.00"
    assert (await change_to(plan=old["code"], plan_version=9))["code"] == "plan_not_available"
    assert (await change_to(plan_version=2))["code"] == "validation_failed"

    other = await plan(shop, "70.00")
    scheduled = {"plan": other["code"], "at": "period_end"}
    await shop.api.post(f"/subscriptions/{made['id']}/change-plan", json=scheduled)
    await plan(shop, "90.00", code=other["code"])
    assert (await change_to(plan=other["code"], quantity=3))["effects"]["next_charge"] == "210.00", "as was agreed"
