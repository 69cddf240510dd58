"""A renewal that is refused for a fault of the merchant's: no dunning begins, and the charge is made later."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from domain.declines import DeclineClass, decline_class
from providers.meshulam.error_ids import OF_THE_ACCOUNT, OF_THE_REQUEST
from storage.models import Invoice
from tests.activities.test_billing_days import JERUSALEM, begun, moment
from tests.support.billing_desk import Desk, plan_of
from tests.support.service import Shop

RENEWAL = "2055-02-28 09:00"


async def invoice_of(desk: Desk) -> Invoice:
    async with desk.database.transaction() as session:
        rows = await session.scalars(select(Invoice).where(Invoice.subscription_id == desk.id))
        return max(rows, key=lambda row: row.created_at)


@pytest.mark.parametrize("code", ["http_401", "payer_phone_required", "wrong_user_id_or_page_code", "missing_field"])
async def test_a_fault_begins_no_dunning_and_the_charge_is_made_when_it_is_mended(shop: Shop, code: str) -> None:
    desk = await begun(shop, "2055-01-31 09:00", JERUSALEM, await plan_of(shop, "100.00"))
    desk.declines = [code] * 3
    await desk.live_to(moment(RENEWAL, JERUSALEM) + timedelta(days=2, hours=1))
    row, invoice = await desk.row(), await invoice_of(desk)
    assert (row.status, invoice.status) == ("active", "open")
    assert (invoice.retries, invoice.first_failed_at, invoice.grace_until) == (0, None, None)
    assert "payment_failed" not in " ".join(await desk.actions())
    await desk.live_to(moment(RENEWAL, JERUSALEM) + timedelta(days=3, hours=1))
    assert ((await desk.row()).status, (await invoice_of(desk)).status) == ("active", "paid")
    assert [payment.status for payment in await desk.charges()][-4:] == ["failed", "failed", "failed", "paid"]


async def test_a_decline_after_a_fault_has_all_its_retries(shop: Shop) -> None:
    desk = await begun(shop, "2055-01-31 09:00", JERUSALEM, await plan_of(shop, "100.00"))
    desk.declines = ["http_401", "insufficient_funds"]
    await desk.live_to(moment(RENEWAL, JERUSALEM) + timedelta(days=1, hours=1))
    row, invoice = await desk.row(), await invoice_of(desk)
    assert (row.status, invoice.retries) == ("past_due", 0)
    assert invoice.first_failed_at is not None
    desk.declines = ["http_403"]
    await desk.live_to(moment(RENEWAL, JERUSALEM) + timedelta(days=3, hours=2))
    assert ((await desk.row()).status, (await invoice_of(desk)).retries) == ("past_due", 1)
    await desk.live_to(moment(RENEWAL, JERUSALEM) + timedelta(days=4, hours=3))
    assert ((await desk.row()).status, (await invoice_of(desk)).status) == ("active", "paid")


def test_grows_faults_of_the_account_are_all_known_as_faults() -> None:
    assert {decline_class(code) for code in OF_THE_ACCOUNT.values()} == {DeclineClass.FAULT}
    assert DeclineClass.HARD not in {decline_class(code) for code in OF_THE_REQUEST.values()}
