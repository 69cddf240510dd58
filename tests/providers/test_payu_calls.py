"""PayU's answers, good and odd, without a network: every one is a typed result or a typed error."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    OutcomeUnknown,
    ProviderBusy,
    ProviderDeclined,
    ProviderError,
    ProviderMisconfigured,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.http import dumps
from providers.payu import PayuProvider
from providers.payu.amounts import money_from
from providers.payu.objects import banks_of, moment_of_milliseconds, payment_of, read_orders
from tests.providers.conftest import PAYER

KEY = "4Vj8eK4rloUd272L48hsrarnUA"
REFERENCE = UUID("018bcfe5-6800-7000-8000-000000000001")
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
COP = Money.parse("25000", "COP")
FORM = CheckoutRef(REFERENCE, str(REFERENCE), CheckoutMode.HOSTED, NOW)
VOUCHER = CheckoutRef(REFERENCE, "800", CheckoutMode.HOSTED, NOW, method="efecty")

Answer = Callable[[dict[str, Any]], Any]


class Wire:
    """Answers by command, and keeps what was asked."""

    def __init__(self, **by_command: Any) -> None:
        self.by_command = by_command
        self.asked: list[dict[str, Any]] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content, parse_float=Decimal)
        self.requests.append(request)
        self.asked.append(body)
        answers = self.by_command[body["command"]]
        answer = answers.pop(0) if isinstance(answers, list) else answers
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else dumps(answer).encode())

    def commands(self) -> list[str]:
        return [body["command"] for body in self.asked]


def provider_on(wire: Wire, options: dict[str, object] | None = None) -> PayuProvider:
    credentials = {"api_key": KEY, "api_login": "login", "merchant_id": "508029", "account_id": "512321"}
    config = AccountConfig(uuid4(), credentials, {"test": True} | (options or {}))
    return PayuProvider(config, transport=httpx.MockTransport(wire), clock=lambda: NOW)


def request_by(method: str, **changes: Any) -> CheckoutRequest:
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "workspace_id": UUID(int=7),
        "order_id": "order-1001",
        "amount": COP,
        "description": "Order 1001",
        "mode": CheckoutMode.HOSTED,
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=2),
        "success_url": "https://shop.example/thanks",
        "callback_url": "https://pay.example/callback",
        "payer": PAYER,
        "method": method,
        "method_fields": {"financial_institution_code": "1007", "user_type": "J", "user_agent": "a browser"},
    }
    return CheckoutRequest(**(values | changes))


def order(*transactions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = {"TX_VALUE": {"value": Decimal("25000.00"), "currency": "COP"}}
    usual = {"id": 800, "status": "IN_PROGRESS", "referenceCode": str(REFERENCE), "additionalValues": values}
    return usual | {"transactions": list(transactions)} | changes


def attempt(state: str, id_: str = "t1", **changes: Any) -> dict[str, Any]:
    response = {"state": state, "responseCode": "ENTITY_DECLINED" if state == "DECLINED" else state}
    return {"id": id_, "type": "AUTHORIZATION_AND_CAPTURE", "transactionResponse": response} | changes


def refund(state: str, id_: str = "r1", value: object = "5000.00", **changes: Any) -> dict[str, Any]:
    values = {} if value is None else {"TX_VALUE": {"value": value, "currency": "COP"}}
    usual = {"id": id_, "type": "PARTIAL_REFUND", "transactionResponse": {"state": state}, "additionalValues": values}
    return usual | {"parentTransactionId": "t1"} | changes


def success(payload: Any) -> dict[str, Any]:
    return {"code": "SUCCESS", "error": None, "result": {"payload": payload}}


def failure(error: Any) -> dict[str, Any]:
    return {"code": "ERROR", "error": error, "transactionResponse": None}


def submitted(state: str, **changes: Any) -> dict[str, Any]:
    response = {"orderId": 800, "transactionId": "t1", "state": state, "responseCode": "PENDING", "extraParameters": {}}
    return {"code": "SUCCESS", "error": None, "transactionResponse": response | changes}


SIGNATURE = "68719c0be515d071472c5b69c973f8ae"
"""MD5 of KEY~508029~REFERENCE~25000~COP."""
NOTHING = {"code": "SUCCESS", "error": None, "result": None}
BY_REFERENCE = "ORDER_DETAIL_BY_REFERENCE_CODE"


def looked(*orders: Any, live: bool = False, form: bool = True) -> Any:
    found = read_orders(json.loads(dumps(list(orders)), parse_float=Decimal), str(REFERENCE), live=live)
    return payment_of(found, "session", form=form)


def refund_request(amount: str = "5000", before: str = "0", **changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "refund_id": UUID(int=9),
        "transaction_id": "t1",
        "amount": Money.parse(amount, "COP"),
        "payment": FORM,
        "captured": COP,
        "refunded_before": Money.parse(before, "COP"),
    }
    return RefundRequest(**(values | changes))


async def test_what_is_sent_for_pse() -> None:
    bank = {"BANK_URL": "https://bank.example/pse?x=1"}
    wire = Wire(**{BY_REFERENCE: NOTHING}, SUBMIT_TRANSACTION=submitted("PENDING", extraParameters=bank))
    opened = await provider_on(wire).open_checkout(request_by("pse", vat=Money.parse("3992", "COP")))
    assert (opened.session_id, opened.url) == ("800", "https://bank.example/pse?x=1")
    lookup, sent = wire.asked
    assert lookup["details"] == {"referenceCode": str(REFERENCE)}
    assert sent["merchant"] == {"apiLogin": "login", "apiKey": KEY}
    assert (sent["test"], sent["language"]) == (True, "en")
    assert [str(request.url) for request in wire.requests] == [
        "https://sandbox.api.payulatam.com/reports-api/4.0/service.cgi",
        "https://sandbox.api.payulatam.com/payments-api/4.0/service.cgi",
    ]
    assert {request.headers["accept"] for request in wire.requests} == {"application/json"}
    assert {request.headers["content-type"] for request in wire.requests} == {"application/json"}
    address = {"country": "CO", "phone": "0541234567"}
    person = {
        "fullName": "Dana Levi",
        "emailAddress": "dana@example.com",
        "contactPhone": "0541234567",
        "dniNumber": "1020304050",
        "dniType": "CC",
    }
    assert sent["transaction"] == {
        "order": {
            "accountId": "512321",
            "referenceCode": str(REFERENCE),
            "description": "Order 1001",
            "language": "en",
            "signature": SIGNATURE,
            "notifyUrl": "https://pay.example/callback",
            "additionalValues": {
                "TX_VALUE": {"value": 25000, "currency": "COP"},
                "TX_TAX": {"value": 3992, "currency": "COP"},
                "TX_TAX_RETURN_BASE": {"value": 21008, "currency": "COP"},
            },
            "buyer": {"merchantBuyerId": "cust-7", **person, "shippingAddress": address},
            "shippingAddress": address,
        },
        "payer": {"merchantPayerId": "cust-7", **person, "billingAddress": address},
        "type": "AUTHORIZATION_AND_CAPTURE",
        "paymentMethod": "PSE",
        "paymentCountry": "CO",
        "ipAddress": "127.0.0.1",
        "userAgent": "a browser",
        "cookie": "n/a",
        "deviceSessionId": REFERENCE.hex,
        "extraParameters": {
            "RESPONSE_URL": "https://shop.example/thanks",
            "PSE_REFERENCE1": "127.0.0.1",
            "FINANCIAL_INSTITUTION_CODE": "1007",
            "USER_TYPE": "J",
            "PSE_REFERENCE2": "CC",
            "PSE_REFERENCE3": "1020304050",
        },
    }


async def test_what_is_sent_for_cash_is_on_payus_clock() -> None:
    wire = Wire(**{BY_REFERENCE: NOTHING}, SUBMIT_TRANSACTION=submitted("PENDING", extraParameters=None))
    opened = await provider_on(wire).open_checkout(request_by("efecty", language="he"))
    sent = wire.asked[1]["transaction"]
    assert (sent["expirationDate"], sent["paymentMethod"]) == ("2026-11-20T09:00:00", "EFECTY")
    assert (sent["order"]["language"], "extraParameters" in sent) == ("es", False)
    assert opened.cash is not None  # the reference equals the order's id where PayU shows none
    assert (opened.cash.code, opened.cash.expires_at) == ("800", NOW + timedelta(hours=2))


async def test_where_each_account_calls() -> None:
    credentials = {"api_key": KEY, "api_login": "login", "merchant_id": "508029", "account_id": "512321"}
    cases: list[tuple[dict[str, object], str, str, bool]] = [
        ({}, "api.payulatam.com", "https://checkout.payulatam.com/ppp-web-gateway-payu/", True),
        ({"test": True}, "sandbox.api.payulatam.com", "https://sandbox.checkout.payulatam.com/", False),
        ({"api_base": "https://api.payulatam.com/"}, "api.payulatam.com", "https://checkout.payulatam.com/", True),
        (
            {"api_base": "https://sandbox.api.payulatam.com"},
            "sandbox.api.payulatam.com",
            "https://sandbox.checkout.payulatam.com/",
            False,
        ),
        ({"api_base": "http://127.0.0.1:9"}, "127.0.0.1", "http://127.0.0.1:9/ppp-web-gateway-payu/", False),
        (
            {"api_base": "http://127.0.0.1:9", "checkout_base": "https://pages.example", "test": False},
            "127.0.0.1",
            "https://pages.example/ppp-web-gateway-payu/",
            True,
        ),
    ]
    for options, host, action, live in cases:
        wire = Wire(PING={"code": "SUCCESS"})
        provider = PayuProvider(AccountConfig(uuid4(), credentials, options), transport=httpx.MockTransport(wire))
        check = await provider.check_account()
        assert (check.account_name, check.live) == ("PayU merchant 508029", live)
        assert {request.url.host for request in wire.requests} == {host}
        assert len({request.url.path for request in wire.requests}) == 2
        assert {body["test"] for body in wire.asked} == {not live}
        opened = await provider.open_checkout(request_by("card"))
        assert opened.form is not None
        assert opened.form.action.startswith(action)
        assert opened.form.fields["test"] == ("0" if live else "1")
        await provider.aclose()


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (failure("Invalid credentials"), ProviderMisconfigured, "invalid_credentials"),
        (failure("Credenciales inválidas"), ProviderMisconfigured, "invalid_credentials"),
        (failure("The apiKey is wrong"), ProviderMisconfigured, "invalid_credentials"),
        (failure("Invalid signature of dana@example.com"), ProviderMisconfigured, "signature_refused"),
        (failure("Internal error"), OutcomeUnknown, "provider_error"),
        (failure("Error interno, intente de nuevo"), OutcomeUnknown, "provider_error"),
        (failure("[referenceCode: duplicate]"), ProviderRejected, "rejected"),
        (failure(None), ProviderRejected, "rejected"),
        (failure({"odd": 1}), ProviderRejected, "rejected"),
        ({"code": "PERHAPS"}, OutcomeUnknown, "unreadable_answer"),
        (b"[]", OutcomeUnknown, "unreadable_answer"),
        (b"", OutcomeUnknown, "unreadable_answer"),
        (b"<paymentResponse><code>SUCCESS</code></paymentResponse>", OutcomeUnknown, "unreadable_answer"),
        ({"code": "SUCCESS"}, OutcomeUnknown, "unreadable_answer"),
        ({"code": "SUCCESS", "transactionResponse": []}, OutcomeUnknown, "unreadable_answer"),
        (submitted("PENDING", orderId=None), OutcomeUnknown, "unreadable_answer"),
        (submitted("PENDING", orderId="5\x00"), OutcomeUnknown, "unreadable_answer"),
        (submitted("PENDING", orderId="5" * 300), OutcomeUnknown, "unreadable_answer"),
        (submitted(""), OutcomeUnknown, "unreadable_answer"),
        (submitted("DECLINED", responseCode="INSUFFICIENT_FUNDS"), ProviderDeclined, "insufficient_funds"),
        (submitted("DECLINED", responseCode="dana@example.com"), ProviderDeclined, "declined"),
        (submitted("ERROR", responseCode="ANTIFRAUD_REJECTED"), ProviderDeclined, "antifraud_rejected"),
        (submitted("EXPIRED", responseCode=None), ProviderDeclined, "declined"),
        (httpx.Response(401), ProviderMisconfigured, "http_401"),
        (httpx.Response(400), ProviderRejected, "http_400"),
        (httpx.Response(302), ProviderRejected, "http_302"),
        (httpx.Response(502), OutcomeUnknown, "http_502"),
        (httpx.Response(429, headers={"retry-after": "3"}), ProviderBusy, "rate_limit"),
    ],
)
async def test_every_refusal_is_typed_and_shows_a_code_only(answer: Any, kind: type[ProviderError], code: str) -> None:
    wire = Wire(**{BY_REFERENCE: NOTHING}, SUBMIT_TRANSACTION=answer)
    with pytest.raises(ProviderError) as raised:
        await provider_on(wire).open_checkout(request_by("efecty"))
    assert (type(raised.value), raised.value.code) == (kind, code)
    assert "dana" not in str(raised.value)
    assert KEY not in str(raised.value)
    assert wire.commands().count("SUBMIT_TRANSACTION") == 1


async def test_a_refusal_because_our_reference_exists_finds_it() -> None:
    extra = {"REFERENCE": 800, "EXPIRATION_DATE": "1795176000000", "URL_PAYMENT_RECEIPT_HTML": "javascript:alert(1)"}
    found = success([order(attempt("PENDING", extraParameters=extra))])
    wire = Wire(**{BY_REFERENCE: [NOTHING, found]}, SUBMIT_TRANSACTION=failure("Order already exists"))
    opened = await provider_on(wire).open_checkout(request_by("efecty"))
    assert opened.cash is not None
    assert (opened.session_id, opened.cash.code, opened.cash.voucher_url) == ("800", "800", None)
    assert opened.cash.expires_at == datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("inside", ["transaction", "response", "detail"])
async def test_the_banks_page_of_an_earlier_try_is_found_wherever_payu_shows_it(inside: str) -> None:
    extra = {"extraParameters": {"BANK_URL": "https://bank.example/1"}}
    one = attempt("PENDING")
    if inside == "transaction":
        one |= extra
    if inside == "response":
        one["transactionResponse"] |= extra
    detail = success({"state": "PENDING"} | (extra if inside == "detail" else {}))
    wire = Wire(**{BY_REFERENCE: success([order(one)])}, TRANSACTION_RESPONSE_DETAIL=detail)
    opened = await provider_on(wire).open_checkout(request_by("pse"))
    assert (opened.session_id, opened.url) == ("800", "https://bank.example/1")


@pytest.mark.parametrize("payload", [None, {}, [], {"extraParameters": {"BANK_URL": "javascript:1"}}])
async def test_a_banks_page_that_nobody_knows_any_more_is_a_rejection_and_no_second_transaction(payload: Any) -> None:
    wire = Wire(**{BY_REFERENCE: success([order(attempt("PENDING"))])}, TRANSACTION_RESPONSE_DETAIL=success(payload))
    with pytest.raises(ProviderRejected, match="bank_page_unknown"):
        await provider_on(wire).open_checkout(request_by("pse"))
    assert "SUBMIT_TRANSACTION" not in wire.commands()


async def test_an_order_without_transactions_is_not_repeated() -> None:
    wire = Wire(**{BY_REFERENCE: success([order()])})
    with pytest.raises(OutcomeUnknown, match="order_without_transaction"):
        await provider_on(wire).open_checkout(request_by("efecty"))


@pytest.mark.parametrize("answer", [NOTHING, success(None), success([])])
async def test_nothing_found_is_unknown(answer: Any) -> None:
    for ref in (FORM, VOUCHER, CheckoutRef(REFERENCE, None, CheckoutMode.HOSTED, NOW)):
        seen = await provider_on(Wire(**{BY_REFERENCE: answer})).look(ref)
        assert (seen.status, seen.captured, seen.session_id) == (PaymentStatus.UNKNOWN, None, None)


async def test_the_session_says_whether_a_failure_is_the_end() -> None:
    answer = success([order(attempt("DECLINED"))])
    form = await provider_on(Wire(**{BY_REFERENCE: answer})).look(FORM)
    assert (form.status, form.failure_code, form.session_id) == (
        PaymentStatus.PENDING,
        "entity_declined",
        str(REFERENCE),
    )
    voucher = await provider_on(Wire(**{BY_REFERENCE: answer})).look(VOUCHER)
    assert (voucher.status, voucher.failure_code, voucher.session_id) == (
        PaymentStatus.FAILED,
        "entity_declined",
        "800",
    )


def test_one_approved_attempt_among_many_is_paid() -> None:
    attempts = [attempt("DECLINED", "a"), attempt("PENDING", "b"), attempt("APPROVED", "c"), attempt("ERROR", "d")]
    for mixed in ([order(*attempts)], [order(one, id=number) for number, one in enumerate(attempts, 1)]):
        seen = looked(*mixed)
        assert (seen.status, seen.captured, seen.transaction_id) == (PaymentStatus.PAID, COP, "c")
        assert (seen.failure_code, seen.refunded) == (None, Money.zero("COP"))


@pytest.mark.parametrize(
    ("states", "form", "expected"),
    [
        (["PENDING"], True, PaymentStatus.PENDING),
        (["SUBMITTED"], False, PaymentStatus.PENDING),
        (["DECLINED", "PENDING"], False, PaymentStatus.PENDING),
        (["A_STATE_OF_TOMORROW"], False, PaymentStatus.PENDING),
        (["DECLINED"], True, PaymentStatus.PENDING),
        (["DECLINED"], False, PaymentStatus.FAILED),
        (["ERROR"], False, PaymentStatus.FAILED),
        (["EXPIRED"], False, PaymentStatus.EXPIRED),
        (["EXPIRED"], True, PaymentStatus.PENDING),
        ([], False, PaymentStatus.PENDING),
    ],
)
def test_states_without_money(states: list[str], form: bool, expected: PaymentStatus) -> None:  # noqa: FBT001
    seen = looked(order(*(attempt(state, f"t{number}") for number, state in enumerate(states))), form=form)
    assert (seen.status, seen.captured) == (expected, None)


def test_only_a_capture_of_our_own_reference_is_money() -> None:
    assert looked(order(attempt("APPROVED"), referenceCode="another")).status is PaymentStatus.UNKNOWN
    assert looked(order(refund("APPROVED"))).captured is None
    assert looked(order(attempt("APPROVED", type="AUTHORIZATION"))).captured is None


def test_a_test_order_is_no_money_on_a_live_account() -> None:
    forged = order(attempt("APPROVED"), isTest=True)
    assert looked(forged, live=True).status is PaymentStatus.UNKNOWN
    assert looked(forged, live=False).captured == COP
    assert looked(order(attempt("APPROVED"), isTest=False), live=True).captured == COP


def test_an_attempt_may_have_a_value_of_its_own() -> None:
    own = {"TX_VALUE": {"value": "24000.0", "currency": "COP"}}
    assert looked(order(attempt("APPROVED", additionalValues=own))).captured == Money.parse("24000", "COP")


def test_refunds_that_were_approved_are_summed() -> None:
    paid = attempt("APPROVED")
    seen = looked(order(paid, refund("APPROVED"), refund("PENDING", "r2"), refund("APPROVED", "r3", 700)))
    assert (seen.captured, seen.refunded) == (COP, Money.parse("5700", "COP"))
    assert looked(order(paid, refund("APPROVED", value=None, type="REFUND"))).refunded == COP
    assert looked(order(paid, status="REFUNDED")).refunded == COP
    assert looked(order(paid, refund("APPROVED", value="30000"))).refunded == COP
    assert looked(order(paid, refund("APPROVED", parentTransactionId="other"))).refunded == Money.zero("COP")
    with pytest.raises(OutcomeUnknown):
        looked(order(paid, refund("APPROVED", value=None)))


def test_money_in_two_currencies_or_of_an_unreadable_amount_is_unknown() -> None:
    usd = {"TX_VALUE": {"value": "10.00", "currency": "USD"}}
    assert looked(order(attempt("APPROVED", additionalValues=usd))).captured == Money.parse("10", "USD")
    for broken in (
        [order(attempt("APPROVED"), attempt("APPROVED", "t2", additionalValues=usd))],
        [order(attempt("APPROVED"), additionalValues={})],
        [order(attempt("APPROVED"), additionalValues={"TX_VALUE": 5})],
        [order(attempt("APPROVED"), additionalValues={"TX_VALUE": {"value": "1e5", "currency": "COP"}})],
        [order(attempt("APPROVED"), additionalValues={"TX_VALUE": {"value": True, "currency": "COP"}})],
        [order(attempt("APPROVED"), additionalValues={"TX_VALUE": {"value": "25000.005", "currency": "COP"}})],
        [order(attempt("APPROVED"), additionalValues={"TX_VALUE": {"value": 1, "currency": "pesos"}})],
        [order(attempt("APPROVED"), transactions={})],
        [order(attempt("APPROVED"), transactions=[5])],
        [order(attempt("APPROVED", id=None))],
        [order(attempt("APPROVED", id="t\x00"))],
        [order(attempt("APPROVED", id="t" * 300))],
        [order(attempt("APPROVED"), id=None)],
        [order(attempt("APPROVED"), id="\ud800")],
        [5],
    ):
        with pytest.raises(OutcomeUnknown, match="unreadable_answer"):
            looked(*broken)


@pytest.mark.parametrize(
    ("value", "minor"),
    [
        (25000, 2_500_000),
        ("25000", 2_500_000),
        ("25000.00", 2_500_000),
        ("25000.0", 2_500_000),
        (Decimal("25000.0"), 2_500_000),
        (Decimal("2.5E+4"), 2_500_000),
        (Decimal("0.10"), 10),
        (0, 0),
    ],
)
def test_an_amount_is_read_as_a_number_or_as_text(value: object, minor: int) -> None:
    assert money_from(value, "COP") == Money(minor, "COP")


@pytest.mark.parametrize(
    "value",
    [None, True, 1.5, "", "-1", -1, "1,0", "1e3", 10**15, "9" * 16, [], Decimal("NaN"), Decimal("Infinity"),
     Decimal("1E+999999"), Decimal("1E-999999"), Decimal("0.001"), Decimal(f"1.{'0' * 30}1")],
)  # fmt: skip
def test_what_is_no_amount_is_refused(value: object) -> None:
    with pytest.raises(MoneyError):
        money_from(value, "COP")


async def test_a_huge_or_constant_number_in_an_answer_is_unreadable() -> None:
    for raw in (b"NaN", b"Infinity", b"1e999999999", b"9" * 5000):
        text = dumps(success([order(attempt("APPROVED"))])).encode().replace(b"25000.00", raw)
        with pytest.raises(OutcomeUnknown, match="unreadable_answer"):
            await provider_on(Wire(**{BY_REFERENCE: text})).look(FORM)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1_795_176_000_000, 1_795_176_000), ("1795176000000", 1_795_176_000), (None, None), ("soon", None), (True, None),
     (-1, None), (10**30, None), ("9" * 30, None), (10**17, None)],
)  # fmt: skip
def test_moments_in_milliseconds(value: object, seconds: int | None) -> None:
    found = moment_of_milliseconds(value)
    assert found == (None if seconds is None else datetime.fromtimestamp(seconds, UTC))


def test_banks_without_a_code_or_a_name_are_left_out() -> None:
    listed = [{"pseCode": "0", "description": "Choose"}, {"pseCode": 7, "description": "B"}, {"pseCode": "8"}, 5]
    assert [(bank.code, bank.name) for bank in banks_of(listed)] == [("7", "B")]
    with pytest.raises(OutcomeUnknown):
        banks_of(None)


async def test_a_refund_names_the_order_the_transaction_and_its_own_id() -> None:
    orders = success([order(attempt("APPROVED"))])
    for amount, kind, option in (("25000", "REFUND", False), ("5000", "PARTIAL_REFUND", False), ("5000", "", True)):
        wire = Wire(**{BY_REFERENCE: orders}, SUBMIT_TRANSACTION=submitted("APPROVED", transactionId="r1"))
        made = await provider_on(wire, {"partial_value_in_order": option}).refund(refund_request(amount, reason="x"))
        assert (made.provider_refund_id, made.status) == ("r1", RefundStatus.SUCCEEDED)
        sent = wire.asked[-1]["transaction"]
        assert (sent["parentTransactionId"], sent["reason"]) == ("t1", f"{UUID(int=9)} x")
        value = {"TX_VALUE": {"value": 5000, "currency": "COP"}}
        if option:
            assert sent["order"] == {"id": "800", "additionalValues": value}
        else:
            assert (sent["type"], sent["order"]) == (kind, {"id": "800"})
            assert sent.get("additionalValues") == (value if kind == "PARTIAL_REFUND" else None)


async def test_all_of_less_than_payu_holds_is_a_part() -> None:
    held = {"TX_VALUE": {"value": 30000, "currency": "COP"}}
    wire = Wire(
        **{BY_REFERENCE: success([order(attempt("APPROVED"), additionalValues=held)])},
        SUBMIT_TRANSACTION=submitted("PENDING", transactionId="r1"),
    )
    await provider_on(wire).refund(refund_request("25000"))
    assert wire.asked[-1]["transaction"]["type"] == "PARTIAL_REFUND"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (submitted("DECLINED", responseCode="NOT_ALLOWED"), ProviderDeclined, "not_allowed"),
        (submitted("ERROR", responseCode=None), ProviderDeclined, "refund_declined"),
        (submitted(""), OutcomeUnknown, "unreadable_answer"),
        (failure("Not refundable today"), ProviderRejected, "rejected"),
        (httpx.Response(503), OutcomeUnknown, "http_503"),
    ],
)
async def test_a_refused_refund_is_typed(answer: Any, kind: type[ProviderError], code: str) -> None:
    wire = Wire(**{BY_REFERENCE: success([order(attempt("APPROVED"))])}, SUBMIT_TRANSACTION=answer)
    with pytest.raises(ProviderError) as raised:
        await provider_on(wire).refund(refund_request())
    assert (type(raised.value), raised.value.code) == (kind, code)


async def test_a_refund_whose_value_payu_does_not_show_stops_the_next() -> None:
    wire = Wire(**{BY_REFERENCE: success([order(attempt("APPROVED"), refund("PENDING", value=None))])})
    with pytest.raises(OutcomeUnknown, match="refunds_unclear"):
        await provider_on(wire).refund(refund_request())


async def test_a_refund_is_found_by_its_id_in_the_reason_or_the_parameters_only() -> None:
    ours = str(UUID(int=9))
    for marked in ({"reason": f"{ours} wrong size"}, {"reason": "x", "extraParameters": {"REFUND_ID": ours}}):
        wire = Wire(**{BY_REFERENCE: success([order(attempt("APPROVED"), refund("PENDING", **marked))])})
        assert (await provider_on(wire).refund(refund_request())).provider_refund_id == "r1"
    another = success([order(attempt("APPROVED"), refund("PENDING", reason=str(UUID(int=8))))])
    wire = Wire(**{BY_REFERENCE: another}, SUBMIT_TRANSACTION=submitted("PENDING", transactionId="r2"))
    several = provider_on(wire, {"several_refunds": True})
    assert (await several.refund(refund_request())).provider_refund_id == "r2"
    with pytest.raises(ProviderRejected, match="second_refund_not_possible"):
        await provider_on(wire).refund(refund_request())


@pytest.mark.parametrize(
    ("refunds", "amount", "before", "found"),
    [
        ([refund("PENDING")], "5000", "0", "r1"),
        ([refund("APPROVED")], "5000", "5000", None),
        ([refund("APPROVED"), refund("PENDING", "r2")], "5000", "5000", "r2"),
        ([refund("PENDING")], "4000", "0", None),
        ([refund("DECLINED")], "5000", "0", None),
        ([refund("APPROVED", value=700), refund("PENDING", "r2", 4000)], "4000", "700", "r2"),
    ],
)
async def test_without_a_reason_the_sum_tells_an_earlier_try(
    refunds: list[dict[str, Any]], amount: str, before: str, found: str | None
) -> None:
    wire = Wire(**{BY_REFERENCE: success([order(attempt("APPROVED"), *refunds)])})
    seen = await provider_on(wire).look_refund(refund_request(amount, before), None)
    assert (None if seen is None else seen.provider_refund_id) == found


async def test_a_refund_that_the_order_does_not_show_is_asked_for_by_its_id() -> None:
    orders = success([order(attempt("APPROVED"))])
    for payload, status, code in (
        ({"state": "PENDING"}, RefundStatus.PENDING, None),
        ({"state": "APPROVED"}, RefundStatus.SUCCEEDED, None),
        ({"state": "DECLINED", "responseCode": "NOT_ALLOWED"}, RefundStatus.FAILED, "not_allowed"),
    ):
        wire = Wire(**{BY_REFERENCE: orders}, TRANSACTION_RESPONSE_DETAIL=success(payload))
        seen = await provider_on(wire).look_refund(refund_request(), "r9")
        assert seen is not None
        assert (seen.provider_refund_id, seen.status, seen.failure_code) == ("r9", status, code)
        assert wire.asked[-1]["details"] == {"transactionId": "r9"}
    wire = Wire(**{BY_REFERENCE: orders}, TRANSACTION_RESPONSE_DETAIL=NOTHING)
    assert await provider_on(wire).look_refund(refund_request(), "r9") is None
    with pytest.raises(ProviderBusy, match="rate_limit"):
        await provider_on(Wire(**{BY_REFERENCE: httpx.Response(429)})).look_refund(refund_request(), None)


async def test_a_live_account_waits_ten_minutes_after_the_approval() -> None:
    approved = attempt("APPROVED")
    approved["transactionResponse"]["operationDate"] = int((NOW - timedelta(minutes=4)).timestamp() * 1000)
    wire = Wire(**{BY_REFERENCE: success([order(approved)])})
    with pytest.raises(ProviderBusy, match="refund_too_early") as early:
        await provider_on(wire, {"test": False}).refund(refund_request())
    assert early.value.retry_after == timedelta(minutes=6)
    old = CheckoutRef(REFERENCE, str(REFERENCE), CheckoutMode.HOSTED, NOW - timedelta(minutes=10))
    wire = Wire(
        **{BY_REFERENCE: success([order(attempt("APPROVED"))])},
        SUBMIT_TRANSACTION=submitted("PENDING", transactionId="r1"),
    )
    made = await provider_on(wire, {"test": False}).refund(refund_request(payment=old))
    assert made.status is RefundStatus.PENDING


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ORDER_FIELDS = st.sampled_from(["id", "status", "additionalValues", "transactions", "isTest"])
ATTEMPT_FIELDS = st.sampled_from(
    [
        "id",
        "type",
        "transactionResponse",
        "additionalValues",
        "extraParameters",
        "creditCard",
        "reason",
        "paymentMethod",
    ]
)


@given(payload=JSON, outer=st.dictionaries(ORDER_FIELDS, JSON), inner=st.dictionaries(ATTEMPT_FIELDS, JSON))
def test_no_answer_of_wrong_types_is_anything_but_unknown(payload: Any, outer: Any, inner: Any) -> None:
    for odd in (payload, [order(attempt("APPROVED") | inner) | outer], [order(attempt("PENDING") | inner)]):
        try:
            seen = payment_of(read_orders(odd, str(REFERENCE), live=True), "session", form=True)
        except OutcomeUnknown:
            continue
        assert (seen.captured is None) is (seen.status is not PaymentStatus.PAID)
