"""What a dispute of a payment does to its subscription: every status of the bank, each policy of the workspace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from activities.disputed_subscriptions import dispute_changed
from domain.dispute import FINAL_DISPUTE, DisputeState
from domain.subscription import NoCharge
from storage import outbox
from storage.models import Dispute, Payment, Subscription, Workspace
from tests.support.billing_desk import Desk, plan_of
from tests.support.service import Service, Shop

ZONE = "Asia/Jerusalem"
OPEN_STATES = [state for state in DisputeState if state not in FINAL_DISPUTE]
FOR_US = [DisputeState.WON, DisputeState.CLOSED]


@pytest_asyncio.fixture
async def shop(service: Service) -> AsyncIterator[Shop]:
    made = await service.shop(callbacks=False)
    yield made
    await made.aclose()


def day(text: str) -> datetime:
    return datetime.fromisoformat(f"{text} 09:00").replace(tzinfo=ZoneInfo(ZONE))


async def begun(shop: Shop, **rules: str) -> Desk:
    """A subscription of 100.00 a month from 10 January 2047."""
    async with shop.service.database.transaction() as session:
        workspace = await session.get(Workspace, shop.workspace.id)
        assert workspace is not None
        for name, value in rules.items():
            setattr(workspace, name, value)
    plan = await plan_of(shop, "100.00")
    return await Desk(shop, day("2047-01-10"), plan).begin(ZONE)


async def says(desk: Desk, state: DisputeState, payment: Payment, dispute: Any = None) -> Any:
    """The bank's word about a payment's dispute, as its reconciliation records it; then what is due is done."""
    async with desk.database.transaction() as session:
        row = None if dispute is None else await session.get(Dispute, dispute)
        if row is None:
            row = Dispute(
                id=uuid4(),
                workspace_id=desk.shop.workspace.id,
                payment_id=payment.id,
                provider=payment.provider,
                provider_dispute_id=f"dp-{uuid4()}",
                amount=payment.amount,
                currency=payment.currency,
                held=Decimal(0),
                reason="fraudulent",
            )
            session.add(row)
        row.status = state.value
        await session.flush()
        await dispute_changed(session, payment, [row], at=desk.now)
        dispute = row.id
    await desk.settle_down()
    return dispute


async def told(desk: Desk) -> list[str]:
    async with desk.database.transaction() as session:
        rows = await outbox.notices_of_subscription(session, desk.id)
    return [row.type.removeprefix("subscription.") for row in rows]


@pytest.mark.parametrize("opened", OPEN_STATES)
@pytest.mark.parametrize("decided", FOR_US)
async def test_what_falls_due_while_the_bank_decides_is_charged_once_it_has(
    shop: Shop, opened: DisputeState, decided: DisputeState
) -> None:
    desk = await begun(shop)
    (first,) = await desk.charges()
    await desk.live_to(day("2047-02-05"))
    dispute = await says(desk, opened, first)
    row = await desk.row()
    assert (row.status, row.charging_paused_at) == ("active", desk.now)
    assert await desk.promise() is NoCharge.PAYMENT_DISPUTED
    await desk.live_to(day("2047-03-20"))
    assert len(await desk.charges()) == 1
    await says(desk, decided, first, dispute)
    await says(desk, decided, first, dispute)  # told twice
    assert [one.status for one in await desk.charges()] == ["paid"] * 3, "February and March"
    row = await desk.row()
    assert (row.charging_paused_at, row.current_period_end) == (None, day("2047-04-10"))
    assert await told(desk) == ["activated", "charging_paused", "charging_resumed", "renewed", "renewed"]


async def test_an_overdue_invoice_has_the_time_that_it_had(shop: Shop) -> None:
    desk = await begun(shop)
    (first,) = await desk.charges()
    desk.declines = ["insufficient_funds"]
    await desk.live_to(day("2047-02-11"))
    dispute = await says(desk, DisputeState.NEEDS_RESPONSE, first)
    await desk.live_to(day("2047-04-11"))  # far beyond the grace of 21 days
    assert [one.status for one in await desk.charges()] == ["paid", "failed"]
    await says(desk, DisputeState.WON, first, dispute)
    assert (await desk.row()).status == "past_due"
    await desk.live_to(day("2047-04-13"))  # the retry was due a day after the dispute came
    assert "recovered" in await told(desk)
    assert (await desk.row()).status == "active"


@pytest.mark.parametrize("opened", [None, *OPEN_STATES])
async def test_a_lost_dispute_cancels_the_subscription_and_says_so(shop: Shop, opened: DisputeState | None) -> None:
    desk = await begun(shop)
    (first,) = await desk.charges()
    await desk.live_to(day("2047-02-20"))  # a later period is running: the charge-back is of the first payment
    dispute = None if opened is None else await says(desk, opened, first)
    await says(desk, DisputeState.LOST, first, dispute)
    await says(desk, DisputeState.LOST, first, dispute)
    row = await desk.row()
    assert (row.status, row.ended_at) == ("cancelled", desk.now)
    assert str(first.id) in (row.end_reason or "")
    assert (await told(desk)).count("cancelled") == 1
    await desk.live_to(day("2047-06-01"))
    assert len(await desk.charges()) == 2


async def test_a_workspace_may_want_it_otherwise(shop: Shop) -> None:
    desk = await begun(shop, dispute_open_action="charge", dispute_lost_action="keep")
    (first,) = await desk.charges()
    dispute = await says(desk, DisputeState.NEEDS_RESPONSE, first)
    await desk.live_to(day("2047-02-11"))
    assert [one.status for one in await desk.charges()] == ["paid", "paid"]
    await says(desk, DisputeState.LOST, first, dispute)
    await desk.live_to(day("2047-03-11"))
    assert [one.status for one in await desk.charges()] == ["paid"] * 3
    assert await told(desk) == ["activated", "renewed", "renewed"]


async def test_a_cancel_that_was_asked_for_comes_on_its_day_also_while_the_bank_decides(shop: Shop) -> None:
    desk = await begun(shop)
    (first,) = await desk.charges()
    async with desk.database.transaction() as session:
        row = await session.get(Subscription, desk.id)
        assert row is not None
        row.cancel_at_period_end = True
    await says(desk, DisputeState.NEEDS_RESPONSE, first)
    await desk.live_to(day("2047-02-11"))
    assert (await desk.row()).status == "cancelled"


async def test_one_that_the_provider_manages_is_left_to_the_provider(shop: Shop) -> None:
    desk = await begun(shop)
    (first,) = await desk.charges()
    async with desk.database.transaction() as session:
        row = await session.get(Subscription, desk.id)
        assert row is not None
        row.managed_by = "provider"
    await says(desk, DisputeState.LOST, first)
    row = await desk.row()
    assert (row.status, row.charging_paused_at) == ("active", None)
