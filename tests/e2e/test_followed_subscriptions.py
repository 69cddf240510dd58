"""Subscriptions that the provider manages: events in any order and of the same second end in the provider's state."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from storage.models import Payment, Receipt, Subscription, WebhookEvent
from tests.support.service import Shop, eventually


async def follow(shop: Shop) -> None:
    changed = await shop.service.http.request("GET", f"{shop.service.api_url}/healthz")
    assert changed.status_code == 200
    async with shop.service.database.transaction() as session:
        account = await session.merge(shop.account)
        account.options = dict(account.options) | {"follow_subscriptions": True}


async def made(shop: Shop) -> dict[str, Any]:
    body = {"account_key": shop.provider_key, "metadata": {"customer_id": "cust-77"}}
    return dict(await shop.sandbox("POST", "/subscriptions", body))


async def until(shop: Shop, theirs: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    """Our record of it as soon as it is so; `paid` counts its paid invoices."""

    async def reached() -> Any:
        for one in (await shop.api.get("/subscriptions")).json()["data"]:
            if one["provider_subscription_id"] == theirs["id"]:
                found = (await shop.api.get(f"/subscriptions/{one['id']}")).json()
                seen = {"paid": sum(row["status"] == "paid" for row in found["invoices"])} | {
                    name: found[name] for name in wanted if name != "paid"
                }
                return found if all(seen[name] == value for name, value in wanted.items()) else None
        return None

    return dict(await eventually(reached, seconds=20))


async def books(shop: Shop, subscription: dict[str, Any]) -> tuple[int, int]:
    """Captured payments and receipts of it."""
    async with shop.service.database.transaction() as session:
        of_it = Payment.subscription_id == UUID(subscription["id"])
        captured = await session.scalar(
            select(func.count()).select_from(Payment).where(of_it, Payment.status == "paid")
        )
        receipts = await session.scalar(
            select(func.count()).select_from(Receipt).join(Payment, Payment.id == Receipt.payment_id).where(of_it)
        )
    return int(captured or 0), int(receipts or 0)


async def test_it_is_followed_through_renewal_failure_recovery_and_end(shop: Shop) -> None:
    await follow(shop)
    theirs = await made(shop)
    ours = await until(shop, theirs, status="active", paid=1)
    assert (ours["managed_by"], ours["customer_id"]) == ("provider", "cust-77")
    for number in (2, 3, 4):
        await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/renew", {"paid": True})
        await until(shop, theirs, status="active", paid=number)
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/renew", {"paid": False})
    overdue = await until(shop, theirs, status="past_due", paid=4)
    assert overdue["latest_invoice"]["next_attempt_at"] is not None
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/retry", {"paid": True})
    await until(shop, theirs, status="active", paid=5)
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/cancel")
    ended = await until(shop, theirs, status="cancelled", paid=5)
    assert await books(shop, ended) == (5, 5)

    async def told() -> bool:
        types = [
            notice["type"].removeprefix("subscription.")
            for notice in shop.service.merchant.notices
            if notice["data"].get("subscription_id") == ended["id"] and notice["type"].startswith("subscription.")
        ]
        return types == ["activated", *["renewed"] * 3, "payment_failed", "recovered", "cancelled"]

    await eventually(told)
    refused = await shop.api.post(f"/subscriptions/{ended['id']}/pause")
    assert (refused.status_code, refused.json()["code"]) == (409, "subscription_not_changeable")


async def test_events_that_are_late_doubled_or_out_of_order_end_in_the_same_books(shop: Shop) -> None:
    await follow(shop)
    theirs = await made(shop)
    await until(shop, theirs, status="active", paid=1)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/renew", {"paid": False})
    await shop.sandbox("DELETE", "/faults")
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "duplicate:2", "count": 3})
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "reorder", "count": 6})
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/retry", {"paid": True})
    ours = await until(shop, theirs, status="active", paid=2)
    late = [event["id"] for event in await shop.events("invoice.payment_failed")]
    assert late
    for event_id in late:  # it was lost, and comes for the first time after what it speaks of is over
        await shop.sandbox("POST", f"/events/{event_id}/resend", {"times": 2})

    async def handled() -> bool:
        async with shop.service.database.transaction() as session:
            rows = await session.scalars(select(WebhookEvent.status).where(WebhookEvent.event_id.in_(late)))
        return list(rows) == ["handled"] * len(late)

    await eventually(handled)
    found = await until(shop, theirs, status="active", paid=2)
    assert await books(shop, found) == (2, 2)
    assert ours["id"] == found["id"]


@pytest.mark.parametrize("given_up", ["void", "uncollectible"])
async def test_an_invoice_is_followed_when_it_is_opened_and_when_it_is_given_up(shop: Shop, given_up: str) -> None:
    """Each step by its own event alone."""
    await follow(shop)
    theirs = await made(shop)
    ours = await until(shop, theirs, status="active", paid=1)
    made_open = await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/finalize")

    async def invoices(*wanted: str) -> Any:
        async def so_far() -> Any:
            found = (await shop.api.get(f"/subscriptions/{ours['id']}")).json()["invoices"]
            return found if sorted(one["status"] for one in found) == sorted(wanted) else None

        return await eventually(so_far, seconds=20)

    (opened,) = [one for one in await invoices("paid", "open") if one["status"] == "open"]
    assert opened["total"] == "99.00"
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/give-up/{given_up}")
    (over,) = [one for one in await invoices("paid", given_up) if one["status"] == given_up]
    assert (over["id"], made_open["status"]) == (opened["id"], "open")
    assert await books(shop, ours) == (1, 1)


async def test_subscriptions_of_an_account_that_does_not_follow_them_are_left_alone(shop: Shop) -> None:
    await made(shop)

    async def ignored() -> bool:
        health = (await shop.api.get("/webhooks/health")).json()["callbacks"]
        return bool(health["outcomes"].get("no subscription that is followed", 0) >= 3)

    await eventually(ignored)
    async with shop.service.database.transaction() as session:
        query = select(func.count()).select_from(Subscription).where(Subscription.workspace_id == shop.workspace.id)
        assert await session.scalar(query) == 0


async def test_an_endpoint_of_an_older_version_is_heard_as_well(shop: Shop) -> None:
    """Its events have the shape of that version, whatever version our calls are made in."""
    await follow(shop)
    old = {"url": shop.hook_url, "secret": shop.hook_secret, "account_key": shop.provider_key}
    await shop.sandbox("POST", "/webhook-endpoints", old | {"api_version": "2024-06-20"})
    theirs = await made(shop)
    await until(shop, theirs, status="active", paid=1)
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/renew", {"paid": False})
    await until(shop, theirs, status="past_due", paid=1)
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/retry", {"paid": True})
    ours = await until(shop, theirs, status="active", paid=2)
    assert await books(shop, ours) == (2, 2)
    async with shop.service.database.transaction() as session:
        of_it = WebhookEvent.provider_account_id == shop.account.id
        states = set(await session.scalars(select(WebhookEvent.status).where(of_it)))
    assert not states & {"unreadable", "parked"}
    checked = (await shop.api.post(f"/provider-accounts/{shop.account.id}/check")).json()
    assert checked["ok"]
    assert [one.split(" ", 1)[1] for one in checked["differences"]] == [
        "sends events of version 2024-06-20, calls are made in 2026-10-28.endive: both shapes are read"
    ]


async def test_a_refund_and_a_dispute_of_its_charge_at_the_provider_are_followed(shop: Shop) -> None:
    """Nothing here made the charge, so it is found by the provider's id alone; the dispute came first of all."""
    theirs = await made(shop)
    (charge,) = [one for one in await shop.sandbox("GET", "/objects?type=charge") if not one["metadata"]][:1]
    await shop.sandbox("POST", f"/charges/{charge['id']}/dispute", {"amount": 100})
    await follow(shop)
    await shop.sandbox("POST", f"/subscriptions/{theirs['id']}/renew", {"paid": True})
    ours = await until(shop, theirs, status="active", paid=2)
    async with shop.service.database.transaction() as session:
        query = select(Payment.id).where(Payment.provider_transaction_id == charge["payment_intent"])
        payment_id = await session.scalar(query)
    assert payment_id is not None

    async def disputed() -> bool:
        return bool((await shop.read(str(payment_id)))["disputed"])

    await eventually(disputed, 30)
    await shop.sandbox("POST", f"/charges/{charge['id']}/refund", {"amount": 900})

    async def refunded() -> bool:
        return bool((await shop.read(str(payment_id)))["refunded"] == "9.00")

    await eventually(refunded, 30)
    assert ours["status"] == "active"
