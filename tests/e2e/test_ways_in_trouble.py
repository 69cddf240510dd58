"""Several ways to pay one payment, and what may go wrong between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest_asyncio
from sqlalchemy import select
from temporalio.testing import ActivityEnvironment

import wiring
from activities.checkout import CheckoutActivities
from activities.confirmation import RECORDING_SECONDS, ConfirmationActivities
from activities.guard import ProviderGuard
from activities.surplus import SurplusActivities
from domain.payment import Confirm, OpenWay, PaymentStatus, ReturnSurplus, SurplusStatus, attempt_reference
from storage import attempts
from storage.models import Receipt, SurplusCapture
from tests.providers.payers import payer_class
from tests.support.service import PATIENCE, Service, Shop, Till, eventually
from tests.support.wire import Wire, wired
from worker import utc_now


@pytest_asyncio.fixture
async def wire(service: Service) -> AsyncIterator[Wire]:
    async with wired(service.sandbox_url) as made:
        yield made


@pytest_asyncio.fixture
async def second(shop: Shop, wire: Wire) -> AsyncIterator[Till]:
    """A further account of the shop, whose line can be cut."""
    payer = payer_class("stripe")(shop.service.sandbox_url)
    yield await shop.service.connect(shop.workspace, payer, name="second", options={"api_base": wire.url})
    await payer.http.aclose()


@dataclass
class Work:
    """The activities, to be called one by one."""

    checkout: CheckoutActivities
    confirmation: ConfirmationActivities
    surplus: SurplusActivities


@pytest_asyncio.fixture
async def work(service: Service) -> AsyncIterator[Work]:
    pool = wiring.provider_pool(service.settings, service.sealer)
    guard = ProviderGuard(service.database, pool, utc_now)
    yield Work(
        CheckoutActivities(service.database, guard, service.sealer, utc_now, public_base_url=service.api_url),
        ConfirmationActivities(service.database, guard, service.sealer, utc_now),
        SurplusActivities(service.database, guard, service.sealer, utc_now),
    )
    await pool.close()


async def add_way(shop: Shop, payment: dict[str, Any], till: Till) -> dict[str, Any]:
    answer = await shop.api.post(
        f"/payments/{payment['id']}/attempts", json={"provider_account_id": str(till.account.id)}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def rows(shop: Shop, model: Any, payment_id: str) -> list[Any]:
    async with shop.service.database.transaction() as session:
        return list(await session.scalars(select(model).where(model.payment_id == UUID(payment_id))))


async def statuses(shop: Shop, payment_id: str) -> list[str]:
    return [way["status"] for way in (await shop.api.get(f"/payments/{payment_id}/attempts")).json()]


async def test_money_by_one_way_settles_while_the_other_ones_provider_is_down(
    shop: Shop, second: Till, wire: Wire
) -> None:
    payment = await shop.pays()
    await add_way(shop, payment, second)
    wire.cut = True
    await shop.pay(payment)
    paid = await shop.until(payment["id"], "paid")
    assert paid["provider_account_id"] == str(shop.account.id)
    wire.cut = False  # the other way is closed later, once its provider answers


async def slow_way(shop: Shop, second: Till, wire: Wire, work: Work, payment: dict[str, Any]) -> asyncio.Task[Any]:
    """A further way whose opening has reached the provider and has no answer yet."""
    payment_id = UUID(payment["id"])
    async with shop.service.database.transaction() as session:
        values = {"provider": "stripe", "provider_account_id": second.account.id, "method": "card"}
        await attempts.record(session, payment_id, 2, values | {"checkout_mode": "hosted", "status": "opening"})
    wire.hold("v1/checkout/sessions")
    opening = asyncio.create_task(work.checkout.open_way(OpenWay(payment_id, attempt_reference(payment_id, 2))))
    await wire.reached.wait()
    return opening


async def test_money_by_one_way_is_recorded_while_another_ones_provider_takes_its_time(
    service: Service, shop: Shop, second: Till, wire: Wire
) -> None:
    """A look may be several requests, each of them in time. The try was over before the last, and so was every next."""
    payment = await shop.pays()
    await add_way(shop, payment, second)
    await shop.sandbox("DELETE", "/webhook-endpoints")
    assert await shop.pay(payment) == "paid"
    pool = wiring.provider_pool(service.settings.model_copy(update={"provider_timeout_seconds": 300}), service.sealer)
    confirmation = ConfirmationActivities(
        service.database, ProviderGuard(service.database, pool, utc_now), service.sealer, utc_now
    )
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, start_to_close_timeout=timedelta(seconds=RECORDING_SECONDS + 4))
    wire.hold_back("", "GET")
    found = await asyncio.wait_for(environment.run(confirmation.confirm, Confirm(UUID(payment["id"]))), PATIENCE)
    assert (found.status, found.others_open) == (PaymentStatus.PAID, True)
    wire.let_go()
    await pool.close()


async def test_a_way_that_opens_after_the_payment_was_paid_takes_nothing_over_and_is_closed(
    shop: Shop, second: Till, wire: Wire, work: Work
) -> None:
    payment = await shop.pays()
    opening = await slow_way(shop, second, wire, work, payment)
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    wire.let_go()
    await opening
    paid = await shop.read(payment["id"])
    assert (paid["status"], paid["provider_account_id"]) == ("paid", str(shop.account.id))
    await work.confirmation.confirm(Confirm(UUID(payment["id"])))
    assert await statuses(shop, payment["id"]) == ["paid", "expired"]
    await second.payer.tries_to_pay(await shop.checkout(payment, 2))


async def test_a_way_that_opens_after_a_cancel_is_closed(shop: Shop, second: Till, wire: Wire, work: Work) -> None:
    payment = await shop.pays()
    opening = await slow_way(shop, second, wire, work, payment)
    assert (await shop.api.post(f"/payments/{payment['id']}/cancel")).json()["status"] == "canceled"
    wire.let_go()
    await opening
    assert (await shop.read(payment["id"]))["provider_account_id"] == str(shop.account.id)
    await work.confirmation.confirm(Confirm(UUID(payment["id"])))
    await second.payer.tries_to_pay(await shop.checkout(payment, 2))
    assert (await shop.read(payment["id"]))["status"] == "canceled"


async def test_a_look_that_began_before_the_money_came_does_not_reopen_the_way(
    service: Service, wire: Wire, work: Work
) -> None:
    shop = await service.shop(order_webhook_url=None)
    payer = payer_class("stripe")(service.sandbox_url)
    till = await service.connect(shop.workspace, payer, name="held", options={"api_base": wire.url}, callbacks=False)
    payment = await shop.pays(provider_account_id=str(till.account.id))
    confirm = Confirm(UUID(payment["id"]))
    session_id = (await shop.checkout(payment)).session_id
    wire.hold(f"/{session_id}", "GET")
    early = asyncio.create_task(work.confirmation.confirm(confirm))
    await wire.reached.wait()
    await shop.pay(payment)
    wire.hold("/nothing")  # the early look's answer is still on its way
    assert (await work.confirmation.confirm(confirm)).status is PaymentStatus.PAID
    wire.let_go()
    assert (await early).status is PaymentStatus.PAID
    assert await statuses(shop, payment["id"]) == ["paid"]
    await payer.http.aclose()
    await shop.aclose()


async def test_a_refund_of_surplus_that_a_crash_cut_off_is_begun_by_the_next_look(service: Service, work: Work) -> None:
    """The look's answer never reached the workflow: the next one must give the same."""
    shop = await service.shop(order_webhook_url=None, surplus_policy="refund", callbacks=False)
    first, again = await shop.pays(order_id="paid-by-two"), await shop.pays(order_id="paid-by-two")
    for payment in (first, again):
        await shop.pay(payment)
    assert (await work.confirmation.confirm(Confirm(UUID(first["id"])))).surplus_ids == ()
    lost = await work.confirmation.confirm(Confirm(UUID(again["id"])))
    assert len(lost.surplus_ids) == 1
    assert (await work.confirmation.confirm(Confirm(UUID(again["id"])))).surplus_ids == lost.surplus_ids
    assert await work.surplus.return_surplus(ReturnSurplus(lost.surplus_ids[0])) is SurplusStatus.REFUNDED
    assert (await work.confirmation.confirm(Confirm(UUID(again["id"])))).surplus_ids == ()
    await shop.aclose()


async def test_money_of_another_amount_does_not_hide_the_right_money(shop: Shop, second: Till, work: Work) -> None:
    payment = await shop.pays()
    await add_way(shop, payment, second)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    session_id = payment["checkout_url"].rsplit("/", 1)[1]
    await shop.sandbox("POST", f"/sessions/{session_id}/amount", {"amount_total": 100})
    await shop.pay(payment)
    assert (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).flag == "amount_mismatch"
    await second.payer.pays(await shop.checkout(payment, 2))
    assert (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).status is PaymentStatus.PAID
    assert [row.total for row in await rows(shop, Receipt, payment["id"])] == [Decimal("129.90")]
    assert [row.amount for row in await rows(shop, SurplusCapture, payment["id"])] == [Decimal("1.00")]


async def test_a_payment_without_a_live_way_still_ends(shop: Shop, second: Till, wire: Wire, work: Work) -> None:
    payment = await shop.pays()
    payment_id = UUID(payment["id"])
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    async with shop.service.database.transaction() as session:
        values = {"provider": "stripe", "provider_account_id": second.account.id, "method": "card"}
        await attempts.record(session, payment_id, 2, values | {"checkout_mode": "hosted", "status": "opening"})
    session_id = payment["checkout_url"].rsplit("/", 1)[1]
    await shop.sandbox("POST", f"/sessions/{session_id}/expire-now")
    assert (await work.confirmation.confirm(Confirm(payment_id))).status is PaymentStatus.PENDING
    async with shop.service.database.transaction() as session:  # the further way was refused at last
        row = await attempts.by_reference(session, attempt_reference(payment_id, 2))
        assert row is not None
        await attempts.set_status(session, row.id, status="failed", error_code="refused")
    ended = await work.confirmation.confirm(Confirm(payment_id, (), PaymentStatus.EXPIRED))
    assert ended.status is PaymentStatus.EXPIRED


async def test_a_code_that_is_paid_twice_brings_one_receipt_and_one_surplus(service: Service) -> None:
    shop = await service.shop("efecty")
    payment = await shop.pays()
    opened = await shop.checkout(payment)
    payer = shop.till.payer
    await payer.pays(opened)
    await shop.until(payment["id"], "paid")
    await payer.pays(opened)

    async def recorded() -> bool:
        return len(await rows(shop, SurplusCapture, payment["id"])) == 1

    await eventually(recorded)
    assert len(await rows(shop, Receipt, payment["id"])) == 1
    assert (await shop.read(payment["id"]))["flag"] == "second_capture"
    await shop.aclose()
