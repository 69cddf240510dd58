"""What only PayPlus has: its envelope, its three forms of a transaction, its hash, and refunds without a key."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
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
    Callback,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    EventKind,
    OpenedCheckout,
    OutcomeUnknown,
    Payer,
    Provider,
    ProviderBusy,
    ProviderError,
    ProviderEvent,
    ProviderMisconfigured,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
    Rejection,
    WebhookRejected,
)
from providers.payplus import WEBHOOK_TOOLS, PayPlusProvider
from providers.payplus.objects import transactions_in
from providers.payplus.payments import payment_of
from providers.payplus.webhooks import check_signature, hash_of, read_event
from providers.payplus.wire import money_of
from providers.reading import read_json
from tests.support.mailbox import Mailbox

ONLY = ("payplus",)
SECRET = "payplus_test_secret"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REFERENCE = UUID("0b6f3f1e-5a57-4a2e-9d3e-0d8a6c3f9f10")
PAGE_UID = "5b1e8b1a-0000-4000-8000-000000000001"
RequestFor = Callable[..., CheckoutRequest]
Answers = Callable[..., PayPlusProvider]

VECTOR_BODY = b'{"transaction":{"uid":"t-1","status_code":"000","amount":10.5}}'
VECTOR_HASH = "ZAb20sKirtldk6akrtjdOtTjIe7SD+tyCgOBfLgP+rQ="


# ---- callbacks --------------------------------------------------------------------------------------------------


def callback_body(**changes: Any) -> dict[str, Any]:
    transaction = {
        "uid": "t-77",
        "payment_request_uid": PAGE_UID,
        "number": "1",
        "status_code": "000",
        "amount": 129.9,
        "currency": "ILS",
        "more_info": str(REFERENCE),
    }
    body: dict[str, Any] = {"transaction_type": "Charge", "transaction": transaction, "data": {"terminal_uid": "t-1"}}
    body["transaction"] |= changes.pop("transaction", {})
    return body | changes


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def signed(body: bytes, secret: str = SECRET, **headers: str) -> Callback:
    return Callback({"hash": hash_of(body, secret), "user-agent": "PayPlus"} | headers, body, NOW)


def an_account(options: dict[str, object] | None = None, **credentials: str) -> AccountConfig:
    own = {"api_key": "key", "secret_key": SECRET, "payment_page_uid": "page-1234"}
    return AccountConfig(uuid4(), own | credentials, options or {})


def rejected(provider: Provider, callback: Callback) -> Rejection:
    with pytest.raises(WebhookRejected) as refused:
        provider.verify_webhook(callback)
    assert SECRET not in str(refused.value)
    return refused.value.reason


def test_the_vector_of_the_provider_page() -> None:
    assert hash_of(VECTOR_BODY, SECRET) == VECTOR_HASH
    by_hand = base64.b64encode(hmac.new(SECRET.encode(), VECTOR_BODY, hashlib.sha256).digest()).decode()
    assert by_hand == VECTOR_HASH
    event = PayPlusProvider(an_account()).verify_webhook(Callback({"hash": VECTOR_HASH}, VECTOR_BODY, NOW))
    assert (event.event_id, event.transaction_id, event.kind) == ("t-1:other:000", "t-1", EventKind.OTHER)


def test_a_charge_is_claimed_with_our_reference_and_its_exact_amount() -> None:
    event = PayPlusProvider(an_account()).verify_webhook(signed(compact(callback_body())))
    assert event == ProviderEvent(
        event_id="t-77:charge:000",
        type="charge.000",
        kind=EventKind.CAPTURED,
        reference=REFERENCE,
        session_id=PAGE_UID,
        transaction_id="t-77",
        amount=Money.parse("129.90", "ILS"),
    )


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("Charge", "000", EventKind.CAPTURED),
        ("Charge", "004", EventKind.ATTEMPT_FAILED),
        ("Approval", "000", EventKind.PROCESSING),
        ("Approval", "006", EventKind.ATTEMPT_FAILED),
        ("Refund", "000", EventKind.REFUND),
        ("Check", "000", EventKind.SETUP),
        ("Token", "004", EventKind.SETUP),
        ("Something new", "000", EventKind.OTHER),
    ],
)
def test_what_a_callback_claims(kind: str, code: str, expected: EventKind) -> None:
    body = compact(callback_body(transaction_type=kind, transaction={"status_code": code}))
    event = PayPlusProvider(an_account()).verify_webhook(signed(body))
    assert event.kind is expected
    assert event.reference == (None if kind == "Refund" else REFERENCE)


def test_the_type_inside_the_transaction_and_the_other_name_of_the_page_are_read_too() -> None:
    body = callback_body()
    del body["transaction_type"]
    body["transaction"] |= {
        "type": "Charge",
        "payment_page_request_uid": body["transaction"].pop("payment_request_uid"),
    }
    event = PayPlusProvider(an_account()).verify_webhook(signed(compact(body)))
    assert (event.kind, event.session_id) == (EventKind.CAPTURED, PAGE_UID)


def test_a_replay_is_the_same_event_and_a_later_state_another() -> None:
    provider = PayPlusProvider(an_account())
    first = provider.verify_webhook(signed(compact(callback_body())))
    again = provider.verify_webhook(signed(compact(callback_body())))
    declined = provider.verify_webhook(signed(compact(callback_body(transaction={"status_code": "004"}))))
    refund = provider.verify_webhook(signed(compact(callback_body(transaction_type="Refund"))))
    assert first.event_id == again.event_id
    assert len({first.event_id, declined.event_id, refund.event_id}) == 3


def test_forged_unsigned_and_changed_callbacks_are_bad_signatures() -> None:
    provider, body = PayPlusProvider(an_account()), compact(callback_body())
    good = hash_of(body, SECRET)
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256)
    for headers in (
        {},
        {"user-agent": "PayPlus"},
        {"hash": ""},
        {"hash": "   "},
        {"hash": good[:-1]},
        {"hash": good.lower()},
        {"hash": digest.hexdigest()},
        {"hash": hash_of(body, "another merchant's secret")},
        {"hash": "\u05d0" * 44},
        {"hash": "\ud800"},
        {"hash": "A" * 10_000},
        {"x-payplus-signature": good},
    ):
        assert rejected(provider, Callback(headers, body, NOW)) is Rejection.BAD_SIGNATURE
    reordered = compact(dict(reversed(callback_body().items())))
    for changed in (reordered, body[:-1], body + b"x", body.replace(b"129.9", b"1.9"), b""):
        assert rejected(provider, Callback({"hash": good}, changed, NOW)) is Rejection.BAD_SIGNATURE


def test_the_raw_bytes_are_signed_whatever_their_layout() -> None:
    provider = PayPlusProvider(an_account())
    spread = json.dumps(callback_body(data={"customer_name": "דנה"}), indent=2, ensure_ascii=False).encode()
    assert provider.verify_webhook(signed(spread)).kind is EventKind.CAPTURED


def test_while_the_secret_is_changed_the_previous_one_still_fits() -> None:
    provider = PayPlusProvider(an_account(secret_key="new-secret", previous_secret_key=SECRET))
    body = compact(callback_body())
    assert provider.verify_webhook(signed(body)).event_id
    assert provider.verify_webhook(signed(body, "new-secret")).event_id
    assert rejected(provider, signed(body, "third")) is Rejection.BAD_SIGNATURE


def test_another_terminal_of_the_same_key_is_refused() -> None:
    body = compact(callback_body())
    assert PayPlusProvider(an_account({"terminal_uid": "t-1"})).verify_webhook(signed(body)).event_id
    other = PayPlusProvider(an_account({"terminal_uid": "t-2"}))
    assert rejected(other, signed(body)) is Rejection.BAD_SIGNATURE
    assert rejected(other, signed(compact(callback_body(data={})))) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"transaction":[]}',
        b'{"transaction":{"uid":"t-1"}}',
        b'{"transaction":{"uid":7,"status_code":"000"}}',
        b'{"transaction":{"uid":"t 1","status_code":"000"}}',
        b'{"transaction":{"uid":"t-1","uid":"t-2","status_code":"000"}}',
        b'{"transaction":{"uid":"t-1","status_code":"000","amount":NaN}}',
        b'{"transaction":{"uid":"t-1","status_code":"000","amount":1e99999999999999999999}}',
        b'{"transaction":{"uid":"t-1","status_code":"000","amount":' + b"9" * 5000 + b"}}",
        b'{"transaction":{"uid":"t-1","status_code":{"a":1}}}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_signed_body_that_is_no_callback_is_malformed(body: bytes) -> None:
    assert rejected(PayPlusProvider(an_account()), signed(body)) is Rejection.MALFORMED


@pytest.mark.parametrize("amount", [10.555, "ten", None, True, [], 1e40, -0.001, "1,000.00", "١٢"])
def test_an_amount_that_cannot_be_read_leaves_the_event_a_trigger_without_a_claim(amount: object) -> None:
    body = compact(callback_body(transaction={"amount": amount}))
    event = PayPlusProvider(an_account()).verify_webhook(signed(body))
    assert (event.kind, event.amount) == (EventKind.CAPTURED, None)


def test_a_reference_that_is_not_ours_is_none() -> None:
    for text in ("order-1001", "{" + str(REFERENCE) + "}", "urn:uuid:" + str(REFERENCE), "", None, 7):
        body = compact(callback_body(transaction={"more_info": text}))
        assert PayPlusProvider(an_account()).verify_webhook(signed(body)).reference is None


def test_the_tools_sign_check_and_explain() -> None:
    headers = WEBHOOK_TOOLS.sign_webhook(SECRET, VECTOR_BODY, 0)
    assert headers == {"hash": VECTOR_HASH}
    assert WEBHOOK_TOOLS.request_signers == {}
    assert WEBHOOK_TOOLS.explain_signature(headers, VECTOR_BODY, SECRET, NOW).valid
    bad = WEBHOOK_TOOLS.explain_signature({}, VECTOR_BODY + SECRET.encode(), SECRET, NOW)
    assert (bad.valid, "no hash header" in bad.why) == (False, True)
    assert SECRET not in bad.signed_string_masked
    assert not WEBHOOK_TOOLS.explain_signature({"hash": "x"}, b"\xff", SECRET, NOW).valid


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
FIELDS = """
transaction data uid transaction_uid status status_code amount currency more_info type transaction_type
related_transactions page_request_uid card_information four_digits terminal_uid method
"""
names = st.sampled_from(FIELDS.split())
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner), max_leaves=25
)
plausible = st.fixed_dictionaries(
    {
        "uid": st.sampled_from(["t-1", "t-2", ""]),
        "type": st.sampled_from(["Charge", "Refund", "Approval", 7]),
        "status": st.sampled_from(["approved", "rejected", None, 1]),
        "status_code": st.sampled_from(["000", "004", 0, None, []]),
        "amount": st.sampled_from([Decimal("10.5"), 10, "10.50", -10, None, Decimal("1e30"), True]),
        "currency": st.sampled_from(["ILS", "usd", "GPB", "XXX", 376]),
        "more_info": st.sampled_from([str(REFERENCE), str(uuid4()), "other", None]),
        "page_request_uid": st.sampled_from([PAGE_UID, "another", None]),
    }
)


@given(st.binary(max_size=200) | documents.map(compact))
def test_arbitrary_bodies_are_events_or_rejected(body: bytes) -> None:
    try:
        event = read_event(body, terminal_uid=None)
    except WebhookRejected:
        return
    assert event.event_id


@given(st.text(max_size=80), st.binary(max_size=80))
def test_arbitrary_headers_never_fit(header: str, body: bytes) -> None:
    with pytest.raises(WebhookRejected):
        check_signature(header, body, (SECRET,))


@given(st.binary(max_size=200), st.text(min_size=1, max_size=40).filter(lambda text: text.isascii()))
def test_what_is_signed_verifies_and_one_changed_bit_does_not(body: bytes, secret: str) -> None:
    check_signature(hash_of(body, secret), body, (secret,))
    if body:
        with pytest.raises(WebhookRejected):
            check_signature(hash_of(body, secret), bytes([body[0] ^ 1]) + body[1:], (secret,))


@given(documents | st.lists(plausible, max_size=4), st.sampled_from([None, PAGE_UID]))
def test_arbitrary_answers_are_a_payment_or_nothing_or_a_typed_error(data: Any, session_id: str | None) -> None:
    try:
        seen = payment_of(transactions_in(read_json(compact_exactly(data))), REFERENCE, session_id)
    except ProviderError:
        return
    assert seen is None or (seen.captured is not None) is (seen.status is PaymentStatus.PAID)


def compact_exactly(value: Any) -> bytes:
    return json.dumps(value, default=float, ensure_ascii=False).encode("utf-8", "replace")


@given(st.integers(min_value=-(10**14), max_value=10**14), st.sampled_from(["ILS", "USD", "EUR", "GBP"]))
def test_every_amount_comes_back_from_the_wire_exactly(minor: int, currency: str) -> None:
    amount = Money(minor, currency)
    assert money_of(read_json(f"[{amount}]".encode())[0], currency) == amount
    assert money_of(str(amount), currency) == amount


@pytest.mark.parametrize(
    ("wire", "currency", "exact"),
    [
        ("129.90", "ILS", "129.90"),
        ("129.9", "ILS", "129.90"),
        ("129.9000", "ILS", "129.90"),
        ("130", "ils", "130.00"),
        ("1.3e2", "USD", "130.00"),
        ('"10.5"', "EUR", "10.50"),
        ("10", "GPB", "10.00"),
        ("0.0", "ILS", "0.00"),
    ],
)
def test_amounts_in_their_spellings(wire: str, currency: str, exact: str) -> None:
    assert str(money_of(read_json(f"[{wire}]".encode())[0], currency)) == exact


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        (Decimal("10.555"), "ILS"),
        (Decimal("10.00000000000000000000000000001"), "ILS"),
        (Decimal("1e400"), "ILS"),
        (Decimal("1e-400"), "ILS"),
        (10**15, "ILS"),
        (True, "ILS"),
        ("1e3", "ILS"),
        (10.5, "ILS"),
        (10, "NIS"),
        (10, None),
        (Decimal("NaN"), "ILS"),
    ],
)
def test_amounts_that_are_none(amount: object, currency: object) -> None:
    with pytest.raises(MoneyError):
        money_of(amount, currency)


# ---- calls, answered by a function ------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def answered() -> AsyncIterator[Answers]:
    """Build an adapter whose every request is answered by a function, without any network."""
    built: list[PayPlusProvider] = []

    def build(
        answer: Callable[[httpx.Request], httpx.Response], options: dict[str, object] | None = None, **credentials: str
    ) -> PayPlusProvider:
        transport = httpx.MockTransport(answer)
        built.append(PayPlusProvider(an_account(options, **credentials), transport=transport, clock=lambda: NOW))
        return built[-1]

    yield build
    for provider in built:
        await provider.aclose()


def says(data: Any = None) -> httpx.Response:
    envelope = {"status": "success", "code": 0, "description": "operation has been success"}
    return httpx.Response(200, json={"results": envelope, "data": data})


def no(description: str, status: int = 200) -> httpx.Response:
    envelope = {"status": "error", "code": 1, "description": description}
    return httpx.Response(status, json={"results": envelope, "data": {}})


def a_request(**changes: Any) -> CheckoutRequest:
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "workspace_id": UUID(int=7),
        "order_id": "order-1001",
        "amount": Money.parse("129.90", "ILS"),
        "description": "הזמנה 1001",
        "mode": CheckoutMode.HOSTED,
        "created_at": NOW,
        "expires_at": NOW + timedelta(minutes=20, seconds=1),
        "callback_url": "https://pay.example/cb",
    }
    return CheckoutRequest(**(values | changes))


def a_ref(session_id: str | None = PAGE_UID) -> CheckoutRef:
    return CheckoutRef(REFERENCE, session_id, CheckoutMode.HOSTED, NOW)


def a_refund(amount: str = "29.90", **changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "refund_id": uuid4(),
        "transaction_id": "t-1",
        "amount": Money.parse(amount, "ILS"),
        "payment": a_ref(),
        "captured": Money.parse("129.90", "ILS"),
        "refunded_before": Money.zero("ILS"),
    }
    return RefundRequest(**(values | changes))


def charge(**changes: Any) -> dict[str, Any]:
    flat = {
        "transaction_uid": "t-1",
        "page_request_uid": PAGE_UID,
        "type": "Charge",
        "method": "credit-card",
        "status": "approved",
        "status_code": "000",
        "amount": 129.9,
        "currency": "ILS",
        "four_digits": "9844",
        "brand_name": "mastercard",
        "more_info": str(REFERENCE),
    }
    return flat | changes


def refund_line(amount: float, more_info: object = None, uid: str = "r-1", **changes: Any) -> dict[str, Any]:
    return charge(transaction_uid=uid, type="Refund", amount=amount, more_info=more_info, **changes)


LINK = {"page_request_uid": PAGE_UID, "payment_page_link": f"https://payments.payplus.co.il/{PAGE_UID}"}


async def sent_by(answered: Answers, request: CheckoutRequest, options: dict[str, object] | None = None) -> Any:
    seen: list[httpx.Request] = []

    def answer(http: httpx.Request) -> httpx.Response:
        seen.append(http)
        return says(LINK)

    opened = await answered(answer, options).open_checkout(request)
    assert opened == OpenedCheckout(PAGE_UID, LINK["payment_page_link"])
    assert [http.url.path for http in seen] == ["/api/v1.0/PaymentPages/generateLink"]
    return seen[0]


async def test_a_page_is_asked_for_in_major_units_with_our_reference(answered: Answers) -> None:
    http = await sent_by(answered, a_request(vat=Money.parse("19.82", "ILS")))
    assert b'"amount":129.90,' in http.content
    assert "הזמנה".encode() in http.content
    assert http.headers["content-type"] == "application/json"
    assert (http.headers["api-key"], http.headers["secret-key"]) == ("key", SECRET)
    assert "authorization" not in http.headers
    assert read_json(http.content) == {
        "payment_page_uid": "page-1234",
        "charge_method": 1,
        "amount": Decimal("129.90"),
        "currency_code": "ILS",
        "sendEmailApproval": False,
        "sendEmailFailure": False,
        "send_failure_callback": True,
        "expiry_datetime": "21",
        "more_info": str(REFERENCE),
        "more_info_1": "order-1001",
        "unique_request_id": str(REFERENCE),
        "items": [{"name": "הזמנה 1001", "quantity": 1, "price": Decimal("129.90"), "vat_type": 0}],
        "refURL_callback": "https://pay.example/cb",
        "language_code": "en",
    }


async def test_a_page_for_a_known_payer_with_one_method_and_every_option(answered: Answers) -> None:
    request = a_request(
        amount=Money.parse("5", "GBP"),
        payer=Payer("c", "Dana Levi", "dana@example.com", "054-123-4567", document="12344"),
        method="bit",
        language="he-IL",
        success_url="https://shop.example/ok",
        cancel_url="https://shop.example/no",
    )
    options = {
        "environment": "staging",
        "auth_form": "authorization",
        "gbp_code": "GPB",
        "send_email_approval": True,
        "initial_invoice": False,
    }
    http = await sent_by(answered, request, options)
    assert http.url.host == "restapidev.payplus.co.il"
    assert json.loads(http.headers["authorization"]) == {"api_key": "key", "secret_key": SECRET}
    assert "secret-key" not in http.headers
    body = read_json(http.content)
    assert body["customer"] == {
        "customer_name": "Dana Levi",
        "email": "dana@example.com",
        "phone": "972541234567",
        "vat_number": "000012344",
    }
    assert (body["allowed_charge_methods"], body["charge_default"]) == (["bit"], "bit")
    assert body["hide_other_charge_methods"] is True
    assert (body["currency_code"], body["language_code"], body["initial_invoice"]) == ("GPB", "he", False)
    assert body["sendEmailApproval"] is True
    assert body["refURL_success"] == "https://shop.example/ok"
    assert body["refURL_failure"] == body["refURL_cancel"] == "https://shop.example/no"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": Money.parse("100", "JPY")}, "currency_not_supported"),
        ({"amount": Money.zero("ILS")}, "amount_not_positive"),
        ({"mode": CheckoutMode.DIRECT}, "mode_not_supported"),
        ({"method": "cash"}, "method_not_supported"),
        ({"expires_at": NOW}, "checkout_window_passed"),
    ],
)
async def test_what_payplus_does_not_take_is_not_even_sent(
    answered: Answers, changes: dict[str, Any], code: str
) -> None:
    def nothing(_: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")

    with pytest.raises(ProviderRejected) as refused:
        await answered(nothing).open_checkout(a_request(**changes))
    assert refused.value.code == code


async def test_a_late_repeat_finds_the_payment_instead_of_a_second_page(answered: Answers) -> None:
    paths: list[str] = []

    def answer(http: httpx.Request) -> httpx.Response:
        paths.append(http.url.path.rsplit("/", 1)[-1])
        return says(charge()) if paths[-1] == "ipn" else says(LINK)

    old = a_request(created_at=NOW - timedelta(minutes=5))
    assert await answered(answer).open_checkout(old) == OpenedCheckout(PAGE_UID, None)
    assert paths == ["ipn"]
    for unpaid in (no("can-not-find-transaction"), no("whatever it says"), says(charge(status_code="004"))):
        assert (
            await answered(lambda http, one=unpaid: one if "ipn" in str(http.url) else says(LINK)).open_checkout(old)
        ).session_id == PAGE_UID


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (no("payment-page-uid-not-found"), ProviderMisconfigured, "payment-page-uid-not-found"),
        (no("not-authorize"), ProviderMisconfigured, "not-authorize"),
        (no("wrong api key"), ProviderMisconfigured, "error_1"),
        (no("too-many-requests"), ProviderBusy, "rate_limit"),
        (no("internal-server-error"), OutcomeUnknown, "internal-server-error"),
        (no("currency-is-not-valid"), ProviderRejected, "currency-is-not-valid"),
        (no("currency-is-not-valid", 422), ProviderRejected, "currency-is-not-valid"),
        (no("customer Dana Levi 0541234567 is blocked"), ProviderRejected, "error_1"),
        (no("", 400), ProviderRejected, "error_1"),
        (httpx.Response(400, text="<html>"), ProviderRejected, "http_400"),
        (httpx.Response(404, json={"results": {"status": "success"}}), ProviderRejected, "http_404"),
        (httpx.Response(403), ProviderMisconfigured, "unknown_endpoint"),
        (httpx.Response(403, json={"results": {"status": "error"}}), ProviderMisconfigured, "http_403"),
        (httpx.Response(401), ProviderMisconfigured, "http_401"),
        (httpx.Response(429, headers={"retry-after": "3"}), ProviderBusy, "rate_limit"),
        (httpx.Response(502), OutcomeUnknown, "http_502"),
        (httpx.Response(302, headers={"location": "https://evil.example"}), ProviderRejected, "http_302"),
        (httpx.Response(200), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, text="<html>"), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, json={"data": LINK}), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, json={"results": "success", "data": LINK}), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, json=[LINK]), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, content=b'{"a":1e99999999999999999999}'), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, content=b'{"a":1,"a":2}'), OutcomeUnknown, "unreadable_answer"),
        (httpx.Response(200, content=b" " * 5_000_001), OutcomeUnknown, "unreadable_answer"),
        (says({}), OutcomeUnknown, "unreadable_answer"),
        (says(LINK | {"page_request_uid": "a/../b"}), OutcomeUnknown, "unreadable_answer"),
        (says(LINK | {"payment_page_link": "javascript:alert(1)"}), OutcomeUnknown, "unreadable_answer"),
        (says(LINK | {"payment_page_link": "https://[broken"}), OutcomeUnknown, "unreadable_answer"),
        (says(LINK | {"payment_page_link": 7}), OutcomeUnknown, "unreadable_answer"),
    ],
)
async def test_every_refusal_says_what_is_known(
    answered: Answers, answer: httpx.Response, error: type[ProviderError], code: str
) -> None:
    with pytest.raises(error) as refused:
        await answered(lambda _: answer).open_checkout(a_request())
    assert type(refused.value) is error
    assert refused.value.code == code
    assert "Dana" not in str(refused.value)
    assert SECRET not in str(refused.value)


FORMS: dict[str, Callable[[dict[str, Any], list[dict[str, Any]]], Any]] = {
    "flat": lambda one, related: one | {"related_transactions": related},
    "nested": lambda one, related: {"transaction": one, "data": {"a": 1}, "related_transactions": related},
    "inner": lambda one, related: {"transaction": one | {"related_transactions": related}, "data": {}},
    "list": lambda one, related: [one | {"related_transactions": related}],
    "list of nested": lambda one, related: [{"transaction": part, "data": {}} for part in [one, *related]],
    "data in data": lambda one, related: {"data": [one, *related]},
    "transactions": lambda one, related: {"transactions": [one, *related]},
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_charge_and_its_refunds_are_read_in_every_form(answered: Answers, form: str) -> None:
    related = [
        refund_line(10, str(uuid4())),
        refund_line(-5.5, None, "r-2"),
        charge(),
        refund_line(1, None, "r-3", status_code="004"),
    ]
    seen = await answered(lambda _: says(FORMS[form](charge(), related))).look(a_ref())
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, Money.parse("129.90", "ILS"))
    assert seen.refunded == Money.parse("15.50", "ILS")
    assert (seen.session_id, seen.transaction_id) == (PAGE_UID, "t-1")
    assert (seen.method, seen.card_brand, seen.card_last4) == ("credit-card", "mastercard", "9844")


async def test_card_details_beside_the_transaction_are_read(answered: Answers) -> None:
    inner = {name: value for name, value in charge().items() if name not in ("four_digits", "brand_name")}
    data = {"transaction": inner, "data": {"card_information": {"four_digits": 42, "brand_name": "x" * 99}}}
    seen = await answered(lambda _: says(data)).look(a_ref())
    assert (seen.card_last4, seen.card_brand) == (None, None)
    data["data"]["card_information"] |= {"four_digits": 4242}
    assert (await answered(lambda _: says(data)).look(a_ref())).card_last4 == "4242"


@pytest.mark.parametrize(
    ("changes", "status", "failure"),
    [
        ({"status_code": "004", "status": "rejected"}, PaymentStatus.PENDING, "004"),
        ({"status_code": 4, "status": "rejected"}, PaymentStatus.PENDING, "004"),
        ({"status_code": "000", "status": "rejected"}, PaymentStatus.PENDING, "rejected"),
        ({"status_code": "033", "status": "approved"}, PaymentStatus.PENDING, "033"),
        ({"status_code": None}, PaymentStatus.PENDING, "declined"),
        ({"type": "Approval"}, PaymentStatus.PENDING, None),
        ({"type": "Check"}, PaymentStatus.PENDING, "approved"),
        ({"type": None}, PaymentStatus.PENDING, "approved"),
        ({"transaction_is_cancelled": True}, PaymentStatus.CANCELED, "transaction_cancelled"),
    ],
)
async def test_nothing_but_an_approved_charge_is_money(
    answered: Answers, changes: dict[str, Any], status: PaymentStatus, failure: str | None
) -> None:
    seen = await answered(lambda _: says(charge(**changes))).look(a_ref())
    assert (seen.status, seen.captured, seen.failure_code) == (status, None, failure)


async def test_charges_of_one_page_that_are_no_parts_of_a_total_are_added_up(answered: Answers) -> None:
    data = charge(amount=100) | {"related_transactions": [charge(transaction_uid="t-2", amount=29.9)]}
    assert (await answered(lambda _: says(data)).look(a_ref())).captured == Money.parse("129.90", "ILS")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (charge(amount=10.555), "unreadable_amount"),
        (charge(amount=None), "unreadable_amount"),
        (charge(currency="NIS"), "unreadable_amount"),
        (charge(status=None), "unreadable_answer"),
        (charge(page_request_uid="another"), "foreign_transaction"),
        (charge(more_info=str(uuid4())), "foreign_transaction"),
        (charge(related_transactions=[charge(transaction_uid="t-2", currency="USD")]), "mixed_currencies"),
        (charge(related_transactions=[refund_line(1, currency="USD")]), "mixed_currencies"),
        (charge(related_transactions=[refund_line(1, currency="NIS")]), "unreadable_amount"),
        ([charge(transaction_uid=f"t-{number}") for number in range(501)], "unreadable_answer"),
    ],
)
async def test_an_answer_that_cannot_be_true_concludes_nothing(answered: Answers, data: Any, code: str) -> None:
    with pytest.raises(OutcomeUnknown) as unsure:
        await answered(lambda _: says(data)).look(a_ref())
    assert unsure.value.code == code


async def test_a_changed_amount_or_currency_is_reported_as_it_is(answered: Answers) -> None:
    seen = await answered(lambda _: says(charge(amount=1, currency="USD"))).look(a_ref())
    assert seen.captured == Money.parse("1.00", "USD")


@pytest.mark.parametrize(
    ("answer", "session_id", "status"),
    [
        (no("can-not-find-transaction"), PAGE_UID, PaymentStatus.PENDING),
        (no("can-not-find-transaction", 400), PAGE_UID, PaymentStatus.PENDING),
        (no("can-not-find-payment_request_uid"), PAGE_UID, PaymentStatus.UNKNOWN),
        (no("can-not-find-transaction"), None, PaymentStatus.UNKNOWN),
        (no("missing-transaction_uid-or-payment_request_uid"), None, PaymentStatus.UNKNOWN),
        (says({}), PAGE_UID, PaymentStatus.PENDING),
        (says(None), PAGE_UID, PaymentStatus.PENDING),
        (says([]), None, PaymentStatus.UNKNOWN),
        (says(charge(more_info="order")), None, PaymentStatus.UNKNOWN),
        (no("ein transaktzia"), PAGE_UID, PaymentStatus.PENDING),
    ],
)
async def test_unpaid_is_pending_for_a_page_of_ours_and_unknown_without_one(
    answered: Answers, answer: httpx.Response, session_id: str | None, status: PaymentStatus
) -> None:
    provider = answered(lambda _: answer, {"not_found_descriptions": ["ein transaktzia"]})
    seen = await provider.look(a_ref(session_id))
    assert (seen.status, seen.captured) == (status, None)


async def test_a_refusal_that_is_not_understood_never_looks_like_unpaid(answered: Answers) -> None:
    with pytest.raises(OutcomeUnknown):
        await answered(lambda _: no("something-else")).look(a_ref())
    with pytest.raises(ProviderMisconfigured):
        await answered(lambda _: no("api-key-not-found")).look(a_ref())


@pytest.mark.parametrize(
    ("disable", "ipn", "status"),
    [
        (says({}), no("can-not-find-transaction"), PaymentStatus.CANCELED),
        (says({}), says(charge(status_code="004", status="rejected")), PaymentStatus.CANCELED),
        (says({}), says(charge()), PaymentStatus.PAID),
        (says({}), says(charge(type="Approval")), PaymentStatus.PENDING),
        (no("payment-request-already-disabled", 400), no("can-not-find-transaction"), PaymentStatus.CANCELED),
        (no("is closed now"), no("can-not-find-transaction"), PaymentStatus.CANCELED),
        (no("not-possible"), no("can-not-find-transaction"), PaymentStatus.PENDING),
        (no("not-possible"), says(charge()), PaymentStatus.PAID),
        (httpx.Response(404), no("can-not-find-transaction"), PaymentStatus.PENDING),
        (no("can-not-find-payment_request_uid"), no("can-not-find-payment_request_uid"), PaymentStatus.UNKNOWN),
    ],
)
async def test_closing_says_what_is_true_afterwards(
    answered: Answers, disable: httpx.Response, ipn: httpx.Response, status: PaymentStatus
) -> None:
    paths: list[str] = []

    def answer(http: httpx.Request) -> httpx.Response:
        paths.append(http.url.path)
        return disable if "Disable" in http.url.path else ipn

    provider = answered(answer, {"closed_descriptions": ["is closed"]})
    assert (await provider.close_checkout(a_ref())).status is status
    assert paths == [f"/api/v1.0/PaymentPages/Disable/{PAGE_UID}", "/api/v1.0/PaymentPages/ipn"]


async def test_closing_without_a_page_only_looks_and_a_wrong_key_is_said(answered: Answers) -> None:
    provider = answered(lambda _: no("can-not-find-transaction"))
    assert (await provider.close_checkout(a_ref(None))).status is PaymentStatus.UNKNOWN
    with pytest.raises(ProviderMisconfigured):
        await answered(lambda _: no("not-authorize")).close_checkout(a_ref())


# ---- refunds ----------------------------------------------------------------------------------------------------


class Books:
    """A charge of 129.90 with refunds, and how many refunds were asked for."""

    def __init__(self, related: list[dict[str, Any]], viewed: list[dict[str, Any]] | None = None) -> None:
        self.related, self.viewed, self.asked = related, viewed or [], 0
        self.made: httpx.Response = says({"transaction": {"uid": "r-9", "status_code": "000", "amount": 29.9}})

    def __call__(self, http: httpx.Request) -> httpx.Response:
        if http.url.path.endswith("/ipn"):
            assert json.loads(http.content) == {"transaction_uid": "t-1", "related_transaction": True}
            return says(charge(related_transactions=self.related))
        if http.url.path.endswith("/View"):
            return (
                says([{"transaction": one, "data": {}} for one in self.viewed])
                if self.viewed
                else no("can-not-find-transaction")
            )
        self.asked += 1
        self.body = http.content
        return self.made


async def test_a_first_refund_is_asked_for_with_our_id(answered: Answers) -> None:
    books, refund = Books([]), a_refund()
    assert await answered(books).refund(refund) == ProviderRefund("r-9", RefundStatus.SUCCEEDED)
    assert b'"amount":29.90' in books.body
    line = f"Refund {refund.refund_id}"
    assert json.loads(books.body) == {"transaction_uid": "t-1", "amount": 29.9, "more_info": line}


@pytest.mark.parametrize("seen_in", ["related", "viewed"])
@pytest.mark.parametrize("written", ["{}", "Refund {}", "Refund {}: one session less"])
async def test_an_earlier_try_is_found_by_our_id(answered: Answers, seen_in: str, written: str) -> None:
    refund = a_refund()
    line = refund_line(29.9, written.format(refund.refund_id)) | {"transaction_type": "Refund"}
    books = Books([line]) if seen_in == "related" else Books([], [line])
    assert await answered(books).refund(refund) == ProviderRefund("r-1", RefundStatus.SUCCEEDED)
    assert await answered(books).look_refund(refund, None) == ProviderRefund("r-1", RefundStatus.SUCCEEDED)
    assert books.asked == 0


@pytest.mark.parametrize("echoed", [None, "", str(REFERENCE), "text"])
async def test_an_earlier_try_whose_id_is_not_shown_is_found_by_the_sum(answered: Answers, echoed: object) -> None:
    before = refund_line(10, str(uuid4()), "r-0")
    books = Books([refund_line(29.9, echoed), before])
    refund = a_refund(refunded_before=Money.parse("10", "ILS"))
    assert (await answered(books).refund(refund)).provider_refund_id == "r-1"
    assert books.asked == 0


async def test_other_refunds_are_not_taken_for_ours(answered: Answers) -> None:
    other = refund_line(29.9, str(uuid4()), "r-0")
    books = Books([other])
    assert await answered(books).look_refund(a_refund(), None) is None
    assert (await answered(books).refund(a_refund())).provider_refund_id == "r-9"  # equal partial refunds are lawful
    again = Books([refund_line(29.9, None, "r-0")])
    refund = a_refund(refunded_before=Money.parse("29.90", "ILS"))
    assert (await answered(again).refund(refund)).provider_refund_id == "r-9"
    assert (books.asked, again.asked) == (1, 1)


async def test_a_known_refund_is_found_by_its_own_id_where_it_is_shown(answered: Answers) -> None:
    books = Books([refund_line(29.9, str(uuid4()), "r-5", status_code="004")])
    found = await answered(books).look_refund(a_refund(), "r-5")
    assert found == ProviderRefund("r-5", RefundStatus.FAILED, "004")


async def test_a_refund_that_succeeded_counts_before_one_that_failed(answered: Answers) -> None:
    refund = a_refund()
    own = str(refund.refund_id)
    books = Books([refund_line(29.9, own, "r-1", status_code="004"), refund_line(29.9, own, "r-2")])
    assert await answered(books).look_refund(refund, None) == ProviderRefund("r-2", RefundStatus.SUCCEEDED)


@pytest.mark.parametrize(
    ("refund", "code"),
    [
        (a_refund("129.91"), "refund_exceeds_charge"),
        (a_refund("0"), "amount_not_positive"),
        (
            RefundRequest(uuid4(), "t-1", Money.parse("1", "USD"), a_ref(), Money.parse("1", "USD"), Money.zero("USD")),
            "currency_differs",
        ),
    ],
)
async def test_a_refund_that_cannot_be_is_not_sent(answered: Answers, refund: RefundRequest, code: str) -> None:
    books = Books([])
    with pytest.raises(ProviderRejected) as refused:
        await answered(books).refund(refund)
    assert (refused.value.code, books.asked) == (code, 0)


async def test_a_charge_that_the_query_does_not_show_is_left_to_payplus_to_judge(answered: Answers) -> None:
    paths: list[str] = []

    def answer(http: httpx.Request) -> httpx.Response:
        paths.append(http.url.path.rsplit("/", 1)[-1])
        refused = "refund-amount-is-greater-than-transaction-amount"
        return no(refused if paths[-1] == "RefundByTransactionUID" else "can-not-find-transaction")

    with pytest.raises(ProviderRejected, match="refund-amount-is-greater"):
        await answered(answer).refund(a_refund("500"))
    assert paths == ["ipn", "View", "RefundByTransactionUID"]


async def test_a_look_up_that_fails_stops_the_refund(answered: Answers) -> None:
    paths: list[str] = []

    def answer(http: httpx.Request) -> httpx.Response:
        paths.append(http.url.path.rsplit("/", 1)[-1])
        return httpx.Response(502) if paths[-1] == "View" else says(charge())

    with pytest.raises(OutcomeUnknown, match="http_502"):
        await answered(answer).refund(a_refund())
    assert paths == ["ipn", "View"]


async def test_two_refunds_of_sixty_on_a_hundred_do_not_both_succeed(answered: Answers) -> None:
    books = Books([refund_line(80, str(uuid4()))])
    with pytest.raises(ProviderRejected, match="refund_exceeds_charge"):
        await answered(books).refund(a_refund("60", refunded_before=Money.parse("80", "ILS")))
    assert books.asked == 0


@pytest.mark.parametrize(
    ("made", "outcome"),
    [
        (
            says({"transaction": {"uid": "r-9", "status_code": "036"}}),
            ProviderRefund("r-9", RefundStatus.FAILED, "036"),
        ),
        (says({"transaction": {"uid": "r-9", "status_code": "000"}}), ProviderRefund("r-9", RefundStatus.SUCCEEDED)),
        (says({"transaction": {"uid": "r-9", "status_code": "000", "amount": 1}}), "refund_amount_differs"),
        (says({"transaction": {"uid": "r-9"}}), "unreadable_answer"),
        (says({"transaction": {"status_code": "000"}}), "unreadable_answer"),
        (says([]), "unreadable_answer"),
    ],
)
async def test_what_the_answer_to_a_refund_means(answered: Answers, made: httpx.Response, outcome: object) -> None:
    books = Books([])
    books.made = made
    if isinstance(outcome, ProviderRefund):
        assert await answered(books).refund(a_refund()) == outcome
        return
    with pytest.raises(OutcomeUnknown) as unsure:
        await answered(books).refund(a_refund())
    assert unsure.value.code == outcome


async def test_our_refund_with_another_amount_is_for_a_person(answered: Answers) -> None:
    refund = a_refund()
    with pytest.raises(OutcomeUnknown, match="refund_amount_differs"):
        await answered(Books([refund_line(10, str(refund.refund_id))])).refund(refund)


# ---- the account ------------------------------------------------------------------------------------------------


async def test_the_connection_test_says_whether_the_account_is_live(answered: Answers) -> None:
    live = await answered(lambda _: says(["credit-card", "bit"])).check_account()
    assert (live.account_name, live.live, live.detail) == ("PayPlus page …1234", True, "2 payment methods")
    staging = await answered(lambda _: says(None), {"environment": "staging"}).check_account()
    assert (staging.live, staging.detail) == (False, "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth_form", "bearer"),
        ("environment", "test"),
        ("gbp_code", "XXX"),
        ("api_base", 7),
        ("terminal_uid", " "),
        ("send_email_approval", "yes"),
        ("initial_invoice", 1),
        ("not_found_descriptions", "text"),
        ("closed_descriptions", [1]),
        ("closed_descriptions", ["a"] * 21),
    ],
)
def test_an_option_that_cannot_be_read_is_named(name: str, value: object) -> None:
    with pytest.raises(ProviderMisconfigured, match=name):
        PayPlusProvider(an_account({name: value}))


@pytest.mark.parametrize("value", ["", "  ", "key\n", "מפתח"])
def test_a_key_that_cannot_be_sent_is_missed(value: str) -> None:
    if value == "key\n":  # white space around a pasted key is no fault
        assert PayPlusProvider(an_account(api_key=value))
        return
    with pytest.raises(ProviderMisconfigured, match="api_key"):
        PayPlusProvider(an_account(api_key=value))


def test_the_sheet_says_what_payplus_documents() -> None:
    sheet = PayPlusProvider.capabilities
    assert sheet.currencies == frozenset({"ILS", "USD", "EUR", "GBP"})
    assert (sheet.unit, sheet.idempotency_key_lifetime, sheet.one_checkout_per_reference) == ("major", None, False)
    assert sheet.methods[0].name == "credit-card"


# ---- over real HTTP ---------------------------------------------------------------------------------------------


def ref_to(request: CheckoutRequest, opened: OpenedCheckout) -> CheckoutRef:
    return CheckoutRef(request.reference, opened.session_id, request.mode, request.created_at)


async def bought(provider: Provider, payer: Any, request: CheckoutRequest) -> tuple[CheckoutRef, str]:
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    ref = ref_to(request, opened)
    return ref, (await provider.look(ref)).transaction_id or ""


async def test_its_own_callbacks_verify_and_name_our_payment(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str]
) -> None:
    box, address = mailbox
    request = request_for(callback_url=address)
    opened = await provider.open_checkout(request)
    await payer.is_declined(opened)
    declined = await box.until(provider, EventKind.ATTEMPT_FAILED)
    assert declined[0].reference == request.reference
    await payer.pays(opened)
    events = await box.until(provider, EventKind.CAPTURED)
    captured = next(event for event in events if event.kind is EventKind.CAPTURED)
    assert (captured.reference, captured.amount) == (request.reference, request.amount)
    ref = ref_to(request, opened)
    seen = await provider.look(ref)
    assert captured.transaction_id == seen.transaction_id
    zero = Money.zero("ILS")
    await provider.refund(RefundRequest(uuid4(), seen.transaction_id or "", request.amount, ref, request.amount, zero))
    events = await box.until(provider, EventKind.REFUND)
    refund = next(event for event in events if event.kind is EventKind.REFUND)
    assert (refund.reference, refund.session_id) == (None, opened.session_id)
    headers, body = box.received[0].headers, box.received[0].body
    assert headers["user-agent"] == "PayPlus"
    assert "דנה".encode() in body


@pytest.mark.parametrize("form", ["flat", "nested", "list"])
async def test_the_sandbox_answers_in_each_form(
    provider: Provider, payer: Any, request_for: RequestFor, form: str
) -> None:
    await payer.sandbox("payplus/form", api_key=payer.key, value=form)
    request = request_for()
    ref, transaction_id = await bought(provider, payer, request)
    part = Money.parse("29.90", "ILS")
    await provider.refund(RefundRequest(uuid4(), transaction_id, part, ref, request.amount, Money.zero("ILS")))
    seen = await provider.look(ref)
    assert (seen.captured, seen.refunded) == (request.amount, part)


async def test_both_forms_of_the_credentials_reach_the_same_account(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    ref, _ = await bought(provider, payer, request_for())
    other = PayPlusProvider(payer.account_with({"auth_form": "authorization"}))
    assert (await other.look(ref)).status is PaymentStatus.PAID
    await other.aclose()
    wrong = PayPlusProvider(payer.account_with({"auth_form": "authorization"}, api_key="payplus_invalid"))
    with pytest.raises(ProviderMisconfigured, match="http_403"):
        await wrong.look(ref)
    await wrong.aclose()
    elsewhere = PayPlusProvider(payer.account_with({"api_base": f"{payer.address}/payplus/api/v1.0/no-such"}))
    with pytest.raises(ProviderMisconfigured, match="unknown_endpoint"):
        await elsewhere.check_account()
    await elsewhere.aclose()


async def test_a_hold_is_not_money_until_it_is_captured(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"payplus/pages/{opened.session_id}/pay", kind="Approval")
    held = await provider.look(ref_to(request, opened))
    assert (held.status, held.captured) == (PaymentStatus.PENDING, None)
    assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.PENDING
    await payer.sandbox(f"payplus/pages/{opened.session_id}/capture")
    assert (await provider.look(ref_to(request, opened))).captured == request.amount


async def test_a_charge_cancelled_on_the_same_day_is_no_money(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    ref, transaction_id = await bought(provider, payer, request_for())
    await payer.sandbox(f"payplus/transactions/{transaction_id}/cancel")
    seen = await provider.look(ref)
    assert (seen.status, seen.captured) == (PaymentStatus.CANCELED, None)


@pytest.mark.parametrize("method", ["bit", "paypal"])
async def test_another_method_alone(provider: Provider, payer: Any, request_for: RequestFor, method: str) -> None:
    request = request_for(method=method)
    opened = await provider.open_checkout(request)
    page = (await payer.http.get(opened.url)).text
    assert f"Pay with {method}" in page
    assert "Card number" not in page
    await payer.http.post(opened.url, data={"outcome": method})
    seen = await provider.look(ref_to(request, opened))
    assert (seen.method, seen.card_last4, seen.captured) == (method, None, request.amount)


async def test_an_amount_that_payplus_changed_is_reported_as_it_is(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"payplus/pages/{opened.session_id}/held", amount="1.00", currency="USD")
    await payer.pays(opened)
    assert (await provider.look(ref_to(request, opened))).captured == Money.parse("1.00", "USD")


async def test_a_page_that_was_paid_for_another_reference_concludes_nothing(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"payplus/pages/{opened.session_id}/held", more_info=str(uuid4()))
    await payer.pays(opened)
    with pytest.raises(OutcomeUnknown, match="foreign_transaction"):
        await provider.look(ref_to(request, opened))
    assert (
        await provider.look(CheckoutRef(request.reference, None, request.mode, NOW))
    ).status is PaymentStatus.UNKNOWN


async def test_an_expired_page_takes_no_money_and_closes(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    opened = await provider.open_checkout(request)
    await payer.sandbox(f"payplus/pages/{opened.session_id}/expire")
    await payer.tries_to_pay(opened)
    assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.CANCELED


async def test_pages_for_one_reference_are_one_payment_whichever_was_paid(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    first = await provider.open_checkout(request)
    again = await provider.open_checkout(request)
    assert again == first  # an identical request is answered with the same page
    values = {name: getattr(request, name) for name in request.__dataclass_fields__}
    later = await provider.open_checkout(CheckoutRequest(**(values | {"expires_at": NOW + timedelta(days=3650)})))
    assert later.session_id != first.session_id
    await payer.pays(later)
    found = await provider.look(CheckoutRef(request.reference, None, request.mode, request.created_at))
    assert (found.session_id, found.captured) == (later.session_id, request.amount)
    old = CheckoutRequest(**(values | {"created_at": request.created_at - timedelta(hours=1)}))
    assert await provider.open_checkout(old) == OpenedCheckout(later.session_id, None)
    assert await payer.charges_of(request.reference) == 1


@pytest.mark.parametrize("shown", [True, False])
async def test_many_refunds_at_once_with_one_id_move_money_once(
    *, provider: Provider, payer: Any, request_for: RequestFor, shown: bool
) -> None:
    if not shown:
        await payer.sandbox("payplus/forgets_more_info", api_key=payer.key, value="yes")
    request = request_for()
    ref, transaction_id = await bought(provider, payer, request)
    part = Money.parse("29.90", "ILS")
    refund = RefundRequest(uuid4(), transaction_id, part, ref, request.amount, Money.zero("ILS"))
    made = await asyncio.gather(*(provider.refund(refund) for _ in range(6)))
    assert len({one.provider_refund_id for one in made}) == 1
    assert (await provider.look(ref)).refunded == part
    assert await provider.look_refund(refund, made[0].provider_refund_id) == made[0]


async def test_a_refund_made_by_hand_counts_in_what_is_left(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    ref, transaction_id = await bought(provider, payer, request)
    await payer.sandbox(f"payplus/transactions/{transaction_id}/refund", amount="100.00")
    whole = RefundRequest(uuid4(), transaction_id, request.amount, ref, request.amount, Money.zero("ILS"))
    with pytest.raises(ProviderRejected, match="refund_exceeds_charge"):
        await provider.refund(whole)
    assert (await provider.look(ref)).refunded == Money.parse("100.00", "ILS")


async def test_a_refund_that_the_bank_declines_is_failed(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    request = request_for()
    ref, transaction_id = await bought(provider, payer, request)
    await payer.sandbox("payplus/refund_status", api_key=payer.key, value="036")
    refund = RefundRequest(uuid4(), transaction_id, request.amount, ref, request.amount, Money.zero("ILS"))
    made = await provider.refund(refund)
    assert (made.status, made.failure_code) == (RefundStatus.FAILED, "036")
    assert (await provider.look(ref)).refunded is None


async def test_the_checkout_page_pays_declines_and_sends_back(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    opened = await provider.open_checkout(request_for(description="הזמנה <1001>"))
    page = await payer.http.get(opened.url)
    assert page.status_code == 200
    assert "₪129.90" in page.text
    assert "הזמנה &lt;1001&gt;" in page.text
    assert (await payer.http.post(opened.url, data={"outcome": "close"})).headers["location"].endswith("/cart")
    assert (await payer.http.post(opened.url, data={"outcome": "decline"})).status_code == 402
    done = await payer.http.post(opened.url, data={"outcome": "pay"})
    assert "status_code=000" in done.text
    assert (await payer.http.get("/payplus/page/none")).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": None},
        {"amount": "ten"},
        {"amount": 0},
        {"currency_code": "NIS"},
        {"items": [{"price": 1, "quantity": 1}]},
        {"items": "one"},
        {"allowed_charge_methods": ["cash"]},
        {"expiry_datetime": "soon"},
    ],
)
async def test_the_sandbox_refuses_what_payplus_would(payer: Any, changes: dict[str, Any]) -> None:
    good = {"payment_page_uid": "p", "amount": 10, "currency_code": "ILS"}
    body = good | {"sendEmailApproval": False, "sendEmailFailure": False, "payments_first_amount": 2.5}
    path, headers = "/payplus/api/v1.0/PaymentPages/generateLink", {"api-key": payer.key, "secret-key": "s"}
    assert (await payer.http.post(path, headers=headers, json=body)).json()["results"]["status"] == "success"
    refused = await payer.http.post(path, headers=headers, json=body | changes)
    assert (refused.status_code, refused.json()["results"]["status"]) == (422, "error")
