"""Refunds at PayU: accepted without an id, invisible for days, then approved or declined; never asked for twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.money import Money
from providers.base import (
    CheckoutRequest,
    EventKind,
    OpenedCheckout,
    OutcomeUnknown,
    ProviderBusy,
    ProviderError,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.payu import PayuProvider
from providers.payu.errors import REGISTERED, REJECTED, refused
from sandbox.payu import VARIANTS
from tests.providers.payers.payu import Payer as PayuPayer
from tests.providers.recorded import recording, same_shape
from tests.providers.test_payu_calls import (
    BY_REFERENCE,
    NOW,
    Wire,
    attempt,
    failure,
    order,
    provider_on,
    refund,
    refund_request,
    submitted,
    success,
)
from tests.providers.test_payu_sandbox import by, ref_to
from tests.support.mailbox import Mailbox

ONLY = ("payu",)
RequestFor = Callable[..., CheckoutRequest]
ASKED = datetime(2026, 11, 20, 11, tzinfo=UTC)
"""Some days before the recorded decisions."""
ACCEPTED = ProviderRefund(None, RefundStatus.PENDING)


def recorded_wire(query: str, answer: str = "refund_accepted") -> Wire:
    return Wire(**{BY_REFERENCE: recording("payu", query)}, SUBMIT_TRANSACTION=recording("payu", answer))


async def test_the_usual_answer_is_a_refund_that_is_pending_without_an_id() -> None:
    wire = recorded_wire("refund_under_review")
    assert await provider_on(wire).refund(refund_request("25000")) == ACCEPTED
    assert wire.commands() == [BY_REFERENCE, "SUBMIT_TRANSACTION"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("refund_under_review", None),
        ("refund_approved", ProviderRefund("r1", RefundStatus.SUCCEEDED)),
        ("refund_declined", ProviderRefund("r1", RefundStatus.FAILED, "payment_network_rejected")),
        ("refund_retrying", ProviderRefund("r1", RefundStatus.PENDING)),
        ("refund_retried", ProviderRefund("r2", RefundStatus.SUCCEEDED)),
        ("refund_given_up", ProviderRefund("r2", RefundStatus.FAILED, "payment_network_rejected")),
    ],
)
async def test_what_became_of_a_refund_is_read_from_the_order(query: str, found: ProviderRefund | None) -> None:
    """PayU shows no reason: a refund of the amount that was asked for, after it was asked for, is ours."""
    request = refund_request("25000", asked_at=ASKED)
    assert await provider_on(recorded_wire(query)).look_refund(request, None) == found
    first = {"refund_approved": "r1", "refund_declined": "r1"}.get(query, "r0")
    if found is not None:  # also where an earlier look has given it a name
        assert await provider_on(recorded_wire(query)).look_refund(request, first) == found


async def test_a_try_that_payu_goes_on_from_is_not_listed() -> None:
    for query, listed in (("refund_retrying", []), ("refund_retried", ["r2"]), ("refund_given_up", ["r2"])):
        seen = await provider_on(recorded_wire(query)).look(refund_request("25000").payment)
        assert seen.refunds is not None
        assert [one.provider_refund_id for one in seen.refunds] == listed


async def test_a_first_decline_is_not_the_end_where_the_account_has_the_module() -> None:
    request = refund_request("25000", asked_at=ASKED)
    provider = provider_on(recorded_wire("refund_declined"), {"cancellations_module": True})
    assert await provider.look_refund(request, None) == ProviderRefund("r1", RefundStatus.PENDING)


async def test_a_decline_from_before_is_of_another_refund() -> None:
    """A new request is allowed after it, and is not ended by it."""
    later = refund_request("25000", asked_at=datetime(2026, 11, 29, tzinfo=UTC))
    wire = recorded_wire("refund_declined")
    assert await provider_on(wire).look_refund(later, None) is None
    assert await provider_on(wire).refund(refund_request("25000")) == ACCEPTED


async def test_an_order_that_is_refunded_and_shows_no_refund_has_given_all_back() -> None:
    wire = Wire(**{BY_REFERENCE: success([order(attempt("APPROVED"), status="REFUNDED")])})
    asked = refund_request("25000", asked_at=ASKED)
    assert await provider_on(wire).look_refund(asked, None) == ProviderRefund(None, RefundStatus.SUCCEEDED)
    for other in (refund_request("25000"), refund_request("5000", asked_at=ASKED)):
        assert await provider_on(wire).look_refund(other, None) is None


REFUSALS = [
    recording("payu", "refund_already_registered"),
    failure("Ya existe una solicitud de reembolso para la orden"),
    failure("Not refundable today"),
    failure("Invalid credentials"),
    failure("Internal error"),
    submitted("DECLINED", responseCode="NOT_ALLOWED"),
    submitted("ERROR", responseCode=None),
    httpx.Response(401),
    httpx.Response(400),
    httpx.Response(503),
]


@pytest.mark.parametrize("answer", REFUSALS)
async def test_no_refusal_of_a_repeat_is_a_refusal_of_the_request_before_it(answer: Any) -> None:
    """It was recorded as failed, and PayU paid days later."""
    orders = success([order(attempt("APPROVED"))])
    registered = answer in REFUSALS[:2]
    again = provider_on(Wire(**{BY_REFERENCE: orders}, SUBMIT_TRANSACTION=answer))
    asked = refund_request(asked_at=NOW - timedelta(minutes=3))
    if registered:
        assert await again.refund(asked) == ACCEPTED
    else:
        with pytest.raises(OutcomeUnknown):
            await again.refund(asked)
    with pytest.raises(ProviderError) as first:  # where nothing was asked before, a refusal is one
        await provider_on(Wire(**{BY_REFERENCE: orders}, SUBMIT_TRANSACTION=answer)).refund(refund_request())
    silent = isinstance(first.value, OutcomeUnknown)
    assert silent is (answer in (REFUSALS[4], REFUSALS[9]))


async def test_nor_is_a_check_of_ours() -> None:
    for orders in ([order(attempt("DECLINED"))], [order(attempt("APPROVED", "t2"))]):
        wire = Wire(**{BY_REFERENCE: success(orders)})
        with pytest.raises(OutcomeUnknown, match="refund_asked_before"):
            await provider_on(wire).refund(refund_request(asked_at=NOW))
        with pytest.raises(ProviderRejected):
            await provider_on(wire).refund(refund_request())


def test_texts_that_say_it_is_there_already() -> None:
    for words in (
        "Refund already registered",
        "La solicitud ya fue registrada",
        "já existe uma solicitação",
        "The order has a pending refund request",
        "Solicitud en proceso",
    ):
        assert refused(words, "SUBMIT_TRANSACTION").code == REGISTERED, words
    for words in ("Not refundable", "Yaguar", "registered merchants only", "The maximum was exceeded"):
        assert refused(words, "SUBMIT_TRANSACTION").code == REJECTED, words


async def test_one_refund_an_order_and_none_after_a_year() -> None:
    made = success([order(attempt("APPROVED"), refund("APPROVED"))])
    wire = Wire(**{BY_REFERENCE: made}, SUBMIT_TRANSACTION=submitted("PENDING", transactionId=None))
    request = refund_request("6000", before="5000")
    with pytest.raises(ProviderRejected, match="second_refund_not_possible"):
        await provider_on(wire).refund(request)
    assert "SUBMIT_TRANSACTION" not in wire.commands()
    several = provider_on(wire, {"several_refunds": True})
    assert (provider_on(wire).capabilities.max_refunds, several.capabilities.max_refunds) == (1, None)
    assert await several.refund(request) == ACCEPTED
    old = attempt("APPROVED")
    old["transactionResponse"]["operationDate"] = int((NOW - timedelta(days=358)).timestamp() * 1000)
    with pytest.raises(ProviderRejected, match="refund_too_late"):
        await provider_on(Wire(**{BY_REFERENCE: success([order(old)])})).refund(refund_request())


# over real HTTP


def refund_of(
    request: CheckoutRequest, opened: OpenedCheckout, seen: ProviderPayment, amount: str = "25000", **changes: Any
) -> RefundRequest:
    values: dict[str, Any] = {
        "refund_id": uuid4(),
        "transaction_id": seen.transaction_id or "",
        "amount": Money.parse(amount, "COP"),
        "payment": ref_to(request, opened),
        "captured": request.amount,
        "refunded_before": seen.refunded or Money.zero("COP"),
    }
    return RefundRequest(**(values | changes))


async def paid(
    provider: PayuProvider, payer: PayuPayer, request: CheckoutRequest
) -> tuple[OpenedCheckout, ProviderPayment]:
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    return opened, await provider.look(ref_to(request, opened))


async def asks(payer: PayuPayer, command: str, queries: bool = False, **parts: Any) -> Any:  # noqa: FBT001, FBT002
    path = "/reports-api/4.0/service.cgi" if queries else "/payments-api/4.0/service.cgi"
    merchant = {"apiLogin": "login", "apiKey": payer.api_key}
    body = {"command": command, "merchant": merchant, "test": True, **parts}
    return (await payer.http.post(path, json=body, headers={"accept": "application/json"})).json()


@pytest.mark.parametrize(
    ("variant", "state", "query"),
    [
        (None, None, "refund_under_review"),
        (None, "APPROVED", "refund_approved"),
        (None, "DECLINED", "refund_declined"),
        ("cancellations_module", "APPROVED", "refund_retried"),
        ("cancellations_module", "DECLINED", "refund_given_up"),
    ],
)
async def test_payus_side_answers_in_the_recorded_shapes(
    provider: PayuProvider,
    payer: PayuPayer,
    request_for: RequestFor,
    variant: str | None,
    state: str | None,
    query: str,
) -> None:
    if variant is not None:
        await payer.behaves(variant)
    request = request_for()
    _, seen = await paid(provider, payer, request)
    [held] = await payer.orders(request.reference)
    wanted = {"type": "REFUND", "order": {"id": str(held["id"])}, "parentTransactionId": seen.transaction_id}
    answer = await asks(payer, "SUBMIT_TRANSACTION", transaction=wanted)
    assert same_shape(recording("payu", "refund_accepted"), answer) == []
    again = await asks(payer, "SUBMIT_TRANSACTION", transaction=wanted)
    assert (again["code"], refused(again["error"], "").code) == ("ERROR", REGISTERED)
    if state is not None:
        await payer.sandbox("payu/refunds/settle", reference=str(request.reference), state=state)
    shown = await asks(payer, BY_REFERENCE, queries=True, details={"referenceCode": str(request.reference)})
    [mine], [theirs] = (one["result"]["payload"] for one in (shown, recording("payu", query)))
    assert mine["status"] == theirs["status"]
    assert [(one["type"], one["transactionResponse"]["state"]) for one in mine["transactions"]] == [
        (one["type"], one["transactionResponse"]["state"]) for one in theirs["transactions"]
    ]
    for own, real in zip(mine["transactions"], theirs["transactions"], strict=True):
        amount = {"additionalValues": {"TX_VALUE": own["additionalValues"]["TX_VALUE"] | {"value": 1.0}}}
        assert same_shape(real, own | amount) == []  # values come as numbers and as strings
        assert ("reason" in own, own["extraParameters"]) == (False, real["extraParameters"])


def test_every_variant_has_its_tests() -> None:
    assert set(PayuPayer.variants) == set(VARIANTS)


async def test_a_refund_waits_for_payus_decision(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    request = request_for(callback_url=address)
    opened, seen = await paid(provider, payer, request)
    asked = refund_of(request, opened, seen, reason="wrong size", asked_at=datetime.now(UTC))
    assert await provider.refund(replace(asked, asked_at=None)) == ACCEPTED
    assert (await provider.look(ref_to(request, opened))).refunded == Money.zero("COP")
    assert await provider.look_refund(asked, None) is None
    assert await provider.refund(asked) == ACCEPTED
    await payer.refunds_are_decided(request.reference)
    found = await provider.look_refund(asked, None)
    assert found is not None
    assert found.status is RefundStatus.SUCCEEDED
    after = await provider.look(ref_to(request, opened))
    assert after.refunded == request.amount
    assert await provider.refund(asked) == found
    [order_] = await payer.orders(request.reference)
    assert [one["type"] for one in order_["transactions"]] == ["AUTHORIZATION_AND_CAPTURE", "REFUND"]
    events = await box.events(provider, 2)
    assert {event.kind for event in events} == {EventKind.CAPTURED, EventKind.REFUND}
    assert {event.reference for event in events} == {request.reference}


async def test_a_refund_that_payu_declines_has_failed_and_the_next_one_may_go(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened, seen = await paid(provider, payer, request)
    asked = refund_of(request, opened, seen, asked_at=datetime.now(UTC))
    assert await provider.refund(asked) == ACCEPTED
    await payer.sandbox("payu/refunds/settle", reference=str(request.reference), state="DECLINED")
    found = await provider.look_refund(asked, None)
    assert found is not None
    assert (found.status, found.failure_code) == (RefundStatus.FAILED, "entity_declined")
    assert await provider.refund(asked) == found
    assert await provider.refund(refund_of(request, opened, seen)) == ACCEPTED


async def test_where_refunds_are_listed_at_once_they_have_an_id_and_a_reason(
    adapter: Callable[..., PayuProvider], payer: PayuPayer, request_for: RequestFor
) -> None:
    await payer.behaves("refund_listed_at_once")
    await payer.sandbox("payu/merchants", api_key=payer.api_key, merchant_id=payer.merchant_id, several_refunds=True)
    provider, request = adapter(several_refunds=True), request_for()
    opened, seen = await paid(provider, payer, request)
    parts = [refund_of(request, opened, seen, "5000", reason="wrong size") for _ in range(2)]
    made = [await provider.refund(part) for part in (*parts, *parts)]
    assert {one.status for one in made} == {RefundStatus.PENDING}
    assert len({one.provider_refund_id for one in made}) == 2
    for part, one in zip(parts, made, strict=False):
        for known_as in (None, one.provider_refund_id):
            assert await provider.look_refund(part, known_as) == one
    with pytest.raises(ProviderRejected, match="refund_exceeds_payment"):
        await provider.refund(refund_of(request, opened, seen, "15001"))
    [order_] = await payer.orders(request.reference)
    assert [one["reason"] for one in order_["transactions"][1:]] == [f"{part.refund_id} wrong size" for part in parts]


async def test_without_reasons_an_earlier_try_is_known_by_the_sum(
    adapter: Callable[..., PayuProvider], payer: PayuPayer, request_for: RequestFor
) -> None:
    await payer.sandbox("payu/merchants", api_key=payer.api_key, merchant_id=payer.merchant_id, several_refunds=True)
    provider, request = adapter(several_refunds=True), request_for()
    opened, seen = await paid(provider, payer, request)
    first = refund_of(request, opened, seen, "5000")
    assert await provider.look_refund(first, None) is None
    assert await provider.refund(first) == ACCEPTED
    await payer.refunds_are_decided(request.reference)
    made = await provider.refund(first)
    assert made.status is RefundStatus.SUCCEEDED
    after = Money.parse("5000", "COP")
    second = refund_of(request, opened, seen, "5000", refunded_before=after)
    assert await provider.refund(second) == ACCEPTED
    await payer.refunds_are_decided(request.reference)
    assert (await provider.refund(second)).provider_refund_id not in (None, made.provider_refund_id)
    third = refund_of(request, opened, seen, "6000", refunded_before=after)
    assert await provider.refund(third) == ACCEPTED


async def test_a_refund_too_small_too_early_or_of_nothing_is_refused(
    provider: PayuProvider, adapter: Callable[..., PayuProvider], payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened, seen = await paid(provider, payer, request)
    with pytest.raises(ProviderRejected, match="refund_below_minimum"):
        await provider.refund(refund_of(request, opened, seen, "99"))
    with pytest.raises(ProviderRejected, match="fractional_pesos"):
        await provider.refund(refund_of(request, opened, seen, "300.50"))
    with pytest.raises(ProviderRejected, match="transaction_not_found"):
        await provider.refund(refund_of(request, opened, seen, transaction_id="unknown"))
    with pytest.raises(ProviderBusy, match="refund_too_early") as early:
        await adapter(refund_wait_seconds=600).refund(refund_of(request, opened, seen))
    assert early.value.retry_after is not None
    assert timedelta(minutes=9) < early.value.retry_after <= timedelta(minutes=10)
    elsewhere = refund_of(request_for(), opened, seen)
    with pytest.raises(ProviderBusy, match="order_not_visible"):
        await provider.refund(elsewhere)
    assert await provider.look_refund(elsewhere, None) is None
    unpaid = by("efecty", request_for)
    voucher = await provider.open_checkout(unpaid)
    [order_] = await payer.orders(unpaid.reference)
    waiting = refund_of(unpaid, voucher, seen, transaction_id=order_["transactions"][0]["id"])
    with pytest.raises(ProviderRejected, match="transaction_not_approved"):
        await provider.refund(waiting)


async def test_payu_refuses_a_cash_refund_that_an_option_let_through(
    adapter: Callable[..., PayuProvider], payer: PayuPayer, request_for: RequestFor
) -> None:
    provider = adapter(refunds_every_method=True, partial_value_in_order=True)
    request = by("efecty", request_for)
    opened, seen = await paid(provider, payer, request)
    with pytest.raises(ProviderRejected, match="rejected"):
        await provider.refund(refund_of(request, opened, seen, "5000"))
    card = request_for()
    opened, seen = await paid(provider, payer, card)
    assert await provider.refund(refund_of(card, opened, seen, "5000")) == ACCEPTED
