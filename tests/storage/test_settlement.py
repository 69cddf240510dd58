"""Settlement under concurrency and crashes: numbers without gaps, everything once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from activities.settlement import settle
from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import ProviderPayment
from storage import payments
from storage.models import Commission, OrderNotice, Payment, Receipt
from storage.session import Database
from tests.support.service import Service, Shop

PATIENT: list[Database] = []


class AbortedOnPurposeError(Exception):
    """The crash."""


async def new_payments(shop: Shop, number: int, **changes: object) -> list[UUID]:
    now = datetime.now(UTC)
    ids = [uuid4() for _ in range(number)]
    async with shop.service.database.transaction() as session:
        session.add_all(
            Payment(
                id=payment_id,
                workspace_id=shop.workspace.id,
                provider_account_id=shop.account.id,
                provider="stripe",
                order_id=f"o-{payment_id}",
                amount=Money.parse("10.00", "ILS").to_decimal(),
                currency="ILS",
                status="pending",
                description="x",
                expires_at=now + timedelta(hours=1),
                **changes,
            )
            for payment_id in ids
        )
    return ids


def captured(
    payment_id: UUID, amount: str = "10.00", currency: str = "ILS", transaction: str | None = None
) -> ProviderPayment:
    return ProviderPayment(
        status=PaymentStatus.PAID,
        transaction_id=transaction or f"pi_{payment_id.hex}",
        captured=Money.parse(amount, currency),
    )


@pytest_asyncio.fixture(autouse=True)
async def patient(service: Service) -> AsyncIterator[None]:
    """Many transactions at once, and time to wait for their turn on a busy machine."""
    url = service.stack.database_url
    PATIENT.append(Database(url, pool_size=10, pool_timeout_seconds=120))
    yield
    await PATIENT.pop().close()


async def settle_one(_: Service, payment_id: UUID, *, abort: bool = False) -> None:
    async with PATIENT[0].transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        await settle(session, payment, workspace, captured(payment_id), at=datetime.now(UTC))
        if abort:
            await session.flush()
            raise AbortedOnPurposeError


async def numbers(service: Service, shop: Shop) -> list[int]:
    async with service.database.transaction() as session:
        rows = await session.scalars(
            select(Receipt.number).where(Receipt.workspace_id == shop.workspace.id).order_by(Receipt.number)
        )
        return list(rows)


async def test_two_hundred_settlements_at_once_number_without_gap(service: Service, shop: Shop) -> None:
    ids = await new_payments(shop, 200)
    await asyncio.gather(*(settle_one(service, payment_id) for payment_id in ids))
    assert await numbers(service, shop) == list(range(1, 201))


async def test_numbers_of_aborted_settlements_are_given_again(service: Service, shop: Shop) -> None:
    ids = await new_payments(shop, 200)
    work = [settle_one(service, payment_id, abort=index % 3 == 0) for index, payment_id in enumerate(ids)]
    results = await asyncio.gather(*work, return_exceptions=True)
    aborted = [payment_id for payment_id, result in zip(ids, results, strict=True) if result is not None]
    assert all(isinstance(result, AbortedOnPurposeError) for result in results if result is not None)
    assert await numbers(service, shop) == list(range(1, 201 - len(aborted)))
    await asyncio.gather(*(settle_one(service, payment_id) for payment_id in aborted))
    assert await numbers(service, shop) == list(range(1, 201))


async def test_a_repeat_changes_nothing(service: Service, shop: Shop) -> None:
    (payment_id,) = await new_payments(shop, 1, referrer_id="r-1", customer_id="c-1")
    await asyncio.gather(*(settle_one(service, payment_id) for _ in range(10)))
    async with service.database.transaction() as session:
        for model in (Receipt, Commission, OrderNotice):
            assert await session.scalar(select(func.count()).where(model.payment_id == payment_id)) == 1


async def test_a_second_capture_is_flagged(service: Service, shop: Shop) -> None:
    (payment_id,) = await new_payments(shop, 1)
    await settle_one(service, payment_id)
    async with service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        other = captured(payment_id, transaction="pi_other")
        result = await settle(session, payment, workspace, other, at=datetime.now(UTC))
        assert (result.status, result.flag) == (PaymentStatus.PAID, "second_capture")
    assert len(await numbers(service, shop)) == 1


@pytest.mark.parametrize(
    ("amount", "currency", "flag"), [("9.99", "ILS", "amount_mismatch"), ("10.00", "USD", "currency_mismatch")]
)
async def test_other_money_than_asked_for_is_not_settled(
    service: Service, shop: Shop, amount: str, currency: str, flag: str
) -> None:
    (payment_id,) = await new_payments(shop, 1)
    async with service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        result = await settle(session, payment, workspace, captured(payment_id, amount, currency), at=datetime.now(UTC))
        assert (result.status, result.flag, result.receipt_id) == (PaymentStatus.UNKNOWN, flag, None)
    assert await numbers(service, shop) == []


async def test_one_commission_an_order_whatever_the_number_of_payments(service: Service, shop: Shop) -> None:
    ids = await new_payments(shop, 2, referrer_id="r-1")
    async with service.database.transaction() as session:
        for payment_id in ids:
            payment = await session.get(Payment, payment_id)
            assert payment is not None
            payment.order_id = "the-same"
    await asyncio.gather(*(settle_one(service, payment_id) for payment_id in ids))
    async with service.database.transaction() as session:
        assert await session.scalar(select(func.count()).where(Commission.order_id == "the-same")) == 1


async def test_one_transaction_of_the_provider_settles_one_payment(service: Service, shop: Shop) -> None:
    one, other = await new_payments(shop, 2)
    await settle_one(service, one)
    with pytest.raises(IntegrityError, match="provider_transaction_id"):
        async with service.database.transaction() as session:
            payment, workspace = await payments.lock(session, other)
            await settle(
                session, payment, workspace, captured(other, transaction=f"pi_{one.hex}"), at=datetime.now(UTC)
            )
    assert len(await numbers(service, shop)) == 1


async def test_the_date_of_a_document_is_the_sellers(service: Service) -> None:
    shop = await service.shop(timezone="Pacific/Auckland")
    (payment_id,) = await new_payments(shop, 1)
    async with service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        await settle(session, payment, workspace, captured(payment_id), at=datetime(2026, 12, 31, 23, 30, tzinfo=UTC))
    async with service.database.transaction() as session:
        receipt = await session.scalar(select(Receipt).where(Receipt.payment_id == payment_id))
        assert receipt is not None
        assert (receipt.issued_on.isoformat(), receipt.fiscal_year) == ("2027-01-01", 2027)
    await shop.api.aclose()
