"""`webhook-status` and `webhook-replay`: what waits is seen, and goes on when it is put back in line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, update

from storage import inbox
from storage.models import AuditEntry, OrderNotice, Receipt, WebhookEvent
from tests.cli.running import Operator
from tests.support.service import Service, Shop, eventually

Sold = tuple[Shop, dict[str, Any]]


async def stuck_event(shop: Shop, payment_id: str | None, *, error: str | None = None) -> int:
    """A verified event that nobody takes up for an hour."""
    async with shop.service.database.transaction() as session:
        stored = await inbox.store(
            session,
            {
                "provider_account_id": shop.account.id,
                "provider": "stripe",
                "event_id": f"evt_stuck_{uuid4().hex}",
                "type": "checkout.session.completed",
                "kind": "captured",
                "payment_id": None if payment_id is None else UUID(payment_id),
                "body": b"{}",
                "last_error": error,
                "attempts": 0 if error is None else 3,
                "next_attempt_at": datetime.now(UTC) + timedelta(hours=1),
            },
        )
    return stored.inbox_id


async def event(service: Service, inbox_id: int) -> WebhookEvent:
    async with service.database.transaction() as session:
        row = await session.get(WebhookEvent, inbox_id)
    assert row is not None
    return row


async def handled(service: Service, inbox_id: int, outcome: str) -> None:
    async def done() -> bool:
        row = await event(service, inbox_id)
        return (row.status, row.outcome) == ("handled", outcome)

    await eventually(done)


async def status(operator: Operator, shop: Shop, *options: str) -> dict[str, Any]:
    found = (await operator("webhook-status", "--workspace", shop.workspace.slug, "--json", *options)).json
    return dict(found)


async def test_status_counts_what_came_and_what_was_told(operator: Operator, sold: Sold) -> None:
    shop, _ = sold
    found = await status(operator, shop)
    assert set(found["callbacks"]["counts"]) == {"handled"}
    assert found["callbacks"]["oldest_waiting_since"] is None
    assert found["callbacks"]["handled_within_ms"]["p95"] > 0
    assert list(found["order_notifications"]) == [shop.workspace.slug]
    assert found["order_notifications"][shop.workspace.slug]["counts"] == {"delivered": 2}
    assert "waiting" not in found
    shown = (await operator("webhook-status", "--workspace", shop.workspace.slug)).stdout
    assert f"handled {found['callbacks']['counts']['handled']}" in shown
    assert "delivered 2" in shown
    assert "{" not in shown


async def test_status_counts_refused_callbacks(operator: Operator, shop: Shop) -> None:
    await shop.service.http.post(shop.hook_url, content=b"{}")

    async def refused() -> Any:  # counted in the API's memory, and on record within seconds
        return (await status(operator, shop))["callbacks"]["refused"]

    assert await eventually(refused) == {"bad_signature": 1}


async def test_pending_lists_what_waits_and_failed_only_what_went_wrong(
    operator: Operator, shop: Shop, sold: Sold
) -> None:
    other, _ = sold
    waiting, failed = await stuck_event(shop, None), await stuck_event(shop, None, error="temporal: UNAVAILABLE")
    assert [row["inbox_id"] for row in (await status(operator, shop, "--pending"))["waiting"]] == [waiting, failed]
    (row,) = (await status(operator, shop, "--failed"))["waiting"]
    assert (row["inbox_id"], row["last_error"], row["attempts"]) == (failed, "temporal: UNAVAILABLE", 3)
    assert row["age"].startswith("0:00:")
    assert (await status(operator, shop))["callbacks"]["oldest_waiting_since"] is not None
    assert (await status(operator, other, "--pending"))["waiting"] == []  # each workspace its own
    everywhere = (await operator("webhook-status", "--pending", "--json")).json
    assert {waiting, failed} <= {row["inbox_id"] for row in everywhere["waiting"]}
    assert {shop.workspace.slug, other.workspace.slug} <= set(everywhere["order_notifications"])
    shown = (await operator("webhook-status", "--failed", "--workspace", shop.workspace.slug)).stdout
    assert any(row["event"] in line and "temporal: UNAVAILABLE" in line for line in shown.splitlines())
    assert (await event(shop.service, waiting)).event_id not in shown
    assert "Failed: none" in (await operator("webhook-status", "--failed", "--workspace", other.workspace.slug)).stdout


async def test_an_unknown_workspace_names_those_that_exist(operator: Operator, shop: Shop) -> None:
    message = await operator.says("webhook-status", "--workspace", "nowhere")
    assert message.startswith("There is no workspace nowhere; known: ")
    assert shop.workspace.slug in message


async def test_a_replayed_event_brings_the_money_home(operator: Operator, shop: Shop) -> None:
    payment = await shop.pays()
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await shop.pay(payment)
    stuck = await stuck_event(shop, payment["id"], error="temporal: UNAVAILABLE")
    assert (await shop.read(payment["id"]))["status"] == "pending"
    assert (await operator("webhook-replay", "--id", stuck)).stdout == "1 event back in line\n"
    await shop.until(payment["id"], "paid")
    await handled(shop.service, stuck, "paid")
    assert (await status(operator, shop, "--failed"))["waiting"] == []


async def test_replaying_what_was_handled_changes_nothing(operator: Operator, sold: Sold) -> None:
    shop, paid = sold
    before = (await operator("payment-info", paid["id"], "--json")).json
    done = next(row for row in before["callbacks"] if row["type"] == "checkout.session.completed")
    assert (await operator("webhook-replay", "--id", done["inbox_id"])).stdout == "1 event back in line\n"
    await handled(shop.service, done["inbox_id"], "already paid")
    after = (await operator("payment-info", paid["id"], "--json")).json
    for part in ("payment", "attempts", "order_notifications", "documents", "commissions", "ledger", "history"):
        assert after[part] == before[part]
    async with shop.service.database.transaction() as session:
        assert await session.scalar(select(func.count()).where(Receipt.payment_id == paid["id"])) == 1


async def test_all_that_wait_are_put_back_in_line(operator: Operator, shop: Shop, sold: Sold) -> None:
    settled = (await operator("payment-info", sold[1]["id"], "--json")).json["callbacks"]
    waiting = [await stuck_event(shop, None), await stuck_event(shop, None, error="temporal: UNAVAILABLE")]
    number = int((await operator("webhook-replay", "--pending")).stdout.split()[0])
    assert number >= 2
    for inbox_id in waiting:
        await handled(shop.service, inbox_id, "no payment of ours")
    assert (await operator("payment-info", sold[1]["id"], "--json")).json["callbacks"] == settled


async def test_a_notification_that_was_given_up_is_sent_again(operator: Operator, shop: Shop) -> None:
    merchant, payment = shop.service.merchant, await shop.pays()

    async def told_once() -> bool:
        return merchant.told(payment["id"]) == ["payment.pending"]

    await eventually(told_once)

    async def recorded() -> bool:
        async with shop.service.database.transaction() as session:
            given_up = (
                update(OrderNotice)
                .where(OrderNotice.payment_id == payment["id"], OrderNotice.status == "delivered")
                .values(status="given_up", attempts=40, last_error="answered 500")
            )
            return bool((await session.execute(given_up.returning(OrderNotice.id))).first())

    await eventually(recorded)
    assert (await status(operator, shop))["order_notifications"][shop.workspace.slug]["counts"] == {"given_up": 1}
    assert (await operator("webhook-replay", "--notifications")).stdout.endswith("back in line\n")

    async def told_again() -> bool:
        return merchant.told(payment["id"]) == ["payment.pending"] * 2

    await eventually(told_again)


async def test_both_kinds_at_once(operator: Operator, shop: Shop) -> None:
    stuck = await stuck_event(shop, None)
    lines = (await operator("webhook-replay", "--id", stuck, "--notifications")).stdout.splitlines()
    assert lines[0] == "1 event back in line"
    assert lines[1].split(maxsplit=1)[1].startswith("notification")
    await handled(shop.service, stuck, "no payment of ours")


async def test_an_unknown_event_is_an_error_and_nothing_is_replayed(operator: Operator) -> None:
    message = await operator.says("webhook-replay", "--id", 2**62, "--notifications")
    assert message.startswith(f"There is no event with the inbox id {2**62}; see webhook-status --pending")


async def test_wrong_use(operator: Operator) -> None:
    assert "say what: --id N" in await operator.says("webhook-replay", code=2)
    assert "choose" in await operator.says("webhook-replay", "--id", 1, "--pending", code=2)
    for value in ("0", "-1", "first", str(2**63)):
        assert "Invalid value for '--id'" in await operator.says("webhook-replay", "--id", value, code=2)


async def audited(shop: Shop, action: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    async with shop.service.database.transaction() as session:
        query = select(AuditEntry).where(AuditEntry.workspace_id == shop.workspace.id, AuditEntry.action == action)
        entries = await session.scalars(query.order_by(AuditEntry.id))
        return [(one.actor, one.subject_type, one.subject_id, one.details) for one in entries]


async def test_what_an_operator_puts_back_in_line_is_on_the_audit_log(operator: Operator, shop: Shop) -> None:
    waiting = [await stuck_event(shop, None), await stuck_event(shop, None)]
    await operator("webhook-replay", "--id", waiting[0])
    await handled(shop.service, waiting[0], "no payment of ours")
    await operator("webhook-replay", "--pending")
    await handled(shop.service, waiting[1], "no payment of ours")
    mine = str(shop.workspace.id)
    assert await audited(shop, "webhook_events.replayed") == [
        ("payment-cli", "webhook_event", str(waiting[0]), {"events": 1}),
        ("payment-cli", "workspace", mine, {"events": 1}),
    ]
    of_payment = OrderNotice.payment_id == (await shop.pays())["id"]

    async def delivered() -> bool:  # by a relay that would write over what comes next
        async with shop.service.database.transaction() as session:
            return await session.scalar(select(OrderNotice.status).where(of_payment)) == "delivered"

    await eventually(delivered)
    async with shop.service.database.transaction() as session:
        await session.execute(update(OrderNotice).where(of_payment).values(status="given_up", attempts=9))
    await operator("webhook-replay", "--notifications")
    sent_again = await audited(shop, "order_notices.sent_again")
    assert sent_again == [("payment-cli", "workspace", mine, {"notices": 1})]


async def test_what_came_to_nothing_is_listed_and_tried_again(operator: Operator, shop: Shop) -> None:
    unmatched, parked = await stuck_event(shop, None), await stuck_event(shop, None, error="IntegrityError")
    async with shop.service.database.transaction() as session:
        for inbox_id, status_now in ((unmatched, "unmatched"), (parked, "parked")):
            row = await session.get_one(WebhookEvent, inbox_id)
            row.status, row.outcome = status_now, f"{status_now} for a test"
            row.next_attempt_at = datetime.now(UTC) + timedelta(days=1)
    found = await status(operator, shop, "--left")
    assert [(row["inbox_id"], row["status"], row["last_error"]) for row in found["left"]] == [
        (unmatched, "unmatched", "unmatched for a test"),
        (parked, "parked", "IntegrityError"),
    ]
    assert "Came to nothing" in (await operator("webhook-status", "--left", "--workspace", shop.workspace.slug)).stdout
    assert (await operator("webhook-replay", "--left")).stdout.endswith("back in line\n")
    for inbox_id in (unmatched, parked):
        await handled(shop.service, inbox_id, "no payment of ours")
    assert (await status(operator, shop, "--left"))["left"] == []
