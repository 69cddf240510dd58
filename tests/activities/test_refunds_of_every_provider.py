"""A refund that is made at the provider, at every provider: what it tells of it, and what is on record then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import select

from domain.money import Money
from domain.payment import Confirm, PaymentStatus
from domain.refund import ReconcileRefunds
from providers.registry import PROVIDERS
from storage.models import Payment, Refund
from tests.activities.test_unknown_outcomes import Work
from tests.support.service import Service, Shop

Hand = Callable[["Case"], Awaitable[Any]]


class Case:
    """A payment that is paid at one provider, and the merchant at that provider's own desk."""

    def __init__(self, shop: Shop, work: Work, payment: dict[str, Any], row: Payment) -> None:
        self.shop, self.work, self.payment, self.row = shop, work, payment, row
        self.made = ""

    async def desk(self, path: str, **body: Any) -> Any:
        return await self.shop.sandbox("POST", path, body)

    async def records(self) -> list[tuple[str, str]]:
        await self.work.refunds.reconcile_refunds(ReconcileRefunds(UUID(self.payment["id"])))
        async with self.shop.service.database.transaction() as session:
            rows = await session.scalars(select(Refund).where(Refund.payment_id == self.row.id))
            return sorted((str(row.money), row.status) for row in rows)


async def stripe_charge(case: Case) -> str:
    charges = await case.shop.sandbox("GET", "/objects?type=charge")
    return str(next(one["id"] for one in charges if one["payment_intent"] == case.row.provider_transaction_id))


async def stripe_pending(case: Case) -> None:
    made = await case.desk(f"/charges/{await stripe_charge(case)}/refund", amount=2000, status="pending")
    case.made = made["id"]


async def stripe_settled(case: Case) -> None:
    await case.desk(f"/refunds/{case.made}/settle", succeeded=True)


async def stripe_returned(case: Case) -> None:
    await case.desk(f"/refunds/{case.made}/return")


async def payplus_refund(case: Case) -> None:
    made = await case.desk(f"/payplus/transactions/{case.row.provider_transaction_id}/refund", amount="20.00")
    case.made = made["transaction_uid"]


async def payplus_cancelled(case: Case) -> None:
    await case.desk(f"/payplus/transactions/{case.made}/cancel")


async def payu_pending(case: Case) -> None:
    await case.desk("/payu/refunds", reference=case.payment["id"], value="20000")


async def payu_approved(case: Case) -> None:
    await case.desk("/payu/refunds/settle", reference=case.payment["id"])


async def payu_declined(case: Case) -> None:
    await case.desk("/payu/refunds/settle", reference=case.payment["id"], state="DECLINED")


async def wompi_void(case: Case) -> None:
    await case.desk(f"/wompi/transactions/{case.row.provider_transaction_id}/settle", status="VOIDED")


async def meshulam_refund(case: Case) -> None:
    await case.desk(f"/meshulam/processes/{case.row.provider_session_id}/refund", sum="20.00")


async def nothing(_: Case) -> None:
    """Nobody does anything."""


STORIES: dict[str, list[list[tuple[Hand, list[tuple[str, str]]]]]] = {
    "stripe": [
        [
            (stripe_pending, [("20.00", "pending")]),
            (stripe_settled, [("20.00", "succeeded")]),
            (stripe_returned, [("20.00", "returned")]),
        ],
        [(stripe_pending, [("20.00", "pending")]), (stripe_returned, [("20.00", "failed")])],
    ],
    "payplus": [[(payplus_refund, [("20.00", "succeeded")]), (payplus_cancelled, [("20.00", "returned")])]],
    "payu": [
        [(payu_pending, [("20000.00", "pending")]), (payu_approved, [("20000.00", "succeeded")])],
        [(payu_pending, [("20000.00", "pending")]), (payu_declined, [("20000.00", "failed")])],
    ],
    "wompi": [[(wompi_void, [("100000.00", "succeeded")])]],
    "meshulam": [[(meshulam_refund, [("20.00", "succeeded")])]],
    "efecty": [[(nothing, [])]],
}
"""What the merchant does at the provider's desk, step by step, and what is on record after each."""


def test_every_provider_has_its_story() -> None:
    assert set(STORIES) == set(PROVIDERS)
    for name, kind in PROVIDERS.items():
        assert kind.capabilities.lists_refunds is (name in ("stripe", "payplus", "payu", "wompi"))


@pytest_asyncio.fixture
async def work(service: Service) -> AsyncIterator[Work]:
    made = Work(service, patience_seconds=30)
    yield made
    await made.pool.close()


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, stories in STORIES.items() for number in range(len(stories))]
)
async def test_what_is_done_at_the_providers_desk_is_on_record(
    service: Service, work: Work, name: str, number: int
) -> None:
    shop = await service.shop(name, order_webhook_url=None, callbacks=False)
    try:
        amount = "100.00" if shop.workspace.currency == "ILS" else "100000.00"
        payment = await shop.pays(amount=amount, currency=shop.workspace.currency, referrer_id=None)
        if name == "efecty":  # nobody can be asked, and cash does not go back
            return
        await shop.till.payer.pays(await shop.checkout(payment))
        assert (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).status is PaymentStatus.PAID
        async with service.database.transaction() as session:
            row = await session.get_one(Payment, UUID(payment["id"]))
        case = Case(shop, work, payment, row)
        assert await case.records() == []
        for hand, wanted in STORIES[name][number]:
            await hand(case)
            for _ in range(2):  # a repeat changes nothing
                assert await case.records() == wanted
        assert Money.from_decimal(row.amount, row.currency) == Money.parse(amount, row.currency)
    finally:
        await shop.aclose()
