"""The Stripe adapter's calls: what is sent, how answers are read, what each failure says about the money."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import httpx
import pytest

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    OutcomeUnknown,
    Payer,
    ProviderBusy,
    ProviderDeclined,
    ProviderError,
    ProviderMisconfigured,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.stripe import StripeProvider

Build = Callable[..., StripeProvider]
RequestFor = Callable[..., CheckoutRequest]
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PERSONAL = "dana@example.org"
SESSION = {"id": "cs_1", "object": "checkout.session", "url": "https://pay.example/cs_1", "status": "open"}
EMPTY = {"object": "list", "data": [], "has_more": False}

ONLY = ("stripe",)


class Wire:
    """Answers by path; keeps what was sent."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        name = f"{request.method}_{request.url.path.removeprefix('/v1/').replace('/', '_')}"
        answer = self.answers.get(name, EMPTY)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    def form(self, index: int = -1) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.sent[index].content.decode()).items()}


def failure(status: int, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    body = {"error": {"message": f"No luck for {PERSONAL} with key sk_test_0000"} | fields}
    return httpx.Response(status, json=body, headers={"request-id": "req_abc"} | (headers or {}))


def hosted(session_id: str | None = "cs_1", mode: CheckoutMode = CheckoutMode.HOSTED) -> CheckoutRef:
    return CheckoutRef(uuid4(), session_id, mode, NOW)


@pytest.mark.asyncio
async def test_a_hosted_checkout_is_sent_whole(answered_by: Build, request_for: RequestFor) -> None:
    wire = Wire(POST_checkout_sessions=SESSION)
    request = request_for("5.120", "KWD", created_at=NOW, payer=Payer(email=PERSONAL), language="he-IL")
    opened = await answered_by(wire, now=NOW).open_checkout(request)
    assert (opened.session_id, opened.url) == ("cs_1", "https://pay.example/cs_1")
    assert wire.sent[0].headers["idempotency-key"] == f"checkout-{request.reference}"
    references = {
        f"{where}[{name}]": value
        for where in ("metadata", "payment_intent_data[metadata]")
        for name, value in (
            ("payment_id", str(request.reference)),
            ("workspace_id", str(request.workspace_id)),
            ("order_id", "order-1001"),
        )
    }
    assert wire.form() == references | {
        "mode": "payment",
        "line_items[0][quantity]": "1",
        "line_items[0][price_data][currency]": "kwd",
        "line_items[0][price_data][unit_amount]": "5120",
        "line_items[0][price_data][product_data][name]": "Order 1001",
        "client_reference_id": str(request.reference),
        "expires_at": str(int((NOW + timedelta(hours=2)).timestamp())),
        "locale": "auto",
        "success_url": "http://127.0.0.1:9/thanks",
        "cancel_url": "http://127.0.0.1:9/cart",
        "customer_email": PERSONAL,
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (timedelta(minutes=1), timedelta(minutes=60)),
        (timedelta(minutes=61), timedelta(minutes=61)),
        (timedelta(days=3), timedelta(hours=23, minutes=55)),
    ],
)
async def test_a_repeat_sends_the_same_expiry_and_one_that_stripe_accepts(
    answered_by: Build, request_for: RequestFor, wanted: timedelta, sent: timedelta
) -> None:
    wire = Wire(POST_checkout_sessions=SESSION)
    request = request_for(created_at=NOW, expires_at=NOW + wanted)
    for minutes in (0, 1, 29):
        await answered_by(wire, now=NOW + timedelta(minutes=minutes)).open_checkout(request)
    assert {request.content for request in wire.sent} == {wire.sent[0].content}
    assert wire.form()["expires_at"] == str(int((NOW + sent).timestamp()))


@pytest.mark.asyncio
async def test_a_direct_payment_gets_a_client_secret_that_is_not_shown(
    answered_by: Build, request_for: RequestFor
) -> None:
    wire = Wire(POST_payment_intents={"id": "pi_1", "object": "payment_intent", "client_secret": "pi_1_secret_x"})
    request = request_for("500", "JPY", mode=CheckoutMode.DIRECT)
    opened = await answered_by(wire).open_checkout(request)
    assert (opened.session_id, opened.url, opened.client_secret) == ("pi_1", None, "pi_1_secret_x")
    assert "secret" not in repr(opened).replace("client_secret", "")
    assert wire.sent[0].headers["idempotency-key"] == f"intent-{request.reference}"
    form = wire.form()
    assert (form["amount"], form["currency"], form["automatic_payment_methods[enabled]"]) == ("500", "jpy", "true")
    assert form["metadata[payment_id]"] == str(request.reference)


@pytest.mark.asyncio
async def test_past_the_keys_lifetime_the_earlier_session_is_found_and_none_created(
    answered_by: Build, request_for: RequestFor
) -> None:
    request = request_for(created_at=NOW - timedelta(hours=23, minutes=5), expires_at=NOW + timedelta(hours=9))
    mine = SESSION | {"client_reference_id": str(request.reference)}
    wire = Wire(GET_checkout_sessions=EMPTY | {"data": [{"id": "cs_0", "object": "checkout.session"}, mine]})
    assert (await answered_by(wire, now=NOW).open_checkout(request)).session_id == "cs_1"
    assert [sent.method for sent in wire.sent] == ["GET"]


@pytest.mark.asyncio
async def test_past_the_keys_lifetime_the_earlier_intent_is_found_else_created(
    answered_by: Build, request_for: RequestFor
) -> None:
    request = request_for(created_at=NOW - timedelta(hours=30), mode=CheckoutMode.DIRECT)
    mine = {"id": "pi_1", "object": "payment_intent", "metadata": {"payment_id": str(request.reference)}}
    by_search = Wire(GET_payment_intents_search=EMPTY | {"data": [mine]})
    assert (await answered_by(by_search, now=NOW).open_checkout(request)).session_id == "pi_1"
    assert not [sent for sent in by_search.sent if sent.method == "POST"]
    unknown = Wire(POST_payment_intents={"id": "pi_2", "object": "payment_intent"})
    assert (await answered_by(unknown, now=NOW).open_checkout(request)).session_id == "pi_2"


@pytest.mark.asyncio
async def test_too_late_for_stripes_shortest_lifetime_only_the_earlier_session_counts(
    answered_by: Build, request_for: RequestFor
) -> None:
    request = request_for(created_at=NOW - timedelta(minutes=31), expires_at=NOW)
    wire = Wire()
    with pytest.raises(ProviderRejected, match="checkout_window_passed"):
        await answered_by(wire, now=NOW).open_checkout(request)
    assert {sent.method for sent in wire.sent} == {"GET"}
    mine = SESSION | {"metadata": {"payment_id": str(request.reference)}}
    found = Wire(GET_checkout_sessions=EMPTY | {"data": [mine]})
    assert (await answered_by(found, now=NOW).open_checkout(request)).session_id == "cs_1"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "refused",
    [
        failure(400, type="idempotency_error"),
        failure(500, {"idempotent-replayed": "true"}, type="api_error"),
    ],
)
async def test_a_key_that_was_used_before_leads_to_the_earlier_session(
    answered_by: Build, request_for: RequestFor, refused: httpx.Response
) -> None:
    request = request_for(created_at=NOW)
    mine = SESSION | {"client_reference_id": str(request.reference)}
    wire = Wire(POST_checkout_sessions=refused, GET_checkout_sessions=EMPTY | {"data": [mine]})
    assert (await answered_by(wire, now=NOW).open_checkout(request)).session_id == "cs_1"
    nothing = Wire(POST_checkout_sessions=refused)
    with pytest.raises(ProviderError) as raised:
        await answered_by(nothing, now=NOW).open_checkout(request)
    assert raised.value.code in {"idempotency_key_reused", "failure_replayed"}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "kind", "code", "retry_after"),
    [
        (
            failure(402, type="card_error", code="card_declined", decline_code="lost_card"),
            ProviderDeclined,
            "lost_card",
            None,
        ),
        (failure(402, type="card_error", code="expired_card"), ProviderDeclined, "expired_card", None),
        (failure(429, {"retry-after": "7"}), ProviderBusy, "rate_limit", 7),
        (failure(429, {"retry-after": "86400"}), ProviderBusy, "rate_limit", 900),
        (failure(429, {"retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}), ProviderBusy, "rate_limit", 30),
        (failure(429, {"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}), ProviderBusy, "rate_limit", 0),
        (failure(429, {"retry-after": "soon"}), ProviderBusy, "rate_limit", None),
        (failure(429, {"retry-after": "-3"}), ProviderBusy, "rate_limit", None),
        (failure(429, code="lock_timeout"), ProviderBusy, "lock_timeout", None),
        (failure(409, type="idempotency_error"), ProviderBusy, "conflict", None),
        (failure(409, code="idempotency_key_in_use"), ProviderBusy, "idempotency_key_in_use", None),
        (failure(401), ProviderMisconfigured, "http_401", None),
        (failure(401, code="api_key_expired"), ProviderMisconfigured, "api_key_expired", None),
        (failure(403), ProviderMisconfigured, "http_403", None),
        (failure(400, code="amount_too_small", param="amount"), ProviderRejected, "amount_too_small", None),
        (failure(400, param="customer_email"), ProviderRejected, "invalid_request", None),
        (failure(400, type="idempotency_error"), ProviderRejected, "idempotency_key_reused", None),
        (failure(400, code=f"for {PERSONAL}", param=PERSONAL), ProviderRejected, "invalid_request", None),
        (failure(500), OutcomeUnknown, "http_500", None),
        (failure(503), OutcomeUnknown, "http_503", None),
        (failure(418), OutcomeUnknown, "http_418", None),
        (httpx.Response(502, text=f"<html>{PERSONAL}"), OutcomeUnknown, "http_502", None),
        (httpx.Response(200, text="<html>"), OutcomeUnknown, "http_200", None),
        (httpx.Response(200, json=[]), OutcomeUnknown, "unreadable_answer", None),
        (httpx.Response(200, json={"object": "checkout.session"}), OutcomeUnknown, "unreadable_answer", None),
        (httpx.Response(400, json={"error": []}), OutcomeUnknown, "unreadable_answer", None),
        (httpx.Response(400, json={"error": "text"}), OutcomeUnknown, "unreadable_answer", None),
    ],
)
async def test_every_failure_says_what_is_known_about_the_money_and_nothing_personal(
    answered_by: Build,
    request_for: RequestFor,
    *,
    answer: httpx.Response,
    kind: type[ProviderError],
    code: str,
    retry_after: int | None,
) -> None:
    provider = answered_by(Wire(POST_checkout_sessions=answer), now=NOW)
    with pytest.raises(ProviderError) as raised:
        await provider.open_checkout(request_for(created_at=NOW))
    error = raised.value
    assert (type(error), error.code) == (kind, code)
    assert error.retry_after == (None if retry_after is None else timedelta(seconds=retry_after))
    assert PERSONAL not in str(error)
    assert "sk_test" not in str(error)
    assert error.__cause__ is None


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 429, 500, 503])
async def test_what_stripe_says_of_a_repeat_is_obeyed(answered_by: Build, request_for: RequestFor, status: int) -> None:
    """Where nothing moved the header decides; after a 5xx a repeat that does not help is answered by a look-up."""
    for helps in ("true", "false", "perhaps"):
        faults = {402: {"type": "card_error", "code": "card_declined"}}.get(status, {"type": "invalid_request_error"})
        wire = Wire(POST_checkout_sessions=failure(status, {"stripe-should-retry": helps}, **faults))
        with pytest.raises(ProviderError) as raised:
            await answered_by(wire, now=NOW).open_checkout(request_for(created_at=NOW))
        error, looked = raised.value, len(wire.sent) > 1
        if status >= 500:
            assert isinstance(error, OutcomeUnknown)
            assert looked is (helps == "false")
        elif helps == "true":
            assert isinstance(error, ProviderBusy)
        elif helps == "false" and status == 429:
            assert isinstance(error, ProviderBusy)
            assert error.retry_after == timedelta(minutes=1)
        else:
            assert isinstance(error, ProviderBusy) is (helps == "perhaps" and status in (409, 429))


@pytest.mark.asyncio
async def test_a_broken_connection_and_a_slow_answer_leave_the_outcome_unknown(
    answered_by: Build, request_for: RequestFor
) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset", request=request)

    with pytest.raises(OutcomeUnknown, match="connection"):
        await answered_by(broken).open_checkout(request_for())

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(5)
        return httpx.Response(200, json=SESSION)

    with pytest.raises(OutcomeUnknown, match="timeout"):
        await answered_by(slow, timeout_seconds=0.05).open_checkout(request_for())


CHARGE = {
    "id": "ch_1",
    "object": "charge",
    "amount_refunded": 0,
    "currency": "ils",
    "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242"}},
}


def intent(status: str, **changes: Any) -> dict[str, Any]:
    values = {"id": "pi_1", "object": "payment_intent", "status": status, "currency": "ils", "amount_received": 0}
    return values | changes


def session(status: str, payment_status: str, payment_intent: Any = None, **changes: Any) -> dict[str, Any]:
    values = {"status": status, "payment_status": payment_status, "amount_total": 12990, "currency": "ils"}
    return SESSION | values | {"payment_intent": payment_intent} | changes


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (session("open", "unpaid"), PaymentStatus.PENDING),
        (session("open", "unpaid", intent("requires_payment_method")), PaymentStatus.PENDING),
        (session("open", "unpaid", intent("requires_action")), PaymentStatus.REQUIRES_ACTION),
        (session("open", "no_payment_required"), PaymentStatus.PENDING),
        (session("complete", "paid", intent("succeeded", amount_received=12990)), PaymentStatus.PAID),
        (session("complete", "paid", "pi_1"), PaymentStatus.PAID),
        (session("expired", "unpaid", intent("succeeded", amount_received=12990)), PaymentStatus.PAID),
        (session("complete", "unpaid", intent("processing")), PaymentStatus.PENDING),
        (session("complete", "unpaid", intent("requires_payment_method")), PaymentStatus.FAILED),
        (session("complete", "unpaid", intent("canceled")), PaymentStatus.CANCELED),
        (session("complete", "unpaid"), PaymentStatus.PENDING),
        (session("complete", "a_status_of_tomorrow"), PaymentStatus.PENDING),
        (session("expired", "unpaid"), PaymentStatus.EXPIRED),
        (session("expired", "unpaid", intent("canceled")), PaymentStatus.EXPIRED),
        (session("a_status_of_tomorrow", "unpaid"), PaymentStatus.PENDING),
    ],
)
async def test_a_session_is_read_by_its_money_first(
    answered_by: Build, answer: dict[str, Any], status: PaymentStatus
) -> None:
    seen = await answered_by(Wire(GET_checkout_sessions_cs_1=answer)).look(hosted())
    assert seen.status is status
    assert seen.captured == (Money(12990, "ILS") if status is PaymentStatus.PAID else None)


@pytest.mark.asyncio
async def test_a_paid_and_partly_refunded_session_is_read_whole(answered_by: Build) -> None:
    paid = intent("succeeded", amount_received=12990, latest_charge=CHARGE | {"amount_refunded": 990})
    wire = Wire(GET_checkout_sessions_cs_1=session("complete", "paid", paid))
    seen = await answered_by(wire).look(hosted())
    assert (seen.session_id, seen.transaction_id) == ("cs_1", "pi_1")
    assert (seen.captured, seen.refunded) == (Money(12990, "ILS"), Money(990, "ILS"))
    assert (seen.method, seen.card_brand, seen.card_last4, seen.failure_code) == ("card", "visa", "4242", None)
    assert wire.sent[0].url.params["expand[0]"] == "payment_intent.latest_charge.refunds"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "status", "failure_code"),
    [
        (intent("requires_payment_method"), PaymentStatus.PENDING, None),
        (
            intent(
                "requires_payment_method", last_payment_error={"code": "card_declined", "decline_code": "lost_card"}
            ),
            PaymentStatus.PENDING,
            "lost_card",
        ),
        (intent("requires_action"), PaymentStatus.REQUIRES_ACTION, None),
        (intent("requires_confirmation"), PaymentStatus.PENDING, None),
        (intent("requires_capture"), PaymentStatus.PENDING, None),
        (intent("processing"), PaymentStatus.PENDING, None),
        (intent("canceled"), PaymentStatus.CANCELED, None),
        (intent("succeeded", amount_received=500), PaymentStatus.PAID, None),
    ],
)
async def test_a_direct_payment_is_read_from_its_intent(
    answered_by: Build, answer: dict[str, Any], status: PaymentStatus, failure_code: str | None
) -> None:
    seen = await answered_by(Wire(GET_payment_intents_pi_1=answer)).look(hosted("pi_1", CheckoutMode.DIRECT))
    assert (seen.status, seen.failure_code, seen.transaction_id) == (status, failure_code, "pi_1")


@pytest.mark.asyncio
async def test_money_in_an_unreadable_amount_is_neither_paid_nor_unpaid(answered_by: Build) -> None:
    wire = Wire(GET_checkout_sessions_cs_1=session("complete", "paid", currency="xxx"))
    with pytest.raises(OutcomeUnknown):
        await answered_by(wire).look(hosted())


@pytest.mark.asyncio
async def test_not_found_is_not_failed(answered_by: Build) -> None:
    wire = Wire(GET_checkout_sessions_cs_1=failure(404, code="resource_missing"))
    assert (await answered_by(wire).look(hosted())).status is PaymentStatus.UNKNOWN
    for mode in CheckoutMode:
        assert (await answered_by(Wire()).look(hosted(None, mode))).status is PaymentStatus.UNKNOWN
        assert (await answered_by(Wire()).close_checkout(hosted(None, mode))).status is PaymentStatus.UNKNOWN


@pytest.mark.asyncio
async def test_a_session_far_from_its_expected_time_is_found_through_its_intent(answered_by: Build) -> None:
    ref = hosted(None)
    mine = intent("succeeded", amount_received=12990, metadata={"payment_id": str(ref.reference)})

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/search"):
            assert request.url.params["query"] == f"metadata['payment_id']:'{ref.reference}'"
            return httpx.Response(200, json=EMPTY | {"object": "search_result", "data": [mine]})
        by_intent = request.url.params.get("payment_intent") == "pi_1"
        return httpx.Response(200, json=EMPTY | {"data": [session("complete", "paid", mine)] if by_intent else []})

    seen = await answered_by(answer).look(ref)
    assert (seen.status, seen.session_id) == (PaymentStatus.PAID, "cs_1")


@pytest.mark.asyncio
async def test_an_account_without_search_still_has_its_lists(answered_by: Build) -> None:
    wire = Wire(GET_payment_intents_search=failure(400, code="search_not_available"))
    assert (await answered_by(wire).look(hosted(None))).status is PaymentStatus.UNKNOWN


@pytest.mark.asyncio
async def test_long_lists_are_read_page_by_page_with_a_limit(answered_by: Build) -> None:
    pages: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/search"):
            return httpx.Response(200, json=EMPTY)
        pages.append(request.url.params.get("starting_after"))
        item = {"id": f"cs_{len(pages)}", "object": "checkout.session"}
        return httpx.Response(200, json={"object": "list", "data": [item], "has_more": True})

    assert (await answered_by(answer).look(hosted(None))).status is PaymentStatus.UNKNOWN
    assert pages[:3] == [None, "cs_1", "cs_2"]
    assert len(pages) == 40


@pytest.mark.asyncio
async def test_closing_what_was_just_paid_reports_the_money(answered_by: Build) -> None:
    paid = session("complete", "paid", intent("succeeded", amount_received=12990))
    wire = Wire(POST_checkout_sessions_cs_1_expire=failure(400), GET_checkout_sessions_cs_1=paid)
    assert (await answered_by(wire).close_checkout(hosted())).status is PaymentStatus.PAID
    succeeded = Wire(
        POST_payment_intents_pi_1_cancel=failure(400, code="payment_intent_unexpected_state"),
        GET_payment_intents_pi_1=intent("succeeded", amount_received=12990),
    )
    seen = await answered_by(succeeded).close_checkout(hosted("pi_1", CheckoutMode.DIRECT))
    assert seen.captured == Money(12990, "ILS")


def refund_request(**changes: Any) -> RefundRequest:
    values: dict[str, Any] = {
        "refund_id": uuid4(),
        "transaction_id": "pi_1",
        "amount": Money(990, "ILS"),
        "payment": hosted(),
        "captured": Money(12990, "ILS"),
        "refunded_before": Money(0, "ILS"),
    }
    return RefundRequest(**(values | changes))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "ours"),
    [
        ("succeeded", RefundStatus.SUCCEEDED),
        ("pending", RefundStatus.PENDING),
        ("requires_action", RefundStatus.PENDING),
        ("failed", RefundStatus.FAILED),
        ("canceled", RefundStatus.FAILED),
        ("a_status_of_tomorrow", RefundStatus.PENDING),
    ],
)
async def test_a_refund_is_sent_with_its_own_key(answered_by: Build, status: str, ours: RefundStatus) -> None:
    wire = Wire(POST_refunds={"id": "re_1", "object": "refund", "status": status})
    request = refund_request(reason="the customer changed her mind")
    assert (await answered_by(wire).refund(request)).status is ours
    assert wire.sent[-1].headers["idempotency-key"] == f"refund-{request.refund_id}"
    assert wire.form() == {
        "amount": "990",
        "payment_intent": "pi_1",
        "metadata[payment_id]": str(request.payment.reference),
        "metadata[refund_id]": str(request.refund_id),
    }


@pytest.mark.asyncio
async def test_a_refund_that_is_on_record_is_not_sent_again_however_old(answered_by: Build) -> None:
    request = refund_request()
    known = {"id": "re_7", "object": "refund", "status": "succeeded", "metadata": {"refund_id": str(request.refund_id)}}
    wire = Wire(GET_refunds=EMPTY | {"data": [known]})
    assert (await answered_by(wire).refund(request)).provider_refund_id == "re_7"
    assert {sent.method for sent in wire.sent} == {"GET"}


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"secret_key": "sk_test_1"},
        {"webhook_secret": "whsec_1"},
        {"secret_key": "sk_test_1", "webhook_secret": " , "},
        {"secret_key": "sk_test\n1", "webhook_secret": "whsec_1"},
        {"secret_key": "sk_tést_1", "webhook_secret": "whsec_1"},
    ],
)
def test_credentials_are_checked_before_the_first_call(credentials: dict[str, str]) -> None:
    with pytest.raises(ProviderMisconfigured, match="credential_missing"):
        StripeProvider(AccountConfig(account_id=uuid4(), credentials=credentials))


@pytest.mark.asyncio
async def test_the_library_logs_neither_bodies_nor_messages(
    answered_by: Build, request_for: RequestFor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    provider = answered_by(Wire(POST_checkout_sessions=failure(400, code="email_invalid")))
    with pytest.raises(ProviderRejected):
        await provider.open_checkout(request_for(payer=Payer(email=PERSONAL)))
    assert PERSONAL not in caplog.text
    assert "sk_test_0000" not in caplog.text
