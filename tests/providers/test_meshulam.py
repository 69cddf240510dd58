"""What only Meshulam has: forms, HTTP 200 for all, callbacks without a signature, refunds without a reference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    Acknowledges,
    Callback,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    EventKind,
    OpenedCheckout,
    OutcomeUndecided,
    OutcomeUnknown,
    Payer,
    ProviderBusy,
    ProviderError,
    ProviderEvent,
    ProviderMisconfigured,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
    Rejection,
    WebhookRejected,
)
from providers.meshulam import WEBHOOK_TOOLS, MeshulamProvider
from providers.meshulam.amounts import from_wire
from providers.meshulam.bodies import read_fields
from providers.registry import build_provider, capabilities_of, required_credentials, webhook_tools
from providers.webhook_signatures import CannotSign
from tests.providers.payers.meshulam import CALLBACK_TOKEN
from tests.providers.payers.meshulam import Payer as SandboxPayer
from tests.support.mailbox import Mailbox

ONLY = ("meshulam",)

RequestFor = Callable[..., CheckoutRequest]
Answer = Callable[[httpx.Request], httpx.Response]
REFERENCE = UUID("018bcfe5-6800-7000-8000-000000000001")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREDENTIALS = {"user_id": "u5a7e3c1", "page_code": "p90f1cc2", "callback_token": CALLBACK_TOKEN}
REF = CheckoutRef(REFERENCE, "145111110", CheckoutMode.HOSTED, NOW, session_secret="ptoken-1")

# the documentation's own example of a server update, its leading blank included
UPDATE: dict[str, Any] = {
    "err": "",
    "status": "1",
    "data": {
        "asmachta": "0289199",
        "cardSuffix": "1177",
        "cardType": "Local",
        "cardTypeCode": "1",
        "cardBrand": "Mastercard",
        "cardBrandCode": "2",
        "cardExp": "0126",
        "firstPaymentSum": "0",
        "periodicalPaymentSum": "0",
        "status": "שולם",
        "statusCode": " 2",
        "transactionTypeId": "6",
        "paymentType": "2",
        "sum": "269",
        "paymentsNum": "0",
        "allPaymentsNum": "1",
        "paymentDate": "21/12/21",
        "description": "TEST TEST",
        "fullName": "John Smith",
        "payerPhone": "0541234567",
        "payerEmail": "john@example.com",
        "transactionId": "145111111",
        "transactionToken": "ttoken-1",
        "processId": "145111110",
        "processToken": "ptoken-1",
        "customFields": {"cField1": REFERENCE.hex, "cField2": "more"},
    },
}


def account(options: Mapping[str, object] | None = None, **credentials: str) -> AccountConfig:
    return AccountConfig(account_id=uuid4(), credentials=CREDENTIALS | credentials, options=options or {})


def update(**changes: Any) -> dict[str, Any]:
    data = {name: value for name, value in (UPDATE["data"] | changes).items() if value is not None}
    return UPDATE | {"data": data}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def pairs_of(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, item in value.items():
        full = f"{prefix}[{name}]" if prefix else name
        pairs += pairs_of(item, full) if isinstance(item, Mapping) else [(full, str(item))]
    return pairs


def as_form(value: Mapping[str, Any]) -> bytes:
    return urlencode(pairs_of(value)).encode()


def as_multipart(value: Mapping[str, Any], boundary: str = "xyz") -> bytes:
    head = 'Content-Disposition: form-data; name="{}"\r\nContent-Type: text/plain\r\n\r\n{}\r\n'
    parts = [f"--{boundary}\r\n" + head.format(name, item) for name, item in pairs_of(value)]
    return ("".join(parts) + f"--{boundary}--\r\n").encode()


def read(body: bytes, content_type: str = "", token: str | None = CALLBACK_TOKEN) -> ProviderEvent:
    headers = {"content-type": content_type} if content_type else {}
    return MeshulamProvider(account()).verify_webhook(Callback(headers, body, NOW, token))


def done(data: object, status: object = 1) -> httpx.Response:
    return httpx.Response(200, json={"status": status, "err": "", "data": data})


def refused(error_id: object, status: object = 0) -> httpx.Response:
    return httpx.Response(200, json={"status": status, "err": {"id": error_id, "message": "דנה לוי"}, "data": ""})


def sent(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True))


def method_of(request: httpx.Request) -> str:
    return request.url.path.rsplit("/", 1)[-1]


@pytest_asyncio.fixture
async def answered_by() -> AsyncIterator[Callable[..., MeshulamProvider]]:
    """Build an adapter whose every request is answered by a function, without any network."""
    built: list[MeshulamProvider] = []

    def build(answer: Answer, **credentials: str) -> MeshulamProvider:
        provider = MeshulamProvider(
            account(None, **credentials),
            transport=httpx.MockTransport(answer),
            clock=lambda: NOW + timedelta(seconds=5),
        )
        built.append(provider)
        return provider

    yield build
    for provider in built:
        await provider.aclose()


def checkout(**changes: Any) -> CheckoutRequest:
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "workspace_id": UUID(int=7),
        "order_id": "order-1001",
        "amount": Money.parse("129.90", "ILS"),
        "description": 'Order "1001" <b>חולצה</b> & more',
        "mode": CheckoutMode.HOSTED,
        "created_at": NOW,
        "expires_at": NOW + timedelta(minutes=10),
        "success_url": "https://shop.example/thanks",
        "callback_url": "https://pay.example/api/v1/webhooks/meshulam/7",
        "payer": Payer(name="Dana Levi", email="dana@example.com", phone="+972 54-123-4567"),
    }
    return CheckoutRequest(**(values | changes))


def refunding(**changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "refund_id": uuid4(),
        "transaction_id": "1",
        "amount": Money.parse("29.90", "ILS"),
        "payment": REF,
        "captured": Money.parse("129.90", "ILS"),
        "refunded_before": Money.zero("ILS"),
    }
    return RefundRequest(**(values | changes))


def entry(transaction_id: str = "1", status: object = 2, sum_: object = "129.90", **more: Any) -> dict[str, Any]:
    token = {"transactionToken": f"t{transaction_id}"}
    return {"transactionId": transaction_id, "statusCode": status, "sum": sum_} | token | more


# what is sent


async def test_a_checkout_is_opened_by_a_form_as_the_documentation_wants_it(answered_by: Any) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return done({"processId": 145111110, "processToken": "ptoken-1", "url": "https://pay.example/x"}, "1")

    opened = await answered_by(answer, api_key="company1").open_checkout(checkout())
    assert opened == OpenedCheckout("145111110", "https://pay.example/x", session_secret="ptoken-1")
    assert "ptoken-1" not in repr(opened)
    (request,) = requests
    assert str(request.url) == "https://secure.meshulam.co.il/api/light/server/1.0/createPaymentProcess"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert sent(request) == {
        "pageCode": CREDENTIALS["page_code"],
        "userId": CREDENTIALS["user_id"],
        "apiKey": "company1",
        "sum": "129.90",
        "description": "Order 1001 b חולצה b more",
        "chargeType": "1",
        "pageField[fullName]": "Dana Levi",
        "pageField[phone]": "0541234567",
        "pageField[email]": "dana@example.com",
        "cField1": REFERENCE.hex,
        "successUrl": "https://shop.example/thanks",
        "cancelUrl": "https://shop.example/thanks",
        "notifyUrl": f"https://pay.example/api/v1/webhooks/meshulam/7/{CALLBACK_TOKEN}",
    }


async def test_an_address_that_ends_in_the_token_is_sent_as_it_is(answered_by: Any) -> None:
    urls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        urls.append(sent(request).get("notifyUrl", ""))
        return done({"processId": "1", "processToken": "t", "url": "https://pay.example/x"})

    provider = answered_by(answer, callback_token=f"{CALLBACK_TOKEN}, older_token")
    for callback_url in (f"https://pay.example/w/{CALLBACK_TOKEN}", "https://pay.example/w/older_token", None):
        await provider.open_checkout(checkout(callback_url=callback_url))
    assert urls == [f"https://pay.example/w/{CALLBACK_TOKEN}", "https://pay.example/w/older_token", ""]


def nothing_is_sent(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"nothing may be sent, but {request.url} was")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"payer": Payer(name="Dana", phone="0541234567")}, "payer_name_required"),
        ({"payer": Payer(phone="0541234567")}, "payer_name_required"),
        ({"payer": Payer(name="Dana <>", phone="0541234567")}, "payer_name_required"),
        ({"payer": Payer(name="Dana Levi")}, "payer_phone_required"),
        ({"payer": Payer(name="Dana Levi", phone="+1 541 234 5678")}, "payer_phone_required"),
        ({"payer": Payer(name="Dana Levi", phone="031234567")}, "payer_phone_required"),
        ({"amount": Money.parse("10.00", "USD")}, "currency_not_supported"),
        ({"amount": Money.zero("ILS")}, "invalid_amount"),
        ({"amount": Money.parse("3600.01", "ILS"), "method": "bit"}, "amount_above_method_limit"),
        ({"method": "cheque"}, "method_not_supported"),
        ({"expires_at": NOW}, "checkout_window_passed"),
    ],
)
async def test_what_meshulam_would_refuse_is_refused_before_any_call(
    answered_by: Any, changes: dict[str, Any], code: str
) -> None:
    provider = answered_by(nothing_is_sent, page_code_bit="pbit")
    with pytest.raises(ProviderRejected) as error:
        await provider.open_checkout(checkout(**changes))
    assert error.value.code == code
    assert "Dana" not in str(error.value)
    assert "541" not in str(error.value)


@pytest.mark.parametrize("phone", ["0541234567", "054-1234567", "+972541234567", "00972541234567", "972 (0)54 1234567"])
async def test_every_way_to_write_a_mobile_number_arrives_as_one(answered_by: Any, phone: str) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(sent(request)["pageField[phone]"])
        return done({"processId": "1", "processToken": "t", "url": "https://pay.example/x"})

    await answered_by(answer).open_checkout(checkout(payer=Payer(name="Dana Levi", phone=phone)))
    assert seen == ["0541234567"]


async def test_each_method_has_its_page_and_the_account_names_them(answered_by: Any) -> None:
    pages: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        pages.append(sent(request)["pageCode"])
        return done({"processId": "1", "processToken": "t", "url": "https://pay.example/x"})

    provider = answered_by(answer, page_code_bit="pbit")
    for method in (None, "card", "bit"):
        await provider.open_checkout(checkout(method=method))
    await provider.look(CheckoutRef(REFERENCE, "1", CheckoutMode.HOSTED, NOW, session_secret="t", method="bit"))
    assert pages == [CREDENTIALS["page_code"], CREDENTIALS["page_code"], "pbit", "pbit"]
    with pytest.raises(ProviderMisconfigured, match="page_code_paybox"):
        await provider.open_checkout(checkout(method="paybox"))


# how answers are read


@pytest.mark.parametrize(
    ("error_id", "kind", "code"),
    [
        (12, OutcomeUnknown, "general_error"),
        (54, ProviderRejected, "missing_field"),
        (105, ProviderRejected, "refund_exceeds_payment"),
        (110, ProviderRejected, "refund_needs_manual_approval"),
        (130, ProviderRejected, "same_day_partial_refund"),
        (170, ProviderRejected, "not_found"),
        (190, ProviderRejected, "refund_exceeds_payment"),
        (207, ProviderRejected, "same_day_partial_refund"),
        (210, ProviderRejected, "already_refunded"),
        (218, ProviderRejected, "refund_exceeds_payment"),
        (271, ProviderRejected, "bit_limit_exceeded"),
        (300, ProviderMisconfigured, "no_api_access"),
        (617, ProviderRejected, "sum_differs_from_products"),
        (701, ProviderMisconfigured, "wrong_user_id_or_page_code"),
        (707, ProviderRejected, "invalid_amount"),
        (709, ProviderRejected, "link_expired"),
        (712, ProviderRejected, "already_performed"),
        (714, ProviderMisconfigured, "blocked"),
        (716, ProviderRejected, "unknown_transaction"),
        (722, ProviderRejected, "not_performed"),
        (723, ProviderMisconfigured, "wrong_api_key"),
        (730, ProviderRejected, "unknown_process"),
        (731, ProviderMisconfigured, "page_code_mismatch"),
        (736, ProviderRejected, "conflicting_payment_counts"),
        (743, ProviderMisconfigured, "no_business"),
        (803, ProviderRejected, "hold_expired"),
        (808, ProviderRejected, "already_settled"),
        (814, ProviderRejected, "exceeds_hold"),
        (9999, ProviderRejected, "err_9999"),
    ],
)
async def test_every_error_id_is_typed_however_it_is_written(
    answered_by: Any, error_id: int, kind: type[ProviderError], code: str
) -> None:
    for written in (error_id, str(error_id), f" {error_id}", {"id": error_id, "content": "x"}):
        for status in (0, "0"):
            provider = answered_by(lambda _, written=written, status=status: refused(written, status))
            with pytest.raises(ProviderError) as error:
                await provider.open_checkout(checkout())
            assert (type(error.value), error.value.code) == (kind, code)
            assert "דנה" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(200, json={"err": "unknown method"}), ProviderMisconfigured),
        (httpx.Response(200, text="<html>please enable cookies</html>"), OutcomeUnknown),
        (httpx.Response(200, text=""), OutcomeUnknown),
        (httpx.Response(200, json=[1]), OutcomeUnknown),
        (httpx.Response(200, json={"status": 0, "err": "", "data": ""}), OutcomeUnknown),
        (httpx.Response(200, json={"status": 0, "err": {"id": "x"}}), OutcomeUnknown),
        (httpx.Response(200, json={"status": 2, "err": {"id": 54}}), OutcomeUnknown),
        (httpx.Response(200, json={"status": True, "data": {"processId": 1}}), OutcomeUnknown),
        (httpx.Response(200, text='{"status": ' + "1" * 5000 + "}"), OutcomeUnknown),
        (httpx.Response(200, text='{"status": 1, "data": {"processId": NaN}}'), OutcomeUnknown),
        (done({"processId": 1, "processToken": "", "url": "https://x.example/"}), OutcomeUnknown),
        (done({"processId": 1, "processToken": "t", "url": "javascript:alert(1)"}), OutcomeUnknown),
        (done({"processId": [1], "processToken": "t", "url": "https://x.example/"}), OutcomeUnknown),
        (done([]), OutcomeUnknown),
        (httpx.Response(403, text="blocked"), ProviderMisconfigured),
        (httpx.Response(503, text="later"), OutcomeUnknown),
        (httpx.Response(429, headers={"retry-after": "3"}), ProviderBusy),
    ],
)
async def test_an_answer_of_another_shape_is_a_typed_error(
    answered_by: Any, answer: httpx.Response, kind: type[ProviderError]
) -> None:
    with pytest.raises(kind):
        await answered_by(lambda _: answer).open_checkout(checkout())


@pytest.mark.parametrize(
    ("transactions", "status", "captured", "refunded"),
    [
        ([], "pending", None, None),
        ("", "pending", None, None),
        (None, "pending", None, None),
        ([entry(status=11)], "pending", None, None),
        ([entry(status=999)], "pending", None, None),
        ([entry("0", "0", "0")], "pending", None, None),
        ([entry(status=" 2")], "paid", "129.90", "0.00"),
        ([entry(sum_=129)], "paid", "129.00", "0.00"),
        ([entry(sum_="129.9")], "paid", "129.90", "0.00"),
        ({"3": entry()}, "paid", "129.90", "0.00"),
        # the same money twice in one process is told, not hidden
        ([entry(), entry("2")], "paid", "259.80", "0.00"),
        # refunds, in every way that they might show
        ([entry(), entry("2", "3", "29.90", refundedTransactionId=1)], "paid", "129.90", "29.90"),
        ([entry("2", 3, "29.90"), entry()], "paid", "129.90", "29.90"),
        ([entry("2", 3, "-29.90"), entry()], "paid", "129.90", "29.90"),
        ([entry(status=3)], "paid", "129.90", "129.90"),
        ([entry(status=3, refundedTransactionId=0)], "paid", "129.90", "129.90"),
        ([entry("12", 3), entry("9", 3)], "paid", "129.90", "129.90"),
        ([entry("2", 3, "100", refundedTransactionId=1), entry(status=3)], "paid", "129.90", "100.00"),
    ],
)
async def test_a_process_is_read_in_our_words(
    answered_by: Any, transactions: Any, status: str, captured: str | None, refunded: str | None
) -> None:
    data = {"processId": "145111110", "processToken": "ptoken-1", "transactions": transactions}
    seen = await answered_by(lambda _: done(data, "1")).look(REF)
    money = [None if text is None else Money.parse(text, "ILS") for text in (captured, refunded)]
    assert (seen.status, [seen.captured, seen.refunded]) == (PaymentStatus(status), money)


@pytest.mark.parametrize(
    "data",
    [
        {"processId": "2", "transactions": []},
        {"transactions": [7]},
        {"transactions": 7},
        {"transactions": [entry(sum_="12,90")]},
        {"transactions": [entry(sum_="1.001")]},
        {"transactions": [entry(sum_=None)]},
        {"transactions": [entry("")]},
        {"transactions": [entry("0")]},
        {"transactions": [entry("0", 3)]},
        {"transactions": [entry("2", 3, refundedTransactionId=1)]},
    ],
)
async def test_money_that_cannot_be_read_is_neither_paid_nor_unpaid(answered_by: Any, data: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown):
        await answered_by(lambda _: done(data)).look(REF)


@pytest.mark.parametrize(("error_id", "status"), [(730, "unknown"), (170, "unknown"), (709, "expired")])
async def test_a_refused_look_says_what_it_means(answered_by: Any, error_id: int, status: str) -> None:
    assert (await answered_by(lambda _: refused(error_id)).look(REF)).status is PaymentStatus(status)
    with pytest.raises(ProviderRejected):
        await answered_by(lambda _: refused(54)).look(REF)


async def test_without_the_process_token_nothing_is_asked_and_nothing_is_known(answered_by: Any) -> None:
    ref = CheckoutRef(REFERENCE, "145111110", CheckoutMode.HOSTED, NOW)
    provider = answered_by(nothing_is_sent)
    assert (await provider.look(ref)).status is PaymentStatus.UNKNOWN
    for call in (provider.acknowledge(ref, "1"), provider.refund(refunding(payment=ref))):
        with pytest.raises(ProviderRejected) as error:
            await call
        assert error.value.code == "unknown_process"


async def test_the_brand_and_the_last_digits_are_shown_only_if_they_are_such(answered_by: Any) -> None:
    good = entry(transactionTypeId="6", cardBrand="Mastercard", cardSuffix="1177")
    odd = entry(transactionTypeId="77", cardBrand="<script>", cardSuffix="4580458045804580")
    seen = await answered_by(lambda _: done({"transactions": [good]})).look(REF)
    assert (seen.method, seen.card_brand, seen.card_last4) == ("bit", "Mastercard", "1177")
    seen = await answered_by(lambda _: done({"transactions": [odd]})).look(REF)
    assert (seen.method, seen.card_brand, seen.card_last4) == (None, None, None)


async def test_the_connection_test_tells_live_from_test_and_a_wrong_page_from_silence(answered_by: Any) -> None:
    check = await answered_by(lambda _: refused(730)).check_account()
    assert (check.account_name, check.live) == ("Grow business …e3c1", True)
    for error_id, kind in ((701, ProviderMisconfigured), (54, ProviderRejected), (12, OutcomeUnknown)):
        with pytest.raises(kind):
            await answered_by(lambda _, error_id=error_id: refused(error_id)).check_account()


# refunds


async def test_a_refund_names_the_transaction_its_token_and_the_sum(answered_by: Any) -> None:
    forms: list[tuple[str, dict[str, str]]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        forms.append((method_of(request), sent(request)))
        if method_of(request) == "getPaymentProcessInfo":
            return done({"transactions": [entry()]})
        return done({"statusCode": 3, "transactionId": "33123456", "refundedTransactionId": 1, "sum": "29.9"})

    made = await answered_by(answer).refund(refunding())
    assert (made.provider_refund_id, made.status) == ("33123456", RefundStatus.SUCCEEDED)
    assert forms[1] == (
        "refundTransaction",
        {
            "pageCode": CREDENTIALS["page_code"],
            "userId": CREDENTIALS["user_id"],
            "transactionId": "1",
            "transactionToken": "t1",
            "refundSum": "29.90",
        },
    )


def refunds_answered(*processes: list[dict[str, Any]], refund: httpx.Response | None = None) -> Answer:
    """Answer each look with the next state, and refundTransaction with `refund`, or never."""
    states = iter(processes)

    def answer(request: httpx.Request) -> httpx.Response:
        if method_of(request) == "getPaymentProcessInfo":
            return done({"transactions": next(states)})
        assert refund is not None, "no refund may be sent"
        return refund

    return answer


async def test_an_earlier_try_that_acted_is_found_by_the_sum_and_not_repeated(answered_by: Any) -> None:
    older, newer = (entry(number, 3, "29.90", refundedTransactionId=1) for number in ("98", "101"))
    provider = answered_by(refunds_answered([entry(), older, newer]))
    before = Money.parse("29.90", "ILS")
    assert (await provider.refund(refunding(refunded_before=before))).provider_refund_id == "101"
    provider = answered_by(refunds_answered([entry(status=3)]))
    whole = refunding(amount=Money.parse("129.90", "ILS"))
    assert (await provider.refund(whole)).provider_refund_id == "1-refunded"


@pytest.mark.parametrize("returned", ["59.80", "29.91", "129.90"])
async def test_money_given_back_by_hand_meanwhile_stops_a_refund(answered_by: Any, returned: str) -> None:
    provider = answered_by(refunds_answered(*[[entry(), entry("2", 3, returned)]] * 2))
    for call in (provider.refund(refunding()), provider.look_refund(refunding(), None)):
        with pytest.raises(OutcomeUndecided) as error:
            await call
        assert error.value.code == "refund_sum_unexplained"


@pytest.mark.parametrize("error_id", [105, 190, 210, 218])
async def test_nothing_left_means_looking_again_before_saying_no(answered_by: Any, error_id: int) -> None:
    acted = [entry(), entry("2", 3, "29.90", refundedTransactionId=1)]
    late = answered_by(refunds_answered([entry()], acted, refund=refused(error_id)))
    assert (await late.refund(refunding())).provider_refund_id == "2"
    never = answered_by(refunds_answered([entry()], [entry()], refund=refused(error_id)))
    with pytest.raises(ProviderRejected):
        await never.refund(refunding())


async def test_a_refund_that_grow_must_approve_is_pending_until_its_sum_shows(answered_by: Any) -> None:
    acted = [entry(), entry("2", 3, "29.90")]
    provider = answered_by(refunds_answered([entry()], [entry()], acted, acted, [entry()], refund=refused(110)))
    request = refunding()
    made = await provider.refund(request)
    assert made.status is RefundStatus.PENDING
    waiting = await provider.look_refund(request, made.provider_refund_id)
    assert waiting is not None
    assert waiting == made
    approved = await provider.look_refund(request, made.provider_refund_id)
    assert approved is not None
    assert approved.status is RefundStatus.SUCCEEDED
    by_id = await provider.look_refund(request, "2")
    assert by_id is not None
    assert by_id.provider_refund_id == "2"
    assert await provider.look_refund(request, "2") is None


async def test_a_transaction_that_is_none_of_the_payments_is_not_refunded(answered_by: Any) -> None:
    with pytest.raises(ProviderRejected) as error:
        await answered_by(refunds_answered([entry()])).refund(refunding(transaction_id="2"))
    assert error.value.code == "unknown_transaction"


async def test_a_refund_without_an_id_in_its_answer_is_not_known(answered_by: Any) -> None:
    with pytest.raises(OutcomeUnknown):
        await answered_by(refunds_answered([entry()], refund=done(""))).refund(refunding())


# acknowledging


async def test_what_meshulam_said_of_the_transaction_is_sent_back(answered_by: Any) -> None:
    forms: list[dict[str, str]] = []
    answers = iter([done(""), refused(712), refused(716)])
    paid = UPDATE["data"] | {"unheard": "of", "sum": 269}

    def answer(request: httpx.Request) -> httpx.Response:
        if method_of(request) == "getPaymentProcessInfo":
            return done({"transactions": [paid]})
        assert method_of(request) == "approveTransaction"
        forms.append(sent(request))
        return next(answers)

    provider = answered_by(answer)
    assert isinstance(provider, Acknowledges)
    for _ in range(2):  # the second time Meshulam says that it was done already
        await provider.acknowledge(REF, "145111111")
    with pytest.raises(ProviderRejected):
        await provider.acknowledge(REF, "145111111")
    with pytest.raises(ProviderRejected, match="no such charge"):
        await provider.acknowledge(REF, "2")
    not_sent = ("status", "statusCode", "customFields")
    expected = {name: str(value) for name, value in UPDATE["data"].items() if name not in not_sent}
    assert forms[0] == expected | {"pageCode": CREDENTIALS["page_code"]}


# callbacks


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (as_json(UPDATE), "application/json"),
        (as_form(UPDATE), "application/x-www-form-urlencoded"),
        (as_multipart(UPDATE), "multipart/form-data; boundary=xyz"),
        (as_json({"data": dict(reversed(UPDATE["data"].items())), "status": 1, "err": ""}), ""),
        (b"  \n" + as_json(update(sum=269, transactionId=145111111, statusCode=2)), ""),
        (as_json(update(customFields=None, cField1=str(REFERENCE).upper())), ""),
        (as_json(update(userId=CREDENTIALS["user_id"])), ""),
    ],
)
def test_the_documented_update_is_read_in_every_encoding(body: bytes, content_type: str) -> None:
    assert read(body, content_type) == ProviderEvent(
        event_id="145111111:2",
        type="server_update.2",
        kind=EventKind.CAPTURED,
        reference=REFERENCE,
        session_id="145111110",
        transaction_id="145111111",
        amount=Money.parse("269", "ILS"),
        occurred_at=datetime(2021, 12, 20, 22, tzinfo=UTC),
        proof="ptoken-1",
        secrets=("ttoken-1",),
    )


def test_what_an_update_shows_is_not_printed() -> None:
    assert "ptoken-1" not in repr(read(as_json(UPDATE)))


@pytest.mark.parametrize(
    ("changes", "event_id", "kind"),
    [
        ({"statusCode": "3"}, "145111111:3", EventKind.REFUND),
        ({"statusCode": 11}, "145111111:11", EventKind.PROCESSING),
        ({"statusCode": "77"}, "145111111:77", EventKind.OTHER),
    ],
)
def test_each_state_of_a_transaction_is_an_event_of_its_own(
    changes: dict[str, Any], event_id: str, kind: EventKind
) -> None:
    event = read(as_json(update(**changes)))
    assert (event.event_id, event.kind) == (event_id, kind)


def test_an_update_about_a_failure_is_a_failed_attempt_even_without_a_transaction() -> None:
    event = read(as_json(update(transactionId=None, statusCode=None) | {"status": "0"}))
    assert (event.event_id, event.kind) == ("process-145111110:failed", EventKind.ATTEMPT_FAILED)
    assert event.transaction_id is None
    event = read(as_json(UPDATE | {"status": 0}))
    assert (event.event_id, event.kind) == ("145111111:failed", EventKind.ATTEMPT_FAILED)


@pytest.mark.parametrize(
    "token", [None, "", CALLBACK_TOKEN[:-1], CALLBACK_TOKEN + "x", CALLBACK_TOKEN.upper(), "ט\ud800"]
)
def test_the_right_process_under_a_wrong_address_is_refused_before_it_is_read(token: str | None) -> None:
    for body in (as_json(UPDATE), b"{"):
        with pytest.raises(WebhookRejected) as error:
            read(body, token=token)
        assert error.value.reason is Rejection.WRONG_TOKEN
        assert CALLBACK_TOKEN not in str(error.value)


def test_both_tokens_open_the_door_while_one_replaces_the_other() -> None:
    provider = MeshulamProvider(account(callback_token="newer_token-2 , older_token-1"))
    for token in ("newer_token-2", "older_token-1"):
        assert provider.verify_webhook(Callback({}, as_json(UPDATE), NOW, token)).proof == "ptoken-1"
    with pytest.raises(WebhookRejected):
        provider.verify_webhook(Callback({}, as_json(UPDATE), NOW, "newer_token-2 , older_token-1"))


@pytest.mark.parametrize("odd", ["\ud800", "\x00", "ט", "x" * 501])
def test_a_token_that_can_be_none_is_none(odd: str) -> None:
    event = read(as_json(update(cardToken=odd, transactionToken=odd)))
    assert (event.method_token, event.secrets) == (None, ())
    event = read(as_json(update(cardToken="card-1", transactionToken="tt-1")))
    assert (event.method_token, event.secrets) == ("card-1", ("tt-1",))


def test_an_update_of_another_business_is_refused() -> None:
    for other in ("u0000000", "ט\ud800"):
        with pytest.raises(WebhookRejected) as error:
            read(as_json(update(userId=other)))
        assert error.value.reason is Rejection.WRONG_TOKEN


MULTIPART = "multipart/form-data; boundary=xyz"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", ""),
        (b"{}", ""),
        (b"[1]", ""),
        (b"null", ""),
        (as_json(UPDATE)[:-1], ""),
        (as_form(UPDATE)[:60], ""),
        (as_form(UPDATE) + b"&data[transactionId]=2", ""),
        (as_form(UPDATE) + b"&nonsense", ""),
        (as_form(UPDATE) + b"&x=%ff", ""),
        (as_form(UPDATE) + "".join(f"&a{index}=1" for index in range(400)).encode(), ""),
        (as_json(UPDATE).replace(b'"transactionId"', b'"transactionId": "1", "transactionId"'), ""),
        (as_json(UPDATE).replace(b'"269"', b"NaN"), ""),
        (as_json(UPDATE).replace(b'"269"', b"9" * 5000), ""),
        (b'{"data":' * 100_000, ""),
        (as_json(update(**{f"x{index}": 1 for index in range(400)})), ""),
        (as_json(update(processId=None)), ""),
        (as_json(update(processToken=None)), ""),
        (as_json(update(processToken="\ud800")), ""),
        (as_json(update(processToken=["ptoken-1"])), ""),
        (as_json(update(transactionId=None)), ""),
        (as_json(update(transactionId={"id": 1})), ""),
        (as_json(update(transactionId=True)), ""),
        (as_json(update(statusCode=None)), ""),
        (as_json(update(statusCode="2; drop")), ""),
        (as_multipart(UPDATE), "multipart/form-data"),
        (as_multipart(UPDATE), "multipart/form-data; boundary=other"),
        (as_multipart(UPDATE)[:-10], MULTIPART),
        (as_multipart(UPDATE).replace(b"John Smith", b"\xff"), MULTIPART),
        (as_multipart(UPDATE).replace(b"form-data; name", b"form-data; nome"), MULTIPART),
        (b"x", MULTIPART),
        # the other product, flat JSON with a static key and no status code
        (as_json({"webhookKey": "k", "transactionCode": "1", "paymentSum": 10, "paymentType": "רגיל"}), ""),
    ],
)
def test_what_is_no_update_is_refused_as_malformed(body: bytes, content_type: str) -> None:
    with pytest.raises(WebhookRejected) as error:
        read(body, content_type)
    assert error.value.reason is Rejection.MALFORMED
    assert "ptoken" not in str(error.value)


@pytest.mark.parametrize("written", ["1e5", "-1", "269,00", "1.001", "", "9" * 30])
def test_a_claimed_sum_that_cannot_be_read_is_no_sum(written: str) -> None:
    assert read(as_json(update(sum=written))).amount is None


@pytest.mark.parametrize(
    ("written", "day"),
    [("1/3/26", datetime(2026, 2, 28, 22, tzinfo=UTC)), ("01/07/2026", datetime(2026, 6, 30, 21, tzinfo=UTC))]
    + [(odd, None) for odd in ("31/02/26", "2026-03-01", "1/3", "00/00/00", "")],
)
def test_a_day_is_israels_and_an_odd_one_is_none(written: str, day: datetime | None) -> None:
    assert read(as_json(update(paymentDate=written))).occurred_at == day


@pytest.mark.parametrize("written", ["order-1001", "", "{" + str(REFERENCE) + "}", f"urn:uuid:{REFERENCE}"])
def test_a_foreign_custom_field_is_no_reference(written: str) -> None:
    assert read(as_json(update(customFields={"cField1": written}))).reference is None


def outcome_of(body: bytes, content_type: str) -> Rejection | None:
    """None for an event. Anything but a refusal comes through."""
    try:
        event = read(body, content_type)
    except WebhookRejected as rejected:
        return rejected.reason
    assert isinstance(event, ProviderEvent)
    return None


CONTENT_TYPES = st.sampled_from(
    ["", "application/json", "application/x-www-form-urlencoded", MULTIPART, 'multipart/form-data; boundary="', "x"]
)
PIECES = st.sampled_from([as_json(UPDATE), as_form(UPDATE), as_multipart(UPDATE)])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals().map(str)


@given(st.binary(max_size=300), CONTENT_TYPES)
def test_arbitrary_bytes_are_refused_or_read_and_nothing_else(body: bytes, content_type: str) -> None:
    assert outcome_of(body, content_type) in (None, Rejection.MALFORMED)


@given(PIECES, st.integers(0, 700), st.integers(0, 700), st.binary(max_size=8), CONTENT_TYPES)
def test_a_damaged_update_is_refused_or_read_and_nothing_else(
    body: bytes, start: int, length: int, instead: bytes, content_type: str
) -> None:
    damaged = body[:start] + instead + body[start + length :]
    assert outcome_of(damaged, content_type) in (None, Rejection.MALFORMED, Rejection.WRONG_TOKEN)


@given(st.dictionaries(st.sampled_from(sorted(UPDATE["data"])) | st.text(max_size=5), SCALARS | st.lists(SCALARS)))
def test_any_value_in_any_field_is_refused_or_read_and_nothing_else(changes: dict[str, Any]) -> None:
    assert outcome_of(as_json(update(**changes)), "") in (None, Rejection.MALFORMED, Rejection.WRONG_TOKEN)


NAMES = st.text(st.characters(exclude_characters="[]", codec="utf-8"), min_size=1, max_size=6)
VALUES = st.text(st.characters(codec="utf-8"), max_size=12).map(str.strip)


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, min_size=1), min_size=1, max_size=6))
def test_a_form_and_json_of_the_same_fields_are_the_same(value: dict[str, Any]) -> None:
    table = read_fields(as_json(value), "application/json")
    assert read_fields(as_form(value), "application/x-www-form-urlencoded") == table


@given(st.integers(0, 10**15))
def test_every_amount_comes_back_as_it_went(minor: int) -> None:
    assert from_wire(str(Money(minor, "ILS"))) == Money(minor, "ILS")


@given(st.text() | st.from_regex(r"[-+]?[0-9]{1,3}[.,eE_ ][0-9]{1,3}", fullmatch=True))
def test_a_text_is_an_exact_amount_or_none(text: str) -> None:
    with suppress(MoneyError):
        amount = from_wire(text)
        assert amount.to_decimal() == Decimal(text)


# tools and options


@pytest.mark.parametrize("body", [as_json(UPDATE), as_form(UPDATE), b"{}", b"\xff"])
def test_no_callback_is_ever_called_authentic_by_its_bytes(body: bytes) -> None:
    verdict = WEBHOOK_TOOLS.explain_signature({}, body, CALLBACK_TOKEN, NOW)
    assert not verdict.valid
    assert "signs nothing" in verdict.why
    assert "getPaymentProcessInfo" in verdict.why
    assert CALLBACK_TOKEN not in str(verdict)
    with pytest.raises(CannotSign, match="signs nothing"):
        WEBHOOK_TOOLS.sign_webhook(CALLBACK_TOKEN, body, 0)


def test_the_registry_knows_meshulam() -> None:
    assert required_credentials("meshulam") == ("user_id", "page_code", "callback_token")
    assert webhook_tools("meshulam") is WEBHOOK_TOOLS
    assert not webhook_tools("meshulam").request_signers
    sheet = capabilities_of("meshulam")
    assert (sheet.unit, sheet.currencies) == ("major", frozenset({"ILS"}))
    assert (sheet.looks_up_by_reference, sheet.one_checkout_per_reference) == (False, False)
    assert sheet.max_checkout_lifetime == timedelta(minutes=10)
    assert all(set(method.payer_fields) == {"name", "phone"} for method in sheet.methods)
    bit = sheet.method("bit")
    assert bit is not None
    assert bit.maximum == Decimal(3600)
    assert isinstance(build_provider("meshulam", account()), MeshulamProvider)


def test_the_sheet_of_an_account_has_the_methods_that_it_has_pages_for() -> None:
    assert [method.name for method in MeshulamProvider(account()).capabilities.methods] == ["card"]
    with_bit = MeshulamProvider(account(page_code_bit="pbit", page_code_apple_pay="papple"))
    assert [method.name for method in with_bit.capabilities.methods] == ["card", "bit", "apple_pay"]


def test_options_move_what_is_not_confirmed() -> None:
    assert MeshulamProvider(account({"link_minutes": 60})).capabilities.max_checkout_lifetime == timedelta(hours=1)
    for odd in (0, -1, "10", 1.5, True, 100_000):
        with pytest.raises(ProviderMisconfigured, match="link_minutes"):
            MeshulamProvider(account({"link_minutes": odd}))
    assert MeshulamProvider(account({"sandbox": True}))._origin == "https://sandbox.meshulam.co.il"
    assert MeshulamProvider(account({"api_base": "http://127.0.0.1:9/m/"}))._origin == "http://127.0.0.1:9/m"


@pytest.mark.parametrize(
    ("transactions", "minutes", "status"),
    [
        ([], 10, "pending"),  # the page may have been opened in the payment's last moment, and lives ten minutes
        ([], 24, "pending"),
        ([], 26, "expired"),
        ("", 26, "expired"),
        ([entry("0", "0", "0")], 10, "pending"),
        ([entry("0", "0", "0")], 26, "expired"),
        ([entry("", "", "")], 26, "expired"),
        ([{"transactionId": 0, "statusCode": 0}], 26, "expired"),
        ([entry("0", "0", "0"), entry()], 26, "paid"),
        ([entry("0", "0", received_time="2026-03-01 12:00:01")], 26, "pending"),
        ([entry("0", "11")], 26, "pending"),
        ([entry("7", "0")], 26, "pending"),
        ([entry(status=11)], 26, "pending"),
        ([entry(status=999)], 26, "pending"),
        ([entry()], 26, "paid"),
    ],
)
async def test_a_page_at_which_nothing_was_begun_has_lapsed_some_time_after_its_end(
    transactions: Any, minutes: float, status: str
) -> None:
    data = {"processId": "145111110", "processToken": "ptoken-1", "transactions": transactions}
    provider = MeshulamProvider(
        account(),
        transport=httpx.MockTransport(lambda _: done(data)),
        clock=lambda: NOW + timedelta(minutes=minutes),
    )
    ref = replace(REF, expires_at=NOW + timedelta(minutes=10))
    assert (await provider.look(ref)).status == PaymentStatus(status)
    assert (await provider.close_checkout(ref)).status == PaymentStatus(status)
    assert (await provider.look(REF)).status is not PaymentStatus.EXPIRED  # nobody said when it ends
    await provider.aclose()


async def test_numbers_of_the_test_host_are_told_from_those_of_production() -> None:
    """Both are plain numbers, and a transaction's id settles one payment in the whole installation."""
    data = {"processId": "145111110", "processToken": "ptoken-1", "transactions": [entry()]}
    sent_: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent_.append(sent(request))
        return done(data if method_of(request) == "getPaymentProcessInfo" else {"transactionId": "7"})

    seen = {}
    for sandbox, mark in ((True, "test-"), (False, "")):
        provider = MeshulamProvider(account({"sandbox": sandbox}), transport=httpx.MockTransport(answer))
        event = provider.verify_webhook(
            Callback({"content-type": "application/json"}, as_json(update()), NOW, CREDENTIALS["callback_token"])
        )
        seen[sandbox] = (await provider.look(REF)).transaction_id
        assert seen[sandbox] == f"{mark}{entry()['transactionId']}"
        assert event.transaction_id == f"{mark}{UPDATE['data']['transactionId']}"
        money = Money.parse("129.90", "ILS")
        request = RefundRequest(uuid4(), seen[sandbox] or "", money, REF, money, Money.zero("ILS"))
        assert (await provider.refund(request)).provider_refund_id == f"{mark}7"
        assert sent_[-1]["transactionId"] == str(entry()["transactionId"])
        await provider.acknowledge(REF, seen[sandbox] or "")
        assert sent_[-1]["transactionId"] == str(entry()["transactionId"])
        await provider.aclose()
    assert len(set(seen.values())) == 2


@pytest.mark.parametrize("token", ["short", "has/slash-in-it", "good_token-1,bad", "טוקן-ארוך-מספיק", ","])
def test_a_callback_token_that_can_be_guessed_or_breaks_an_address_is_refused(token: str) -> None:
    with pytest.raises(ProviderMisconfigured, match="callback_token") as error:
        MeshulamProvider(account(callback_token=token))
    assert len(token) < 5 or token not in str(error.value)


# over real HTTP, against the sandbox


@pytest.fixture
def mailbox(mailbox: tuple[Mailbox, str]) -> tuple[Mailbox, str]:
    """Under an address that ends in the account's token."""
    box, address = mailbox
    return box, f"{address}/webhooks/meshulam/7"


def ref_to(request: CheckoutRequest, opened: OpenedCheckout) -> CheckoutRef:
    return CheckoutRef(
        request.reference, opened.session_id, request.mode, request.created_at, opened.session_secret, request.method
    )


def refund_to(
    request: CheckoutRequest, opened: OpenedCheckout, transaction_id: str | None, amount: str
) -> RefundRequest:
    return refunding(
        transaction_id=transaction_id or "",
        amount=Money.parse(amount, "ILS"),
        payment=ref_to(request, opened),
        captured=request.amount,
    )


@pytest.mark.parametrize("encoding", ["form", "multipart", "json"])
async def test_a_callback_arrives_is_looked_after_and_acknowledged(
    provider: MeshulamProvider,
    payer: SandboxPayer,
    request_for: RequestFor,
    mailbox: tuple[Mailbox, str],
    encoding: str,
) -> None:
    box, address = mailbox
    request = request_for(callback_url=address)
    opened = await provider.open_checkout(request)
    await payer.control(opened, "pay", encoding=encoding)
    (event,) = await box.events(provider)
    assert (event.kind, event.reference, event.amount) == (EventKind.CAPTURED, request.reference, request.amount)
    assert (event.session_id, event.proof) == (opened.session_id, opened.session_secret)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.captured, seen.transaction_id) == (request.amount, event.transaction_id)
    for _ in range(2):
        await provider.acknowledge(ref_to(request, opened), event.transaction_id or "")
    (process,) = await payer.processes(request.reference)
    assert process["transactions"][0]["_approved"]
    await payer.sandbox(f"events/{event.transaction_id}/resend", times=2)
    assert len({event.event_id for event in await box.events(provider, 3)}) == 1


async def test_a_true_callback_about_less_money_does_not_hide_it(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    """The forger knows the address, the process and its token; the claim says all, Meshulam holds one shekel."""
    box, address = mailbox
    request = request_for(callback_url=address)
    opened = await provider.open_checkout(request)
    await payer.control(opened, "pay", sum="1.00")
    (true,) = await box.events(provider)
    claim = update(processId=opened.session_id, processToken=opened.session_secret, sum=str(request.amount))
    forged = provider.verify_webhook(Callback({}, as_json(claim), datetime.now(UTC), CALLBACK_TOKEN))
    assert (true.amount, forged.amount) == (Money.parse("1", "ILS"), request.amount)
    assert (await provider.look(ref_to(request, opened))).captured == Money.parse("1", "ILS")


async def test_a_forged_callback_for_an_unpaid_process_finds_nothing_paid(
    provider: MeshulamProvider, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    claim = update(processId=opened.session_id, processToken="guessed")
    forged = provider.verify_webhook(Callback({}, as_json(claim), datetime.now(UTC), CALLBACK_TOKEN))
    assert forged.proof != opened.session_secret
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING


async def test_a_declined_card_leaves_no_trace_and_the_next_one_pays(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    assert opened.url is not None
    assert (await payer.http.post(opened.url, data={"card": "4111111111111111"})).status_code == 402
    page = await payer.http.get(opened.url)
    assert "₪129.90" in page.text
    assert "width=device-width" in page.text
    assert str(opened.session_secret) not in page.text
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    await payer.pays(opened)
    assert (await provider.look(ref_to(request, opened))).captured == request.amount
    assert "response=success" in (await payer.http.get(opened.url)).text
    assert await payer.control(opened, "pay") == {"outcome": "closed"}


async def test_a_link_lapses_and_cannot_be_paid(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.control(opened, "expire")
    await payer.tries_to_pay(opened)
    closed = await provider.close_checkout(ref_to(request, opened))
    assert (closed.status, closed.captured) == (PaymentStatus.PENDING, None)


async def test_a_hold_is_no_money_until_it_is_settled(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    request = request_for(callback_url=address)
    opened = await provider.open_checkout(request)
    await payer.control(opened, "suspend")
    (held,) = await box.events(provider)
    assert held.kind is EventKind.PROCESSING
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    with pytest.raises(ProviderRejected):
        await provider.acknowledge(ref_to(request, opened), held.transaction_id or "")
    await payer.control(opened, "settle")
    settled = (await box.events(provider, 2))[1]
    assert settled.event_id != held.event_id
    assert (await provider.look(ref_to(request, opened))).captured == request.amount


async def test_part_of_a_payment_waits_a_day_and_the_whole_does_not(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.control(opened, "pay")
    seen = await provider.look(ref_to(request, opened))
    with pytest.raises(ProviderRejected) as error:
        await provider.refund(refund_to(request, opened, seen.transaction_id, "29.90"))
    assert error.value.code == "same_day_partial_refund"
    await provider.refund(refund_to(request, opened, seen.transaction_id, "129.90"))
    assert (await provider.look(ref_to(request, opened))).refunded == request.amount


async def test_the_same_refund_asked_for_many_times_at_once_moves_money_once(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    refund = refund_to(request, opened, seen.transaction_id, "29.90")
    made = await asyncio.gather(*(provider.refund(refund) for _ in range(8)))
    assert len({one.provider_refund_id for one in made}) == 1
    assert (await provider.look(ref_to(request, opened))).refunded == Money.parse("29.90", "ILS")


async def test_a_refund_by_hand_is_seen_and_stops_ours_where_it_may_be_it(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    await payer.control(opened, "refund", sum="40.00")
    seen = await provider.look(ref_to(request, opened))
    assert seen.refunded == Money.parse("40.00", "ILS")
    ours = refund_to(request, opened, seen.transaction_id, "29.90")
    for call in (provider.refund(ours), provider.look_refund(ours, None)):
        with pytest.raises(OutcomeUndecided):
            await call
    larger = refund_to(request, opened, seen.transaction_id, "50.00")  # so much has not gone back in all
    assert await provider.look_refund(larger, None) is None
    assert (await provider.refund(larger)).status is RefundStatus.SUCCEEDED
    assert (await provider.look(ref_to(request, opened))).refunded == Money.parse("90.00", "ILS")


async def test_bit_has_a_page_of_its_own_and_another_page_does_not_know_its_payments(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for(method="bit")
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.method, seen.captured) == ("bit", request.amount)
    with pytest.raises(ProviderMisconfigured) as error:
        await provider.look(ref_to(request_for(), opened))
    assert error.value.code == "page_code_mismatch"
    refund = refund_to(request, opened, seen.transaction_id, "129.90")
    assert (await provider.refund(refund)).status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("wrong", [{"user_id": "invalid"}, {"page_code": "invalid"}, {"api_key": "invalid"}])
async def test_each_wrong_credential_is_the_operators_business(
    payer: SandboxPayer, request_for: RequestFor, wrong: dict[str, str]
) -> None:
    provider = MeshulamProvider(payer.account(timeout_seconds=5, **wrong))
    with pytest.raises(ProviderMisconfigured):
        await provider.open_checkout(request_for())
    await provider.aclose()


async def test_the_sandbox_takes_forms_only_and_answers_everything_with_200(payer: SandboxPayer) -> None:
    base = "/meshulam/api/light/server/1.0"
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("createPaymentProcess", {"json": {"sum": "1"}}, 707),
        ("createPaymentProcess", {"data": {"pageCode": "p", "userId": "u", "sum": "-1"}}, 707),
        ("createPaymentProcess", {"data": {"pageCode": "p", "userId": "u", "sum": "1"}}, 54),
        ("getPaymentProcessInfo", {"data": {"pageCode": "p"}}, 54),
        ("getTransactionInfo", {"data": {"pageCode": "p", "transactionId": "1", "transactionToken": "x"}}, 716),
        ("approveTransaction", {"files": {"pageCode": (None, "p"), "transactionId": (None, "1")}}, 54),
    ]
    for method, how, error_id in cases:
        answer = await payer.http.post(f"{base}/{method}", **how)
        assert (answer.status_code, answer.json()["err"]["id"]) == (200, error_id)
    assert (await payer.http.post(f"{base}/getTokenOnly")).json() == {"err": "unknown method"}
    assert (await payer.http.get("/meshulam/pay/none")).status_code == 404
