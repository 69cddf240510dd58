"""What only Stripe has, over real HTTP: delayed methods, and its own signed callbacks from creation to refund."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import CheckoutRef, CheckoutRequest, EventKind, Provider, RefundRequest
from tests.support.mailbox import Mailbox

RequestFor = Callable[..., CheckoutRequest]

ONLY = ("stripe",)


@pytest.mark.asyncio
@pytest.mark.parametrize(("succeeded", "status"), [(True, PaymentStatus.PAID), (False, PaymentStatus.FAILED)])
async def test_a_delayed_method_is_pending_until_its_money_arrives_or_bounces(
    *, provider: Provider, payer: Any, request_for: RequestFor, succeeded: bool, status: PaymentStatus
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    ref = CheckoutRef(request.reference, opened.session_id, request.mode, request.created_at)
    await payer.sandbox(f"sessions/{opened.session_id}/pay-later")
    assert (await provider.look(ref)).status is PaymentStatus.PENDING
    assert (await provider.close_checkout(ref)).status is PaymentStatus.PENDING
    await payer.sandbox(f"sessions/{opened.session_id}/settle", succeeded=succeeded)
    seen = await provider.look(ref)
    assert seen.status is status
    assert seen.captured == (request.amount if succeeded else None)


@pytest.mark.asyncio
async def test_its_own_callbacks_verify_and_name_our_payment(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    await payer.sandbox("webhook-endpoints", url=address, secret=webhook_secret, account_key=payer.key)
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    await box.until(provider, EventKind.ATTEMPT_FAILED)
    await payer.pays(opened)
    await box.until(provider, EventKind.CAPTURED)
    ref = CheckoutRef(request.reference, opened.session_id, request.mode, request.created_at)
    transaction_id = (await provider.look(ref)).transaction_id
    assert transaction_id is not None
    zero = Money(0, request.amount.currency)
    await provider.refund(RefundRequest(uuid4(), transaction_id, request.amount, ref, request.amount, zero))
    events = await box.until(provider, EventKind.REFUND)
    assert {event.reference for event in events} == {request.reference}
    assert {event.transaction_id for event in events} <= {transaction_id}
    captured = [event for event in events if event.kind is EventKind.CAPTURED]
    assert {event.amount for event in captured} == {request.amount}


@pytest.mark.asyncio
async def test_an_amount_that_stripe_changed_is_reported_as_it_is(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for("129.90", "ILS")
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"sessions/{opened.session_id}/amount", amount_total=100, currency="usd")
    await payer.pays(opened)
    ref = CheckoutRef(request.reference, opened.session_id, request.mode, request.created_at)
    captured = (await provider.look(ref)).captured
    assert captured is not None
    assert (str(captured), captured.currency) == ("1.00", "USD")
