"""A charge of a saved method that its provider is still at work on: nothing of ours ends it, and nothing repeats it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select

from domain.payment import Confirm, PaymentStatus, PollPlan, StartPayment
from storage import payment_methods, payments
from storage.models import Attempt, Payment, PaymentMethod
from tests.activities.test_unknown_outcomes import Work, fails_as
from tests.support.service import Service, Shop

AT_WORK = -1


@pytest_asyncio.fixture
async def work(service: Service) -> AsyncIterator[Work]:
    made = Work(service, patience_seconds=30)
    yield made
    await made.pool.close()


@pytest_asyncio.fixture
async def grow(service: Service) -> AsyncIterator[Shop]:
    """A shop at the provider without idempotency keys that lists a charge while it is at work."""
    shop = await service.shop("meshulam", saving=True, order_webhook_url=None, callbacks=False)
    yield shop
    await shop.aclose()


async def token_of(shop: Shop, work: Work) -> tuple[PaymentMethod, str]:
    """A card that was saved while paying."""
    payment = await shop.pays(save_method=True)
    await shop.till.payer.pays(await shop.checkout(payment))
    assert (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).status is PaymentStatus.PAID
    async with shop.service.database.transaction() as session:
        query = select(PaymentMethod).where(PaymentMethod.workspace_id == shop.workspace.id)
        method = (await session.scalars(query)).one()
    return method, shop.service.sealer.open(method.token)


async def renewal(shop: Shop, method: PaymentMethod) -> StartPayment:
    now = datetime.now(UTC)
    async with shop.service.database.transaction() as session:
        charge = Payment(
            id=uuid4(),
            workspace_id=shop.workspace.id,
            order_id=f"order-{uuid4()}",
            amount=Decimal("129.90"),
            currency="ILS",
            status=PaymentStatus.PENDING.value,  # else it would be started by the dispatcher after a while
            description="renewal",
            customer_id=method.customer_id,
            customer_name="Dana Levi",
            customer_phone="0541234567",
            expires_at=now + timedelta(hours=2),
            created_at=now,
            updated_at=now,
            **payment_methods.charged_to(method, off_session=True),
        )
        session.add(charge)
    return payments.start_command(charge, PollPlan())


async def status_of(work: Work, charge: StartPayment, close_as: PaymentStatus | None = None) -> PaymentStatus:
    return (await work.confirmation.confirm(Confirm(charge.payment_id, (), close_as))).status


async def charges_of(shop: Shop, charge: StartPayment) -> int:
    async with shop.service.database.transaction() as session:
        query = select(Attempt.reference).where(Attempt.payment_id == charge.payment_id)
        reference = (await session.scalars(query)).one()
    return await shop.till.payer.charges_of(reference)


async def at_work(shop: Shop, work: Work) -> tuple[StartPayment, str]:
    """A charge whose answer was lost, looked up when 'not found' would be an answer."""
    method, token = await token_of(shop, work)
    charge = await renewal(shop, method)
    await shop.sandbox("POST", f"/meshulam/cards/{token}/outcomes", {"outcomes": [AT_WORK]})
    await fails_as("OutcomeUnknown", work.checkout.open_checkout(charge))
    work.ahead = timedelta(minutes=3)
    opened = await work.checkout.open_checkout(charge)
    assert (opened.status, opened.look_now) == (PaymentStatus.PENDING, False)
    return charge, token


@pytest.mark.parametrize("wish", [None, PaymentStatus.CANCELED, PaymentStatus.EXPIRED])
async def test_a_charge_at_work_stays_pending_until_it_is_paid_once(
    grow: Shop, work: Work, wish: PaymentStatus | None
) -> None:
    charge, token = await at_work(grow, work)
    for _ in range(2):
        assert await status_of(work, charge, wish) is PaymentStatus.PENDING
    await grow.sandbox("POST", f"/meshulam/cards/{token}/complete", {})
    assert await status_of(work, charge, wish) is PaymentStatus.PAID
    assert await charges_of(grow, charge) == 1


@pytest.mark.parametrize(
    ("wish", "hours"), [(PaymentStatus.CANCELED, 25), (PaymentStatus.EXPIRED, 27), (PaymentStatus.EXPIRED, 25)]
)
async def test_one_that_never_ends_can_be_closed_a_day_later_and_late_money_is_taken_up(
    grow: Shop, work: Work, wish: PaymentStatus, hours: int
) -> None:
    charge, token = await at_work(grow, work)
    work.ahead = timedelta(hours=hours)
    over = not (wish is PaymentStatus.EXPIRED and hours < 26)
    assert await status_of(work, charge, wish) is (wish if over else PaymentStatus.PENDING)
    await grow.sandbox("POST", f"/meshulam/cards/{token}/complete", {})
    assert await status_of(work, charge) is PaymentStatus.PAID
    assert await charges_of(grow, charge) == 1


async def test_one_that_ends_without_money_is_closed_in_the_end_and_charged_nothing(grow: Shop, work: Work) -> None:
    charge, token = await at_work(grow, work)
    await grow.sandbox("POST", f"/meshulam/cards/{token}/complete", {"paid": False})
    assert await status_of(work, charge) is PaymentStatus.PENDING
    work.ahead = timedelta(hours=25)
    assert await status_of(work, charge, PaymentStatus.CANCELED) is PaymentStatus.CANCELED
    assert await charges_of(grow, charge) == 0
