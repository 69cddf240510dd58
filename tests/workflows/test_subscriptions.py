"""Years of subscriptions in seconds: every charge's amount and moment against a table written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from tests.support.billing_lab import Lab, lab_of
from tests.support.service import Service

DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def lab(service: Service, skipping: WorkflowEnvironment) -> AsyncIterator[Lab]:
    shop = await service.shop(callbacks=False)
    async with lab_of(shop, skipping) as made:
        yield made
    await shop.aclose()


def moment(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


async def begun(lab: Lab, zone: str, at: str, amount: str = "100.00", unit: str = "month") -> tuple[object, object]:
    await lab.live_to(moment(at, zone))
    customer = f"cust-{uuid4().hex[:6]}"
    method = await lab.card(customer)
    plan = await lab.plan(amount, unit)
    return await lab.subscribe(plan, zone=zone, method=method, customer_id=customer), plan


async def test_two_years_from_the_31st_of_january(lab: Lab) -> None:
    zone = "Asia/Jerusalem"
    subscription, _ = await begun(lab, zone, "2028-01-31 09:00")
    await lab.live_to(moment("2030-02-01 00:00", zone))
    print(await lab.now(), (await lab.row(subscription)).__dict__)
    found = await lab.charges(subscription, zone)
    print(found)
    assert len(found) == 25
