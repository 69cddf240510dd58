"""Methods that come with money, where others change the same customer's methods at the same moment."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy import text

import wiring
from activities.confirmation import ConfirmationActivities
from activities.guard import ProviderGuard
from domain.payment import Confirm, PaymentStatus
from storage import audit, payment_methods
from tests.support.service import Service, eventually
from worker import utc_now

WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")


async def test_a_settlement_that_saves_a_method_and_a_set_up_do_not_wait_for_each_other(service: Service) -> None:
    """The settlement had written to the audit log when it came to the customer, and lost the method to a deadlock."""
    shop = await service.shop(order_webhook_url=None, callbacks=False)
    pool = wiring.provider_pool(service.settings, service.sealer)
    guard = ProviderGuard(service.database, pool, utc_now)
    confirmation = ConfirmationActivities(service.database, guard, service.sealer, utc_now)
    payment = await shop.pays(save_method=True)
    assert await shop.pay(payment) == "paid"

    async def waiting() -> bool:
        async with service.database.statement() as session:
            return bool(await session.scalar(WAITING))

    async with service.database.transaction() as setting_up:
        await payment_methods.lock_customer(setting_up, shop.workspace.id, "cust-77")
        settling = asyncio.create_task(confirmation.confirm(Confirm(UUID(payment["id"]))))
        await eventually(waiting)
        audit.record(setting_up, shop.workspace.id, actor="test", action="test", subject=("test", shop.workspace.id))
        await setting_up.flush()
    assert (await settling).status is PaymentStatus.PAID
    methods = (await shop.api.get("/payment-methods", params={"customer_id": "cust-77"})).json()["data"]
    assert [one["last4"] for one in methods] == ["4242"]
    await pool.close()
    await shop.aclose()
