"""One suite for all providers, over real HTTP against the sandbox: what the contract promises, whoever keeps it.

What a provider cannot do is skipped by its capability sheet, never by its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    OpenedCheckout,
    OutcomeUndecided,
    OutcomeUnknown,
    Provider,
    ProviderBusy,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)

RequestFor = Callable[..., CheckoutRequest]
OPEN = {PaymentStatus.PENDING, PaymentStatus.REQUIRES_ACTION}


def ref_to(request: CheckoutRequest, opened: OpenedCheckout | None) -> CheckoutRef:
    return CheckoutRef(
        request.reference,
        None if opened is None else opened.session_id,
        request.mode,
        request.created_at,
        session_secret=None if opened is None else opened.session_secret,
        method=request.method,
        amount=request.amount,
        expires_at=request.expires_at,
    )


def calls_to(provider: Provider, payer: Any, request: CheckoutRequest) -> Any:
    calls = payer.calls(provider, request)
    return calls or pytest.skip(f"{provider.name} is never called")


@pytest.fixture(params=[CheckoutMode.HOSTED, CheckoutMode.DIRECT])  # what is saved is charged: test_saved_methods.py
def mode(request: pytest.FixtureRequest, provider: Provider) -> CheckoutMode:
    chosen = CheckoutMode(request.param)
    sheet = provider.capabilities
    if not (sheet.redirect_checkout if chosen is CheckoutMode.HOSTED else sheet.direct_payment):
        pytest.skip(f"{provider.name} has no {chosen.value} checkout")
    return chosen


@pytest.mark.asyncio
async def test_a_checkout_is_pending_until_it_is_paid(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    request = request_for(mode=mode)
    opened = await provider.open_checkout(request)
    assert bool(opened.url or opened.form or opened.cash) is (mode is CheckoutMode.HOSTED)
    assert bool(opened.client_secret) is (mode is CheckoutMode.DIRECT)
    before = await provider.look(ref_to(request, opened))
    if not provider.capabilities.status_call:
        assert (before.status, before.captured) == (PaymentStatus.UNKNOWN, None)
        pytest.skip(f"{provider.name} cannot be asked; its own tests follow its callbacks")
    unseen = PaymentStatus.PENDING if payer.opens_by_call else PaymentStatus.UNKNOWN
    assert before.status in {PaymentStatus.PENDING, unseen}
    assert before.captured is None
    await payer.pays(opened)
    after = await provider.look(ref_to(request, opened))
    assert (after.status, after.captured) == (PaymentStatus.PAID, request.amount)
    assert after.transaction_id
    assert (after.method, after.card_last4) == payer.method_seen
    # a day alone is noon of it, and one fake pays a day ago
    assert after.captured_at is not None
    assert abs(after.captured_at - datetime.now(UTC)) < timedelta(hours=49)
    assert after.refunded in (None, Money.zero(request.amount.currency))


@pytest.mark.asyncio
async def test_a_declined_attempt_leaves_the_checkout_open_for_the_next(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    if not payer.can_be_declined:
        pytest.skip(f"nobody is declined at {provider.name}")
    request = request_for(mode=mode)
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured) == (PaymentStatus.PENDING, None)
    assert seen.failure_code
    await payer.pays(opened)
    paid = await provider.look(ref_to(request, opened))
    assert (paid.status, paid.captured, paid.failure_code) == (PaymentStatus.PAID, request.amount, None)


@pytest.mark.asyncio
async def test_a_payer_who_must_confirm_at_the_bank_is_seen_waiting(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    if not provider.capabilities.direct_payment:
        pytest.skip(f"{provider.name} has no direct checkout")
    request = request_for(mode=CheckoutMode.DIRECT)
    opened = await provider.open_checkout(request)
    await payer.is_challenged(opened)
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.REQUIRES_ACTION
    await payer.passes_challenge(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)


@pytest.mark.asyncio
async def test_a_closed_checkout_takes_no_money_and_closing_again_is_harmless(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    if not provider.capabilities.closes_checkout:
        pytest.skip(f"{provider.name} cannot close a checkout")
    request = request_for(mode=mode)
    opened = await provider.open_checkout(request)
    for _ in range(2):
        closed = await provider.close_checkout(ref_to(request, opened))
        assert closed.status in {PaymentStatus.EXPIRED, PaymentStatus.CANCELED}
    await payer.tries_to_pay(opened)
    assert (await provider.look(ref_to(request, opened))).captured is None


@pytest.mark.asyncio
async def test_a_method_that_closes_by_itself_takes_no_money_once_it_is_closed(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    own = [method.name for method in provider.capabilities.methods if method.closes]
    if not own:
        pytest.skip(f"{provider.name} closes all methods alike")
    for method in own:
        request = request_for(method=method)
        opened = await provider.open_checkout(request)
        assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.CANCELED
        await payer.tries_to_pay(opened)
        paid_request = request_for(method=method)
        paid_one = await provider.open_checkout(paid_request)
        await payer.pays(paid_one)
        assert (await provider.close_checkout(ref_to(paid_request, paid_one))).captured == paid_request.amount


@pytest.mark.asyncio
async def test_closing_a_paid_checkout_reports_the_money(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    if not provider.capabilities.closes_checkout:
        pytest.skip(f"{provider.name} cannot close a checkout")
    request = request_for(mode=mode)
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    seen = await provider.close_checkout(ref_to(request, opened))
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)


@pytest.mark.asyncio
async def test_silence_after_creation_is_answered_by_the_same_checkout_on_the_next_try(
    provider: Provider, impatient: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    if not payer.opens_by_call:
        pytest.skip(f"{provider.name} is not called to open a checkout")
    request = request_for(mode=mode)
    await payer.falls_silent("after", on="open")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    if provider.capabilities.looks_up_by_reference and provider.capabilities.one_checkout_per_reference:
        found = await provider.look(ref_to(request, None))
        assert found.status is PaymentStatus.PENDING
    opened = await provider.open_checkout(request)
    if provider.capabilities.one_checkout_per_reference:
        assert opened == await provider.open_checkout(request)
        assert await payer.checkouts_of(request.reference) == [opened.session_id]
    await payer.pays(opened)
    assert (await provider.look(ref_to(request, opened))).captured == request.amount
    assert await payer.charges_of(request.reference) == 1


@pytest.mark.asyncio
async def test_silence_before_creation_is_not_found_and_not_failed(
    provider: Provider, impatient: Provider, payer: Any, request_for: RequestFor
) -> None:
    if not payer.opens_by_call:
        pytest.skip(f"{provider.name} is not called to open a checkout")
    request = request_for()
    await payer.falls_silent("before", on="open")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.UNKNOWN
    opened = await provider.open_checkout(request)
    assert await payer.checkouts_of(request.reference) == [opened.session_id]


@pytest.mark.asyncio
async def test_the_same_checkout_asked_for_many_times_at_once_exists_once(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    if not provider.capabilities.one_checkout_per_reference:
        pytest.skip(f"{provider.name} makes another checkout at each creation; only one address is ever given out")
    request = request_for(mode=mode)
    answers = await asyncio.gather(*(provider.open_checkout(request) for _ in range(8)), return_exceptions=True)
    opened = [answer for answer in answers if isinstance(answer, OpenedCheckout)]
    assert all(isinstance(answer, OpenedCheckout | ProviderBusy) for answer in answers)
    assert len({answer.session_id for answer in opened}) == 1
    if payer.opens_by_call:
        assert await payer.checkouts_of(request.reference) == [opened[0].session_id]


@pytest.mark.asyncio
async def test_an_answer_of_500_leaves_the_outcome_unknown(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    for call in calls_to(provider, payer, request_for()):
        await payer.faults("error:500")
        with pytest.raises(OutcomeUnknown):
            await call()


@pytest.mark.asyncio
async def test_a_rate_limit_says_when_to_come_back(provider: Provider, payer: Any, request_for: RequestFor) -> None:
    for call in calls_to(provider, payer, request_for()):
        await payer.faults("rate_limit:7")
        with pytest.raises(ProviderBusy) as busy:
            await call()
        assert busy.value.retry_after == timedelta(seconds=7)


@pytest.mark.asyncio
async def test_a_wrong_key_is_the_operators_business(
    misconfigured: Provider, payer: Any, request_for: RequestFor
) -> None:
    for call in calls_to(misconfigured, payer, request_for()):
        with pytest.raises(ProviderMisconfigured):
            await call()


@pytest.mark.asyncio
async def test_an_amount_that_the_provider_does_not_take_is_rejected(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    with pytest.raises(ProviderRejected):
        await provider.open_checkout(request_for(*payer.refused, mode=mode))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("amount", "currency"), [("500", "JPY"), ("5.120", "KWD"), ("25000.00", "COP"), ("500", "ISK"), ("129.90", "ILS")]
)
async def test_every_kind_of_currency_arrives_and_comes_back_exactly(
    provider: Provider, payer: Any, request_for: RequestFor, amount: str, currency: str
) -> None:
    sheet = provider.capabilities
    if sheet.currencies is not None and currency not in sheet.currencies:
        pytest.skip(f"{provider.name} does not take {currency}")
    if not sheet.status_call:
        pytest.skip(f"{provider.name} cannot be asked what arrived")
    request = request_for(amount, currency)
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    assert (await provider.look(ref_to(request, opened))).captured == Money.parse(amount, currency)


async def paid(provider: Provider, payer: Any, request: CheckoutRequest) -> tuple[OpenedCheckout, ProviderPayment]:
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    return opened, await provider.look(ref_to(request, opened))


async def has_gone_back(provider: Provider, payer: Any, request: CheckoutRequest, opened: OpenedCheckout) -> None:
    """All of the payment, once: as a look tells it, or, where it does not, in the provider's own books."""
    told = (await provider.look(ref_to(request, opened))).refunded
    if payer.shows_refunds:
        assert told == request.amount
    else:
        assert (told, await payer.given_back(request.reference)) == (None, str(request.amount))


def refund_of(
    request: CheckoutRequest, opened: OpenedCheckout, seen: ProviderPayment, amount: str, before: str = "0"
) -> RefundRequest:
    """`before` is what is on record as refunded, where a look does not tell it."""
    money = Money.parse(amount, request.amount.currency)
    zero = Money.parse(before, request.amount.currency)
    return RefundRequest(
        refund_id=uuid4(),
        transaction_id=seen.transaction_id or "",
        amount=money,
        payment=ref_to(request, opened),
        captured=request.amount,
        refunded_before=seen.refunded or zero,
    )


@pytest.mark.asyncio
async def test_refunds_in_parts_add_up_and_never_exceed_the_payment(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    if not provider.capabilities.partial_refund:
        pytest.skip(f"{provider.name} refunds in full only")
    request = request_for()
    opened, seen = await paid(provider, payer, request)
    part = await provider.refund(refund_of(request, opened, seen, payer.part))
    assert part.status in {RefundStatus.SUCCEEDED, RefundStatus.PENDING}
    await payer.refunds_are_decided(request.reference)
    seen = await provider.look(ref_to(request, opened))
    with pytest.raises(ProviderRejected):
        await provider.refund(refund_of(request, opened, seen, payer.over, before=payer.part))
    if provider.capabilities.max_refunds == 1:
        with pytest.raises(ProviderRejected):
            await provider.refund(refund_of(request, opened, seen, payer.rest, before=payer.part))
        assert seen.refunded == Money.parse(payer.part, payer.currency)
        return
    rest = await provider.refund(refund_of(request, opened, seen, payer.rest, before=payer.part))
    assert rest.provider_refund_id != part.provider_refund_id
    await payer.refunds_are_decided(request.reference)
    seen = await provider.look(ref_to(request, opened))
    with pytest.raises(ProviderRejected):
        await provider.refund(refund_of(request, opened, seen, payer.least, before=str(request.amount)))
    assert seen.captured == request.amount
    await has_gone_back(provider, payer, request, opened)


@pytest.mark.asyncio
async def test_a_refund_repeated_after_silence_or_at_once_moves_money_once(
    provider: Provider, impatient: Provider, payer: Any, request_for: RequestFor
) -> None:
    if not provider.capabilities.refund:
        pytest.skip(f"{provider.name} has no refunds")
    request = request_for()
    opened, seen = await paid(provider, payer, request)
    refund = refund_of(request, opened, seen, payer.amount)
    with suppress(OutcomeUndecided):  # nothing that would be shown has been made yet
        assert await provider.look_refund(refund, None) is None
    await payer.falls_silent("after", on="refund")
    asked_at = datetime.now(UTC)
    with pytest.raises(OutcomeUnknown):
        await impatient.refund(refund)
    if not payer.shows_refunds:
        with pytest.raises(OutcomeUndecided):
            await provider.look_refund(refund, None)
        gone = Money.parse(await payer.given_back(request.reference), request.amount.currency)
        assert Money.zero(gone.currency) < gone <= request.amount  # of a payment by several ways the first part alone
        return
    refund = replace(refund, asked_at=asked_at)
    answers = await asyncio.gather(*(provider.refund(refund) for _ in range(4)), return_exceptions=True)
    made = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len({answer.provider_refund_id for answer in made}) == 1  # None where it has no id yet
    assert all(isinstance(answer, ProviderBusy) for answer in answers if isinstance(answer, BaseException))
    await payer.refunds_are_decided(request.reference)
    await has_gone_back(provider, payer, request, opened)
    for known_as in {None, made[0].provider_refund_id}:
        found = await provider.look_refund(refund, known_as)
        assert found is not None
        assert found.status in {RefundStatus.SUCCEEDED, RefundStatus.PENDING}


@pytest.mark.asyncio
async def test_a_paid_checkout_is_found_by_our_reference_alone(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    if not provider.capabilities.looks_up_by_reference:
        pytest.skip(f"{provider.name} has no look-up by reference")
    request = request_for(mode=mode)
    opened = await provider.open_checkout(request)
    if provider.capabilities.one_checkout_per_reference:
        known = OPEN if payer.opens_by_call else {PaymentStatus.UNKNOWN}  # an address that was only computed
        assert (await provider.look(ref_to(request, None))).status in known
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, None))
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)


@pytest.mark.asyncio
async def test_what_the_provider_does_not_know_is_unknown_and_not_failed(
    provider: Provider, payer: Any, request_for: RequestFor, mode: CheckoutMode
) -> None:
    request = request_for(mode=mode)
    for session_id in (None, payer.unknown_session(mode)):
        ref = CheckoutRef(request.reference, session_id, mode, request.created_at)
        assert (await provider.look(ref)).status is PaymentStatus.UNKNOWN


@pytest.mark.asyncio
async def test_the_connection_test_names_the_account(provider: Provider) -> None:
    check = await provider.check_account()
    assert check.account_name
    assert not check.live


@pytest.mark.asyncio
async def test_refunds_are_told_one_by_one_and_nothing_is_not_the_same_as_not_told(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    """Of a provider that lists refunds each has an id, an amount and a status; ours are known as ours, or unmarked."""
    if not provider.capabilities.status_call:
        assert (await provider.look(ref_to(request_for(), None))).refunds is None
        return
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    await payer.charges_can_be_refunded(request.reference)
    before = await provider.look(ref_to(request, opened))
    assert before.refunds in (None, ())
    assert before.refunded in (None, Money.zero(request.amount.currency))
    if before.refunds == ():
        assert before.refunded is not None
    wanted = refund_of(request, opened, before, str(request.amount))
    asked_at = datetime.now(UTC)
    made = await provider.refund(wanted)
    await payer.refunds_are_decided(request.reference)
    await has_gone_back(provider, payer, request, opened)
    after = await provider.look(ref_to(request, opened))
    if not provider.capabilities.lists_refunds or not payer.shows_refunds:
        assert after.refunds is None
        return
    assert after.refunds is not None
    named = await provider.look_refund(replace(wanted, asked_at=asked_at), made.provider_refund_id)
    assert named is not None
    assert made.provider_refund_id in (None, named.provider_refund_id) or provider.capabilities.max_refunds == 1
    [one] = [each for each in after.refunds if each.status is RefundStatus.SUCCEEDED]
    assert (one.provider_refund_id, one.amount) == (named.provider_refund_id, request.amount)
    assert one.reference == wanted.refund_id or one.unmarked
