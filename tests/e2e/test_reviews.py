"""What waits for a person has acts that end it: each act of each reason, on the running system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from domain.review import REVIEWS, ReviewAction, ReviewReason
from storage import ledger
from storage.models import AuditEntry, Commission, Receipt
from tests.support.reviews import (
    PROVIDER,
    SITUATIONS,
    amount_mismatch,
    currency_mismatch,
    refunded_at_the_provider,
)
from tests.support.service import Service, Shop, eventually

ACTS = [(reason, action) for reason, review in REVIEWS.items() for action in review.acts]
BODY: dict[tuple[ReviewReason, ReviewAction], dict[str, Any]] = {
    (ReviewReason.AMOUNT_UNCONFIRMED, ReviewAction.ACCEPT): {"amount": "25000.00"},
}
OUTSIDE = {"reference": "wire 4711"}
ENDS = {
    (ReviewReason.AMOUNT_MISMATCH, ReviewAction.ACCEPT): "paid",
    (ReviewReason.AMOUNT_MISMATCH, ReviewAction.REFUND): "refunded",
    (ReviewReason.AMOUNT_MISMATCH, ReviewAction.CLOSE): "refunded",
    (ReviewReason.CURRENCY_MISMATCH, ReviewAction.REFUND): "refunded",
    (ReviewReason.CURRENCY_MISMATCH, ReviewAction.CLOSE): "refunded",
    (ReviewReason.AMOUNT_UNCONFIRMED, ReviewAction.ACCEPT): "paid",
    (ReviewReason.AMOUNT_UNCONFIRMED, ReviewAction.CLOSE): "canceled",
    (ReviewReason.TRANSACTION_TAKEN, ReviewAction.CLOSE): "canceled",
    (ReviewReason.ORDER_PAID_TWICE, ReviewAction.ACCEPT): "paid",
    (ReviewReason.ORDER_PAID_TWICE, ReviewAction.REFUND): "refunded",
    (ReviewReason.ORDER_PAID_TWICE, ReviewAction.CLOSE): "paid",
    (ReviewReason.SECOND_CAPTURE, ReviewAction.ACCEPT): "paid",
    (ReviewReason.SECOND_CAPTURE, ReviewAction.REFUND): "paid",
    (ReviewReason.SECOND_CAPTURE, ReviewAction.CLOSE): "paid",
    (ReviewReason.REFUND_RETURNED, ReviewAction.CLOSE): "partially_refunded",
    (ReviewReason.REFUND_PAID_TWICE, ReviewAction.ACCEPT): "partially_refunded",
    (ReviewReason.REFUND_PAID_TWICE, ReviewAction.CLOSE): "partially_refunded",
    (ReviewReason.REFUND_EXCEEDS_PAYMENT, ReviewAction.CLOSE): "paid",
    (ReviewReason.REFUND_UNCONFIRMED, ReviewAction.ACCEPT): "partially_refunded",
    (ReviewReason.REFUND_UNCONFIRMED, ReviewAction.CLOSE): "partially_refunded",
    (ReviewReason.CREDIT_OVERDRAWN, ReviewAction.ACCEPT): "paid",
    (ReviewReason.CREDIT_OVERDRAWN, ReviewAction.CLOSE): "paid",
}
KEPT = ReviewAction.ACCEPT
"""The act after which money beyond what was owed stays the payer's credit with us."""


@asynccontextmanager
async def shop_for(service: Service, reason: ReviewReason) -> AsyncIterator[Shop]:
    shop = await service.shop(PROVIDER.get(reason, "stripe"))
    try:
        yield shop
    finally:
        await shop.aclose()
        await shop.sandbox("DELETE", "/faults")


async def booked(shop: Shop) -> dict[str, int]:
    async with shop.service.database.transaction() as session:
        balances = await ledger.balances(session, shop.workspace.id)
    sums: dict[str, int] = {}
    for account, amount in balances.items():
        name = account.split(":")[0]
        sums[name] = sums.get(name, 0) + amount.minor
    return sums


async def review(shop: Shop, payment_id: str, body: dict[str, Any], **extra: Any) -> Any:
    return await shop.api.post(f"/payments/{payment_id}/review", json=body, **extra)


async def until_decided(shop: Shop, payment_id: str) -> dict[str, Any]:
    async def decided() -> dict[str, Any] | None:
        payment = await shop.read(payment_id)
        return payment if payment["review_reason"] is None else None

    return dict(await eventually(decided))


def test_every_reason_has_acts_and_every_act_is_tried() -> None:
    assert set(REVIEWS) == set(ReviewReason) == set(SITUATIONS)
    assert all(one.meaning and one.acts and all(one.acts.values()) for one in REVIEWS.values())
    assert set(ENDS) == set(ACTS)


@pytest.mark.parametrize(("reason", "action"), ACTS, ids=[f"{reason}-{action}" for reason, action in ACTS])
async def test_an_act_ends_its_reason(service: Service, reason: ReviewReason, action: ReviewAction) -> None:
    async with shop_for(service, reason) as shop:
        payment_id = await SITUATIONS[reason](shop)
        shown = (await shop.api.get(f"/payments/{payment_id}/review")).json()
        assert shown["review_reason"] == reason
        assert {one["action"] for one in shown["acts"]} == set(REVIEWS[reason].acts)
        body = {"action": action, "note": "a person decided"} | BODY.get((reason, action), {})
        outside = action is ReviewAction.CLOSE and reason not in (
            ReviewReason.AMOUNT_UNCONFIRMED,
            ReviewReason.TRANSACTION_TAKEN,
            ReviewReason.REFUND_UNCONFIRMED,
        )
        body |= OUTSIDE if outside else {}
        if outside:  # money is still there: without a word on how it went there is nothing to close
            refused = await review(shop, payment_id, {"action": "close"})
            assert (refused.status_code, refused.json()["code"]) == (409, "review_refused")

        before = await booked(shop)
        said = (await review(shop, payment_id, body, params={"dry_run": True})).json()
        assert "payment.reviewed" in said["notices"], said
        assert "payment.reviewed" in said["audit"]
        assert (await shop.read(payment_id))["review_reason"] == reason
        assert await booked(shop) == before

        keyed = {"headers": {"Idempotency-Key": f"decide-{payment_id}"}}
        done = await review(shop, payment_id, body, **keyed)
        assert done.status_code == (202 if done.json()["refunding"] else 200), done.text
        assert (done.json()["reviewed_reason"], done.json()["action"]) == (reason, action)
        assert (await review(shop, payment_id, body, **keyed)).json() == done.json()

        ended = await until_decided(shop, payment_id)
        ended = await shop.until(payment_id, ENDS[reason, action])
        assert ended["flag"] is None
        again = await review(shop, payment_id, body)
        assert (again.status_code, again.json()["code"]) == (409, "review_not_open")
        balances = await booked(shop)
        assert sum(balances.values()) == 0
        stays = action is KEPT and reason in (ReviewReason.ORDER_PAID_TWICE, ReviewReason.SECOND_CAPTURE)
        assert (balances.get("payer_credit", 0) != 0) is stays
        async with service.database.transaction() as session:
            query = select(AuditEntry).where(
                AuditEntry.subject_id == payment_id, AuditEntry.action == "payment.reviewed"
            )
            [entry] = await session.scalars(query)
        assert (entry.details["note"], entry.details["action"]) == ("a person decided", action)

        async def told() -> bool:
            return "payment.reviewed" in shop.service.merchant.told(payment_id)

        await eventually(told)
        await shop.api.post(f"/payments/{payment_id}/cancel")  # another sync finds nothing new to ask a person
        await asyncio.sleep(0)
        assert (await shop.read(payment_id))["review_reason"] is None


async def test_accepted_money_has_documents_of_what_really_came(shop: Shop) -> None:
    payment_id = await amount_mismatch(shop)
    done = await review(shop, payment_id, {"action": "accept"})
    assert (done.status_code, done.json()["status"]) == (200, "paid")
    paid = await shop.read(payment_id)
    assert (paid["amount"], paid["status"], bool(paid["receipt_id"])) == ("40.00", "paid", True)
    receipt = (await shop.api.get(f"/receipts/{paid['receipt_id']}")).json()
    assert (receipt["total"], receipt["vat"]) == ("40.00", "6.10")
    [commission] = (await shop.api.get("/commissions")).json()["data"]
    assert commission["amount"] == "4.00"
    assert await booked(shop) == {
        "provider": 4000,
        "sales": -3390,
        "vat_payable": -610,
        "commission_expense": 400,
        "commission_payable": -400,
    }

    async def rendered() -> bool:
        return bool((await shop.api.get(f"/receipts/{paid['receipt_id']}.pdf")).status_code == 200)

    await eventually(rendered)
    refund = await shop.api.post("/refunds", json={"payment_id": payment_id})
    assert (refund.json()["status"], refund.json()["amount"]) == ("succeeded", "40.00")
    assert all(not minor for minor in (await booked(shop)).values())


async def test_money_that_does_not_fit_and_goes_back_at_the_provider_ends_by_itself(shop: Shop) -> None:
    payment_id = await amount_mismatch(shop)
    await refunded_at_the_provider(shop, payment_id, "4000")
    ended = await shop.until(payment_id, "refunded")
    assert (ended["review_reason"], ended["receipt_id"]) == (None, None)
    assert all(not minor for minor in (await booked(shop)).values())
    async with shop.service.database.transaction() as session:
        for model in (Receipt, Commission):
            assert not await session.scalar(select(func.count()).where(model.payment_id == UUID(payment_id)))
    again = await shop.api.post("/refunds", json={"payment_id": payment_id})
    assert (again.status_code, again.json()["code"]) == (409, "payment_not_refundable")


async def test_a_part_that_went_back_leaves_the_rest_to_a_person(shop: Shop) -> None:
    payment_id = await amount_mismatch(shop)
    await refunded_at_the_provider(shop, payment_id, "1000")
    refused = await review(shop, payment_id, {"action": "close"})
    assert (refused.status_code, refused.json()["code"]) == (409, "review_refused")
    done = await review(shop, payment_id, {"action": "refund"})
    assert done.status_code == 202, done.text
    await shop.until(payment_id, "refunded")
    assert all(not minor for minor in (await booked(shop)).values())


async def test_a_decision_is_checked_against_what_the_provider_says_now(shop: Shop) -> None:
    """It goes back between the person's look and the decision, and no callback tells of it."""
    payment_id = await amount_mismatch(shop)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await refunded_at_the_provider(shop, payment_id, "4000")
    for body in ({"action": "accept"}, {"action": "refund"}, {"action": "accept", "amount": "50.00"}):
        refused = await review(shop, payment_id, body)
        assert (refused.status_code, refused.json()["code"]) == (409, "review_refused"), refused.text
    closed = await review(shop, payment_id, {"action": "close"})
    assert (closed.status_code, closed.json()["status"]) == (200, "refunded")
    assert all(not minor for minor in (await booked(shop)).values())


async def test_a_provider_that_is_silent_decides_nothing(shop: Shop) -> None:
    payment_id = await amount_mismatch(shop)
    await shop.sandbox("POST", "/faults", {"operation": "read_session", "fault": "error:500", "count": 100})
    refused = await review(shop, payment_id, {"action": "accept"})
    await shop.sandbox("DELETE", "/faults")
    assert (refused.status_code, refused.json()["code"]) == (409, "review_refused"), refused.text
    assert "does not answer" in refused.json()["detail"]
    assert (await review(shop, payment_id, {"action": "accept"})).status_code == 200


async def test_money_of_another_currency_is_not_booked(shop: Shop) -> None:
    payment_id = await currency_mismatch(shop)
    refused = await review(shop, payment_id, {"action": "accept"})
    assert (refused.status_code, refused.json()["review_reason"]) == (409, "currency_mismatch")
    assert await booked(shop) == {}


async def test_two_people_who_decide_at_once_decide_once(shop: Shop) -> None:
    payment_id = await amount_mismatch(shop)
    bodies: list[dict[str, Any]] = [{"action": "accept"}] * 3 + [{"action": "refund"}] * 3
    answers = await asyncio.gather(*(review(shop, payment_id, body) for body in bodies))
    assert len([one for one in answers if one.status_code in (200, 202)]) in (1, 2, 3)
    done = {one.json()["action"] for one in answers if one.status_code in (200, 202)}
    assert len(done) == 1
    await until_decided(shop, payment_id)
    assert sum((await booked(shop)).values()) == 0
    assert not (await booked(shop)).get("payer_credit")


async def test_only_who_may_refund_decides(shop: Shop) -> None:
    payment_id = await amount_mismatch(shop)
    made = await shop.api.post("/api-keys", json={"name": "reads", "scopes": ["payments:read"]})
    reads = {"authorization": f"Bearer {made.json()['key']}"}
    assert (await shop.api.get(f"/payments/{payment_id}/review", headers=reads)).status_code == 200
    assert (await review(shop, payment_id, {"action": "accept"}, headers=reads)).status_code == 403
    assert (await review(shop, str(uuid4()), {"action": "accept"})).status_code == 404
