"""A refund at PayU from the request to its end days later: whatever PayU says to a repeat, money goes back once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, select
from temporalio.exceptions import ApplicationError

from domain.payment import Confirm, PaymentStatus, ReturnSurplus, SurplusStatus
from domain.refund import AdvanceRefund, ReconcileRefunds, RefundState
from storage import payments, refunds, surplus
from storage.models import Payment, Refund, SurplusCapture
from tests.activities.test_unknown_outcomes import ACTS_AND_IS_SILENT, DOES_NOTHING, Work, fails_as, fault
from tests.providers.payers.payu import Payer as PayuPayer
from tests.support.service import Service, Shop, eventually

PART = "20000.00"


@pytest_asyncio.fixture
async def work(service: Service) -> AsyncIterator[Work]:
    made = Work(service)
    yield made
    await made.pool.close()


@pytest_asyncio.fixture
async def shop(service: Service) -> AsyncIterator[Shop]:
    made = await service.shop("payu", order_webhook_url=None, surplus_policy="refund", callbacks=False)
    yield made
    await made.sandbox("DELETE", "/faults")
    await made.aclose()


async def paid(shop: Shop, work: Work, **changes: Any) -> str:
    payment = await shop.pays(amount="100000.00", currency="COP", referrer_id=None, **changes)
    await shop.till.payer.pays(await shop.checkout(payment))
    await work.confirmation.confirm(Confirm(UUID(payment["id"])))
    return str(payment["id"])


async def asked(shop: Shop, payment_id: str, amount: str | None = None) -> Any:
    """By the API; nobody but the test acts on it further, because no worker of the service hears of it."""
    body = {"payment_id": payment_id} | ({} if amount is None else {"amount": amount})
    return await shop.api.post("/refunds", json=body, timeout=60)


async def asked_for(shop: Shop, payment_id: UUID) -> int:
    """How many requests PayU has taken on."""
    payer = shop.till.payer
    assert isinstance(payer, PayuPayer)
    return await payer.refunds_asked_for(payment_id)


async def row_of(shop: Shop, refund_id: str) -> Refund:
    async with shop.service.database.transaction() as session:
        return await session.get_one(Refund, UUID(refund_id))


async def requested(shop: Shop, payment_id: str, amount: str) -> str:
    """A refund on record that no workflow asks for: the test does."""
    async with shop.service.database.transaction() as session:
        payment, _ = await payments.lock(session, UUID(payment_id))
        values = {"id": uuid4(), "amount": Decimal(amount), "origin": "merchant"}
        return str((await refunds.request(session, payment, values, actor="test")).id)


async def decided(shop: Shop, payment_id: str, state: str) -> None:
    await shop.sandbox("POST", "/payu/refunds/settle", {"reference": payment_id, "state": state})


@pytest.mark.parametrize(
    ("state", "ends_as", "status"),
    [
        ("APPROVED", RefundState.SUCCEEDED, PaymentStatus.PARTIALLY_REFUNDED),
        ("DECLINED", RefundState.FAILED, PaymentStatus.PAID),
    ],
)
async def test_a_refund_is_pending_for_days_without_an_id_and_is_asked_for_once(
    shop: Shop, work: Work, state: str, ends_as: RefundState, status: PaymentStatus
) -> None:
    """It was asked for again after two minutes, and what PayU said to that made it a failed one."""
    payment_id = await paid(shop, work)
    refund_id = await requested(shop, payment_id, PART)
    command = AdvanceRefund(UUID(refund_id))
    for days in (0, 1, 3, 20):
        work.ahead = timedelta(days=days)
        assert (await work.refunds.advance_refund(command)).state is RefundState.PENDING
        await work.refunds.reconcile_refunds(ReconcileRefunds(UUID(payment_id)))
        row = await row_of(shop, refund_id)
        assert (row.status, row.provider_refund_id) == (RefundState.PENDING, None)
    assert await asked_for(shop, UUID(payment_id)) == 1
    work.ahead = timedelta(0)
    await decided(shop, payment_id, state)
    assert (await work.refunds.advance_refund(command)).state is ends_as
    row = await row_of(shop, refund_id)
    assert row.provider_refund_id is not None
    async with shop.service.database.transaction() as session:
        assert (await session.get_one(Payment, UUID(payment_id))).status == status
        count = select(func.count()).where(Refund.payment_id == UUID(payment_id))
        assert (await session.execute(count)).scalar_one() == 1


@pytest.mark.parametrize("silence", [ACTS_AND_IS_SILENT, DOES_NOTHING])
@pytest.mark.parametrize("state", ["APPROVED", "DECLINED"])
async def test_a_refund_whose_answer_was_lost_is_found_or_asked_for_again_and_never_refused(
    shop: Shop, work: Work, silence: str, state: str
) -> None:
    payment_id = await paid(shop, work)
    refund_id = await requested(shop, payment_id, PART)
    command = AdvanceRefund(UUID(refund_id))
    await fault(shop, "payu.refund", silence)
    await fails_as("OutcomeUnknown", work.refunds.advance_refund(command))
    assert (await row_of(shop, refund_id)).status == RefundState.UNKNOWN
    said = await fails_as("ProviderBusy", work.refunds.advance_refund(command))
    assert said.details[0] == "refund_not_visible_yet"
    work.ahead = timedelta(minutes=3)
    assert (await work.refunds.advance_refund(command)).state is RefundState.PENDING
    work.ahead = timedelta(0)
    await decided(shop, payment_id, state)
    ends_as = RefundState.SUCCEEDED if state == "APPROVED" else RefundState.FAILED
    work.ahead = timedelta(minutes=3)  # its request is on record as of then
    assert (await work.refunds.advance_refund(command)).state is ends_as
    assert await asked_for(shop, UUID(payment_id)) == 1


async def test_an_error_to_a_repeat_leaves_the_refund_unknown(shop: Shop, work: Work) -> None:
    payment_id = await paid(shop, work)
    refund_id = await requested(shop, payment_id, PART)
    await fault(shop, "payu.refund", DOES_NOTHING)
    await fails_as("OutcomeUnknown", work.refunds.advance_refund(AdvanceRefund(UUID(refund_id))))
    work.ahead = timedelta(minutes=3)
    await shop.sandbox("POST", "/payu/amount", {"reference": payment_id, "value": "1000"})  # now PayU would refuse
    said = await fails_as("OutcomeUnknown", work.refunds.advance_refund(AdvanceRefund(UUID(refund_id))))
    assert said.details[0] == "refund_asked_before"
    assert (await row_of(shop, refund_id)).status == RefundState.UNKNOWN


async def test_a_second_refund_of_a_part_is_refused_before_payu_is_asked(shop: Shop, work: Work) -> None:
    payment_id = await paid(shop, work)
    first = await requested(shop, payment_id, PART)
    assert (await work.refunds.advance_refund(AdvanceRefund(UUID(first)))).state is RefundState.PENDING
    for amount in (PART, "30000.00", None):  # the rest, too
        for dry_run in ("", "?dry_run=true"):
            body = {"payment_id": payment_id} | ({} if amount is None else {"amount": amount})
            answer = await shop.api.post(f"/refunds{dry_run}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "refund_not_supported"), answer.text
            assert "one refund" in answer.json()["detail"]
    assert await asked_for(shop, UUID(payment_id)) == 1
    await decided(shop, payment_id, "DECLINED")  # a declined one is none
    assert (await work.refunds.advance_refund(AdvanceRefund(UUID(first)))).state is RefundState.FAILED
    answer = await asked(shop, payment_id, PART)
    assert answer.status_code == 202, answer.text


async def returned(work: Work, surplus_id: UUID) -> SurplusStatus | None:
    """How it stands; None while the service's own worker is asking PayU at this moment."""
    try:
        return await work.surplus.return_surplus(ReturnSurplus(surplus_id))
    except ApplicationError as busy:
        if busy.type != "ProviderBusy":
            raise
        return None


async def test_surplus_that_payu_has_accepted_is_followed_and_not_begun_again(shop: Shop, work: Work) -> None:
    await paid(shop, work, order_id="paid-twice")
    payment = await shop.pays(amount="100000.00", currency="COP", referrer_id=None, order_id="paid-twice")
    await shop.till.payer.pays(await shop.checkout(payment))
    (surplus_id,) = (await work.confirmation.confirm(Confirm(UUID(payment["id"])))).surplus_ids
    for days in (0, 1, 20):
        work.ahead = timedelta(days=days)
        assert await eventually(lambda: returned(work, surplus_id)) is SurplusStatus.REFUNDING
    async with shop.service.database.transaction() as session:
        row = await session.get_one(SurplusCapture, surplus_id)
        assert (row.provider_refund_id, row.accepted_at is None) == (None, False)
        assert await surplus.to_return(session, row.payment_id) == []  # nobody has to begin it any more
    assert await asked_for(shop, UUID(payment["id"])) == 1
    work.ahead = timedelta(0)
    await decided(shop, payment["id"], "APPROVED")
    assert await eventually(lambda: returned(work, surplus_id)) is SurplusStatus.REFUNDED
