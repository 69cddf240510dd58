"""One suite for all providers that save methods, over real HTTP against the sandbox.

What a provider cannot do is skipped by its capability sheet, never by its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from domain.declines import DeclineClass
from domain.money import Money
from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    Charged,
    ChargeRequest,
    ChargesSaved,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    KeepsCustomers,
    OpenedCheckout,
    OutcomeUnknown,
    Payer,
    Provider,
    ProviderBusy,
    ProviderDeclined,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
    SavedMethod,
    SavesMethods,
    SetupRef,
    SetupRequest,
)
from providers.registry import build_provider
from tests.providers.payers import SILENCE_SECONDS, SandboxPayer

PERSON = Payer("cust-7", "Dana Levi", "dana@example.com", "0541234567", "CC", "1020304050", "127.0.0.1")
RequestFor = Callable[..., CheckoutRequest]


@pytest_asyncio.fixture
async def saver(payer: SandboxPayer) -> AsyncIterator[Provider]:
    """The provider under test, by an account that may save methods."""
    provider = build_provider(payer.name, payer.saving_account())
    if not provider.capabilities.off_session:
        pytest.skip(f"{provider.name} charges no saved methods")
    yield provider
    await provider.aclose()


@pytest_asyncio.fixture
async def impatient_saver(payer: SandboxPayer) -> AsyncIterator[Provider]:
    """The same, giving up long before the sandbox breaks its silence."""
    provider = build_provider(payer.name, payer.saving_account(timeout_seconds=SILENCE_SECONDS / 3))
    if not provider.capabilities.off_session:
        pytest.skip(f"{provider.name} charges no saved methods")
    yield provider
    await provider.aclose()


def as_saver(provider: Provider) -> SavesMethods:
    if not provider.capabilities.sets_up_methods:
        pytest.skip(f"{provider.name} has no page to save a method")
    assert isinstance(provider, SavesMethods)
    return provider


async def customer_of(provider: Provider) -> str | None:
    if not provider.capabilities.customers:
        return None
    assert isinstance(provider, KeepsCustomers)
    return await provider.create_customer(uuid4(), PERSON)


async def setup_request(provider: Provider, payer: SandboxPayer) -> SetupRequest:
    now = datetime.now(UTC)
    return SetupRequest(
        reference=uuid4(),
        workspace_id=uuid4(),
        currency=payer.currency,
        created_at=now,
        expires_at=now + timedelta(hours=2),
        description="Save a card",
        customer=await customer_of(provider),
        success_url="https://shop.example/saved",
        cancel_url="https://shop.example/account",
        callback_url="http://127.0.0.1:9/hook",
        payer=PERSON,
    )


def ref_to(request: SetupRequest, opened: OpenedCheckout | None) -> SetupRef:
    session_id = None if opened is None else opened.session_id
    return SetupRef(
        request.reference, session_id, request.created_at, None if opened is None else opened.session_secret
    )


async def saved(provider: Provider, payer: SandboxPayer) -> SavedMethod:
    """A method of the customer's, by whatever way the provider has."""
    if not provider.capabilities.sets_up_methods:
        return await payer.tokenises()
    saver = as_saver(provider)
    request = await setup_request(provider, payer)
    opened = await saver.open_setup(request)
    await payer.saves(opened)
    method = (await saver.look_setup(ref_to(request, opened))).method
    assert method is not None
    return method


def charge_of(payer: SandboxPayer, method: SavedMethod, **changes: Any) -> ChargeRequest:
    now = datetime.now(UTC)
    request = ChargeRequest(
        reference=uuid4(),
        workspace_id=uuid4(),
        order_id="order-7",
        amount=Money.parse(payer.amount, payer.currency),
        description="Renewal",
        token=method.token,
        customer=method.customer,
        created_at=now,
        expires_at=now + timedelta(days=3),
        return_url="https://shop.example/thanks",
        payer=PERSON,
        exp_month=method.exp_month,
        exp_year=method.exp_year,
    )
    return replace(request, **changes)


async def charge(provider: Provider, request: ChargeRequest) -> Charged:
    assert isinstance(provider, ChargesSaved)
    return await provider.charge(request)


async def look(provider: Provider, request: ChargeRequest, charged: Charged | None) -> ProviderPayment:
    return await provider.look(
        CheckoutRef(
            request.reference,
            None if charged is None else charged.session_id,
            CheckoutMode.SAVED,
            request.created_at,
            session_secret=None if charged is None else charged.session_secret,
            amount=request.amount,
            expires_at=request.expires_at,
            transaction_id=None if charged is None else charged.transaction_id,
            token=request.token if charged is None else None,
        )
    )


async def charge_again(provider: Provider, request: ChargeRequest) -> Charged | None:
    """A repeat as the service makes it: where there are no keys, the reference is looked up first."""
    if provider.capabilities.idempotency_key_lifetime is None:
        seen = await look(provider, request, None)
        if seen.status is not PaymentStatus.UNKNOWN:
            return None
    return await charge(provider, request)


@pytest.mark.asyncio
async def test_a_set_up_is_pending_until_a_method_is_entered(saver: Provider, payer: SandboxPayer) -> None:
    keeper = as_saver(saver)
    request = await setup_request(saver, payer)
    opened = await keeper.open_setup(request)
    assert opened.url is not None
    before = await keeper.look_setup(ref_to(request, opened))
    assert (before.status, before.method) == (SetupStatus.PENDING, None)
    await payer.saves(opened)
    after = await keeper.look_setup(ref_to(request, opened))
    assert after.status is SetupStatus.SUCCEEDED
    method = after.method
    assert method is not None
    assert (method.token, method.last4) == (method.token, payer.method_seen[1])
    assert method.token not in repr(method)
    assert method.exp_month in range(1, 13)
    assert method.exp_year is not None
    assert method.exp_year > 2000


@pytest.mark.asyncio
async def test_a_refused_card_leaves_the_set_up_open(saver: Provider, payer: SandboxPayer) -> None:
    keeper = as_saver(saver)
    request = await setup_request(saver, payer)
    opened = await keeper.open_setup(request)
    await payer.cannot_save(opened)
    seen = await keeper.look_setup(ref_to(request, opened))
    assert (seen.status, seen.method) == (SetupStatus.PENDING, None)
    await payer.saves(opened)
    assert (await keeper.look_setup(ref_to(request, opened))).status is SetupStatus.SUCCEEDED


@pytest.mark.asyncio
async def test_a_closed_set_up_takes_no_method_where_it_can_be_closed(saver: Provider, payer: SandboxPayer) -> None:
    keeper = as_saver(saver)
    if not saver.capabilities.closes_checkout:
        pytest.skip(f"{saver.name} closes no pages")
    request = await setup_request(saver, payer)
    opened = await keeper.open_setup(request)
    for _ in range(2):
        assert (await keeper.close_setup(ref_to(request, opened))).status is SetupStatus.EXPIRED
    await payer.tries_to_pay(opened)
    assert (await keeper.look_setup(ref_to(request, opened))).method is None


@pytest.mark.asyncio
async def test_closing_a_finished_set_up_gives_the_method(saver: Provider, payer: SandboxPayer) -> None:
    keeper = as_saver(saver)
    request = await setup_request(saver, payer)
    opened = await keeper.open_setup(request)
    await payer.saves(opened)
    assert (await keeper.close_setup(ref_to(request, opened))).method is not None


@pytest.mark.asyncio
async def test_a_set_up_that_nobody_knows_is_unknown_and_not_failed(saver: Provider, payer: SandboxPayer) -> None:
    keeper = as_saver(saver)
    request = await setup_request(saver, payer)
    assert (await keeper.look_setup(ref_to(request, None))).status is SetupStatus.UNKNOWN


@pytest.mark.asyncio
async def test_a_charge_is_paid_exactly_and_can_be_refunded(saver: Provider, payer: SandboxPayer) -> None:
    request = charge_of(payer, await saved(saver, payer))
    charged = await charge(saver, request)
    assert charged.status in (PaymentStatus.PAID, PaymentStatus.PENDING)
    seen = await look(saver, request, charged)
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)
    assert seen.transaction_id is not None
    assert seen.card_last4 == payer.method_seen[1]
    assert await payer.charges_of(request.reference) == 1
    if not saver.capabilities.refund:
        pytest.skip(f"{saver.name} refunds nothing")
    ref = CheckoutRef(
        request.reference,
        charged.session_id,
        CheckoutMode.SAVED,
        request.created_at,
        session_secret=charged.session_secret,
    )
    await payer.charges_can_be_refunded(request.reference)
    part = Money.parse(payer.part, payer.currency) if saver.capabilities.partial_refund else request.amount
    refund = await saver.refund(
        RefundRequest(uuid4(), seen.transaction_id, part, ref, request.amount, Money.zero(payer.currency))
    )
    assert refund.status in (RefundStatus.SUCCEEDED, RefundStatus.PENDING)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [DeclineClass.SOFT, DeclineClass.HARD])
async def test_a_decline_charges_nothing_and_has_a_class(
    saver: Provider, payer: SandboxPayer, kind: DeclineClass
) -> None:
    method = await saved(saver, payer)
    await payer.will(method.token, kind.value)
    request = charge_of(payer, method)
    with pytest.raises(ProviderDeclined) as declined:
        await charge(saver, request)
    assert declined.value.decline_class is kind, declined.value.code
    assert method.token not in str(declined.value)
    assert await payer.charges_of(request.reference) == 0
    retry = charge_of(payer, method)
    assert (await look(saver, retry, await charge(saver, retry))).status is PaymentStatus.PAID


@pytest.mark.asyncio
async def test_silence_after_a_charge_is_found_and_never_charged_again(
    impatient_saver: Provider, payer: SandboxPayer
) -> None:
    request = charge_of(payer, await saved(impatient_saver, payer))
    await payer.falls_silent("after", "charge")
    with pytest.raises(OutcomeUnknown):
        await charge(impatient_saver, request)
    await asyncio.sleep(0.05)
    again = await charge_again(impatient_saver, request)
    seen = await look(impatient_saver, request, again)
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)
    assert await payer.charges_of(request.reference) == 1


@pytest.mark.asyncio
async def test_silence_before_a_charge_is_not_found_and_charged_once(
    impatient_saver: Provider, payer: SandboxPayer
) -> None:
    request = charge_of(payer, await saved(impatient_saver, payer))
    await payer.falls_silent("before", "charge")
    with pytest.raises(OutcomeUnknown):
        await charge(impatient_saver, request)
    again = await charge_again(impatient_saver, request)
    assert again is not None
    assert (await look(impatient_saver, request, again)).status is PaymentStatus.PAID
    assert await payer.charges_of(request.reference) == 1


@pytest.mark.asyncio
async def test_two_charges_of_one_method_are_two(saver: Provider, payer: SandboxPayer) -> None:
    method = await saved(saver, payer)
    requests = [charge_of(payer, method) for _ in range(2)]
    for request in requests:
        assert (await look(saver, request, await charge(saver, request))).status is PaymentStatus.PAID
    assert [await payer.charges_of(request.reference) for request in requests] == [1, 1]


@pytest.mark.asyncio
async def test_an_answer_of_500_to_a_charge_leaves_the_outcome_unknown(saver: Provider, payer: SandboxPayer) -> None:
    request = charge_of(payer, await saved(saver, payer))
    await payer.faults("error:500", "charge")
    with pytest.raises(OutcomeUnknown):
        await charge(saver, request)


@pytest.mark.asyncio
async def test_a_rate_limit_moves_nothing(saver: Provider, payer: SandboxPayer) -> None:
    request = charge_of(payer, await saved(saver, payer))
    await payer.faults("rate_limit:7", "charge")
    with pytest.raises(ProviderBusy) as busy:
        await charge(saver, request)
    assert busy.value.retry_after == timedelta(seconds=7)
    assert await payer.charges_of(request.reference) == 0


@pytest.mark.asyncio
async def test_a_method_that_nobody_knows_is_not_charged(saver: Provider, payer: SandboxPayer) -> None:
    method = await saved(saver, payer)
    request = charge_of(payer, replace(method, token=payer.unknown_token()))
    with pytest.raises((ProviderDeclined, ProviderRejected)):
        await charge(saver, request)
    assert await payer.charges_of(request.reference) == 0


@pytest.mark.asyncio
async def test_a_wrong_key_charges_nothing(saver: Provider, payer: SandboxPayer) -> None:
    method = await saved(saver, payer)
    wrong = build_provider(payer.name, replace(payer.wrong_account(), options=payer.saving_account().options))
    with pytest.raises(ProviderMisconfigured):
        await charge(wrong, charge_of(payer, method))
    await wrong.aclose()


@pytest.mark.asyncio
async def test_what_a_payer_lets_us_save_while_paying_can_be_charged(
    saver: Provider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    if not saver.capabilities.saves_methods:
        pytest.skip(f"{saver.name} saves nothing while paying")
    request = replace(request_for(), save_method=True, customer=await customer_of(saver))
    opened = await saver.open_checkout(request)
    await payer.pays(opened)
    seen = await saver.look(
        CheckoutRef(
            request.reference,
            opened.session_id,
            request.mode,
            request.created_at,
            session_secret=opened.session_secret,
            method=request.method,
            amount=request.amount,
            expires_at=request.expires_at,
        )
    )
    assert seen.captured == request.amount
    assert seen.saved_method is not None
    assert seen.saved_method.token not in repr(seen)
    renewal = charge_of(payer, seen.saved_method)
    assert (await look(saver, renewal, await charge(saver, renewal))).status is PaymentStatus.PAID


@pytest.mark.asyncio
async def test_a_detached_method_stays_detached_however_often(saver: Provider, payer: SandboxPayer) -> None:
    keeper = as_saver(saver)
    method = await saved(saver, payer)
    for _ in range(2):
        await keeper.detach(method.token)
