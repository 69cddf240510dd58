"""Events that come before what they are about is known here: found later, by themselves or by a replay."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import literal_column, select, update

from sandbox.webhooks import seal
from storage import inbox, payment_methods, setups
from storage.models import Payment, Refund, Subscription, WebhookEvent
from storage.payment_methods import NewMethod
from tests.support.service import Shop, eventually


def event_of(kind: str, thing: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": 1795992352,
        "data": {"object": thing},
        "livemode": False,
        "type": kind,
    } | changes


async def sent(shop: Shop, event: dict[str, Any]) -> str:
    body = json.dumps(event).encode()
    answer = await shop.service.http.post(shop.hook_url, content=body, headers=seal(shop.hook_secret, body))
    assert answer.status_code == 200, answer.text
    return str(event["id"])


async def stored(shop: Shop, event_id: str) -> WebhookEvent:
    async with shop.service.database.transaction() as session:
        query = select(WebhookEvent).where(
            WebhookEvent.event_id == event_id, WebhookEvent.provider_account_id == shop.account.id
        )
        return (await session.scalars(query)).one()


async def until(shop: Shop, event_id: str, *wanted: str) -> WebhookEvent:
    async def so_far() -> WebhookEvent | None:
        found = await stored(shop, event_id)
        return found if found.status in wanted else None

    found: WebhookEvent = await eventually(so_far, 30)
    return found


async def paid_unheard(shop: Shop) -> tuple[dict[str, Any], dict[str, Any]]:
    """A payment that is paid at the provider, of which nothing has come here yet; and its charge there."""
    payment = await shop.pays(amount="100.00", referrer_id=None)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await shop.pay(payment)
    charges = await shop.sandbox("GET", "/objects?type=charge")
    return payment, next(one for one in charges if one["metadata"].get("payment_id") == payment["id"])


async def heard(shop: Shop, payment: dict[str, Any]) -> None:
    """The payment's own event comes at last."""
    await shop.sandbox("DELETE", "/faults")
    (done,) = [
        one
        for one in await shop.events("checkout.session.completed")
        if one["data"]["object"]["client_reference_id"] == payment["id"]
    ]
    await sent(shop, done)


@pytest.mark.parametrize("named", ["payment_intent", "charge"])
async def test_a_dispute_before_its_payment_is_found_when_the_capture_is_posted(shop: Shop, named: str) -> None:
    payment, charge = await paid_unheard(shop)
    made = await shop.sandbox("POST", f"/charges/{charge['id']}/dispute")
    dispute = made | {name: None for name in ("payment_intent", "charge") if name != named}
    early = await sent(shop, event_of("charge.dispute.created", dispute))
    assert (await stored(shop, early)).status == "unmatched"
    await heard(shop, payment)

    async def disputed() -> bool:
        return bool((await shop.read(payment["id"]))["disputed"])

    await eventually(disputed, 30)
    found = await until(shop, early, "handled")
    assert found.payment_id == UUID(payment["id"])


async def test_a_refund_before_its_payment_is_found_when_the_capture_is_posted(shop: Shop) -> None:
    payment, charge = await paid_unheard(shop)
    made = await shop.sandbox("POST", f"/charges/{charge['id']}/refund", {"amount": 2000})
    early = await sent(shop, event_of("refund.created", made))
    await heard(shop, payment)
    assert (await shop.until(payment["id"], "partially_refunded"))["refunded"] == "20.00"
    await until(shop, early, "handled")


async def test_what_the_provider_shows_at_the_capture_is_taken_without_any_event(shop: Shop) -> None:
    payment, charge = await paid_unheard(shop)
    await shop.sandbox("POST", f"/charges/{charge['id']}/refund", {"amount": 2000})
    await shop.sandbox("POST", f"/charges/{charge['id']}/dispute")
    await heard(shop, payment)

    async def taken() -> bool:
        seen = await shop.read(payment["id"])
        return bool(seen["disputed"]) and seen["refunded"] == "20.00"

    await eventually(taken, 30)
    async with shop.service.database.transaction() as session:
        rows = (await session.scalars(select(Refund).where(Refund.payment_id == payment["id"]))).all()
    assert [(row.origin, row.status) for row in rows] == [("provider", "succeeded")]


async def test_a_replay_looks_for_the_owner_again(shop: Shop) -> None:
    """An event that was judged by an earlier release, which left nothing to match it by but its transaction."""
    payment = await shop.pays(amount="100.00", referrer_id=None)
    await shop.pay(payment)
    payment = await shop.until(payment["id"], "paid")
    thing = {"object": "dispute", "id": "dp_1", "amount": 100, "currency": "ils", "payment_intent": "pi_nobodys"}
    early = await sent(shop, event_of("charge.dispute.created", thing))
    async with shop.service.database.transaction() as session:
        row = (await session.scalars(select(WebhookEvent).where(WebhookEvent.event_id == early))).one()
        row.status, row.named, row.transaction_id = "ignored", [], payment["provider_transaction_id"]
    async with shop.service.database.transaction() as session:
        assert await inbox.replay(session, actor="test", inbox_id=row.id) == 1
    found = await until(shop, early, "handled")
    assert found.payment_id == UUID(payment["id"])


async def test_the_sweep_finds_an_owner_that_nobody_announced_and_ends(shop: Shop) -> None:
    payment = await shop.pays(amount="100.00", referrer_id=None)
    await shop.pay(payment)
    payment = await shop.until(payment["id"], "paid")
    thing = {"object": "dispute", "amount": 100, "currency": "ils", "payment_intent": "pi_nobodys"}
    found, old = [await sent(shop, event_of("charge.dispute.created", thing | {"id": f"dp_{n}"})) for n in (1, 2)]
    async with shop.service.database.transaction() as session:
        intent = payment["provider_transaction_id"]
        for event_id, days in ((found, "0 days"), (old, "8 days")):
            await session.execute(
                update(WebhookEvent)
                .where(WebhookEvent.event_id == event_id)
                .values(
                    transaction_id=intent,
                    named=[intent],
                    next_attempt_at=WebhookEvent.received_at,
                    received_at=WebhookEvent.received_at - _interval(days),
                )
            )
    await until(shop, found, "handled")
    assert (await stored(shop, old)).status == "unmatched"  # visible, and not looked at any more
    health = (await shop.api.get("/webhooks/health")).json()["callbacks"]
    assert health["counts"]["unmatched"] == 1


def _interval(text: str) -> Any:

    return literal_column(f"interval '{text}'")


async def test_events_of_a_subscription_are_taken_up_once_it_is_followed(shop: Shop) -> None:
    body = {"account_key": shop.provider_key, "metadata": {"customer_id": "cust-78"}}
    theirs = await shop.sandbox("POST", "/subscriptions", body)

    async def came() -> bool:
        return bool((await shop.api.get("/webhooks/health")).json()["callbacks"]["counts"].get("unmatched", 0) >= 3)

    await eventually(came)
    async with shop.service.database.transaction() as session:
        account = await session.merge(shop.account)
        account.options = dict(account.options) | {"follow_subscriptions": True}
    async with shop.service.database.transaction() as session:
        await inbox.replay(session, actor="test", left=True)

    async def followed() -> bool:
        async with shop.service.database.transaction() as session:
            query = select(Subscription.id).where(Subscription.provider_subscription_id == theirs["id"])
            known = await session.scalar(query)
            paid = select(Payment.status).where(Payment.subscription_id == known)
            return known is not None and list(await session.scalars(paid)) == ["paid"]

    await eventually(followed, 30)


async def test_an_event_about_a_method_is_taken_up_once_the_method_is_stored(shop: Shop) -> None:
    token = f"pm_{secrets.token_hex(12)}"
    early = await sent(shop, event_of("payment_method.updated", {"object": "payment_method", "id": token}))
    row = await stored(shop, early)
    assert row.status == "unmatched"
    assert token not in "".join(row.named)
    found = NewMethod(token, "card", None, "visa", "4242", 12, 2031, None)
    async with shop.service.database.transaction() as session:
        account = await session.merge(shop.account)
        kept = await payment_methods.keep(
            session,
            shop.service.sealer,
            account,
            "cust-9",
            found,
            make_default=False,
            at=datetime.now(UTC),
            actor="test",
        )
    assert (await until(shop, early, "handled")).reference == kept.method.id


async def test_an_event_about_a_customer_is_taken_up_once_the_customer_is_known(shop: Shop) -> None:
    name = f"cus_{secrets.token_hex(8)}"
    early = await sent(shop, event_of("customer.deleted", {"object": "customer", "id": name}))
    assert (await stored(shop, early)).status == "unmatched"
    async with shop.service.database.transaction() as session:
        await payment_methods.keep_customer(session, await session.merge(shop.account), "cust-10", name)
    assert (await until(shop, early, "handled")).reference is not None


async def test_an_event_about_a_set_up_is_taken_up_once_its_page_is_known(shop: Shop) -> None:
    page = f"cs_test_{secrets.token_hex(8)}"
    thing = {"object": "checkout.session", "id": page, "mode": "setup", "status": "expired"}
    early = await sent(shop, event_of("checkout.session.expired", thing))
    assert (await stored(shop, early)).status == "unmatched"
    now = datetime.now(UTC)
    values = {
        "id": uuid4(),
        "workspace_id": shop.workspace.id,
        "provider_account_id": shop.account.id,
        "provider": "stripe",
        "customer_id": "cust-11",
        "status": "pending",
        "session_id": page,
        "expires_at": now + timedelta(hours=1),
    }
    async with shop.service.database.transaction() as session:
        await setups.insert_new(session, values)
        await inbox.owner_known(session, shop.account.id, [page])
    assert (await until(shop, early, "handled", "dispatched")).reference == values["id"]


async def test_an_event_in_no_shape_that_is_known_is_counted_and_not_lost(shop: Shop) -> None:
    invoice = {"object": "invoice", "id": "in_1", "billing_reason": "subscription_cycle", "customer": "cus_1"}
    unread = await sent(shop, event_of("invoice.paid", invoice))
    row = await stored(shop, unread)
    assert (row.status, row.outcome) == ("unreadable", "unreadable: invoice without its subscription")
    health = (await shop.api.get("/webhooks/health")).json()["callbacks"]
    assert health["counts"]["unreadable"] == 1
