"""A request that went unanswered may have moved money: no refusal of anything else makes it a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select
from temporalio.exceptions import ApplicationError

import wiring
from activities.checkout import CheckoutActivities
from activities.confirmation import ConfirmationActivities
from activities.guard import ProviderGuard
from activities.refunds import RefundActivities
from activities.surplus import SurplusActivities
from domain.payment import Confirm, PaymentStatus, PollPlan, ReturnSurplus, StartPayment, SurplusStatus
from domain.refund import AdvanceRefund, RefundState
from domain.setup import MethodStatus
from storage import payment_methods, payments, refunds
from storage.models import Payment, PaymentMethod, ProviderAccount, Refund, SurplusCapture
from tests.support.service import Service, Shop

IMPATIENT = 1.0
ACTS_AND_IS_SILENT, DOES_NOTHING = "timeout_after:2", "timeout_before:2"


@dataclass
class Work:
    """The activities, to be called one by one, and the time as they see it."""

    service: Service
    patience_seconds: float = IMPATIENT
    ahead: timedelta = field(default=timedelta(0))
    checkout: CheckoutActivities = field(init=False)
    confirmation: ConfirmationActivities = field(init=False)
    refunds: RefundActivities = field(init=False)
    surplus: SurplusActivities = field(init=False)

    def __post_init__(self) -> None:
        settings = self.service.settings.model_copy(update={"provider_timeout_seconds": self.patience_seconds})
        self.pool = wiring.provider_pool(settings, self.service.sealer)
        guard = ProviderGuard(self.service.database, self.pool, self.now)
        parts: tuple[Any, ...] = (self.service.database, guard, self.service.sealer, self.now)
        self.checkout = CheckoutActivities(*parts, public_base_url=self.service.api_url)
        self.confirmation = ConfirmationActivities(*parts)
        self.refunds = RefundActivities(*parts)
        self.surplus = SurplusActivities(*parts)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest_asyncio.fixture
async def work(service: Service) -> AsyncIterator[Work]:
    made = Work(service)
    yield made
    await made.pool.close()


@pytest_asyncio.fixture
async def quiet(service: Service) -> AsyncIterator[Shop]:
    """A shop that hears no callbacks, so that nobody but the test acts; surplus goes back."""
    shop = await service.shop(order_webhook_url=None, surplus_policy="refund", callbacks=False)
    yield shop
    await shop.sandbox("DELETE", "/faults")
    await shop.aclose()


async def fault(shop: Shop, operation: str, kind: str) -> None:
    await shop.sandbox("POST", "/faults", {"operation": operation, "fault": kind, "count": 1})


async def use_key(shop: Shop, secret_key: str) -> None:
    """The account's credentials are replaced, by better or by worse ones."""
    async with shop.service.database.transaction() as session:
        account = await session.get_one(ProviderAccount, shop.account.id)
        credentials = {"secret_key": secret_key, "webhook_secret": shop.hook_secret}
        account.credentials, account.updated_at = shop.service.sealer.seal_mapping(credentials), datetime.now(UTC)


async def fails_as(error_type: str, work: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await work
    assert caught.value.type == error_type, caught.value
    return caught.value


async def paid(shop: Shop, work: Work, **changes: Any) -> UUID:
    payment = await shop.pays(**changes)
    assert await shop.pay(payment) == "paid"
    payment_id = UUID(payment["id"])
    assert (await work.confirmation.confirm(Confirm(payment_id))).status is PaymentStatus.PAID
    return payment_id


async def test_a_refund_is_unknown_until_the_provider_can_be_asked_again(quiet: Shop, work: Work) -> None:
    """It was recorded as failed, and could be asked for once more, though the money was with the payer."""
    payment_id, refund_id = await paid(quiet, work), uuid4()
    async with quiet.service.database.transaction() as session:
        payment, _ = await payments.lock(session, payment_id)
        wanted = {"id": refund_id, "amount": Decimal("50.00"), "origin": "merchant"}
        await refunds.request(session, payment, wanted, actor="test")
    await fault(quiet, "create_refund", ACTS_AND_IS_SILENT)
    await fails_as("OutcomeUnknown", work.refunds.advance_refund(AdvanceRefund(refund_id)))
    await use_key(quiet, "sk_test_invalid")
    said = await fails_as("OutcomeUnknown", work.refunds.advance_refund(AdvanceRefund(refund_id)))
    assert said.details[0] == "http_401"
    async with quiet.service.database.transaction() as session:
        row = await session.get_one(Refund, refund_id)
        assert row.status == RefundState.UNKNOWN
        assert (await session.get_one(Payment, payment_id)).refund_reserved == Decimal("50.00")
    await use_key(quiet, quiet.provider_key)
    assert (await work.refunds.advance_refund(AdvanceRefund(refund_id))).state is RefundState.SUCCEEDED
    assert (await quiet.totals(str(payment_id)))["refunded"] == 5000


async def surplus_of(shop: Shop, work: Work) -> UUID:
    """Money of a second payment of one order, to be given back."""
    await paid(shop, work, order_id="paid-twice")
    again = await shop.pays(order_id="paid-twice")
    await shop.pay(again)
    (surplus_id,) = (await work.confirmation.confirm(Confirm(UUID(again["id"])))).surplus_ids
    return surplus_id


async def test_surplus_is_on_its_way_until_the_provider_can_be_asked_again(quiet: Shop, work: Work) -> None:
    """It was recorded as a failed refund, and an operator would have begun another one."""
    surplus_id = await surplus_of(quiet, work)
    await fault(quiet, "create_refund", ACTS_AND_IS_SILENT)
    await fails_as("OutcomeUnknown", work.surplus.return_surplus(ReturnSurplus(surplus_id)))
    await use_key(quiet, "sk_test_invalid")
    await fails_as("OutcomeUnknown", work.surplus.return_surplus(ReturnSurplus(surplus_id)))
    async with quiet.service.database.transaction() as session:
        row = await session.get_one(SurplusCapture, surplus_id)
        assert (row.status, row.failure_code) == (SurplusStatus.REFUNDING, None)
    await use_key(quiet, quiet.provider_key)
    assert await work.surplus.return_surplus(ReturnSurplus(surplus_id)) is SurplusStatus.REFUNDED
    assert (await quiet.totals(str(row.payment_id)))["refunded"] == 12990


async def test_a_key_that_was_wrong_from_the_first_is_a_refusal(quiet: Shop, work: Work) -> None:
    surplus_id = await surplus_of(quiet, work)
    await use_key(quiet, "sk_test_invalid")
    assert await work.surplus.return_surplus(ReturnSurplus(surplus_id)) is SurplusStatus.REFUND_FAILED


@pytest.mark.parametrize("seen_before", [True, False])
async def test_surplus_that_is_not_visible_yet_is_not_sent_back_a_second_time(
    service: Service, work: Work, *, seen_before: bool
) -> None:
    """PayPlus has no idempotency keys and may be slow to show what it did, or show no refunds; nothing minded that."""
    shop = await service.shop("payplus", order_webhook_url=None, surplus_policy="refund", callbacks=False)
    if seen_before:
        await refunded_once(shop, work)
    ids: list[UUID] = []
    for _ in range(2):
        payment = await shop.pays(order_id="paid-twice")
        await shop.till.payer.pays(await shop.checkout(payment))
        ids += (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).surplus_ids
    (surplus_id,) = ids
    await fault(shop, "payplus_refund", DOES_NOTHING)
    await fails_as("OutcomeUnknown", work.surplus.return_surplus(ReturnSurplus(surplus_id)))
    said = await fails_as("ProviderBusy", work.surplus.return_surplus(ReturnSurplus(surplus_id)))
    assert said.details[0] == "refund_not_visible_yet"
    work.ahead = timedelta(minutes=3)
    became = await work.surplus.return_surplus(ReturnSurplus(surplus_id))
    assert became is (SurplusStatus.REFUNDED if seen_before else SurplusStatus.REFUND_FAILED)
    await shop.aclose()


async def refund_of(shop: Shop, work: Work, amount: str) -> UUID:
    """A refund on record of a new payment, which nobody has asked for yet."""
    payment = await shop.pays()
    await shop.till.payer.pays(await shop.checkout(payment))
    assert (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).status is PaymentStatus.PAID
    async with shop.service.database.transaction() as session:
        row, _ = await payments.lock(session, UUID(payment["id"]))
        wanted = {"id": uuid4(), "amount": Decimal(amount), "origin": "merchant", "reason": "one session less"}
        await refunds.request(session, row, wanted, actor="test")
    return UUID(str(wanted["id"]))


async def refunded_once(shop: Shop, work: Work) -> None:
    """A refund that the provider has made and answered."""
    refund_id = await refund_of(shop, work, "10.00")
    assert (await work.refunds.advance_refund(AdvanceRefund(refund_id))).state is RefundState.SUCCEEDED


@pytest.mark.parametrize("variant", [(), ("hidden-refunds",), ("split-payments",)])
@pytest.mark.parametrize("seen_before", [True, False])
@pytest.mark.parametrize("kind", [ACTS_AND_IS_SILENT, DOES_NOTHING])
async def test_a_refund_without_an_answer_is_made_once_where_it_can_be_seen_and_else_is_for_a_person(
    service: Service, work: Work, variant: tuple[str, ...], kind: str, *, seen_before: bool
) -> None:
    """It was looked for where PayPlus may show no refunds, and then made again."""
    shop = await service.shop("payplus", order_webhook_url=None, callbacks=False)
    chosen = {"provider": "payplus", "account_key": shop.till.credentials["api_key"], "names": list(variant)}
    await shop.sandbox("POST", "/variants", chosen)
    if seen_before:
        await refunded_once(shop, work)
    refund_id = await refund_of(shop, work, "29.90")
    await fault(shop, "payplus_refund", kind)
    await fails_as("OutcomeUnknown", work.refunds.advance_refund(AdvanceRefund(refund_id)))
    work.ahead = timedelta(minutes=3)
    shown, acted = "hidden-refunds" not in variant, kind == ACTS_AND_IS_SILENT
    for _ in range(2):
        became = await work.refunds.advance_refund(AdvanceRefund(refund_id))
        settled = shown and (acted or seen_before)
        assert became.state is (RefundState.SUCCEEDED if settled else RefundState.UNKNOWN)
    async with service.database.transaction() as session:
        row = await session.get_one(Refund, refund_id)
        payment = await session.get_one(Payment, row.payment_id)
    assert (payment.flag, row.failure_code) == ((None, None) if settled else ("refund_unconfirmed", "refund_not_shown"))
    made = await shop.sandbox("GET", f"/payplus/transactions?more_info={payment.id}")
    gone = [Decimal(one["amount"]) for one in made if one["type"] == "Refund"]
    assert gone == ([Decimal("29.90")] if settled or acted else [])
    await shop.aclose()


async def charge_on_record(shop: Shop, work: Work) -> StartPayment:
    """A charge of a card that the customer has saved, which nobody has asked for yet."""
    await paid(shop, work, save_method=True)
    now = datetime.now(UTC)
    async with shop.service.database.transaction() as session:
        query = select(PaymentMethod).where(PaymentMethod.workspace_id == shop.workspace.id)
        method = (await session.scalars(query)).one()
        charge = Payment(
            id=uuid4(),
            workspace_id=shop.workspace.id,
            order_id=f"order-{uuid4()}",
            amount=Decimal("129.90"),
            currency="ILS",
            status=PaymentStatus.PENDING.value,  # else it would be started by the dispatcher after a while
            description="renewal",
            customer_id=method.customer_id,
            expires_at=now + timedelta(hours=2),
            created_at=now,
            updated_at=now,
            **payment_methods.charged_to(method, off_session=True),
        )
        session.add(charge)
    return payments.start_command(charge, PollPlan())


async def is_paid_once(shop: Shop, work: Work, charge: StartPayment) -> None:
    assert (await work.checkout.open_checkout(charge)).look_now
    assert (await work.confirmation.confirm(Confirm(charge.payment_id))).status is PaymentStatus.PAID
    assert (await shop.totals(str(charge.payment_id)))["charges"] == 1


async def test_a_charge_is_unknown_until_the_provider_can_be_asked_again(quiet: Shop, work: Work) -> None:
    """It was recorded as failed, and dunning would have charged the customer again."""
    charge = await charge_on_record(quiet, work)
    await fault(quiet, "create_intent", ACTS_AND_IS_SILENT)
    await fails_as("OutcomeUnknown", work.checkout.open_checkout(charge))
    await use_key(quiet, "sk_test_invalid")
    await fails_as("OutcomeUnknown", work.checkout.open_checkout(charge))
    await use_key(quiet, quiet.provider_key)
    await is_paid_once(quiet, work, charge)


async def test_a_method_detached_after_a_charge_without_an_answer_does_not_hide_it(quiet: Shop, work: Work) -> None:
    charge = await charge_on_record(quiet, work)
    await fault(quiet, "create_intent", ACTS_AND_IS_SILENT)
    await fails_as("OutcomeUnknown", work.checkout.open_checkout(charge))
    async with quiet.service.database.transaction() as session:
        method = await session.get_one(PaymentMethod, charge.payment_method_id)
        method.status, method.is_default = MethodStatus.DETACHED.value, False
    await is_paid_once(quiet, work, charge)


async def test_a_method_detached_before_its_charge_is_not_charged(quiet: Shop, work: Work) -> None:
    charge = await charge_on_record(quiet, work)
    await fault(quiet, "create_intent", DOES_NOTHING)
    await fails_as("OutcomeUnknown", work.checkout.open_checkout(charge))
    async with quiet.service.database.transaction() as session:
        method = await session.get_one(PaymentMethod, charge.payment_method_id)
        method.status, method.is_default = MethodStatus.DETACHED.value, False
    said = await fails_as("ProviderBusy", work.checkout.open_checkout(charge))
    assert said.details[0] == "charge_not_visible_yet"
    work.ahead = timedelta(minutes=3)
    said = await fails_as("ProviderDeclined", work.checkout.open_checkout(charge))
    assert said.details[0] == "method_detached"
    assert "charges" not in await quiet.totals(str(charge.payment_id))
