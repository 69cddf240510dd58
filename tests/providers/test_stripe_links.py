"""Stripe's payment links: one address, as many visits as people like, money once."""

from __future__ import annotations

import asyncio
import json
import time
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
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    EventKind,
    OpenedCheckout,
    OutcomeUnknown,
    Provider,
    ProviderBusy,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.stripe import StripeProvider
from providers.stripe.objects import payment_of_link
from tests.support.mailbox import Mailbox

ONLY = ("stripe",)
RequestFor = Callable[..., CheckoutRequest]
GOOD, DECLINED, CHALLENGED = "4242424242424242", "4000000000000002", "4000000000003220"


@pytest.fixture
def link_for(request_for: RequestFor) -> RequestFor:
    def build(*amount: str, **changes: Any) -> CheckoutRequest:
        return request_for(*amount, **({"method": "link"} | changes))

    return build


def ref_to(request: CheckoutRequest, opened: OpenedCheckout | None) -> CheckoutRef:
    session_id = None if opened is None else opened.session_id
    return CheckoutRef(request.reference, session_id, request.mode, request.created_at, method=request.method)


async def visits(payer: Any, opened: OpenedCheckout, **query: str) -> str | None:
    """Open the link; the address of the fresh session's page, or None when the link is closed."""
    answer = await payer.http.get(opened.url, params=query)
    assert answer.status_code in {303, 410}
    location: str | None = answer.headers.get("location")
    return location


async def pays_at(payer: Any, page: str | None, card: str = GOOD) -> int:
    assert page is not None
    return int((await payer.http.post(page, data={"card": card})).status_code)


async def chooses_bank_debit(payer: Any, opened: OpenedCheckout) -> str:
    page = await visits(payer, opened)
    assert page is not None
    await payer.http.post(page, data={"outcome": "later"})
    return page.rsplit("/", 1)[1]


async def links_of(payer: Any, request: CheckoutRequest) -> list[str]:
    links = (await payer.http.get("/sandbox/objects", params={"type": "payment_link"})).json()
    return [link["id"] for link in links if link["metadata"]["payment_id"] == str(request.reference)]


async def test_a_link_is_pending_through_visits_and_declines_until_it_is_paid(
    provider: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    assert opened.session_id.startswith("plink_")
    assert opened.client_secret is None
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    first, second = await visits(payer, opened), await visits(payer, opened)
    assert first != second
    assert await pays_at(payer, first, DECLINED) == 402
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured, seen.failure_code) == (PaymentStatus.PENDING, None, "generic_decline")
    assert await pays_at(payer, second) == 200
    paid = await provider.look(ref_to(request, opened))
    assert (paid.status, paid.captured, paid.failure_code) == (PaymentStatus.PAID, request.amount, None)
    assert (paid.session_id, paid.card_last4) == (opened.session_id, "4242")
    assert paid.transaction_id


async def test_a_paid_link_takes_no_second_payment(provider: Provider, payer: Any, link_for: RequestFor) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    first, second = await visits(payer, opened), await visits(payer, opened)
    assert await pays_at(payer, first) == 200
    assert await pays_at(payer, second) == 402
    assert await visits(payer, opened) is None
    assert (await provider.look(ref_to(request, opened))).captured == request.amount
    assert await payer.charges_of(request.reference) == 1


async def test_a_closed_link_closes_the_pages_that_were_open(
    provider: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    pages = [await visits(payer, opened) for _ in range(3)]
    for _ in range(2):
        assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.CANCELED
    assert await visits(payer, opened) is None
    assert [await pays_at(payer, page) for page in pages] == [410] * 3
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.CANCELED


async def test_closing_a_paid_link_reports_the_money(provider: Provider, payer: Any, link_for: RequestFor) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    await pays_at(payer, await visits(payer, opened))
    seen = await provider.close_checkout(ref_to(request, None))
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)


@pytest.mark.parametrize(("succeeded", "status"), [(True, PaymentStatus.PAID), (False, PaymentStatus.FAILED)])
async def test_a_bank_debit_by_link_is_pending_until_its_money_arrives_or_bounces(
    *, provider: Provider, payer: Any, link_for: RequestFor, succeeded: bool, status: PaymentStatus
) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    session_id = await chooses_bank_debit(payer, opened)
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PENDING
    assert (await provider.close_checkout(ref_to(request, opened))).status is PaymentStatus.PENDING
    await payer.sandbox(f"sessions/{session_id}/settle", succeeded=succeeded)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.status, seen.captured) == (status, request.amount if succeeded else None)


async def test_a_payer_at_the_banks_challenge_is_seen_waiting(
    provider: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    page = await visits(payer, opened)
    await pays_at(payer, page, CHALLENGED)
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.REQUIRES_ACTION
    await payer.http.post(f"{page}/challenge", data={"approve": "yes"})
    assert (await provider.look(ref_to(request, opened))).status is PaymentStatus.PAID


async def test_silence_after_creation_is_answered_by_the_same_link(
    provider: Provider, impatient: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for()
    await payer.falls_silent("after")
    with pytest.raises(OutcomeUnknown):
        await impatient.open_checkout(request)
    assert (await provider.look(ref_to(request, None))).status is PaymentStatus.PENDING
    answers = await asyncio.gather(*(provider.open_checkout(request) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(answer, OpenedCheckout | ProviderBusy) for answer in answers)
    opened = await provider.open_checkout(request)
    assert await links_of(payer, request) == [opened.session_id]


async def test_a_link_of_yesterday_is_found_and_not_made_again(
    provider: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for(created_at=datetime.now(UTC) - timedelta(hours=30))
    opened = await provider.open_checkout(request)
    assert await provider.open_checkout(request) == opened
    assert await links_of(payer, request) == [opened.session_id]


async def test_another_amount_under_the_same_reference_gets_the_first_link(
    provider: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    changed = link_for("5.00", reference=request.reference)
    assert await provider.open_checkout(changed) == opened


async def test_a_payer_who_writes_another_payments_reference_into_the_link_pays_their_own(
    provider: Provider, payer: Any, link_for: RequestFor, request_for: RequestFor
) -> None:
    cheap, victim = link_for("1.00"), request_for()
    opened = await provider.open_checkout(cheap)
    page = await visits(payer, opened, client_reference_id=str(victim.reference))
    assert await pays_at(payer, page) == 200
    assert (await provider.look(ref_to(victim, None))).status is PaymentStatus.UNKNOWN
    assert (await provider.look(ref_to(cheap, None))).captured == cheap.amount


async def test_unknown_links_and_references_are_unknown_and_not_failed(
    provider: Provider, payer: Any, link_for: RequestFor
) -> None:
    request = link_for()
    for session_id in (None, "plink_unknown"):
        ref = CheckoutRef(request.reference, session_id, request.mode, request.created_at, method="link")
        assert (await provider.look(ref)).status is PaymentStatus.UNKNOWN
        assert (await provider.close_checkout(ref)).status is PaymentStatus.UNKNOWN


async def test_what_links_cannot_do_is_rejected_before_anything_is_sent(
    provider: Provider, link_for: RequestFor
) -> None:
    for changes in ({"mode": CheckoutMode.DIRECT}, {"method": "pse"}):
        with pytest.raises(ProviderRejected, match="method_not_supported"):
            await provider.open_checkout(link_for(**changes))
    with pytest.raises(ProviderRejected, match="amount_too_small"):
        await provider.open_checkout(link_for("0.01", "USD"))


async def test_a_link_payment_is_refunded_like_any_other(provider: Provider, payer: Any, link_for: RequestFor) -> None:
    request = link_for()
    opened = await provider.open_checkout(request)
    await pays_at(payer, await visits(payer, opened))
    ref, zero = ref_to(request, opened), Money.zero(request.amount.currency)
    seen = await provider.look(ref)
    part = Money.parse("29.90", request.amount.currency)
    refund = RefundRequest(uuid4(), seen.transaction_id or "", part, ref, request.amount, zero)
    assert (await provider.refund(refund)).status is RefundStatus.SUCCEEDED
    assert (await provider.look(ref)).refunded == part


# --- callbacks


async def test_callbacks_of_a_links_sessions_name_our_payment_and_the_link(
    provider: Provider, payer: Any, link_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    await payer.sandbox("webhook-endpoints", url=address, secret=webhook_secret, account_key=payer.key)
    request = link_for()
    opened = await provider.open_checkout(request)
    left = await visits(payer, opened)
    assert left is not None
    await payer.sandbox(f"sessions/{left.rsplit('/', 1)[1]}/expire-now")
    await pays_at(payer, await visits(payer, opened))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        events = {event.type: event for event in await box.events(provider, 0)}
        if {"checkout.session.expired", "checkout.session.completed", "payment_intent.succeeded"} <= events.keys():
            break
        await asyncio.sleep(0.02)
    assert {event.reference for event in events.values()} == {request.reference}
    completed, left_page = events["checkout.session.completed"], events["checkout.session.expired"]
    assert (completed.kind, completed.session_id) == (EventKind.CAPTURED, opened.session_id)
    assert completed.amount == request.amount
    assert (left_page.kind, left_page.session_id) == (EventKind.OTHER, opened.session_id)


# --- answers of Stripe


def session(status: str, **parts: Any) -> dict[str, Any]:
    values = {"id": "cs_1", "status": status, "payment_status": "unpaid", "amount_total": 500, "currency": "usd"}
    return values | parts


PAID = {"payment_status": "paid", "payment_intent": "pi_1"}
ACTIVE = {"id": "plink_1", "active": True, "restrictions": {"completed_sessions": {"count": 0, "limit": 1}}}
USED_UP = ACTIVE | {"restrictions": {"completed_sessions": {"count": 1, "limit": 1}}}
CLOSED = ACTIVE | {"active": False}
BOUNCED = session("complete", payment_intent={"id": "pi_2", "status": "requires_payment_method"})


@pytest.mark.parametrize(
    ("link", "open_ones", "complete", "status"),
    [
        (ACTIVE, [], [], PaymentStatus.PENDING),
        ({"id": "plink_1", "active": True, "restrictions": None}, [], [], PaymentStatus.PENDING),
        ({"id": "plink_1"}, [], [], PaymentStatus.PENDING),
        (CLOSED, [], [], PaymentStatus.CANCELED),
        (USED_UP, [], [], PaymentStatus.CANCELED),
        (CLOSED, [session("open")], [], PaymentStatus.PENDING),
        (
            CLOSED,
            [],
            [session("complete", payment_intent={"id": "pi_2", "status": "processing"})],
            PaymentStatus.PENDING,
        ),
        (USED_UP, [], [BOUNCED], PaymentStatus.FAILED),
        (ACTIVE, [], [BOUNCED], PaymentStatus.PENDING),
        (CLOSED, [session("open")], [session("complete", **PAID)], PaymentStatus.PAID),
    ],
)
def test_a_link_is_over_only_when_nobody_can_pay_any_more(
    link: dict[str, Any], open_ones: list[dict[str, Any]], complete: list[dict[str, Any]], status: PaymentStatus
) -> None:
    seen = payment_of_link(link, open_ones, complete)
    assert (seen.status, seen.session_id) == (status, "plink_1")


def test_money_of_two_sessions_is_reported_in_full() -> None:
    charge = {"amount_refunded": 100, "currency": "usd"}
    first = session("complete", payment_status="paid", payment_intent={"id": "pi_1", "latest_charge": charge})
    second = session(
        "complete",
        payment_status="paid",
        payment_intent={"id": "pi_2", "latest_charge": charge | {"amount_refunded": 0}},
    )
    seen = payment_of_link(CLOSED, [], [second, first])
    assert (seen.captured, seen.refunded, seen.transaction_id) == (Money(1000, "USD"), Money(100, "USD"), "pi_1")


async def test_what_is_sent_makes_price_and_link_in_one_request_and_limits_it_to_one_payment(
    answered_by: Callable[..., StripeProvider], link_for: RequestFor
) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"id": "plink_1", "object": "payment_link", "url": "https://buy.example/1"})

    request = link_for("129.90", "ILS", success_url="https://shop.example/thanks")
    opened = await answered_by(answer).open_checkout(request)
    assert opened == OpenedCheckout("plink_1", "https://buy.example/1")
    (only,) = sent
    assert only.url.path == "/v1/payment_links"
    assert only.headers["idempotency-key"] == f"link-{request.reference}"
    fields = {name: values[0] for name, values in parse_qs(only.content.decode()).items()}
    assert fields["restrictions[completed_sessions][limit]"] == "1"
    assert fields["line_items[0][price_data][unit_amount]"] == "12990"
    assert fields["line_items[0][price_data][currency]"] == "ils"
    assert fields["metadata[payment_id]"] == fields["payment_intent_data[metadata][payment_id]"]
    assert fields["metadata[payment_id]"] == str(request.reference)
    assert fields["after_completion[redirect][url]"] == "https://shop.example/thanks"
    assert "email" not in only.content.decode()


async def test_a_stored_failure_is_answered_by_the_link_that_exists_or_stays_unknown(
    answered_by: Callable[..., StripeProvider], link_for: RequestFor
) -> None:
    request, links = link_for(), []  # type: tuple[CheckoutRequest, list[dict[str, Any]]]

    def answer(sent: httpx.Request) -> httpx.Response:
        if sent.method == "POST":
            return httpx.Response(500, headers={"idempotent-replayed": "true"}, json={"error": {"type": "api_error"}})
        if sent.url.path.endswith("/plink_7"):
            return httpx.Response(200, json={"id": "plink_7", "object": "payment_link", "url": "https://buy.example/7"})
        return httpx.Response(200, json={"object": "list", "data": links, "has_more": False})

    provider = answered_by(answer)
    with pytest.raises(OutcomeUnknown):
        await provider.open_checkout(request)
    links.append({"id": "plink_7", "object": "payment_link", "metadata": {"payment_id": str(request.reference)}})
    assert (await provider.open_checkout(request)).session_id == "plink_7"


async def test_an_old_link_that_was_paid_is_found_through_its_payment(
    answered_by: Callable[..., StripeProvider], link_for: RequestFor
) -> None:
    request = link_for()
    intent = {"id": "pi_1", "object": "payment_intent", "metadata": {"payment_id": str(request.reference)}}
    paid = session("complete", object="checkout.session", payment_link="plink_9", **PAID)
    asked: list[str] = []

    def answer(sent: httpx.Request) -> httpx.Response:
        asked.append(sent.url.path)
        if sent.url.path.endswith("/search"):
            return httpx.Response(200, json={"object": "search_result", "data": [intent], "has_more": False})
        if sent.url.path.endswith("/sessions"):
            shown = [paid] if sent.url.params.get("status") != "open" else []
            return httpx.Response(200, json={"object": "list", "data": shown, "has_more": False})
        if sent.url.path.endswith("/plink_9"):
            return httpx.Response(200, json=CLOSED | {"id": "plink_9", "object": "payment_link"})
        return httpx.Response(200, json={"object": "list", "data": [], "has_more": False})

    seen = await answered_by(answer).look(ref_to(request, None))
    assert (seen.status, seen.session_id, seen.captured) == (PaymentStatus.PAID, "plink_9", Money(500, "USD"))
    assert "/v1/payment_links" in asked


@pytest.mark.parametrize("body", [{"object": "payment_link"}, {"id": 5, "object": "payment_link"}])
async def test_a_link_without_id_is_an_unknown_outcome(
    answered_by: Callable[..., StripeProvider], link_for: RequestFor, body: dict[str, Any]
) -> None:
    with pytest.raises(OutcomeUnknown, match="unreadable_answer"):
        await answered_by(lambda _: httpx.Response(200, text=json.dumps(body))).open_checkout(link_for())


async def test_a_refusal_to_look_or_close_is_told_and_a_race_while_closing_is_not(
    answered_by: Callable[..., StripeProvider], link_for: RequestFor
) -> None:
    request = link_for()
    ref = CheckoutRef(request.reference, "plink_1", request.mode, request.created_at, method="link")
    refused = httpx.Response(400, json={"error": {"type": "invalid_request_error", "code": "parameter_invalid"}})
    with pytest.raises(ProviderRejected, match="parameter_invalid"):
        await answered_by(lambda _: refused).look(ref)
    open_ones = [session("open", object="checkout.session")]

    def answer(sent: httpx.Request) -> httpx.Response:
        if sent.method == "POST":
            return refused
        if sent.url.path.endswith("/sessions"):
            shown = open_ones if sent.url.params["status"] == "open" else []
            return httpx.Response(200, json={"object": "list", "data": shown, "has_more": False})
        return httpx.Response(200, json=ACTIVE | {"object": "payment_link"})

    assert (await answered_by(answer).close_checkout(ref)).status is PaymentStatus.PENDING
    open_ones[0]["id"] = None
    with pytest.raises(OutcomeUnknown, match="session without id"):
        await answered_by(answer).close_checkout(ref)
