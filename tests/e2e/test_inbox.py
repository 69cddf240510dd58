"""Events on their way to the workflows: handed over again with patience, and looked at when they are."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from sqlalchemy import func, select, update

from sandbox.webhooks import seal
from storage import inbox
from storage.models import WebhookEvent
from tests.providers.payers import payer_class
from tests.support.service import Service, Shop, Till, eventually
from tests.support.wire import Wire, wired


@pytest_asyncio.fixture
async def wire(service: Service) -> AsyncIterator[Wire]:
    async with wired(service.sandbox_url) as made:
        yield made


@pytest_asyncio.fixture
async def till(shop: Shop, wire: Wire) -> AsyncIterator[Till]:
    """An account whose line can be cut, and which sends no callbacks by itself."""
    payer = payer_class("stripe")(shop.service.sandbox_url)
    options = {"api_base": wire.url}
    yield await shop.service.connect(shop.workspace, payer, name="cut", options=options, callbacks=False)
    await payer.http.aclose()


async def tell(shop: Shop, till: Till, payment: dict[str, Any]) -> None:
    """A signed event that claims the payment was paid."""
    session_id = payment["checkout_url"].rsplit("/", 1)[1]
    event = {
        "id": f"evt_{payment['id']}",
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
    body = json.dumps(event).encode()
    answer = await shop.service.http.post(
        till.hook_url, content=body, headers=seal(till.credentials["webhook_secret"], body)
    )
    assert answer.status_code == 200


async def row_of(shop: Shop, payment: dict[str, Any]) -> WebhookEvent:
    async with shop.service.database.transaction() as session:
        row = await session.scalar(select(WebhookEvent).where(WebhookEvent.payment_id == UUID(payment["id"])))
    assert row is not None
    return row


async def test_an_event_without_an_outcome_is_handed_over_again_with_growing_waits(
    shop: Shop, till: Till, wire: Wire
) -> None:
    payment = await shop.pays(provider_account_id=str(till.account.id))
    wire.cut = True
    await tell(shop, till, payment)

    async def handed_over(times: int) -> bool:
        row = await row_of(shop, payment)
        return row.status == "dispatched" and row.attempts >= times

    await eventually(lambda: handed_over(1))
    for times in (2, 3):
        async with shop.service.database.transaction() as session:
            await session.execute(
                update(WebhookEvent)
                .where(WebhookEvent.payment_id == UUID(payment["id"]))
                .values(next_attempt_at=func.now())
            )
        await eventually(lambda times=times: handed_over(times))
        async with shop.service.database.transaction() as session:
            now = await session.scalar(select(func.now()))
        assert now is not None
        wait = (await row_of(shop, payment)).next_attempt_at - now
        assert wait > timedelta(minutes=10) * 2 ** (times - 1) - timedelta(minutes=1)


async def test_an_event_that_an_operator_hands_over_again_is_looked_at_again(
    shop: Shop, till: Till, wire: Wire
) -> None:
    payment = await shop.pays(provider_account_id=str(till.account.id))
    await tell(shop, till, payment)  # nobody has paid yet

    async def handled() -> bool:
        return (await row_of(shop, payment)).status == "handled"

    await eventually(handled)
    await shop.pay(payment)
    async with shop.service.database.transaction() as session:
        assert await inbox.replay(session, actor="test", inbox_id=(await row_of(shop, payment)).id) == 1
    await shop.until(payment["id"], "paid")
    await eventually(handled)
