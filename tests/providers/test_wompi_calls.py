"""Wompi's calls: every method over real HTTP against the sandbox, and answers that the sandbox does not give."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    Bank,
    Callback,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    EventKind,
    ListsBanks,
    OpenedCheckout,
    OutcomeUnknown,
    Payer,
    Provider,
    ProviderBusy,
    ProviderDeclined,
    ProviderError,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
    WebhookRejected,
)
from providers.wompi import WompiProvider
from providers.wompi.requests import payment_method

ONLY = ("wompi",)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
REFERENCE = UUID("6f9619ff-8b86-4011-b42d-00cf4fc964ff")
PSE = {"method": "pse", "method_fields": {"financial_institution_code": "1"}}
NEQUI: dict[str, Any] = {"method": "nequi", "method_fields": {"phone_number": "310 765 4321"}}
PERSONAL = ("Dana", "dana@example.com", "0541234567", "1020304050")


def ref_to(request: CheckoutRequest, opened: OpenedCheckout | None) -> CheckoutRef:
    return CheckoutRef(
        request.reference,
        None if opened is None else opened.session_id,
        request.mode,
        request.created_at,
        method=request.method,
        amount=request.amount,
        expires_at=request.expires_at,
    )


def refund_of(request: CheckoutRequest, opened: OpenedCheckout, seen: ProviderPayment, **changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "refund_id": uuid4(),
        "transaction_id": seen.transaction_id or "",
        "amount": request.amount,
        "payment": ref_to(request, opened),
        "captured": request.amount,
        "refunded_before": Money(0, "COP"),
    }
    return RefundRequest(**(values | changes))


def later(payer: Any, **passed: float) -> WompiProvider:
    """The same account, when some time has passed."""
    return WompiProvider(payer.account(), clock=lambda: datetime.now(UTC) + timedelta(**passed))


# --- the hosted page


async def test_the_page_is_computed_signed_and_says_nothing_personal(
    provider: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for(vat=Money(399160, "COP"))
    await payer.faults("error:500")  # nothing is called, so nothing fails
    opened = await provider.open_checkout(request)
    address = urlsplit(opened.url or "")
    fields = {name: values[0] for name, values in parse_qs(address.query).items()}
    assert address.path == "/wompi/checkout/p/"
    expiration = fields["expiration-time"]
    text = f"{request.reference}2500000COP{expiration}test_integrity_{payer.suffix}"
    assert fields == {
        "public-key": f"pub_test_{payer.suffix}",
        "currency": "COP",
        "amount-in-cents": "2500000",
        "reference": str(request.reference),
        "signature:integrity": hashlib.sha256(text.encode()).hexdigest(),
        "expiration-time": request.expires_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "redirect-url": request.success_url,
        "tax-in-cents:vat": "399160",
    }
    assert not any(personal in (opened.url or "") for personal in PERSONAL)
    assert opened.session_id == str(request.reference)
    assert opened == await provider.open_checkout(request)


async def test_the_page_looks_right_and_a_changed_amount_is_not_taken(
    provider: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    shown = await payer.http.get(opened.url)
    assert shown.status_code == 200
    assert "25,000.00 COP" in shown.text
    address = urlsplit(opened.url or "")
    changed = urlunsplit(address._replace(query=address.query.replace("2500000", "100")))
    assert (await payer.http.post(changed, data={"card": payer.GOOD})).status_code == 422
    later_end = urlunsplit(address._replace(query=address.query.replace("expiration-time=20", "expiration-time=21")))
    assert (await payer.http.post(later_end, data={"card": payer.GOOD})).status_code == 422
    assert await payer.transactions(request.reference) == []
    assert (await payer.http.get("/wompi/checkout/p/?public-key=x")).status_code == 404
    answer = await payer.http.post(opened.url, data={"card": payer.GOOD})
    transaction = (await payer.transactions(request.reference))[0]
    assert f"{request.success_url}?id={transaction['id']}" in answer.text
    again = await payer.http.post(opened.url, data={"card": payer.GOOD})
    assert again.status_code == 200
    assert await payer.charges_of(request.reference) == 1


async def test_a_page_ends_when_it_was_said_to(payer: Any, request_for: Any) -> None:
    provider = WompiProvider(payer.account(), clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    request = request_for(created_at=datetime(2020, 1, 1, tzinfo=UTC))
    opened = await provider.open_checkout(request)
    await payer.tries_to_pay(opened)
    for hours, status in ((1, PaymentStatus.PENDING), (2.08, PaymentStatus.PENDING), (2.1, PaymentStatus.EXPIRED)):
        moment = request.created_at + timedelta(hours=hours)
        late = WompiProvider(payer.account(), clock=lambda moment=moment: moment)  # type: ignore[misc]
        assert (await late.look(ref_to(request, opened))).status is status
        assert (await late.close_checkout(ref_to(request, opened))).status is status
        await late.aclose()
    late = WompiProvider(payer.account())
    with pytest.raises(ProviderRejected, match="checkout_window_passed"):
        await late.open_checkout(request)
    await late.aclose()


async def test_refusals_only_leave_the_page_open_until_its_end(
    provider: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    assert (await payer.http.post(opened.url, data={"card": payer.BROKEN})).status_code == 402
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.failure_code) == (PaymentStatus.PENDING, "error")
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.PENDING
    after = later(payer, hours=3)
    seen = await after.look(ref_to(request, opened))
    assert (seen.status, seen.failure_code) == (PaymentStatus.EXPIRED, "error")
    await payer.pays(opened)
    seen = await after.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.failure_code) == (PaymentStatus.PAID, request.amount, None)
    await after.aclose()


@pytest.mark.parametrize(
    ("method", "waiting"), [("CARD", PaymentStatus.PENDING), ("NEQUI", PaymentStatus.REQUIRES_ACTION)]
)
async def test_what_is_under_way_is_neither_paid_nor_expired(
    provider: Provider, payer: Any, request_for: Any, method: str, waiting: PaymentStatus
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.leaves_pending(opened, method)
    after = later(payer, hours=3)
    for one in (provider, after):
        assert (await one.look(ref_to(request, opened))).status is waiting
    await after.aclose()
    transaction = (await payer.transactions(request.reference))[0]
    await payer.sandbox(f"wompi/transactions/{transaction['id']}/settle", status="APPROVED")
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.method) == (PaymentStatus.PAID, request.amount, method.lower())


async def test_what_wompi_holds_is_reported_as_it_is(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    transaction = (await payer.transactions(request.reference))[0]
    await payer.sandbox(f"wompi/transactions/{transaction['id']}/amount", amount_in_cents=100)
    assert (await provider.look(ref_to(request, opened))).captured == Money(100, "COP")
    await payer.sandbox(f"wompi/transactions/{transaction['id']}/amount", currency="USD")
    assert (await provider.look(ref_to(request, opened))).captured == Money(100, "USD")
    await payer.sandbox(f"wompi/transactions/{transaction['id']}/amount", currency="JPY")
    with pytest.raises(OutcomeUnknown, match="amount or currency"):  # cents of a currency that has none
        await provider.look(ref_to(request, opened))


async def test_a_page_closed_at_wompi_takes_nothing(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"wompi/references/{request.reference}/expire", public_key=f"pub_test_{payer.suffix}")
    await payer.tries_to_pay(opened)
    paid = await payer.sandbox("wompi/pay", url=opened.url)
    assert paid["outcome"] == "closed"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "cash"},
        {"mode": CheckoutMode.DIRECT},
        {"amount": "0.00"},
        {"amount": "-1.00"},
        {"amount": "10000000000000.00"},
    ],
)
async def test_what_wompi_has_not_is_rejected(provider: Provider, request_for: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ProviderRejected):
        await provider.open_checkout(request_for(**changes))


# --- PSE


async def test_pse_leads_to_the_bank_and_back(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for(description="A description that is much longer than PSE takes", **PSE)
    opened = await provider.open_checkout(request)
    assert opened.url is not None
    assert "/wompi/checkout/bank/" in opened.url
    transaction = (await payer.transactions(request.reference))[0]
    assert opened.session_id == transaction["id"]
    sent = transaction["payment_method"]
    assert sent.pop("extra")["async_payment_url"] == opened.url
    assert sent == {
        "type": "PSE",
        "user_type": 0,
        "user_legal_id_type": "CC",
        "user_legal_id": "1020304050",
        "financial_institution_code": "1",
        "payment_description": "A description that is much lon",
    }
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    assert (await payer.http.get(opened.url)).status_code == 200
    assert await payer.at_the_bank(opened) == 200
    for known in (opened, None):
        seen = await provider.look(ref_to(request, known))
        assert (seen.status, seen.captured, seen.method) == (PaymentStatus.PAID, request.amount, "pse")
        assert seen.session_id == opened.session_id
    with pytest.raises(ProviderRejected, match="refund_not_supported_by_method"):
        await provider.refund(refund_of(request, opened, seen))
    assert await provider.open_checkout(request) == opened


@pytest.mark.parametrize(("bank", "code"), [("2", "declined"), ("3", "error")])
async def test_a_refused_transaction_is_final(
    provider: Provider, payer: Any, request_for: Any, bank: str, code: str
) -> None:
    request = request_for(method="pse", method_fields={"financial_institution_code": bank, "user_type": "1"})
    opened = await provider.open_checkout(request)
    assert (await payer.transactions(request.reference))[0]["payment_method"]["user_type"] == 1
    assert await payer.at_the_bank(opened) == 402
    for known in (opened, None):
        seen = await provider.look(ref_to(request, known))
        assert (seen.status, seen.failure_code, seen.captured) == (PaymentStatus.FAILED, code, None)
    with pytest.raises(ProviderDeclined) as declined:  # a repeat finds it, and makes no other
        await provider.open_checkout(request)
    assert declined.value.code == code
    assert len(await payer.transactions(request.reference)) == 1


@pytest.mark.parametrize("operation", ["create_transaction", "read_transaction", "read_merchant"])
async def test_silence_is_answered_by_the_same_transaction_on_the_next_try(
    provider: Provider, impatient: Provider, payer: Any, request_for: Any, operation: str
) -> None:
    request = request_for(**PSE)
    payer.operations = payer.operations | {"silent": operation}
    await payer.falls_silent("after", on="silent")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    found = await provider.look(ref_to(request, None))
    assert found.status is (PaymentStatus.UNKNOWN if operation == "read_merchant" else PaymentStatus.PENDING)
    opened = await provider.open_checkout(request)
    assert await payer.checkouts_of(request.reference) == [opened.session_id]
    await payer.at_the_bank(opened)
    assert await payer.charges_of(request.reference) == 1


async def test_silence_before_acting_is_not_found_and_not_failed(
    provider: Provider, impatient: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for(**PSE)
    await payer.falls_silent("before", on="open")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.UNKNOWN


async def test_many_tries_at_once_make_one_transaction(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for(**PSE)
    opened = await asyncio.gather(*(provider.open_checkout(request) for _ in range(6)))
    assert len({one.session_id for one in opened}) == 1
    assert await payer.checkouts_of(request.reference) == [opened[0].session_id]


async def test_a_bank_that_is_slow_is_waited_for_within_the_time_of_the_call(
    provider: Provider, impatient: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for(method="pse", method_fields={"financial_institution_code": "9"})
    with pytest.raises(OutcomeUnknown, match=r"bank_url_pending|timeout"):  # the latter on a busy machine
        await impatient.open_checkout(request)
    opened = await provider.open_checkout(request)
    assert opened.url
    assert await payer.checkouts_of(request.reference) == [opened.session_id]


async def test_a_late_try_finds_the_earlier_one_and_makes_none(payer: Any, request_for: Any) -> None:
    request, after = request_for(**PSE), later(payer, hours=3)
    with pytest.raises(ProviderRejected, match="checkout_window_passed"):
        await after.open_checkout(request)
    assert await payer.transactions(request.reference) == []
    first = WompiProvider(payer.account())
    opened = await first.open_checkout(request)
    assert await after.open_checkout(request) == opened
    await after.aclose()
    await first.aclose()


async def test_the_banks_can_be_listed(provider: Provider, payer: Any) -> None:
    assert isinstance(provider, ListsBanks)
    assert Bank("1", "Banco que aprueba") in await provider.banks()
    await payer.faults("error:500")
    with pytest.raises(OutcomeUnknown):
        await provider.banks()


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"method": "pse"}, "financial_institution_code"),
        ({"method": "pse", "method_fields": {"financial_institution_code": "../1"}}, "financial_institution_code"),
        (PSE | {"method_fields": {"financial_institution_code": "1", "user_type": "2"}}, "user_type"),
        (PSE | {"payer": Payer(name="D", email="d@example.com", phone="3001234567", document="1")}, "document_type"),
        (PSE | {"payer": Payer(name="D", email="d@example.com", phone="3001234567", document_type="CC")}, "document"),
        (PSE | {"payer": Payer(email="d@example.com", phone="3001234567")}, "name"),
        (PSE | {"payer": Payer(email="d@example.com", name="D")}, "phone"),
        (PSE | {"payer": Payer(name=" ")}, "email"),
        ({"method": "nequi", "method_fields": {"phone_number": "054-1234567"}}, "phone_number"),
        ({"method": "nequi", "payer": Payer(email="d@example.com")}, "phone_number"),
    ],
)
async def test_a_missing_field_is_named_before_anything_is_sent(
    provider: Provider, payer: Any, request_for: Any, changes: dict[str, Any], missing: str
) -> None:
    await payer.faults("error:500")
    with pytest.raises(ProviderRejected, match=missing) as rejected:
        await provider.open_checkout(request_for(**changes))
    assert rejected.value.code in ("field_missing", "field_invalid")


async def test_a_field_that_wompi_refuses_is_named_and_no_value_is(
    provider: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for(method="pse", method_fields={"financial_institution_code": "77"})
    with pytest.raises(ProviderRejected, match="payment_method") as rejected:
        await provider.open_checkout(request)
    assert (rejected.value.code, "77" in str(rejected.value)) == ("invalid_request", False)


def test_a_company_is_one_by_its_document(request_for: Any, payer: Any) -> None:
    company = Payer(name="SAS", email="a@example.com", phone="3001234567", document_type="nit", document="900123456")
    assert payment_method(request_for(payer=company, **PSE))["user_type"] == 1


# --- Nequi


async def test_nequi_has_no_address_and_says_that_the_payer_must_act(
    provider: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for(**NEQUI)
    opened = await provider.open_checkout(request)
    assert (opened.url, opened.form, opened.cash, opened.approve_in) == (None, None, None, "Nequi")
    transaction = (await payer.transactions(request.reference))[0]
    assert transaction["payment_method"]["phone_number"] == "3107654321"
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.REQUIRES_ACTION
    assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.REQUIRES_ACTION
    await payer.sandbox(f"wompi/transactions/{opened.session_id}/settle", status="APPROVED")
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.method) == (PaymentStatus.PAID, request.amount, "nequi")
    with pytest.raises(ProviderRejected, match="refund_not_supported_by_method"):
        await provider.refund(refund_of(request, opened, seen))


@pytest.mark.parametrize(
    ("phone", "status"), [("+57 399 111 1111", PaymentStatus.PAID), ("3992222222", PaymentStatus.FAILED)]
)
async def test_the_test_numbers_answer_by_themselves(
    provider: Provider, payer: Any, request_for: Any, phone: str, status: PaymentStatus
) -> None:
    request = request_for(method="nequi", method_fields={"phone_number": phone})
    opened = await provider.open_checkout(request)
    for _ in range(100):
        seen = await provider.look(ref_to(request, opened))
        if seen.status is not PaymentStatus.REQUIRES_ACTION:
            break
        await asyncio.sleep(0.02)
    assert seen.status is status


# --- payment links


async def test_a_link_is_paid_and_found_again(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for(method="link")
    opened = await provider.open_checkout(request)
    link = (await payer.links(request.reference))[0]
    assert opened.url == f"{payer.address}/wompi/checkout/l/{link['id']}"
    assert (link["single_use"], link["amount_in_cents"], link["sku"]) == (True, 2500000, str(request.reference))
    assert (await payer.http.get(opened.url)).status_code == 200
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    await payer.is_declined(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.failure_code) == (PaymentStatus.PENDING, "declined")
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.card_last4) == (PaymentStatus.PAID, request.amount, "4242")
    assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.PAID
    assert (await provider.refund(refund_of(request, opened, seen))).status is RefundStatus.SUCCEEDED
    assert (await provider.look(ref_to(request, opened))).refunded == request.amount


async def test_a_link_among_many_transactions_is_found(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for(method="link")
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    for _ in range(21):  # more than one of the sandbox's pages
        other = await provider.open_checkout(request_for())
        await payer.sandbox("wompi/pay", url=other.url)
    assert (await provider.look(ref_to(request, opened))).captured == request.amount


async def test_a_link_whose_transaction_an_event_named_is_found_at_once(
    provider: Provider, payer: Any, request_for: Any
) -> None:
    request, other = request_for(method="link"), request_for()
    opened, another = await provider.open_checkout(request), await provider.open_checkout(other)
    await payer.is_declined(opened)
    refused = (await payer.transactions(opened.session_id))[0]["id"]
    await payer.pays(opened)
    await payer.pays(another)
    paid, foreign = (await payer.transactions(opened.session_id))[0], (await payer.transactions(other.reference))[0]
    by_search = await provider.look(ref_to(request, opened))
    assert (by_search.transaction_id, by_search.captured) == (paid["id"], request.amount)
    for named in (refused, foreign["id"], "1-1-1"):  # says nothing about this link's money
        assert await provider.look(replace(ref_to(request, opened), transaction_id=named)) == by_search
    payer.operations = payer.operations | {"search": "list_transactions", "link": "read_link"}
    for operation in ("search", "link"):
        await payer.faults("error:500", on=operation)
    assert await provider.look(replace(ref_to(request, opened), transaction_id=paid["id"])) == by_search


async def test_a_closed_link_takes_no_money(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for(method="link")
    opened = await provider.open_checkout(request)
    for _ in range(2):
        assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.CANCELED
    await payer.tries_to_pay(opened)
    assert (await provider.look(ref_to(request, opened))).captured is None


async def test_a_link_expires_and_an_unknown_one_is_unknown(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for(method="link")
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"wompi/links/{opened.session_id}/expire")
    await payer.tries_to_pay(opened)
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.EXPIRED
    nowhere = OpenedCheckout("test_nowhere", None)
    assert (await provider.look(ref_to(request, nowhere))).status is PaymentStatus.UNKNOWN
    assert (await provider.close_checkout(ref_to(request, nowhere))).status is PaymentStatus.UNKNOWN
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.UNKNOWN
    assert (await payer.http.get("/wompi/checkout/l/nowhere")).status_code == 404


async def test_a_link_whose_creation_went_unanswered_is_made_again(
    provider: Provider, impatient: Provider, payer: Any, request_for: Any
) -> None:
    request = request_for(method="link")
    payer.operations = payer.operations | {"link": "create_link"}
    await payer.falls_silent("after", on="link")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    assert (await provider.look(ref_to(request, opened))).captured == request.amount
    assert len(await payer.links(request.reference)) == 2


# --- refunds


async def test_only_the_whole_of_this_payment_can_be_voided(provider: Provider, payer: Any, request_for: Any) -> None:
    request, other_request = request_for(), request_for()
    opened, other = await provider.open_checkout(request), await provider.open_checkout(other_request)
    await payer.leaves_pending(opened)
    await payer.pays(other)
    waiting = await provider.look(ref_to(request, opened))
    with pytest.raises(ProviderRejected, match="not_captured"):
        await provider.refund(refund_of(request, opened, waiting))
    seen = await provider.look(ref_to(other_request, other))
    for match, refund in {
        "transaction_not_found": refund_of(request, opened, seen),
        "refund_exceeds_captured": refund_of(other_request, other, seen, refunded_before=Money(1, "COP")),
        "partial_refund_not_supported": refund_of(other_request, other, seen, amount=Money(100, "COP")),
    }.items():
        with pytest.raises(ProviderRejected, match=match):
            await provider.refund(refund)
    unknown = refund_of(request, opened, seen, transaction_id="1-1-1")
    with pytest.raises(ProviderRejected, match="transaction_not_found"):
        await provider.refund(unknown)
    assert await provider.look_refund(unknown, None) is None
    refund = refund_of(other_request, other, seen)
    made = await provider.refund(refund)
    assert (made.provider_refund_id, made.status) == (f"void-{seen.transaction_id}", RefundStatus.SUCCEEDED)
    assert await provider.refund(refund) == made == await provider.look_refund(refund, made.provider_refund_id)


async def test_amounts_of_two_currencies_are_not_mixed(provider: Provider, payer: Any, request_for: Any) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    with pytest.raises(ProviderRejected, match="partial_refund_not_supported"):
        await provider.refund(refund_of(request, opened, seen, amount=Money(2500000, "USD")))


# --- errors and events


async def test_a_key_that_wompi_repeats_in_its_answer_is_not_in_the_error(payer: Any, request_for: Any) -> None:
    provider = WompiProvider(payer.account(private_key="prv_test_invalid_hunter2"))
    request = request_for()
    for call in (
        lambda: provider.look(CheckoutRef(request.reference, None, CheckoutMode.HOSTED, request.created_at)),
        provider.check_account,
        lambda: provider.open_checkout(request_for(method="link")),
        lambda: provider.open_checkout(request_for(**PSE)),
    ):
        with pytest.raises(ProviderMisconfigured, match="invalid_access_token") as refused:
            await call()
        assert "hunter2" not in str(refused.value)
    await provider.aclose()
    stranger = WompiProvider(payer.account(public_key="pub_test_invalid"))
    with pytest.raises(ProviderMisconfigured, match="unknown_public_key"):
        await stranger.check_account()
    await stranger.aclose()


async def test_a_wrong_integrity_secret_is_wompis_refusal(payer: Any, request_for: Any) -> None:
    provider = WompiProvider(payer.account(integrity_secret="test_integrity_other"))
    with pytest.raises(ProviderRejected, match="signature"):
        await provider.open_checkout(request_for(**PSE))
    page = await provider.open_checkout(request_for())
    assert (await payer.http.post(page.url, data={"card": payer.GOOD})).status_code == 422
    await provider.aclose()


class Inbox:
    """The merchant's address for events."""

    def __init__(self) -> None:
        self.letters: list[tuple[dict[str, str], bytes]] = []
        self.app = FastAPI()
        self.app.post("/events")(self.take)

    async def take(self, request: Request) -> dict[str, bool]:
        self.letters.append((dict(request.headers), await request.body()))
        return {"taken": True}

    async def wait(self, number: int) -> list[Callback]:
        for _ in range(200):
            if len(self.letters) >= number:
                break
            await asyncio.sleep(0.02)
        return [Callback(headers, body, datetime.now(UTC)) for headers, body in self.letters]


@pytest_asyncio.fixture
async def inbox(serve: Any, payer: Any) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    with serve(inbox.app) as address:
        await payer.sandbox("wompi/events-url", public_key=f"pub_test_{payer.suffix}", url=f"{address}/events")
        yield inbox


async def test_events_arrive_and_are_only_this_merchants(
    provider: Provider, payer: Any, request_for: Any, inbox: Inbox
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    await provider.refund(refund_of(request, opened, seen))
    events = {event.kind: event for event in map(provider.verify_webhook, await inbox.wait(3))}
    assert set(events) == {EventKind.ATTEMPT_FAILED, EventKind.CAPTURED, EventKind.REFUND}
    assert {event.reference for event in events.values()} == {request.reference}
    assert {event.amount for event in events.values()} == {request.amount}
    assert events[EventKind.CAPTURED].transaction_id == seen.transaction_id
    assert len({event.event_id for event in events.values()}) == 3
    stranger = WompiProvider(payer.account(events_secret="test_events_stranger"))
    for callback in await inbox.wait(3):
        with pytest.raises(WebhookRejected):
            stranger.verify_webhook(callback)


async def test_an_event_sent_again_is_the_same_event_and_a_links_names_its_link(
    provider: Provider, payer: Any, request_for: Any, inbox: Inbox
) -> None:
    opened = await provider.open_checkout(request_for(method="link"))
    await payer.pays(opened)
    transaction = (await payer.transactions(opened.session_id))[0]
    await payer.sandbox(f"wompi/transactions/{transaction['id']}/event")
    first, second = map(provider.verify_webhook, (await inbox.wait(2))[:2])
    assert first.event_id == second.event_id
    assert (first.session_id, first.reference) == (opened.session_id, None)


async def test_the_account_is_checked_by_both_keys(provider: Provider, payer: Any) -> None:
    check = await provider.check_account()
    assert (check.account_name, check.live, check.detail) == ("Comercio de prueba", False, "can take payments")
    live = WompiProvider(replace(payer.account(), credentials=payer.keys("prod")))
    assert (await live.check_account()).live
    await live.aclose()


# --- answers that the sandbox does not give

Answer = Callable[[httpx.Request], httpx.Response]


def answered(answer: Answer, options: dict[str, object] | None = None, **parts: Any) -> WompiProvider:
    """An adapter whose every request is answered by a function, without any network."""
    names = ("public_key", "private_key", "events_secret", "integrity_secret")
    config = AccountConfig(uuid4(), dict.fromkeys(names, "key"), options or {}, **parts)
    return WompiProvider(config, transport=httpx.MockTransport(answer), clock=lambda: NOW)


def a_transaction(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1-1-1",
        "status": "APPROVED",
        "amount_in_cents": 2500000,
        "currency": "COP",
        "reference": str(REFERENCE),
        "created_at": "2026-05-04T11:00:00.000Z",
        "payment_method_type": "CARD",
        "payment_method": {"type": "CARD", "extra": {"brand": "VISA", "last_four": "4242"}},
    } | changes


def data(value: Any, status: int = 200) -> Answer:
    return lambda _: httpx.Response(status, json={"data": value})


def a_request(**changes: Any) -> CheckoutRequest:
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "workspace_id": UUID(int=7),
        "order_id": "order-1",
        "amount": Money(2500000, "COP"),
        "description": "",
        "mode": CheckoutMode.HOSTED,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=2),
        "payer": Payer(name="Dana", email="dana@example.com", phone="3107654321", ip="192.0.2.7"),
        "method": "nequi",
    }
    return CheckoutRequest(**(values | changes))


PAGE = CheckoutRef(REFERENCE, str(REFERENCE), CheckoutMode.HOSTED, NOW, expires_at=NOW + timedelta(minutes=1))
BY_ID = CheckoutRef(REFERENCE, "1-1-1", CheckoutMode.HOSTED, NOW, method="pse")
BY_LINK = CheckoutRef(REFERENCE, "test_abc", CheckoutMode.HOSTED, NOW, method="link")
REFUND = RefundRequest(uuid4(), "1-1-1", Money(2500000, "COP"), PAGE, Money(2500000, "COP"), Money(0, "COP"))


@pytest.mark.parametrize("status", [200, 201, 400, 401, 403, 404, 422])
@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ({"type": "INVALID_ACCESS_TOKEN", "reason": "key"}, ProviderMisconfigured, "invalid_access_token"),
        ({"type": "NOT_FOUND_ERROR"}, ProviderRejected, "not_found"),
        ({"type": "INPUT_VALIDATION_ERROR", "messages": {"a b": ["x"]}}, ProviderRejected, "invalid_request"),
    ],
)
async def test_an_error_is_one_whatever_the_status(
    status: int, fault: dict[str, Any], kind: type[ProviderError], code: str
) -> None:
    with pytest.raises(kind) as refused:
        await answered(lambda _: httpx.Response(status, json={"error": fault})).look(PAGE)
    assert refused.value.code == code
    assert "a b" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", OutcomeUnknown),
        (200, b"[]", OutcomeUnknown),
        (200, b"{}", OutcomeUnknown),
        (200, b"<html>", OutcomeUnknown),
        (200, b'{"data": {}}', OutcomeUnknown),
        (200, b'{"data": [7]}', OutcomeUnknown),
        (200, b'{"data": [{"id": "1"}]}', OutcomeUnknown),
        (200, b'{"error": {"type": "SOMETHING_NEW"}}', OutcomeUnknown),
        (200, b'{"error": "text"}', OutcomeUnknown),
        (400, b'{"error": {"type": "SOMETHING_NEW"}}', ProviderRejected),
        (403, b'{"error": {"type": "FORBIDDEN"}}', ProviderMisconfigured),
        (401, b"", ProviderMisconfigured),
        (404, b"{}", ProviderRejected),
        (404, b"<html>", ProviderRejected),
        (408, b'{"error": {"type": "SLOW"}}', OutcomeUnknown),
        (429, b'{"error": {"type": "INPUT_VALIDATION_ERROR"}}', ProviderBusy),
        (500, b'{"error": {"type": "NOT_FOUND_ERROR"}}', OutcomeUnknown),
        (302, b"", ProviderRejected),
    ],
)
async def test_every_answer_is_an_error_of_the_contract(status: int, body: bytes, kind: type[ProviderError]) -> None:
    provider = answered(lambda _: httpx.Response(status, content=body))
    for call in (provider.banks(), provider.check_account()):
        with pytest.raises(ProviderError):
            await call
    with pytest.raises(kind) as refused:
        await provider.look(PAGE)
    assert "key" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_in_cents": 2500000.5},
        {"amount_in_cents": "2500000"},
        {"amount_in_cents": 0},
        {"amount_in_cents": 10**20},
        {"amount_in_cents": True},
        {"amount_in_cents": None},
        {"currency": "cop"},
        {"currency": "JPY"},
        {"currency": None},
    ],
)
async def test_money_that_cannot_be_read_is_neither_paid_nor_unpaid(changes: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown, match="amount or currency"):
        await answered(data([a_transaction(**changes)])).look(PAGE)
    seen = await answered(data([a_transaction(status="DECLINED", **changes)])).look(PAGE)
    assert (seen.status, seen.failure_code) == (PaymentStatus.PENDING, "declined")


async def test_odd_extras_do_no_harm() -> None:
    odd = a_transaction(
        payment_method={"extra": {"brand": 7, "last_four": "42424", "async_payment_url": "javascript:"}}
    )
    seen = await answered(data([odd])).look(PAGE)
    assert (seen.status, seen.card_brand, seen.card_last4) == (PaymentStatus.PAID, None, None)
    bare = a_transaction(payment_method_type=None, payment_method=None, created_at=None)
    assert (await answered(data([bare])).look(PAGE)).method is None


@pytest.mark.parametrize(
    ("statuses", "transaction_id", "refunded"),
    [
        (["DECLINED", "APPROVED"], "1", None),
        (["APPROVED", "APPROVED"], "0", None),
        (["VOIDED", "APPROVED"], "1", None),
        (["VOIDED", "DECLINED"], "0", 2500000),
        (["PENDING", "APPROVED", "ERROR"], "1", None),
    ],
)
async def test_of_several_transactions_money_counts_first(
    statuses: list[str], transaction_id: str, refunded: int | None
) -> None:
    made = [
        a_transaction(id=str(number), status=status, created_at=f"2026-05-04T11:0{number}:00.000Z")
        for number, status in enumerate(statuses)
    ]
    for order in (made, made[::-1]):
        seen = await answered(data(order)).look(PAGE)
        assert (seen.status, seen.transaction_id) == (PaymentStatus.PAID, transaction_id)
        assert seen.refunded == (None if refunded is None else Money(refunded, "COP"))


async def test_another_payments_transaction_is_not_this_ones() -> None:
    strange = a_transaction(reference=str(uuid4()))
    assert (await answered(data([strange])).look(PAGE)).status is PaymentStatus.PENDING
    assert (await answered(data(strange)).look(BY_ID)).status is PaymentStatus.UNKNOWN
    with pytest.raises(ProviderRejected, match="transaction_not_found"):
        await answered(data(strange)).refund(REFUND)


@pytest.mark.parametrize(
    "session_id", [f"{REFERENCE}.", f"{REFERENCE}.x", f"{REFERENCE}.{10**20}", "3f1b8f0e-6c1c-4a53-9f5a-2f6f2f0c1a77.1"]
)
async def test_a_session_that_is_no_page_is_looked_up_as_a_transaction(session_id: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(404, json={"error": {"type": "NOT_FOUND_ERROR"}})

    ref = CheckoutRef(REFERENCE, session_id, CheckoutMode.HOSTED, NOW)
    assert (await answered(answer).look(ref)).status is PaymentStatus.UNKNOWN
    assert asked == [f"/v1/transactions/{session_id}"]


class Script:
    """Answers by method and path, and what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        name = f"{request.method}_{request.url.path.split('/')[2]}"
        if request.url.path.endswith("/void"):
            name = "void"
        answer = self.answers[name]
        status, body = answer if isinstance(answer, tuple) else (200, {"data": answer})
        return httpx.Response(status, json=body) if body is not None else httpx.Response(status)


TOKENS = {
    "presigned_acceptance": {"acceptance_token": "terms"},
    "presigned_personal_data_auth": {"acceptance_token": "personal"},
}
USED = (422, {"error": {"type": "INPUT_VALIDATION_ERROR", "messages": {"reference": ["ya ha sido usada"]}}})


async def test_a_used_reference_that_is_not_to_be_seen_yet_is_not_a_refusal() -> None:
    script = Script(GET_merchants=TOKENS, POST_transactions=USED, GET_transactions=[])
    with pytest.raises(OutcomeUnknown, match="reference_used"):
        await answered(script).open_checkout(a_request())
    script.answers["GET_transactions"] = [a_transaction(status="PENDING", payment_method_type="NEQUI")]
    assert (await answered(script).open_checkout(a_request())).session_id == "1-1-1"


@pytest.mark.parametrize(
    ("options", "key", "field"),
    [
        ({}, "key", "accept_personal_auth"),
        ({"transactions_key": "private"}, "key", "accept_personal_auth"),
        ({"personal_auth_field": "other_field"}, "key", "other_field"),
        ({"personal_auth_field": ""}, "key", None),
    ],
)
async def test_what_the_documents_leave_open_is_the_accounts_choice(
    options: dict[str, object], key: str, field: str | None
) -> None:
    script = Script(GET_merchants=TOKENS, POST_transactions=(201, {"data": a_transaction(status="PENDING")}))
    names = {"public_key": "pub", "private_key": "prv", "events_secret": "e", "integrity_secret": "i"}
    provider = WompiProvider(
        AccountConfig(uuid4(), names, options), transport=httpx.MockTransport(script), clock=lambda: NOW
    )
    await provider.open_checkout(a_request())
    sent = script.asked[-1]
    body = json.loads(sent.content)
    used = "prv" if options.get("transactions_key") == "private" else "pub"
    assert sent.headers["authorization"] == f"Bearer {used}"
    assert [name for name, value in body.items() if value == "personal"] == ([field] if field else [])
    text = f"{REFERENCE}2500000COP2026-05-04T14:00:00.000Zi"
    assert body["signature"] == hashlib.sha256(text.encode()).hexdigest()
    assert (body["expiration_time"], body["ip"]) == ("2026-05-04T14:00:00.000Z", "192.0.2.7")
    assert body["customer_data"] == {"full_name": "Dana", "phone_number": "3107654321"}


async def test_a_merchant_without_tokens_cannot_be_paid_by_a_call() -> None:
    merchants: list[Any] = [{}, {"presigned_acceptance": "x"}, {"presigned_acceptance": {"acceptance_token": ""}}, []]
    for merchant in merchants:
        with pytest.raises(OutcomeUnknown, match="merchant"):
            await answered(Script(GET_merchants=merchant)).open_checkout(a_request())
    script = Script(
        GET_merchants={"presigned_acceptance": {"acceptance_token": "terms"}},
        POST_transactions=a_transaction(status="PENDING"),
    )
    await answered(script).open_checkout(a_request())
    assert "accept_personal_auth" not in json.loads(script.asked[-1].content)


@pytest.mark.parametrize(("status", "code"), [("DECLINED", "declined"), ("ERROR", "error")])
async def test_a_transaction_that_is_refused_at_once_is_a_decline(status: str, code: str) -> None:
    script = Script(GET_merchants=TOKENS, POST_transactions=a_transaction(status=status))
    with pytest.raises(ProviderDeclined) as declined:
        await answered(script).open_checkout(a_request())
    assert declined.value.code == code


@pytest.mark.parametrize("answer", [(201, None), (200, {"data": {"status": "PENDING"}}), (200, {"data": None})])
async def test_a_void_is_judged_by_the_look_after_it(answer: tuple[int, Any]) -> None:
    script = Script(void=answer, GET_transactions=a_transaction())
    made = await answered(script).refund(REFUND)
    assert made.status is RefundStatus.PENDING  # taken, and not to be seen yet
    assert await answered(script).look_refund(REFUND, made.provider_refund_id) is None


async def test_a_void_that_wompi_refuses_is_refused_and_one_that_was_faster_is_not() -> None:
    refusal = (422, {"error": {"type": "INPUT_VALIDATION_ERROR", "messages": {"transaction": ["settled"]}}})
    script = Script(void=refusal, GET_transactions=a_transaction())
    with pytest.raises(ProviderRejected, match="void_refused: HTTP 422 at transactions, transaction"):
        await answered(script).refund(REFUND)
    looks = iter([a_transaction(), a_transaction(status="VOIDED")])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(422, json=refusal[1])
        return httpx.Response(200, json={"data": next(looks)})

    assert (await answered(answer).refund(REFUND)).status is RefundStatus.SUCCEEDED


async def test_a_link_that_cannot_be_searched_through_is_not_called_unpaid() -> None:
    pages = iter(range(10_000))

    def answer(request: httpx.Request) -> httpx.Response:
        if "payment_links" in request.url.path:
            return httpx.Response(200, json={"data": {"id": "test_abc", "active": True, "expires_at": "soon"}})
        return httpx.Response(200, json={"data": [a_transaction(id=str(next(pages)))]})

    with pytest.raises(OutcomeUnknown, match="too_many_transactions"):
        await answered(answer).look(BY_LINK)


async def test_a_search_that_knows_no_pages_ends() -> None:
    script = Script(
        GET_payment_links={"id": "test_abc", "expires_at": "2026-05-04T11:54:00"},
        GET_transactions=[a_transaction(status="DECLINED", reference="test_abc_1769537642_c1G7xm1lV")],
    )
    seen = await answered(script).look(BY_LINK)
    assert (seen.status, seen.failure_code) == (PaymentStatus.EXPIRED, "declined")
    assert len(script.asked) == 3
    asked = dict(script.asked[1].url.params)
    assert (asked["from_date"], asked["until_date"], asked["page"]) == ("2026-05-03", "2026-05-05", "1")


async def test_an_unreadable_link_is_unknown_and_a_refusal_to_close_is_looked_at() -> None:
    with pytest.raises(OutcomeUnknown, match="payment link"):
        await answered(data({})).look(BY_LINK)
    with pytest.raises(ProviderRejected):
        await answered(lambda _: httpx.Response(400)).look(BY_LINK)
    with pytest.raises(ProviderRejected):
        await answered(lambda _: httpx.Response(400)).look(BY_ID)


async def test_all_requests_of_a_call_share_its_time() -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.15)
        return httpx.Response(200, json={"data": TOKENS})

    provider = WompiProvider(
        AccountConfig(
            uuid4(),
            dict.fromkeys(("public_key", "private_key", "events_secret", "integrity_secret"), "key"),
            timeout_seconds=0.2,
        ),
        transport=httpx.MockTransport(slow),
    )
    with pytest.raises(OutcomeUnknown, match="timeout"):
        await provider.check_account()
    await provider.aclose()


async def test_a_merchant_without_a_name_is_still_an_account() -> None:
    script = Script(GET_merchants={"active": False}, GET_transactions=[])
    check = await answered(script).check_account()
    assert (check.account_name, check.detail) == ("wompi", "cannot take payments yet")


async def test_banks_that_cannot_be_read_are_left_out() -> None:
    listed = [{"financial_institution_code": "1", "financial_institution_name": "Uno"}, {}, 7, None]
    assert await answered(data(listed)).banks() == [Bank("1", "Uno")]
    assert await answered(data([])).banks() == []


async def test_a_bank_address_that_does_not_come_leaves_the_outcome_unknown() -> None:
    waiting = a_transaction(status="PENDING", payment_method_type="PSE", payment_method={})
    script = Script(GET_merchants=TOKENS, POST_transactions=waiting, GET_transactions=waiting)
    payer = Payer(name="D", email="d@example.com", phone="3001234567", document_type="CC", document="1")
    request = a_request(method="pse", method_fields={"financial_institution_code": "1"}, payer=payer)
    config = AccountConfig(uuid4(), dict.fromkeys(WompiProvider.required_credentials, "key"), timeout_seconds=0.45)
    provider = WompiProvider(config, transport=httpx.MockTransport(script), clock=lambda: NOW)
    with pytest.raises(OutcomeUnknown, match="bank_url_pending"):
        await provider.open_checkout(request)
