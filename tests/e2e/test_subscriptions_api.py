"""Subscriptions over real HTTP, PostgreSQL, Temporal and the sandbox: page, renewal, decline, new card, recovered.

Months pass by moving the subscription's dates back, and waking it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, update

import wiring
from api.context import Member, Services
from api.invoices import list_invoices
from api.subscriptions import list_subscriptions
from dispatch.inbox import InboxDispatcher, subscription_command
from domain.payment import PollPlan
from domain.subscription import attempt_payment_id, subscription_workflow_id
from engine.client import connect
from engine.payments import PaymentEngine
from engine.subscriptions import SubscriptionEngine
from storage import administration
from storage.models import Attempt, Invoice, Payment, Subscription
from tests.e2e.test_payment_methods import CONFIRMED_ALWAYS, CUSTOMER, saved, token_of, will
from tests.support.service import Service, Shop, eventually
from wiring import temporal_target

MONTH = timedelta(days=31)


async def plan(shop: Shop, amount: str = "100.00", **changes: Any) -> dict[str, Any]:
    body = {"code": f"plan-{uuid4().hex[:8]}", "name": "Clinic", "amount": amount, "currency": "ILS"} | changes
    made = await shop.api.post("/plans", json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


async def subscribe(shop: Shop, plan: dict[str, Any], status: int = 201, **changes: Any) -> dict[str, Any]:
    body = {"plan": plan["code"], "customer": CUSTOMER} | changes
    made = await shop.api.post("/subscriptions", json=body)
    assert made.status_code == status, made.text
    return dict(made.json())


async def read(shop: Shop, subscription: dict[str, Any]) -> dict[str, Any]:
    found = await shop.api.get(f"/subscriptions/{subscription['id']}")
    assert found.status_code == 200, found.text
    return dict(found.json())


async def until(shop: Shop, subscription: dict[str, Any], status: str, **more: Any) -> dict[str, Any]:
    """The subscription as soon as it stands so."""

    async def reached() -> Any:
        found = await read(shop, subscription)
        wanted = {"status": status} | more
        return found if all(found[name] == value for name, value in wanted.items()) else None

    return dict(await eventually(reached, seconds=20))


async def wake(shop: Shop, subscription: dict[str, Any]) -> None:
    service = shop.service
    async with service.database.transaction() as session:
        row = await session.get(Subscription, UUID(subscription["id"]))
    assert row is not None
    client = await connect(temporal_target(service.settings))
    engine = SubscriptionEngine(client, service.settings.temporal_task_queue)
    await engine.wake(subscription_command(row, PollPlan()))


async def let_a_month_pass(shop: Shop, subscription: dict[str, Any]) -> None:
    async with shop.service.database.transaction() as session:
        row = (await session.scalars(select(Subscription).where(Subscription.id == UUID(subscription["id"])))).one()
        for name in ("anchor", "current_period_start", "current_period_end"):
            setattr(row, name, getattr(row, name) - MONTH)
    await wake(shop, subscription)


def told(shop: Shop, subscription: dict[str, Any]) -> list[str]:
    return [
        notice["type"].removeprefix("subscription.")
        for notice in shop.service.merchant.notices
        if notice["data"].get("subscription_id") == subscription["id"] and notice["type"].startswith("subscription.")
    ]


async def test_from_the_page_to_a_declined_renewal_and_a_new_card(shop: Shop) -> None:
    made = await subscribe(shop, await plan(shop), referrer_id="partner-5")
    assert made["status"] == "incomplete"
    invoice = made["latest_invoice"]
    assert (invoice["status"], invoice["total"], invoice["kind"]) == ("open", "100.00", "first")
    assert await shop.pay({"checkout_url": invoice["checkout_url"]}) == "paid"
    active = await until(shop, made, "active")
    method = {"id": active["payment_method_id"]}
    assert method["id"] is not None  # what was paid with is charged from now on

    await let_a_month_pass(shop, made)
    renewed = await until(shop, made, "active", period=2)
    await eventually(lambda: _invoices(shop, made, ["paid", "paid"]))

    await will(shop, method, "stolen_card")
    await let_a_month_pass(shop, made)
    await until(shop, made, "past_due")
    await eventually(lambda: _true("action_required" in told(shop, made)))  # nothing else is saved: a link
    overdue = await read(shop, made)
    assert overdue["latest_invoice"]["decline_code"] == "stolen_card"
    assert overdue["latest_invoice"]["next_attempt_at"] is None  # a hard decline is not retried

    better = await saved(shop, "5555555555554444", make_default=True)
    changed = await shop.api.post(
        f"/subscriptions/{made['id']}/payment-method", json={"payment_method_id": better["id"]}
    )
    assert changed.status_code == 200, changed.text
    recovered = await until(shop, made, "active")
    assert [one["status"] for one in recovered["invoices"]] == ["paid"] * 3
    words = ["activated", "renewed", "payment_failed", "action_required", "recovered"]
    await eventually(lambda: _true(told(shop, made) == words))
    async with shop.service.database.transaction() as session:
        rows = (await session.scalars(select(Payment).where(Payment.subscription_id == UUID(made["id"])))).all()
    assert sorted(row.status for row in rows) == ["canceled", "failed", "paid", "paid", "paid"]
    assert renewed["period"] == 2
    listed = (await shop.api.get("/invoices", params={"subscription_id": made["id"]})).json()["data"]
    assert [one["period"] for one in listed] == [3, 2, 1]


async def _true(value: bool) -> bool:  # noqa: FBT001
    return value


async def _invoices(shop: Shop, subscription: dict[str, Any], statuses: list[str]) -> bool:
    return [one["status"] for one in (await read(shop, subscription))["invoices"]] == statuses


async def test_a_saved_card_is_charged_at_once_and_a_repeat_finds_the_same(shop: Shop) -> None:
    method, offer = await saved(shop), await plan(shop)
    body = {"plan": offer["code"], "customer": CUSTOMER, "payment_method_id": method["id"]}
    first = await shop.api.post("/subscriptions", json=body, headers={"Idempotency-Key": "sub-1"})
    assert first.status_code == 201, first.text
    await until(shop, first.json(), "active")
    again = await shop.api.post("/subscriptions", json=body, headers={"Idempotency-Key": "sub-1"})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    other = await shop.api.post("/subscriptions", json=body | {"quantity": 2}, headers={"Idempotency-Key": "sub-1"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    listed = (await shop.api.get("/subscriptions", params={"customer_id": CUSTOMER["id"], "status": "active"})).json()
    assert [one["id"] for one in listed["data"]] == [first.json()["id"]]


async def test_a_change_of_plan_is_shown_before_it_is_made(shop: Shop) -> None:
    method, small, large = await saved(shop), await plan(shop, "30.00"), await plan(shop, "90.00")
    made = await subscribe(shop, small, payment_method_id=method["id"])
    await until(shop, made, "active")
    address = f"/subscriptions/{made['id']}/change-plan"
    preview = (await shop.api.get(f"{address}/preview", params={"plan": large["code"]})).json()
    shown = (await shop.api.post(address, json={"plan": large["code"], "preview": True})).json()
    assert (preview["dry_run"], preview["effects"]["credit"], preview["effects"]["charge"]) == (True, "30.00", "90.00")
    assert shown["would_write"]["notices"] == ["subscription.plan_changed"]
    assert (await read(shop, made))["plan"]["code"] == small["code"]
    done = (await shop.api.post(address, json={"plan": large["code"]}, headers={"Idempotency-Key": "up"})).json()
    again = (await shop.api.post(address, json={"plan": large["code"]}, headers={"Idempotency-Key": "up"})).json()
    assert done["effects"] == again["effects"]
    assert done["effects"]["due_now"] == "60.00"
    other = await shop.api.post(address, json={"plan": small["code"]}, headers={"Idempotency-Key": "up"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    later = await shop.api.post(
        address, json={"plan": small["code"], "at": "period_end"}, headers={"Idempotency-Key": "up"}
    )
    assert (later.status_code, later.json()["code"]) == (409, "idempotency_key_reused")

    async def charged() -> bool:
        return [one["total"] for one in (await read(shop, made))["invoices"] if one["status"] == "paid"] == [
            "30.00",
            "60.00",
        ]

    await eventually(charged)


async def test_cancel_pause_and_resume_with_a_dry_run_of_each(shop: Shop) -> None:
    method = await saved(shop)
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    await until(shop, made, "active")
    at = f"/subscriptions/{made['id']}"
    for action, body in (("pause", {}), ("cancel", {"at": "now"})):
        answer = await shop.api.post(f"{at}/{action}", json=body, params={"dry_run": True})
        assert answer.json()["dry_run"] is True, answer.text
        assert (await read(shop, made))["status"] == "active"
    for moment in ("2020-01-01T00:00:00Z", "2126-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"):
        refused = await shop.api.post(f"{at}/pause", json={"resume_at": moment})
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), refused.text
    assert (await shop.api.post(f"{at}/pause")).json()["subscription"]["status"] == "paused"
    assert (await shop.api.post(f"{at}/resume")).json()["subscription"]["status"] == "active"
    refused = await shop.api.post(f"{at}/resume", headers={"Idempotency-Key": "on"})
    assert (refused.status_code, refused.json()["code"]) == (409, "subscription_not_changeable")
    await shop.api.post(f"{at}/pause")
    now_it_can = await shop.api.post(f"{at}/resume", headers={"Idempotency-Key": "on"})
    assert now_it_can.json()["subscription"]["status"] == "active", "a refusal was kept for ever"
    scheduled = (await shop.api.post(f"{at}/cancel")).json()["subscription"]
    assert (scheduled["status"], scheduled["cancel_at_period_end"]) == ("active", True)
    ended = (await shop.api.post(f"{at}/cancel", json={"at": "now", "reason": "moved away"})).json()["subscription"]
    assert (ended["status"], ended["end_reason"]) == ("cancelled", "moved away")
    for body in ({"at": "now"}, {"at": "period_end"}):
        again = await shop.api.post(f"{at}/cancel", json=body)
        assert (again.status_code, again.json()["subscription"]["end_reason"]) == (200, "moved away")


async def test_a_trial_gives_a_page_for_the_card_and_a_dry_run_says_when_it_is_charged(shop: Shop) -> None:
    offer = await plan(shop, trial_days=14)
    body = {"plan": offer["code"], "customer": CUSTOMER}
    answer = await shop.api.post("/subscriptions", json=body, params={"dry_run": True})
    assert answer.status_code == 200, "201 is for what was made"
    shown = answer.json()
    assert (shown["charge_now"], shown["status"]) == ("0.00", "trialing")
    assert (await shop.api.get("/subscriptions")).json()["data"] == []
    refused = await shop.api.post("/subscriptions", json=body | {"referrer_id": "two\nlines"})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), "as of a payment"
    key = {"Idempotency-Key": "trial-1"}
    first, again = [await shop.api.post("/subscriptions", json=body, headers=key) for _ in range(2)]
    made = first.json()
    assert (first.status_code, made["status"]) == (201, "trialing")
    assert made["setup_url"] is not None
    assert (again.status_code, again.json()["setup_url"]) == (200, made["setup_url"]), "whoever lost it gets it again"
    refused = await shop.api.post(f"/subscriptions/{made['id']}/payment-method", params={"dry_run": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), "a page would have been made"
    link = (await shop.api.post(f"/subscriptions/{made['id']}/payment-method")).json()
    assert link["setup"]["url"] is not None


async def test_a_first_charge_that_is_declined_waits_for_another_card(shop: Shop) -> None:
    method = await saved(shop)
    await will(shop, method, "insufficient_funds")
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    waiting = await until(shop, made, "incomplete")
    assert waiting["latest_invoice"]["payment_status"] == "failed"
    better = await saved(shop, "5555555555554444")
    await shop.api.post(f"/subscriptions/{made['id']}/payment-method", json={"payment_method_id": better["id"]})
    await until(shop, made, "active")


async def test_a_price_never_changes_a_plan_gets_versions(shop: Shop) -> None:
    first = await plan(shop, "10.00")
    second = await plan(shop, "12.00", code=first["code"])
    assert (first["version"], second["version"]) == (1, 2)
    listed = (await shop.api.get("/plans", params={"active": True})).json()["data"]
    assert [(one["version"], one["amount"]) for one in listed] == [(2, "12.00")]
    assert (await shop.api.post(f"/plans/{second['id']}/archive")).json()["active"] is False
    refused = await shop.api.post("/subscriptions", json={"plan": first["code"], "customer": CUSTOMER})
    assert (refused.status_code, refused.json()["code"]) == (422, "plan_not_available")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/plans", {"code": "x", "name": "X", "amount": "1.00", "currency": "ILS"}, 422),
        ("/plans", {"code": "abc", "name": "X", "amount": "-1.00", "currency": "ILS"}, 422),
        ("/plans", {"code": "abc", "name": "X", "amount": "1.001", "currency": "ILS"}, 422),
        ("/plans", {"code": "abc", "name": "X", "amount": "1.00", "currency": "USD"}, 422),
        ("/plans", {"code": "abc", "name": "X", "amount": "1.00", "currency": "ILS", "interval": "hour"}, 422),
        ("/plans", {"code": "a-b", "name": "X", "amount": "1.00", "currency": "ILS", "interval_count": 99}, 422),
        ("/subscriptions", {"plan": "none", "customer": {"id": "a"}}, 422),
        ("/subscriptions", {"plan": "none", "customer": {}}, 422),
        ("/subscriptions/018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79/cancel", {}, 404),
        ("/subscriptions/018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79/change-plan", {"plan": "x"}, 404),
        ("/subscriptions/018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79/pause", {"resume_at": "2027-01-01T00:00:00"}, 422),
    ],
)
async def test_what_is_wrong_is_told_as_a_problem(shop: Shop, path: str, body: dict[str, Any], status: int) -> None:
    answer = await shop.api.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text


async def test_a_price_with_more_digits_than_there_is_room_for_is_refused_and_not_accepted(shop: Shop) -> None:
    """It was accepted, and its workflow tried for ever to write the invoice."""
    method, dear, cheap = await saved(shop), await plan(shop, "9999999999.99"), await plan(shop)
    body = {"plan": dear["code"], "customer": CUSTOMER, "quantity": 1_000_000, "payment_method_id": method["id"]}
    refused = await shop.api.post("/subscriptions", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), refused.text
    made = await subscribe(shop, cheap, payment_method_id=method["id"])
    await until(shop, made, "active")
    for at in ("now", "period_end"):
        wish = {"plan": dear["code"], "quantity": 1_000_000, "at": at}
        refused = await shop.api.post(f"/subscriptions/{made['id']}/change-plan", json=wish)
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), refused.text


async def test_a_page_takes_as_many_statements_as_one_subscription(shop: Shop) -> None:
    """Plan, invoices, payment and credit were read row by row."""
    offer = await plan(shop)
    pool = wiring.database(shop.service.settings)
    caller, services = Member(shop.workspace, "test"), cast(Services, SimpleNamespace(database=pool))
    counted: list[str] = []
    event.listen(pool.engine.sync_engine, "before_cursor_execute", lambda *call: counted.append(call[2]))
    await subscribe(shop, offer)
    await list_subscriptions(caller, services)
    one = len(counted)
    for number in range(4):
        await subscribe(shop, offer, customer=CUSTOMER | {"id": f"many-{number}"})
    counted.clear()
    found = await list_subscriptions(caller, services)
    assert len(counted) <= one
    assert len(found.data) == 5
    for row in found.data:
        assert row.latest_invoice is not None
        assert (row.plan is not None, row.latest_invoice.subscription_id) == (True, row.id)
        assert row.latest_invoice.payment_id is not None
    counted.clear()
    assert len((await list_invoices(caller, services)).data) == 5
    assert len(counted) <= one
    await pool.close()


async def test_another_workspace_sees_nothing(shop: Shop) -> None:
    made = await subscribe(shop, await plan(shop))
    other = await shop.service.shop()
    for method, path in (
        ("GET", f"/subscriptions/{made['id']}"),
        ("POST", f"/subscriptions/{made['id']}/cancel"),
        ("POST", f"/subscriptions/{made['id']}/payment-method"),
        ("GET", f"/plans/{made['plan']['id']}"),
    ):
        assert (await other.api.request(method, path)).status_code == 404
    assert (await other.api.get("/invoices")).json()["data"] == []
    await other.aclose()


async def test_a_subscription_whose_start_was_lost_is_started_by_the_dispatcher(shop: Shop) -> None:
    """The process died between the row and the workflow: the row is enough."""
    made = await subscribe(shop, await plan(shop))
    async with shop.service.database.transaction() as session:
        invoice = await session.scalar(select(Invoice).where(Invoice.subscription_id == UUID(made["id"])))
        assert invoice is not None
        await session.execute(
            update(Subscription)
            .where(Subscription.id == UUID(made["id"]))
            .values(wake_wanted_at=Subscription.created_at - timedelta(minutes=1))
        )

    async def seen() -> bool:
        async with shop.service.database.transaction() as session:
            row = await session.get(Subscription, UUID(made["id"]))
            return row is not None and row.wake_wanted_at is None

    await eventually(seen)


async def test_a_subscription_whose_workflow_was_stopped_by_hand_is_renewed_all_the_same(shop: Shop) -> None:
    """Nobody would have charged it ever again."""
    method = await saved(shop)
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    running = await until(shop, made, "active")
    client = await connect(temporal_target(shop.service.settings))
    await client.get_workflow_handle(subscription_workflow_id(UUID(made["id"]))).terminate()
    async with shop.service.database.transaction() as session:
        row = await session.get_one(Subscription, UUID(made["id"]))
        for name in ("anchor", "current_period_start", "current_period_end", "next_action_at"):
            setattr(row, name, getattr(row, name) - MONTH)
    engine = PaymentEngine(client, shop.service.settings.temporal_task_queue)
    dispatcher = InboxDispatcher(shop.service.database, engine, PollPlan())
    await dispatcher.wake_overdue(older_than=datetime.now(UTC) + timedelta(days=2))
    renewed = await until(shop, made, "active", period=running["period"] + 1)
    assert renewed["current_period_end"] > running["current_period_start"]


async def test_a_bank_that_wants_the_payer_at_a_renewal_gets_to_see_the_payer(shop: Shop) -> None:
    method = await saved(shop)
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    await until(shop, made, "active")
    asking = await saved(shop, CONFIRMED_ALWAYS, make_default=True)
    await shop.api.post(f"/subscriptions/{made['id']}/payment-method", json={"payment_method_id": asking["id"]})
    await let_a_month_pass(shop, made)
    late = await until(shop, made, "past_due")
    invoice = late["latest_invoice"]
    assert invoice["payment_status"] == "requires_action"
    page = await shop.service.http.get(invoice["checkout_url"], follow_redirects=False)
    assert page.status_code == 303  # our page leads to the bank's
    await eventually(lambda: _true(told(shop, made) == ["activated", "action_required"]))
    async with shop.service.database.transaction() as session:
        attempt = await session.scalar(select(Attempt).where(Attempt.payment_id == UUID(invoice["payment_id"])))
    assert attempt is not None
    await shop.sandbox("POST", f"/payment_intents/{attempt.session_id}/authenticate", {"approved": True})
    await until(shop, made, "active")
    await eventually(lambda: _true(told(shop, made) == ["activated", "action_required", "recovered"]))


async def test_a_card_that_the_bank_renews_is_charged_at_once(shop: Shop) -> None:
    method = await saved(shop)
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    await until(shop, made, "active")
    await will(shop, method, "expired_card")
    await let_a_month_pass(shop, made)
    await until(shop, made, "past_due")
    await shop.sandbox("POST", f"/payment_methods/{await token_of(shop, method)}/renew", {"exp_year": 2040})
    recovered = await until(shop, made, "active")
    assert recovered["latest_invoice"]["attempts"] == 3  # the second was the link that the payer had meanwhile


async def test_the_rules_of_dunning_are_the_workspaces(shop: Shop) -> None:
    async with shop.service.database.transaction() as session:
        key = administration.create_api_key(
            session, workspace_id=shop.workspace.id, name="admin", scopes=["admin"], actor="test"
        ).key
    headers, address = {"authorization": f"Bearer {key}"}, f"/workspaces/{shop.workspace.id}"
    rules = {
        "dunning_retry_days": [1, 3],
        "dunning_grace_days": 9,
        "dunning_final_action": "expire",
        "cancel_on_full_refund": False,
    }
    changed = await shop.api.patch(address, json=rules, headers=headers)
    assert changed.status_code == 200, changed.text
    assert {name: changed.json()[name] for name in rules} == rules
    for wrong in ({"dunning_retry_days": [0]}, {"dunning_grace_days": -1}, {"dunning_final_action": "shrug"}):
        assert (await shop.api.patch(address, json=wrong, headers=headers)).status_code == 422


async def test_a_cancel_in_the_middle_of_a_retry_is_answered_at_once_and_the_money_goes_back(shop: Shop) -> None:
    """The provider has charged and is silent when the customer cancels."""
    method = await saved(shop)
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    await until(shop, made, "active")
    await will(shop, method, "insufficient_funds")
    await let_a_month_pass(shop, made)
    overdue = await until(shop, made, "past_due")
    await shop.sandbox("POST", "/faults", {"operation": "create_intent", "fault": "timeout_after:6", "count": 1})
    async with shop.service.database.transaction() as session:
        invoice = await session.get(Invoice, UUID(overdue["latest_invoice"]["id"]))
        assert invoice is not None
        invoice.next_attempt_at = invoice.created_at
    await wake(shop, made)
    retry = str(attempt_payment_id(invoice.id, 2))

    async def charged() -> bool:
        return (await shop.totals(retry)).get("charges") == 1

    await eventually(charged)
    await shop.sandbox("POST", "/faults", {"operation": "*", "fault": "error:500", "count": 10_000})
    ended = await shop.api.post(f"/subscriptions/{made['id']}/cancel", json={"at": "now"})
    assert ended.json()["subscription"]["status"] == "cancelled"
    assert (await shop.read(retry))["status"] != "paid", "nobody waited for what the provider keeps to itself"
    await shop.sandbox("DELETE", "/faults")
    await shop.until(retry, "refunded")
    assert (await shop.totals(retry))["charged"] == (await shop.totals(retry))["refunded"]
    found = await read(shop, made)
    assert (found["status"], [one["attempts"] for one in found["invoices"]]) == ("cancelled", [1, 2])
    assert "recovered" not in told(shop, made)


async def test_an_account_that_saves_nothing_sends_a_link_for_every_period(service: Service) -> None:
    """Wompi has no saved methods here: the first payment and each renewal are pages."""
    shop = await service.shop("wompi")
    try:
        customer = dict(shop.order()["customer"]) | {"id": "cust-9"}
        offer = await plan(shop, shop.till.payer.amount, currency=shop.workspace.currency)
        made = await subscribe(shop, offer, customer=customer)
        invoice = made["latest_invoice"]
        assert (made["status"], invoice["payment_status"]) == ("incomplete", "pending")
        await shop.till.payer.pays(await shop.checkout({"id": invoice["payment_id"]}))
        await until(shop, made, "active")
        await let_a_month_pass(shop, made)
        late = await until(shop, made, "past_due")
        assert late["latest_invoice"]["checkout_url"] is not None
        await eventually(lambda: _true(told(shop, made) == ["activated", "action_required"]))
        await shop.till.payer.pays(await shop.checkout({"id": late["latest_invoice"]["payment_id"]}))
        await until(shop, made, "active")
    finally:
        await shop.aclose()
