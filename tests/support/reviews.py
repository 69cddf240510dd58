"""Payments that wait for a person, one for each review reason, made on the running system."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import update

import wiring
from activities.guard import YOUNG, ProviderGuard
from activities.refunds import RefundActivities
from domain.dispute import DisputeState
from domain.refund import AdvanceRefund
from domain.review import ReviewReason
from domain.subscription import ChangeKind
from storage import payments
from storage.models import Payment
from tests.e2e.test_cash import pays_silently_covered, vouches_for_no_amount
from tests.e2e.test_payment import send
from tests.support.credit_lab import CreditLab
from tests.support.service import Shop, eventually

Situation = Callable[[Shop], Awaitable[str]]


async def waits(shop: Shop, payment_id: str, reason: ReviewReason) -> str:
    """The payment's id, once it waits for this reason."""

    async def seen() -> bool:
        return bool((await shop.read(payment_id))["review_reason"] == reason)

    await eventually(seen)
    return payment_id


async def amount_mismatch(shop: Shop) -> str:
    """40.00 came for 50.00."""
    payment = await shop.pays(amount="50.00")
    await shop.sandbox("POST", f"/sessions/{session_of(payment)}/amount", {"amount_total": 4000})
    await shop.pay(payment)
    return await waits(shop, payment["id"], ReviewReason.AMOUNT_MISMATCH)


async def currency_mismatch(shop: Shop) -> str:
    payment = await shop.pays(amount="50.00")
    await shop.till.payer.pays_otherwise(await shop.checkout(payment), UUID(payment["id"]), currency="USD")
    return await waits(shop, payment["id"], ReviewReason.CURRENCY_MISMATCH)


async def amount_unconfirmed(shop: Shop) -> str:
    await vouches_for_no_amount(shop)
    payment = await shop.pays()
    await pays_silently_covered(shop, payment)
    return await waits(shop, payment["id"], ReviewReason.AMOUNT_UNCONFIRMED)


async def transaction_taken(shop: Shop) -> str:
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
    return await waits(shop, second["id"], ReviewReason.TRANSACTION_TAKEN)


async def order_paid_twice(shop: Shop) -> str:
    first, second = await shop.pays(order_id="twice"), await shop.pays(order_id="twice")
    for payment in (first, second):
        await shop.pay(payment)
        await shop.until(payment["id"], "paid")
    return await waits(shop, second["id"], ReviewReason.ORDER_PAID_TWICE)


async def second_capture(shop: Shop) -> str:
    """A further way at a second account, paid too."""
    other = await shop.service.connect(shop.workspace, shop.till.payer, name="second")
    payment = await shop.pays()
    body = {"provider_account_id": str(other.account.id)}
    opened = await shop.api.post(f"/payments/{payment['id']}/attempts", json=body)
    assert opened.status_code == 201, opened.text
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 1000})
    await shop.pay(payment)
    await shop.till.payer.pays(await shop.checkout(payment, 2))
    await shop.sandbox("DELETE", "/faults")
    await shop.api.post(f"/payments/{payment['id']}/cancel")  # which asks both providers first
    return await waits(shop, payment["id"], ReviewReason.SECOND_CAPTURE)


async def refund_returned(shop: Shop) -> str:
    payment = await shop.pays(amount="100.00")
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    refund = (await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "30.00"})).json()
    assert refund["status"] == "succeeded", refund
    await shop.sandbox("POST", f"/refunds/{refund['provider_refund_id']}/return")
    return await waits(shop, payment["id"], ReviewReason.REFUND_RETURNED)


async def refund_paid_twice(shop: Shop) -> str:
    payment_id = await refund_returned(shop)
    [refund] = (await shop.api.get("/refunds", params={"payment_id": payment_id})).json()["data"]
    outside = await shop.api.post(f"/refunds/{refund['id']}/settle-outside", json={"reference": "wire 1"})
    assert outside.status_code == 200, outside.text
    await refunded_at_the_provider(shop, payment_id, "3000")
    return await waits(shop, payment_id, ReviewReason.REFUND_PAID_TWICE)


async def refund_exceeds_payment(shop: Shop) -> str:
    """No sandbox gives back more than it took: the books are told so here."""
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    async with shop.service.database.transaction() as session:
        row, _ = await payments.lock(session, UUID(payment["id"]))
        details = {"provider_refund_id": "re_too_much", "amount": "500.00"}
        payments.set_flag(session, row, ReviewReason.REFUND_EXCEEDS_PAYMENT, details=details)
    return await waits(shop, payment["id"], ReviewReason.REFUND_EXCEEDS_PAYMENT)


async def refund_unconfirmed(shop: Shop) -> str:
    """A refund of 30.00 that got no answer, and one of 40.00 by hand, of which the provider tells the sum alone."""
    payment = await shop.pays(amount="100.00")
    await shop.till.payer.pays(await shop.checkout(payment))
    await shop.until(payment["id"], "paid")
    payer = shop.till.payer
    silence = {"operation": payer.operations["refund"], "fault": "timeout_before:4", "count": 1}
    await shop.sandbox("POST", "/faults", silence | {"only_with": [payer.account_key]})
    asked = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "30.00"})
    assert asked.json()["status"] == "unknown", asked.text
    (process,) = await payer.checkouts_of(UUID(payment["id"]))
    await shop.sandbox("POST", f"/meshulam/processes/{process}/refund", {"sum": "40.00"})
    await asked_again_later(shop, UUID(asked.json()["id"]))
    return await waits(shop, payment["id"], ReviewReason.REFUND_UNCONFIRMED)


async def credit_overdrawn(shop: Shop) -> str:
    """A year was changed to months, one of which its credit has paid; then the bank took the year's money."""
    lab = CreditLab(shop)
    subscription = await lab.subscribe(await lab.plan("1200.00", "year"))
    await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=(await lab.plan("100.00")).id)
    (payment,) = await lab.paid(subscription)
    await lab.live(subscription, days=32)
    await lab.dispute(payment.id, DisputeState.LOST, lab.money("1200.00"))
    return await waits(shop, str(payment.id), ReviewReason.CREDIT_OVERDRAWN)


async def asked_again_later(shop: Shop, refund_id: UUID) -> None:
    """As the refund's workflow does once the provider has had the time to act."""
    service = shop.service

    def now() -> datetime:
        return datetime.now(UTC) + YOUNG

    pool = wiring.provider_pool(service.settings, service.sealer)
    guard = ProviderGuard(service.database, pool, now)
    await RefundActivities(service.database, guard, service.sealer, now).advance_refund(AdvanceRefund(refund_id))
    await pool.close()


async def refunded_at_the_provider(shop: Shop, payment_id: str, minor: str) -> None:
    """By Stripe's own API, as its dashboard does."""
    charges = await shop.sandbox("GET", "/objects?type=charge")
    charge = next(one for one in charges if one["metadata"]["payment_id"] == payment_id)
    answer = await shop.service.http.post(
        f"{shop.service.sandbox_url}/v1/refunds",
        data={"payment_intent": charge["payment_intent"], "amount": minor},
        headers={"authorization": f"Bearer {shop.provider_key}"},
    )
    assert answer.status_code == 200, answer.text


def session_of(payment: dict[str, Any]) -> str:
    return str(payment["checkout_url"].rsplit("/", 1)[1])


SITUATIONS: dict[ReviewReason, Situation] = {
    ReviewReason.AMOUNT_MISMATCH: amount_mismatch,
    ReviewReason.CURRENCY_MISMATCH: currency_mismatch,
    ReviewReason.AMOUNT_UNCONFIRMED: amount_unconfirmed,
    ReviewReason.TRANSACTION_TAKEN: transaction_taken,
    ReviewReason.ORDER_PAID_TWICE: order_paid_twice,
    ReviewReason.SECOND_CAPTURE: second_capture,
    ReviewReason.REFUND_RETURNED: refund_returned,
    ReviewReason.REFUND_PAID_TWICE: refund_paid_twice,
    ReviewReason.REFUND_EXCEEDS_PAYMENT: refund_exceeds_payment,
    ReviewReason.REFUND_UNCONFIRMED: refund_unconfirmed,
    ReviewReason.CREDIT_OVERDRAWN: credit_overdrawn,
}
"""How each reason comes about."""
PROVIDER = {ReviewReason.AMOUNT_UNCONFIRMED: "efecty", ReviewReason.REFUND_UNCONFIRMED: "meshulam"}
"""At Stripe, but for what Stripe has not."""
