"""What only PayU has, over real HTTP: its page, PSE, cash codes, refunds that wait, and its confirmations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import pytest

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    Callback,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    EventKind,
    ListsBanks,
    OpenedCheckout,
    OutcomeUnknown,
    Payer,
    ProviderDeclined,
    ProviderPayment,
    ProviderRejected,
    RefundRequest,
    WebhookRejected,
)
from providers.payu import WEBHOOK_TOOLS, PayuProvider
from providers.payu.requests import COLOMBIA
from providers.webhook_signatures import SignatureOptions
from tests.providers.payers.payu import Payer as PayuPayer
from tests.support.mailbox import Mailbox

RequestFor = Callable[..., CheckoutRequest]

ONLY = ("payu",)
PSE_FIELDS = {"financial_institution_code": "1007", "user_type": "N"}
CASH = ["efecty", "baloto", "bank_referenced", "others_cash"]


def ref_to(request: CheckoutRequest, opened: OpenedCheckout | None) -> CheckoutRef:
    session_id = None if opened is None else opened.session_id
    return CheckoutRef(request.reference, session_id, request.mode, request.created_at, method=request.method)


def by(method: str, request_for: RequestFor, **changes: Any) -> CheckoutRequest:
    fields = {"method_fields": PSE_FIELDS} if method == "pse" else {}
    return request_for(method=method, **(fields | changes))


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


def test_the_sheet_names_every_method_with_its_limits() -> None:
    sheet = PayuProvider.capabilities
    assert [method.name for method in sheet.methods] == ["card", "pse", *CASH]
    assert [method.name for method in sheet.methods if method.refundable] == ["card"]
    limits = {method.name: (method.minimum, method.maximum) for method in sheet.methods if method.kind == "cash"}
    assert limits == {
        "efecty": (20_000, 6_000_000),
        "baloto": (3_000, 1_000_000),
        "bank_referenced": (None, None),
        "others_cash": (1_000, 4_000_000),
    }
    assert {method.max_lifetime for method in sheet.methods if method.kind == "cash"} == {timedelta(days=7)}
    assert (sheet.void, sheet.closes_checkout, sheet.idempotency_key_lifetime) == (False, False, None)
    assert (sheet.unit, sheet.currencies, sheet.bank_list) == ("major", frozenset({"COP"}), True)


async def test_the_form_has_what_the_page_wants_and_is_the_same_on_every_try(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for("20000", vat=Money.parse("3193.28", "COP"))
    opened = await provider.open_checkout(request)
    assert opened == await provider.open_checkout(request)
    assert (opened.session_id, opened.url) == (str(request.reference), None)
    assert opened.form is not None
    assert opened.form.action == f"{payer.address}/ppp-web-gateway-payu/"
    fields = dict(opened.form.fields)
    parts = {"merchant_id": payer.merchant_id, "reference": str(request.reference), "value": "20000", "currency": "COP"}
    made = WEBHOOK_TOOLS.request_signers["request"](parts, payer.api_key, SignatureOptions())
    until = (request.created_at + timedelta(hours=2)).astimezone(COLOMBIA)
    assert fields == {
        "lng": "en",
        "merchantId": payer.merchant_id,
        "accountId": "512321",
        "description": "Order 1001",
        "referenceCode": str(request.reference),
        "amount": "20000",
        "tax": "3193",
        "taxReturnBase": "16806",
        "currency": "COP",
        "signature": made,
        "algorithmSignature": "MD5",
        "expirationDate": until.strftime("%Y-%m-%d %H:%M:%S"),
        "test": "1",
        "buyerEmail": "dana@example.com",
        "buyerFullName": "Dana Levi",
        "buyerDocumentType": "CC",
        "buyerDocument": "1020304050",
        "telephone": "0541234567",
        "payerFullName": "Dana Levi",
        "payerEmail": "dana@example.com",
        "payerPhone": "0541234567",
        "payerDocumentType": "CC",
        "payerDocument": "1020304050",
        "responseUrl": "http://127.0.0.1:9/thanks",
        "confirmationUrl": "http://127.0.0.1:9/callback",
    }


async def test_a_form_that_was_tampered_with_is_refused(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    opened = await provider.open_checkout(request_for())
    assert opened.form is not None
    for name, value in (("amount", "100"), ("currency", "USD"), ("referenceCode", "x"), ("paymentMethods", "PSE")):
        answer = await payer.http.post(opened.form.action, data={**opened.form.fields, name: value})
        assert answer.status_code == 400
    page = await payer.http.get(await payer.opens_page(opened))
    assert (page.status_code, "width=device-width" in page.text) == (200, True)
    assert "$ 25,000 COP" in page.text


async def test_the_form_can_be_limited_to_some_methods_and_the_signature_covers_them(
    adapter: Callable[..., PayuProvider], payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await adapter(payment_methods="VISA,MASTERCARD").open_checkout(request)
    assert opened.form is not None
    assert opened.form.fields["paymentMethods"] == "VISA,MASTERCARD"
    await payer.pays(opened)
    assert await payer.charges_of(request.reference) == 1


@pytest.mark.parametrize(("algorithm", "hmac_key"), [("sha1", None), ("SHA-256", None), ("hmac-sha256", "own-key")])
async def test_every_algorithm_works_from_the_form_to_the_confirmation(
    payer: PayuPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str], algorithm: str, hmac_key: str | None
) -> None:
    box, address = mailbox
    if hmac_key is not None:
        own = {"api_key": payer.api_key, "merchant_id": payer.merchant_id, "hmac_key": hmac_key}
        await payer.sandbox("payu/merchants", **own, algorithm="HMAC-SHA256")
    config = payer.account_with(signature_algorithm=algorithm)
    credentials = {**config.credentials, **({"hmac_key": hmac_key} if hmac_key else {})}
    provider = PayuProvider(type(config)(config.account_id, credentials, config.options))
    request = request_for(callback_url=address)
    await payer.pays(await provider.open_checkout(request))
    assert [event.kind for event in await box.events(provider, 1)] == [EventKind.CAPTURED]
    with pytest.raises(WebhookRejected):
        PayuProvider(payer.account()).verify_webhook(Callback({}, box.received[0].body, datetime.now(UTC)))


async def test_a_confirmation_for_each_attempt_has_one_reference_and_an_event_of_its_own(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    request = request_for(callback_url=address)
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    await payer.chooses(opened, "error")
    await payer.pays(opened)
    found = await box.events(provider, 3)
    assert sorted(event.kind for event in found) == ["attempt_failed", "attempt_failed", "captured"]
    assert {event.reference for event in found} == {request.reference}
    assert len({event.event_id for event in found}) == 3
    assert {event.amount for event in found} == {request.amount}
    captured = next(event for event in found if event.kind is EventKind.CAPTURED)
    seen = await provider.look(ref_to(request, opened))
    assert seen.transaction_id == captured.transaction_id
    assert (seen.card_brand, seen.card_last4) == ("visa", "1111")
    assert len({dict(parse_qsl(one.body.decode()))["reference_pol"] for one in box.received}) == 1
    assert {one.headers["content-type"] for one in box.received} == {"application/x-www-form-urlencoded"}


async def test_confirmations_come_in_json_too(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    await payer.sandbox("payu/merchants", api_key=payer.api_key, merchant_id=payer.merchant_id, confirms_in_json=True)
    await payer.pays(await provider.open_checkout(request_for(callback_url=address)))
    [event] = await box.events(provider, 1)
    assert (event.kind, b'"value": 25000.00' in box.received[0].body) == (EventKind.CAPTURED, True)


async def test_another_merchants_confirmation_is_refused(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    other = PayuPayer(payer.address)
    await other.pays(await PayuProvider(other.account()).open_checkout(request_for(callback_url=address)))
    while not box.received:
        await asyncio.sleep(0.02)
    headers, body = box.received[0].headers, box.received[0].body
    with pytest.raises(WebhookRejected):
        provider.verify_webhook(Callback(headers, body, datetime.now(UTC)))
    await other.http.aclose()


async def test_an_open_page_is_not_known_and_a_started_slow_payment_is_pending(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.opens_page(opened)
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.UNKNOWN
    await payer.chooses(opened, "later")
    seen = await provider.close_checkout(ref_to(request, opened))
    assert (seen.status, seen.method, seen.failure_code) == (PaymentStatus.PENDING, "pse", None)
    await payer.sandbox("payu/settle", reference=str(request.reference))
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.method) == (PaymentStatus.PAID, request.amount, "pse")
    with pytest.raises(ProviderRejected, match="method_not_refundable"):
        await provider.refund(refund_of(request, opened, seen))


async def test_money_that_arrived_twice_is_seen_as_their_sum(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    await payer.sandbox("payu/pay", reference=str(request.reference))
    assert (await provider.look(ref_to(request, opened))).captured == Money.parse("50000", "COP")


@pytest.mark.parametrize("method", ["pse", "efecty"])
async def test_another_amount_or_currency_at_payu_is_reported_as_it_is(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, method: str
) -> None:
    request = by(method, request_for)
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    for value, currency in (("24999.00", "COP"), ("25000.00", "USD")):
        await payer.sandbox("payu/amount", reference=str(request.reference), value=value, currency=currency)
        seen = await provider.look(ref_to(request, opened))
        assert (seen.status, seen.captured) == (PaymentStatus.PAID, Money.parse(value, currency))


async def test_pse_sends_the_payer_to_the_bank(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    assert isinstance(provider, ListsBanks)
    banks = {bank.code: bank.name for bank in await provider.banks()}
    assert banks == {"1007": "BANCOLOMBIA", "1001": "BANCO DE BOGOTÁ", "1051": "BANCO DAVIVIENDA"}
    request = by("pse", request_for, callback_url=address, language="es-CO")
    opened = await provider.open_checkout(request)
    assert (opened.cash, opened.form) == (None, None)
    assert opened.url is not None
    assert "Your bank" in (await payer.http.get(opened.url)).text
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    page = await payer.chooses(opened, "pay")
    assert "transactionState=4" in page.text
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.method) == (PaymentStatus.PAID, request.amount, "pse")
    assert seen.session_id == opened.session_id
    assert [event.kind for event in await box.events(provider, 1)] == [EventKind.CAPTURED]
    with pytest.raises(ProviderRejected, match="method_not_refundable"):
        await provider.refund(refund_of(request, opened, seen))


@pytest.mark.parametrize("method", CASH)
async def test_cash_gives_a_code_for_the_counter(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, method: str
) -> None:
    created = datetime.now(UTC).replace(microsecond=0)
    request = by(method, request_for, created_at=created, expires_at=created + timedelta(hours=30))
    opened = await provider.open_checkout(request)
    assert opened.cash is not None
    assert (opened.url, opened.form, opened.cash.code) == (None, None, opened.session_id)
    assert opened.cash.expires_at == request.expires_at
    bank_codes = "Banco de Bogotá 4321, Bancolombia 11111"
    assert opened.cash.agreement == (bank_codes if method == "bank_referenced" else None)
    assert opened.cash.voucher_url is not None
    voucher = await payer.http.get(opened.cash.voucher_url)
    assert opened.cash.code in voucher.text
    assert "Pay at the counter" in voucher.text
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.method) == (PaymentStatus.PAID, request.amount, method)


async def test_a_code_lives_seven_days_at_most(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    created = datetime.now(UTC).replace(microsecond=0)
    request = by("efecty", request_for, created_at=created, expires_at=created + timedelta(days=30))
    opened = await provider.open_checkout(request)
    assert opened.cash is not None
    assert opened.cash.expires_at == created + timedelta(days=7)
    await payer.sandbox("payu/expire", reference=str(request.reference))
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.failure_code) == (PaymentStatus.EXPIRED, "expired_transaction")
    late = by("efecty", request_for, created_at=created - timedelta(days=8), expires_at=created + timedelta(days=30))
    with pytest.raises(ProviderRejected, match="checkout_window_passed"):
        await provider.open_checkout(late)
    assert await payer.orders(late.reference) == []


@pytest.mark.parametrize("method", ["pse", "efecty"])
async def test_a_declined_submission_has_failed_because_nobody_can_try_again(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, method: str
) -> None:
    request = by(method, request_for)
    opened = await provider.open_checkout(request)
    await payer.chooses(opened, "decline")
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.failure_code) == (PaymentStatus.FAILED, "entity_declined")
    with pytest.raises(ProviderDeclined, match="entity_declined"):
        await provider.open_checkout(request)
    assert len(await payer.orders(request.reference)) == 1


@pytest.mark.parametrize("method", ["pse", "efecty"])
async def test_silence_after_a_submission_never_makes_a_second_one(
    payer: PayuPayer, request_for: RequestFor, method: str
) -> None:
    provider, impatient = PayuProvider(payer.account()), PayuProvider(payer.account(timeout_seconds=0.5))
    request = by(method, request_for)
    await payer.falls_silent("after", on="open")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    found = await provider.look(ref_to(request, None))
    assert found.status is PaymentStatus.PENDING
    again = await asyncio.gather(*(provider.open_checkout(request) for _ in range(6)))
    assert len({answer.session_id for answer in again}) == 1
    assert all(answer == again[0] for answer in again)
    assert await payer.checkouts_of(request.reference) == [again[0].session_id] == [found.session_id]
    await payer.pays(again[0])
    assert await payer.charges_of(request.reference) == 1
    assert await provider.open_checkout(request) == again[0]
    await provider.aclose()
    await impatient.aclose()


@pytest.mark.parametrize("method", ["pse", "efecty"])
async def test_many_submissions_of_one_reference_at_once_make_one(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, method: str
) -> None:
    request = by(method, request_for)
    opened = await asyncio.gather(*(provider.open_checkout(request) for _ in range(8)))
    assert await payer.checkouts_of(request.reference) == list({one.session_id for one in opened})


async def test_silence_before_a_submission_leaves_nothing_behind(
    payer: PayuPayer, provider: PayuProvider, impatient: PayuProvider, request_for: RequestFor
) -> None:
    request = by("efecty", request_for)
    await payer.falls_silent("before", on="open")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.UNKNOWN
    opened = await provider.open_checkout(request)
    assert await payer.checkouts_of(request.reference) == [opened.session_id]


@pytest.mark.parametrize(
    ("method", "changes", "code"),
    [
        ("efecty", {"amount": "19999"}, "amount_outside_limits: efecty"),
        ("efecty", {"amount": "6000001"}, "amount_outside_limits: efecty"),
        ("baloto", {"amount": "2999"}, "amount_outside_limits: baloto"),
        ("baloto", {"amount": "1000001"}, "amount_outside_limits: baloto"),
        ("others_cash", {"amount": "999"}, "amount_outside_limits: others_cash"),
        ("card", {"amount": "25000.50"}, "fractional_pesos"),
        ("card", {"amount": "0"}, "amount_not_positive"),
        ("card", {"amount": "10", "currency": "USD"}, "currency_not_supported"),
        ("card", {"payer": Payer(name="D")}, "payer_field_missing: email, document_type, document, phone"),
        ("card", {"mode": CheckoutMode.DIRECT}, "mode_not_supported"),
        ("card", {"vat": Money.parse("25000", "COP")}, "vat_not_part_of_amount"),
        ("card", {"callback_url": "https://a.example/" + "x" * 2048}, "url_too_long"),
        ("pse", {"method_fields": {}}, "method_field_missing: financial_institution_code, user_type"),
        ("pse", {"method_fields": {**PSE_FIELDS, "user_type": "X"}}, "method_field_invalid"),
        ("pse", {"method_fields": {**PSE_FIELDS, "financial_institution_code": "1 7"}}, "method_field_invalid"),
        ("pse", {"payer": Payer()}, "payer_field_missing: name, email, document_type, document, ip"),
        ("efecty", {"payer": Payer()}, "payer_field_missing: name, email"),
        ("nequi", {}, "method_not_supported"),
    ],
)
async def test_what_payu_would_not_take_is_rejected_before_anything_is_sent(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, method: str, changes: dict[str, Any], code: str
) -> None:
    request = by(method, request_for, **changes)
    with pytest.raises(ProviderRejected) as rejected:
        await provider.open_checkout(request)
    assert str(rejected.value).startswith(code)
    assert await payer.orders(request.reference) == []


async def test_payu_itself_declines_what_is_outside_its_limits(
    adapter: Callable[..., PayuProvider], request_for: RequestFor
) -> None:
    wide = adapter(limits={"efecty": {"minimum": "1", "maximum": 10_000_000}})
    with pytest.raises(ProviderDeclined, match="exceeded_amount"):
        await wide.open_checkout(by("efecty", request_for, amount="19999"))
    narrow = adapter(limits={"efecty": {"minimum": 30_000}})
    with pytest.raises(ProviderRejected, match="amount_outside_limits"):
        await narrow.open_checkout(by("efecty", request_for, amount="25000"))


def test_the_sheet_of_an_account_is_that_of_its_agreement(adapter: Callable[..., PayuProvider]) -> None:
    sheet = adapter(limits={"efecty": {"minimum": 30_000, "maximum": "8000000"}}, payer_optional=True).capabilities
    efecty, baloto, card = sheet.method("efecty"), sheet.method("baloto"), sheet.method("card")
    assert efecty is not None
    assert baloto is not None
    assert card is not None
    assert (efecty.minimum, efecty.maximum) == (Decimal(30_000), Decimal(8_000_000))
    assert (baloto.minimum, baloto.maximum) == (Decimal(3_000), Decimal(1_000_000))
    assert (card.payer_fields, bool(efecty.payer_fields)) == ((), True)


async def test_options_change_the_form_and_the_voucher(
    adapter: Callable[..., PayuProvider], request_for: RequestFor
) -> None:
    opened = await adapter(send_tax=False, payer_optional=True).open_checkout(
        request_for(payer=Payer(), vat=Money.parse("3992", "COP"), description=" ", order_id="order-7")
    )
    assert opened.form is not None
    assert opened.form.fields["description"] == "order-7"
    assert not {"tax", "taxReturnBase", "payerEmail", "buyerEmail"} & opened.form.fields.keys()
    taxed = await adapter().open_checkout(request_for(vat=Money.zero("COP")))
    assert taxed.form is not None
    assert (taxed.form.fields["tax"], taxed.form.fields["taxReturnBase"]) == ("0", "0")
    cash = await adapter(agreements={"efecty": "110000"}).open_checkout(by("efecty", request_for))
    assert cash.cash is not None
    assert cash.cash.agreement == "110000"


async def paid(
    provider: PayuProvider, payer: PayuPayer, request: CheckoutRequest
) -> tuple[OpenedCheckout, ProviderPayment]:
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    return opened, await provider.look(ref_to(request, opened))


async def test_the_public_sandbox_account_needs_no_set_up(payer: PayuPayer, request_for: RequestFor) -> None:
    public: dict[str, Any] = {
        "api_key": "4Vj8eK4rloUd272L48hsrarnUA",
        "api_login": "pRRXKOl8ikMmt9u",
        "merchant_id": "508029",
    }
    provider = PayuProvider(payer.account(**public))
    request = request_for()
    _, seen = await paid(provider, payer, request)
    assert seen.captured == request.amount
    voucher = by("efecty", request_for)
    _, seen = await paid(provider, payer, voucher)
    assert seen.captured == request.amount
    own = PayuProvider(payer.account(**(public | {"api_key": "a key of my own"})))
    await own.check_account()
    _, seen = await paid(own, payer, request_for())
    assert seen.captured == request.amount
    for one in (provider, own):
        await one.aclose()


async def test_without_the_accept_header_payu_answers_in_xml(payer: PayuPayer) -> None:
    body = {"command": "PING", "merchant": {"apiLogin": "login", "apiKey": payer.api_key}, "test": True}
    for path in ("/payments-api/4.0/service.cgi", "/reports-api/4.0/service.cgi"):
        xml = await payer.http.post(path, json=body, headers={"accept": "*/*"})
        assert (xml.headers["content-type"], "<code>SUCCESS</code>" in xml.text) == ("application/xml", True)
        good = await payer.http.post(path, json=body, headers={"accept": "application/json"})
        assert good.json()["code"] == "SUCCESS"
        for odd in (b"[]", b"{", b'{"command": "PING"}'):
            answer = await payer.http.post(path, content=odd, headers={"accept": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (200, "ERROR")


async def test_payus_side_refuses_what_payu_refuses(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    request = request_for()
    parts = {"merchant_id": payer.merchant_id, "reference": "order-1", "value": "25000", "currency": "COP"}
    made = WEBHOOK_TOOLS.request_signers["request"](parts, payer.api_key, SignatureOptions())
    value: dict[str, Any] = {"TX_VALUE": {"value": 25000, "currency": "COP"}}
    order: dict[str, Any] = {"referenceCode": "order-1", "signature": made, "additionalValues": value}
    good: dict[str, Any] = {"type": "AUTHORIZATION_AND_CAPTURE", "paymentMethod": "EFECTY", "paymentCountry": "CO"}
    dear = {"TX_VALUE": {"value": "dear", "currency": "COP"}}
    refund = {"type": "REFUND", "parentTransactionId": "none", "order": {"id": "1"}}
    merchant = {"apiLogin": "login", "apiKey": payer.api_key}

    async def ask(command: str, queries: bool = False, **parts: Any) -> Any:  # noqa: FBT001, FBT002
        path = "/reports-api/4.0/service.cgi" if queries else "/payments-api/4.0/service.cgi"
        body = {"command": command, "merchant": merchant, "test": True, **parts}
        answer = await payer.http.post(path, json=body, headers={"accept": "application/json"})
        assert answer.status_code == 200
        return answer.json()

    for transaction in (
        good | {"order": order, "type": "AUTHORIZATION"},
        good | {"order": order, "paymentCountry": "PE"},
        good | {"order": order, "paymentMethod": "OXXO"},
        good | {"order": order | {"signature": "0" * 32}},
        good | {"order": order | {"additionalValues": dear}},
        refund,
    ):
        answer = await ask("SUBMIT_TRANSACTION", transaction=transaction)
        assert (answer["code"], answer["transactionResponse"]) == ("ERROR", None)
    assert (await ask("GET_PAYMENT_METHODS"))["paymentMethods"]
    for queries in (False, True):
        assert (await ask("TRANSACTION_RESPONSE", queries))["code"] == "ERROR"
    assert (await ask("TRANSACTION_RESPONSE_DETAIL", queries=True, details={"transactionId": "x"}))["result"] is None
    assert (await ask("ORDER_DETAIL", queries=True, details={"orderId": 1}))["result"] is None
    answer = await ask("SUBMIT_TRANSACTION", transaction=good | {"order": order})
    order_id = answer["transactionResponse"]["orderId"]
    assert answer["transactionResponse"]["extraParameters"]["REFERENCE"] == order_id
    found = await ask("ORDER_DETAIL", queries=True, details={"orderId": order_id})
    assert found["result"]["payload"]["referenceCode"] == "order-1"
    [one] = found["result"]["payload"]["transactions"]
    detail = await ask("TRANSACTION_RESPONSE_DETAIL", queries=True, details={"transactionId": one["id"]})
    assert detail["result"]["payload"]["state"] == "PENDING"
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    await payer.pays(opened)
    assert await payer.charges_of(request.reference) == 1
    answer = await payer.http.post("/sandbox/payu/settle", json={"reference": str(request.reference), "state": "?"})
    assert answer.status_code == 422


async def test_unknown_pages_and_orders_are_not_found(payer: PayuPayer) -> None:
    for path in ("/ppp-web-gateway-payu/app/none", "/payu/pse/none", "/payu/cash/none"):
        assert (await payer.http.get(path)).status_code == 404
        assert (await payer.http.post(path, data={"outcome": "pay"})).status_code == 404
    answer = await payer.http.post("/sandbox/payu/pay", json={"reference": str(UUID(int=1))})
    assert answer.status_code == 404
