"""Efecty's counter in the sandbox: what people do with a code, and what we are told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.money import Money
from providers.base import Callback, CheckoutRequest, EventKind, Provider, WebhookRejected
from providers.efecty import EfectyProvider
from providers.efecty.notifications import payvalida_checksum
from providers.registry import build_provider
from tests.providers.payers import WEBHOOK_SECRET
from tests.providers.recorded import recording, same_shape
from tests.support.mailbox import Mailbox

ONLY = ("efecty",)
RequestFor = Callable[..., CheckoutRequest]


@pytest.mark.asyncio
async def test_a_payment_at_the_counter_is_told_once_and_stands_in_the_file(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    assert isinstance(provider, EfectyProvider)
    box, address = mailbox
    await payer.sandbox("webhook-endpoints", url=address, secret=webhook_secret, account_key=payer.agreement)
    request = request_for()
    opened = await provider.open_checkout(request)
    payment = await payer.pays_cash(opened)
    (event,) = await box.events(provider, 1)
    assert (event.kind, event.amount, event.session_id) == (EventKind.CAPTURED, request.amount, opened.session_id)
    number = payment["transaction_id"]
    assert event.event_id == f"{number}:{opened.session_id}"
    assert event.transaction_id == f"{payer.agreement}-{opened.session_id}-{number}"
    (row,) = provider.read_settlement_file(await payer.settlement_file())
    assert row.event == event


@pytest.mark.asyncio
async def test_another_amount_or_a_second_payment_is_reported_as_it_is(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    opened = await provider.open_checkout(request_for())
    await payer.sandbox("efecty/codes", code=opened.session_id, url=address, secret=webhook_secret)
    for amount in ("1000", "25000"):
        await payer.pays_cash(opened, amount)
    events = await box.events(provider, 2)
    assert {event.amount for event in events} == {Money.parse("1000", "COP"), Money.parse("25000", "COP")}
    assert len({event.event_id for event in events}) == 2


@pytest.mark.asyncio
async def test_a_late_payment_says_when_it_was_made(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    opened = await provider.open_checkout(request_for())
    await payer.sandbox("efecty/codes", code=opened.session_id, url=address, secret=webhook_secret)
    await payer.sandbox("efecty/tell", agreement=payer.agreement, code=opened.session_id, status="expired")
    assert opened.cash is not None
    expires_at = opened.cash.expires_at
    assert expires_at is not None
    await payer.pays_cash(opened, late=True, expires=expires_at.isoformat())
    events = await box.events(provider, 2)
    late = next(event for event in events if event.kind is EventKind.CAPTURED)
    assert {event.kind for event in events} == {EventKind.EXPIRED, EventKind.CAPTURED}
    assert late.occurred_at == (expires_at + timedelta(minutes=10)).replace(microsecond=0)


@pytest.mark.asyncio
async def test_a_lost_callback_is_made_good_by_the_file(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    assert isinstance(provider, EfectyProvider)
    box, address = mailbox
    await payer.sandbox("webhook-endpoints", url=f"{address}/efecty", secret=webhook_secret)
    opened = await provider.open_checkout(request_for())
    await payer.pays_cash(opened, silent=True)
    await payer.faults("lose", on="webhooks")
    await payer.pays_cash(opened)
    rows = provider.read_settlement_file(await payer.settlement_file())
    assert [row.problem for row in rows] == [None, None]
    assert box.received == []


@pytest.mark.asyncio
async def test_the_network_repeats_itself_and_the_event_stays_one(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    opened = await provider.open_checkout(request_for())
    await payer.sandbox("efecty/codes", code=opened.session_id, url=address, secret=webhook_secret)
    await payer.faults("duplicate:3", on="webhooks")
    await payer.pays_cash(opened)
    events = await box.events(provider, 3)
    assert len(set(events)) == 1


@pytest.mark.asyncio
async def test_what_another_agreement_or_currency_was_paid_with_is_not_ours(
    provider: Provider, payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    opened = await provider.open_checkout(request_for())
    await payer.sandbox("efecty/codes", code=opened.session_id, url=address, secret=webhook_secret)
    await payer.pays_cash(opened, currency="USD")
    with pytest.raises(WebhookRejected, match="bad_currency"):
        await box.events(provider, 1)
    box.received.clear()
    other = build_provider("efecty", payer.account(agreement="9533"))
    await payer.pays_cash(opened)
    with pytest.raises(WebhookRejected, match="other_agreement"):
        await box.events(other, 1)


@pytest.mark.asyncio
async def test_the_other_scheme_tells_that_money_came_but_not_how_much(
    payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], webhook_secret: str
) -> None:
    box, address = mailbox
    config = payer.account()
    config.options["callback_scheme"] = "payvalida"
    provider = build_provider("efecty", config)
    opened = await provider.open_checkout(request_for())
    where = {"code": opened.session_id, "url": address, "secret": webhook_secret}
    await payer.sandbox("efecty/codes", **where, scheme="payvalida")
    await payer.pays_cash(opened)
    (event,) = await box.events(provider, 1)
    assert (event.kind, event.amount, event.session_id) == (EventKind.CAPTURED, None, opened.session_id)
    await payer.sandbox("efecty/tell", agreement=payer.agreement, code=opened.session_id, status="reversed")
    events = await box.events(provider, 2)
    assert {event.kind for event in events} == {EventKind.CAPTURED, EventKind.CANCELED}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("variants", "status", "name"),
    [((), "paid", "payvalida_approved"), (("expired_unnamed",), "expired", "payvalida_expired")],
)
async def test_the_aggregators_notification_has_the_recorded_shape_and_its_types(
    payer: Any, request_for: RequestFor, mailbox: tuple[Mailbox, str], variants: tuple[str, ...], status: str, name: str
) -> None:
    """The order's code is a text, its number there a number, the amount a text."""
    box, address = mailbox
    config = payer.account()
    config.options["callback_scheme"] = "payvalida"
    provider = build_provider("efecty", config)
    await payer.behaves(*variants)
    opened = await provider.open_checkout(request_for())
    where = {"code": opened.session_id, "url": address, "secret": WEBHOOK_SECRET}
    await payer.sandbox("efecty/codes", **where, scheme="payvalida")
    if status == "paid":
        await payer.pays_cash(opened)
    else:
        await payer.sandbox("efecty/tell", agreement=payer.agreement, code=opened.session_id, status=status)
    (event,) = await box.events(provider, 1)
    sent = json.loads(box.received[0].body)
    recorded = recording("efecty", name)
    assert same_shape(recorded, sent) == []
    assert set(sent) == set(recorded)
    signed = recorded | {"po_id": opened.session_id}
    signed["pv_checksum"] = payvalida_checksum(signed["po_id"], signed["status"], WEBHOOK_SECRET)
    body = json.dumps(signed).encode()
    assert provider.verify_webhook(Callback({}, body, datetime.now(UTC))) == event


@pytest.mark.asyncio
async def test_the_account_check_says_that_the_aggregator_wants_the_order_first(payer: Any) -> None:
    """A code that nobody registered there can be paid by nobody, and no call would ever tell."""
    config = payer.account()
    for scheme, told in (("hmac", False), ("payvalida", True)):
        config.options["callback_scheme"] = scheme
        detail = (await build_provider("efecty", config).check_account()).detail
        assert ("registered" in detail and "wporders" in detail) is told, detail


@pytest.mark.asyncio
async def test_the_counter_is_a_page_for_people(payer: Any, provider: Provider, request_for: RequestFor) -> None:
    opened = await provider.open_checkout(request_for())
    form = {"agreement": payer.agreement, "code": opened.session_id, "amount": "25000.00"}
    for expires, shown in (
        ("2026-03-01T10:00:00Z", "01 Mar 2026, 05:00"),
        ("2026-03-01", "01 Mar 2026"),
        ("soon",) * 2,
    ):
        page = await payer.http.get("/efecty", params=form | {"expires": expires})
        assert page.status_code == 200
        assert "$25,000 COP" in page.text
        assert f"Pay before {shown}" in page.text
    assert (await payer.http.get("/efecty")).status_code == 200
    for outcome, said in (("decline", "did not take"), ("pay", "taken. Receipt"), ("late", "Paid 2 times so far")):
        assert said in (await payer.http.post("/efecty", data=form | {"outcome": outcome})).text
    for wrong in ({"amount": "much"}, {"amount": "0"}, {"code": "a"}, {"agreement": "x"}):
        assert (await payer.http.post("/efecty", data=form | wrong)).status_code == 422
        assert (await payer.http.post("/sandbox/efecty/pay", json=form | wrong)).status_code == 422
    paid = (await payer.http.get("/sandbox/efecty/payments", params={"code": opened.session_id})).json()
    assert len(paid) == 2
    assert json.dumps(paid).count(payer.agreement) == 2
