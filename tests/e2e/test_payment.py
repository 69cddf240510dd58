"""One payment from API call to receipt, and what may go wrong on its way."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import time
from typing import Any
from uuid import UUID

import pytest
from pypdf import PdfReader
from sqlalchemy import func, select, update
from standardwebhooks.webhooks import Webhook

from storage import outbox
from storage.models import AuditEntry, Commission, LedgerEntry, Payment, Receipt, WebhookEvent, WebhookRejection
from tests.support.service import NOTICE_SECRET, Service, Shop, eventually


async def count(service: Service, model: Any, payment_id: str) -> int:
    async with service.database.transaction() as session:
        return int(await session.scalar(select(func.count()).where(model.payment_id == payment_id)) or 0)


async def test_from_call_to_receipt_commission_and_notification(shop: Shop) -> None:
    payment = await shop.pays()
    assert payment["status"] == "pending"
    assert "/c/pay/" in payment["checkout_url"]
    assert await shop.pay(payment) == "paid"
    paid = await shop.until(payment["id"], "paid")
    receipt = (await shop.api.get(f"/receipts/{paid['receipt_id']}")).json()
    assert (receipt["number"], receipt["net"], receipt["vat"], receipt["total"]) == (1, "110.08", "19.82", "129.90")
    assert receipt["israeli_code"] == 320

    async def pdf() -> bytes | None:
        answer = await shop.api.get(f"/receipts/{paid['receipt_id']}.pdf")
        return answer.content if answer.status_code == 200 else None

    text = PdfReader(io.BytesIO(await eventually(pdf))).pages[0].extract_text()
    assert "129.90" in text
    assert "Dana Levi" in text
    report = (await shop.api.get("/referrers/partner-5/report")).json()
    assert report["totals"] == [
        {
            "status": "accrued",
            "count": 1,
            "amount": "12.99",
            "clawed_back": "0.00",
            "orders_total": "129.90",
            "currency": "ILS",
        }
    ]

    async def told() -> bool:
        return shop.service.merchant.told(payment["id"]) == ["payment.pending", "payment.paid"]

    await eventually(told)
    timeline = [entry["what"] for entry in (await shop.api.get(f"/payments/{payment['id']}/timeline")).json()]
    assert "commission.accrued" in timeline
    assert "checkout.session.completed" in timeline
    async with shop.service.database.transaction() as session:
        entries = await session.execute(
            select(LedgerEntry.account, LedgerEntry.amount).where(LedgerEntry.payment_id == payment["id"])
        )
        booked = {account.split(":")[0]: str(amount) for account, amount in entries}
    assert booked == {
        "provider": "129.9000",
        "sales": "-110.0800",
        "vat_payable": "-19.8200",
        "commission_expense": "12.9900",
        "commission_payable": "-12.9900",
    }


async def test_notifications_are_signed_and_carry_the_state_difference(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.pay(payment)

    async def told() -> bool:
        return "payment.paid" in shop.service.merchant.told(payment["id"])

    await eventually(told)
    merchant = shop.service.merchant
    index = next(
        i
        for i, notice in enumerate(merchant.notices)
        if notice["data"].get("payment_id") == payment["id"] and notice["type"] == "payment.paid"
    )
    verified = Webhook(NOTICE_SECRET).verify(merchant.bodies[index], merchant.headers[index])
    assert verified["data"]["previous_status"] == "pending"
    assert verified["data"]["status"] == "paid"
    assert "dana@example.com" not in merchant.bodies[index].decode()


async def test_a_failing_order_service_is_tried_again_in_order(shop: Shop) -> None:
    merchant = shop.service.merchant
    merchant.refuses.add("payment.pending")
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")

    async def tried_again() -> bool:
        async with shop.service.database.transaction() as session:
            first, second = await outbox.notices_of(session, UUID(payment["id"]))
        return first.attempts > 2 and second.attempts == 0

    await eventually(tried_again)
    assert merchant.told(payment["id"]) == [], "what comes later waits for what was refused"
    merchant.refuses.clear()

    async def told() -> bool:
        return merchant.told(payment["id"]) == ["payment.pending", "payment.paid"]

    await eventually(told)


async def test_fifty_deliveries_at_once_settle_once(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await shop.pay(payment)
    event = next(
        event
        for event in await shop.events("checkout.session.completed")
        if event["data"]["object"]["client_reference_id"] == payment["id"]
    )
    body = json.dumps(event).encode()
    at = int(time.time())
    digest = hmac.new(shop.hook_secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"stripe-signature": f"t={at},v1={digest}"}
    answers = await asyncio.gather(
        *(shop.service.http.post(shop.hook_url, content=body, headers=headers) for _ in range(50))
    )
    assert [answer.status_code for answer in answers] == [200] * 50
    await shop.until(payment["id"], "paid")
    for model in (Receipt, Commission, WebhookEvent):
        assert await count(shop.service, model, payment["id"]) == 1
    assert await count(shop.service, LedgerEntry, payment["id"]) == 5


async def test_two_kinds_of_event_for_one_capture_settle_once(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")

    async def both() -> bool:
        return await count(shop.service, WebhookEvent, payment["id"]) >= 3

    await eventually(both)
    assert await count(shop.service, Receipt, payment["id"]) == 1


async def send(shop: Shop, body: bytes, *, at: int | None = None, secret: str | None = None) -> Any:
    moment = int(time.time()) if at is None else at
    digest = hmac.new((secret or shop.hook_secret).encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return await shop.service.http.post(
        shop.hook_url, content=body, headers={"stripe-signature": f"t={moment},v1={digest}"}
    )


async def test_bad_callbacks_get_the_right_answer_change_nothing_and_are_counted(shop: Shop) -> None:
    payment = await shop.pays()
    event = {
        "id": "evt_forged",
        "object": "event",
        "type": "checkout.session.completed",
        "data": {
            "object": {"object": "checkout.session", "client_reference_id": payment["id"], "payment_status": "paid"}
        },
    }
    body = json.dumps(event).encode()
    now = int(time.time())
    cases = [
        (await send(shop, body, secret="whsec_wrong"), 400, "signature_invalid"),
        (await send(shop, body, at=now - 301), 400, "timestamp_out_of_range"),
        (await send(shop, body, at=now + 3600), 400, "timestamp_out_of_range"),
        (await send(shop, b"{not json"), 400, "malformed_body"),
        (await send(shop, b"x" * 2_000_000), 413, "body_too_large"),
        (await shop.service.http.post(shop.hook_url, content=body), 400, "signature_invalid"),
        (
            await shop.service.http.post(f"{shop.service.api_url}/api/v1/webhooks/stripe/not-an-account", content=body),
            404,
            "not_found",
        ),
        (
            await shop.service.http.post(f"{shop.service.api_url}/api/v1/webhooks/nobody", content=body),
            404,
            "not_found",
        ),
    ]
    for answer, status, code in cases:
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await shop.read(payment["id"]))["status"] == "pending"
    assert await count(shop.service, WebhookEvent, payment["id"]) == 0
    await shop.api.get("/webhooks/health")  # what was counted in memory is on record before it is read
    async with shop.service.database.transaction() as session:
        rows = await session.execute(
            select(WebhookRejection.reason, WebhookRejection.count).where(
                WebhookRejection.account == str(shop.account.id)
            )
        )
        counted = dict(rows.all())
    assert counted == {
        "bad_signature": 2,
        "stale_timestamp": 1,
        "future_timestamp": 1,
        "malformed_body": 1,
        "body_too_large": 1,
    }


async def test_a_signed_event_about_another_workspaces_payment_changes_nothing(service: Service, shop: Shop) -> None:
    other = await service.shop()
    payment = await other.pays()
    event = {
        "id": "evt_foreign",
        "object": "event",
        "created": int(time.time()),
        "type": "checkout.session.completed",
        "data": {
            "object": {
                "id": "cs_x",
                "object": "checkout.session",
                "client_reference_id": payment["id"],
                "payment_status": "paid",
                "amount_total": 12990,
                "currency": "ils",
            }
        },
    }
    assert (await send(shop, json.dumps(event).encode())).status_code == 200
    assert (await other.read(payment["id"]))["status"] == "pending"
    assert (await shop.api.get(f"/payments/{payment['id']}")).status_code == 404
    await other.api.aclose()


async def test_an_event_that_lies_is_only_a_reason_to_look(shop: Shop) -> None:
    payment = await shop.pays()
    session_id = payment["checkout_url"].rsplit("/", 1)[1]
    event = {
        "id": "evt_lie",
        "object": "event",
        "created": int(time.time()),
        "type": "checkout.session.completed",
        "data": {
            "object": {
                "id": session_id,
                "object": "checkout.session",
                "client_reference_id": payment["id"],
                "payment_status": "paid",
                "amount_total": 12990,
                "currency": "ils",
            }
        },
    }
    assert (await send(shop, json.dumps(event).encode())).status_code == 200

    async def handled() -> bool:
        async with shop.service.database.transaction() as session:
            return bool(await session.scalar(select(WebhookEvent.handled_at).where(WebhookEvent.event_id == "evt_lie")))

    await eventually(handled)
    assert (await shop.read(payment["id"]))["status"] == "pending"


async def test_an_amount_that_differs_at_the_provider_is_flagged_and_not_settled(shop: Shop) -> None:
    payment = await shop.pays()
    session_id = payment["checkout_url"].rsplit("/", 1)[1]
    await shop.sandbox("POST", f"/sessions/{session_id}/amount", {"amount_total": 100})
    await shop.pay(payment)
    flagged = await shop.until(payment["id"], "unknown")
    assert flagged["flag"] == "amount_mismatch"
    assert await count(shop.service, Receipt, payment["id"]) == 0


async def test_declined_then_paid(shop: Shop) -> None:
    payment = await shop.pays()
    assert "declined" in await shop.pay(payment, "4000000000000002")
    assert (await shop.read(payment["id"]))["status"] == "pending"
    assert await shop.pay(payment) == "paid"
    await shop.until(payment["id"], "paid")
    timeline = [entry["what"] for entry in (await shop.api.get(f"/payments/{payment['id']}/timeline")).json()]
    assert "payment_intent.payment_failed" in timeline


async def test_direct_mode_with_a_3ds_challenge(shop: Shop) -> None:
    payment = await shop.pays(checkout_mode=False)
    assert payment["checkout_url"] is None
    assert payment["client_secret"].startswith("pi_")
    intent_id = payment["client_secret"].rsplit("_secret", 1)[0]
    await shop.sandbox("POST", f"/payment_intents/{intent_id}/confirm", {"card": "4000000000003220"})
    await shop.until(payment["id"], "requires_action")
    await shop.sandbox("POST", f"/payment_intents/{intent_id}/confirm", {"card": "4000000000003220", "approved": True})
    await shop.until(payment["id"], "paid")


async def test_a_slow_method_settles_days_later_or_fails(shop: Shop) -> None:
    paid, bounced = await shop.pays(), await shop.pays()
    for payment, succeeded, status in ((paid, True, "paid"), (bounced, False, "failed")):
        session_id = payment["checkout_url"].rsplit("/", 1)[1]
        await shop.sandbox("POST", f"/sessions/{session_id}/pay-later")
        await asyncio.sleep(0.3)
        assert (await shop.read(payment["id"]))["status"] == "pending"
        await shop.sandbox("POST", f"/sessions/{session_id}/settle", {"succeeded": succeeded})
        await shop.until(payment["id"], status)


async def test_a_session_that_expires_at_the_provider(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.sandbox("POST", f"/sessions/{payment['checkout_url'].rsplit('/', 1)[1]}/expire-now")
    await shop.until(payment["id"], "expired")


async def test_cancel_closes_the_page_and_a_second_cancel_is_harmless(shop: Shop) -> None:
    payment = await shop.pays()
    canceled = await shop.api.post(f"/payments/{payment['id']}/cancel")
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    assert (await shop.api.post(f"/payments/{payment['id']}/cancel")).json()["status"] == "canceled"
    assert await shop.pay(payment) == "This page has expired."


async def test_cancel_loses_against_money(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 10})
    await shop.pay(payment)
    answer = await shop.api.post(f"/payments/{payment['id']}/cancel")
    assert answer.json()["status"] == "paid"
    refused = await shop.api.post(f"/payments/{payment['id']}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_is_final")


async def test_money_that_arrives_after_the_end_is_settled_in_the_afterlife(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.api.post(f"/payments/{payment['id']}/cancel")
    async with shop.service.database.transaction() as session:
        row = await session.get(Payment, payment["id"])
        assert row is not None
        session_id = row.provider_session_id
    # the provider takes the money all the same
    await shop.sandbox("POST", f"/sessions/{session_id}/amount", {"status": "open", "payment_intent": None})
    assert await shop.pay(payment) == "paid"
    paid = await shop.until(payment["id"], "paid")
    assert paid["receipt_id"]
    async with shop.service.database.transaction() as session:
        late = await session.scalar(
            select(AuditEntry.details).where(
                AuditEntry.subject_id == payment["id"], AuditEntry.action == "payment.paid"
            )
        )
    assert late is not None
    assert late["late"] is True


async def test_a_provider_that_acts_and_then_is_silent_opens_one_checkout(shop: Shop) -> None:
    await shop.sandbox("POST", "/faults", {"operation": "create_session", "fault": "timeout_after:4", "count": 1})
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    assert await shop.totals(payment["id"]) == {
        "sessions": 1,
        "intents": 1,
        "charges": 1,
        "charged": 12990,
        "refunded": 0,
    }


@pytest.mark.parametrize("fault", ["error:500", "rate_limit:1", "timeout_before:4"])
async def test_a_provider_in_trouble_is_asked_again(shop: Shop, fault: str) -> None:
    await shop.sandbox("POST", "/faults", {"operation": "create_session", "fault": fault, "count": 2})
    payment = await shop.pays()
    assert payment["checkout_url"]
    assert (await shop.totals(payment["id"]))["sessions"] == 1


async def test_a_refused_payment_says_why(shop: Shop) -> None:
    answer = await shop.api.post("/payments", json=shop.order(amount="0.10"))
    assert (answer.status_code, answer.json()["code"]) == (422, "provider_rejected")
    assert answer.json()["provider_code"] == "amount_too_small"
    failed = await shop.read(answer.json()["payment_id"])
    assert (failed["status"], failed["status_reason"]) == ("failed", "amount_too_small")


async def test_events_may_be_late_doubled_or_out_of_order(shop: Shop) -> None:
    for fault in ("duplicate:5", "delay:0.5", "reorder"):
        await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": fault, "count": 4})
        payment = await shop.pays()
        await shop.pay(payment)
        await shop.until(payment["id"], "paid")
        assert await count(shop.service, Receipt, payment["id"]) == 1
        await shop.sandbox("DELETE", "/faults")


async def test_one_transaction_cannot_settle_two_payments(shop: Shop) -> None:
    """The database's constraint decides; the second payment is left for a person and not tried for ever."""
    first, second = await shop.pays(), await shop.pays()
    await shop.pay(first)
    await shop.until(first["id"], "paid")
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await shop.pay(second)
    event = next(
        event
        for event in await shop.events("checkout.session.completed")
        if event["data"]["object"]["client_reference_id"] == second["id"]
    )
    async with shop.service.database.transaction() as session:
        taken = event["data"]["object"]["payment_intent"]
        await session.execute(update(Payment).where(Payment.id == first["id"]).values(provider_transaction_id=taken))
    await shop.sandbox("DELETE", "/faults")
    assert (await send(shop, json.dumps(event).encode())).status_code == 200
    flagged = await shop.until(second["id"], "unknown")
    assert flagged["flag"] == "transaction_settled_another_payment"
    assert await count(shop.service, Receipt, second["id"]) == 0
