"""One payment through each provider: the same durable way, whoever takes the money and whatever comes as a callback."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from api.app import create_app
from api.services import open_services
from providers.base import OpenedCheckout
from providers.registry import PROVIDERS, capabilities_of
from storage.models import (
    Commission,
    LedgerEntry,
    OrderNotice,
    Receipt,
    SurplusCapture,
    WebhookEvent,
    WebhookRejection,
)
from tests.providers.payers import payer_class
from tests.support.callbacks import HANDS, Post, capture_told
from tests.support.service import Service, Shop, admin_key, eventually, served

BOOKS = {
    "ILS": {"net": "110.08", "vat": "19.82", "total": "129.90", "commission": "12.99"},
    "COP": {"net": "21008.40", "vat": "3991.60", "total": "25000.00", "commission": "2500.00"},
}
"""What follows from the payers' amounts: VAT of 18 and 19 per cent inside them, a commission of 10 per cent."""
LOWER, FOREIGN = "21000.00", "USD"
"""A lower sum than the marketplaces ask for, and a currency that no shop here has."""
ASKED = sorted(name for name in PROVIDERS if capabilities_of(name).status_call)


@pytest_asyncio.fixture(params=sorted(PROVIDERS))
async def shop(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Shop]:
    """A shop of this test's own with an account of the provider under test."""
    made = await service.shop(request.param)
    yield made
    await made.sandbox("DELETE", "/faults")
    await made.aclose()


@pytest_asyncio.fixture
async def neighbour(shop: Shop) -> AsyncIterator[Shop]:
    """Another workspace with an account of the same provider."""
    made = await shop.service.shop(shop.account.provider)
    yield made
    await made.aclose()


async def callbacks(shop: Shop, fault: str) -> None:
    """Let the sandbox's next callbacks suffer this."""
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": fault, "count": 100})


async def pays(shop: Shop, payment: dict[str, Any]) -> OpenedCheckout:
    """The payer pays at the provider."""
    opened = await shop.checkout(payment)
    await shop.till.payer.pays(opened)
    return opened


async def books(shop: Shop, payment_id: str) -> dict[str, int]:
    """How much of everything there is about a payment."""
    async with shop.service.database.transaction() as session:
        return {
            model.__tablename__: int(
                await session.scalar(select(func.count()).where(model.payment_id == UUID(payment_id))) or 0
            )
            for model in (Receipt, Commission, LedgerEntry, SurplusCapture, OrderNotice)
        }


NOTHING = {"receipts": 0, "commissions": 0, "ledger_entries": 0, "surplus_captures": 0, "outbox": 1}
SETTLED = {"receipts": 1, "commissions": 1, "ledger_entries": 5, "surplus_captures": 0, "outbox": 2}


async def is_settled_once(shop: Shop, payment_id: str) -> dict[str, Any]:
    """Paid; one receipt with the right sums, one commission, a ledger that balances, two notices. The payment."""
    paid = await shop.until(payment_id, "paid")
    wanted = BOOKS[shop.workspace.currency]
    receipt = (await shop.api.get(f"/receipts/{paid['receipt_id']}")).json()
    assert {name: receipt[name] for name in ("net", "vat", "total")} == {
        name: wanted[name] for name in ("net", "vat", "total")
    }
    assert receipt["currency"] == shop.workspace.currency
    [commission] = (await shop.api.get("/referrers/partner-5/report")).json()["commissions"]
    assert (commission["payment_id"], commission["amount"]) == (payment_id, wanted["commission"])
    assert await books(shop, payment_id) == SETTLED
    async with shop.service.database.transaction() as session:
        entries = (
            await session.execute(
                select(LedgerEntry.account, LedgerEntry.amount).where(LedgerEntry.payment_id == UUID(payment_id))
            )
        ).all()
    assert sum((amount for _, amount in entries), Decimal(0)) == 0
    assert {account.split(":")[0]: amount for account, amount in entries} == {
        "provider": Decimal(wanted["total"]),
        "sales": -Decimal(wanted["net"]),
        "vat_payable": -Decimal(wanted["vat"]),
        "commission_expense": Decimal(wanted["commission"]),
        "commission_payable": -Decimal(wanted["commission"]),
    }
    return paid


async def events(shop: Shop, *where: Any) -> list[WebhookEvent]:
    """What the inbox holds of the shop's account."""
    query = select(WebhookEvent).where(WebhookEvent.provider_account_id == shop.account.id, *where)
    async with shop.service.database.transaction() as session:
        return list(await session.scalars(query.order_by(WebhookEvent.id)))


async def refusals(shop: Shop) -> Counter[str]:
    """How many callbacks were refused, by reason."""
    await shop.api.get("/webhooks/health")  # what was counted in memory is on record before it is read
    query = select(WebhookRejection.reason, WebhookRejection.count)
    async with shop.service.database.transaction() as session:
        rows = await session.execute(query.where(WebhookRejection.account == str(shop.account.id)))
        return Counter({reason: int(count) for reason, count in rows})


async def send(shop: Shop, post: Post) -> httpx.Response:
    return await shop.service.http.post(post.url, content=post.body, headers=dict(post.headers))


async def test_from_call_to_receipt_commission_and_notification(shop: Shop) -> None:
    payment = await shop.pays()
    assert (payment["status"], payment["provider"]) == ("pending", shop.account.provider)
    await pays(shop, payment)
    paid = await is_settled_once(shop, payment["id"])
    assert paid["provider_transaction_id"]
    assert paid["flag"] is None

    async def told() -> bool:
        return shop.service.merchant.told(payment["id"]) == ["payment.pending", "payment.paid"]

    await eventually(told)


@pytest.mark.parametrize("shop", ASKED, indirect=True)
async def test_all_callbacks_lost_and_the_poll_settles_it(shop: Shop) -> None:
    """The same service with an API that lets payments look soon; nothing else comes to tell them."""
    soon = shop.service.settings.model_copy(update={"poll_first_seconds": 0.3})
    await callbacks(shop, "lose")
    async with (
        served(create_app(lambda: open_services(soon))) as address,
        httpx.AsyncClient(base_url=f"{address}/api/v1", headers=shop.api.headers, timeout=30) as shop.api,
    ):
        payment = await shop.pays()
        await pays(shop, payment)
        await is_settled_once(shop, payment["id"])
    assert await events(shop) == []


@pytest.mark.parametrize("shop", ["efecty"], indirect=True)
async def test_who_cannot_be_asked_tells_by_a_file(shop: Shop) -> None:
    payment = await shop.pays()
    await callbacks(shop, "lose")
    await pays(shop, payment)
    network: Any = shop.till.payer
    settlement = f"/provider-accounts/{shop.account.id}/settlement-file"
    for report in ({"taken": 1, "repeated": 0, "refused": 0}, {"taken": 0, "repeated": 1, "refused": 0}):
        answer = (await shop.api.post(settlement, content=await network.settlement_file())).json()
        assert {name: answer[name] for name in report} == report
        await is_settled_once(shop, payment["id"])
    # the callback that was late after all tells of the same money
    hand = await capture_told(shop)
    assert (await send(shop, hand.genuine())).status_code == 200
    await is_settled_once(shop, payment["id"])


async def test_fifty_copies_at_once_settle_once(shop: Shop) -> None:
    payment = await shop.pays()
    await callbacks(shop, "lose")
    await pays(shop, payment)
    hand = await capture_told(shop)
    await shop.sandbox("POST", f"/events/{hand.letter.event}/resend", {"times": 50})

    async def delivered() -> bool:
        # more than fifty, when an answer was too slow for the sandbox
        return [event.deliveries >= 50 for event in await events(shop)] == [True]

    await eventually(delivered)
    await is_settled_once(shop, payment["id"])
    answers = [one["status"] for one in await shop.sandbox("GET", "/deliveries") if one["url"] == shop.till.hook_url]
    assert set(answers) - {None} == {200}


async def test_hostile_callbacks_are_refused_change_nothing_and_are_counted(shop: Shop, neighbour: Shop) -> None:
    """The money is at the provider and our callback was lost, so whatever is believed would settle."""
    other, payment = await shop.pays(), await shop.pays()
    await callbacks(shop, "lose")
    await pays(shop, payment)
    hand = await capture_told(shop)
    expected: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for what, post, reason in hand.refused(neighbour.till, other["id"]):
        answer = await send(shop, post)
        assert answer.status_code == 400, (what, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        expected[str(shop.account.id) in post.url][reason] += 1
    assert await refusals(shop) == expected[True]
    assert await refusals(neighbour) == expected[False]
    assert expected[False].total() > 0
    for one in (other, payment):
        assert (await shop.read(one["id"]))["status"] == "pending"
        assert await books(shop, one["id"]) == NOTHING
    assert await events(shop) + await events(neighbour) == []
    # the genuine one is still welcome; afterwards it and its variants change nothing
    assert (await send(shop, hand.genuine())).status_code == 200
    await is_settled_once(shop, payment["id"])
    replays = [hand.genuine(), hand.genuine()] + ([] if hand.signs_every_byte else [hand.reordered()])
    for post in replays:
        assert (await send(shop, post)).status_code == 200
    await is_settled_once(shop, payment["id"])
    [event] = await events(shop)
    assert event.deliveries == 1 + len(replays)
    counted = (await shop.api.get("/webhooks/health")).json()["callbacks"]
    assert (counted["repeated"], counted["refused"]) == (len(replays), dict(expected[True]))
    assert (await shop.read(other["id"]))["status"] == "pending"


@pytest.mark.parametrize("shop", ["meshulam"], indirect=True)
async def test_what_a_callback_shows_is_not_kept_however_it_is_written(shop: Shop) -> None:
    payment = await shop.pays()
    await callbacks(shop, "lose")
    await pays(shop, payment)
    hand = await capture_told(shop)
    shown = hand.read(hand.letter.body)
    tokens = [str(shown[f"data[{name}]"]) for name in ("processToken", "transactionToken")]
    spelt = hand.letter.body
    for token in tokens:  # as a form may have it
        spelt = spelt.replace(token.encode(), "".join(f"%{byte:02X}" for byte in token.encode()).encode())
    told = {name: str(shown[f"data[{name}]"]) for name in ("processId", "statusCode", "sum")}
    told |= {"processToken": tokens[0], "transactionToken": tokens[1], "transactionId": "7"}
    body = json.dumps({"status": 1, "data": told})
    for token in tokens:
        body = body.replace(token, "".join(f"\\u{ord(letter):04x}" for letter in token))
    assert (await send(shop, hand.post(spelt))).status_code == 200
    assert (await send(shop, hand.post(body.encode(), {"content-type": "application/json"}))).status_code == 200
    kept = [event.body for event in await events(shop)]
    assert len(kept) == 2
    for one in kept:
        plain = unquote_to_bytes(one) + one.decode("unicode_escape").encode()
        assert not [token for token in tokens if token.encode() in plain]
        assert b"secret]" in one


async def test_a_neighbours_signed_word_about_our_payment_is_ignored(shop: Shop, neighbour: Shop) -> None:
    """Their own secrets, our references: stored under their account with the reason, and nothing follows from it."""
    payment, theirs = await shop.pays(), await neighbour.pays()
    for one in (shop, neighbour):
        await callbacks(one, "lose")
    await pays(shop, payment)
    await pays(neighbour, theirs)
    ours = await capture_told(shop)
    hand = HANDS[shop.account.provider](neighbour.till, ours.letter)
    if shop.account.provider in ("payu", "efecty"):  # these name the merchant or agreement in the body: theirs
        named = {"payu": "merchant_id", "efecty": "agreement"}[shop.account.provider]
        fields = hand.read(ours.letter.body) | {named: neighbour.till.credentials[named]}
        hand = HANDS[shop.account.provider](neighbour.till, replace(ours.letter, body=hand.write(fields)))
    answer = await send(shop, hand.genuine())
    if shop.account.provider == "meshulam":  # signs nothing: the process's token was given to another account
        assert (answer.status_code, await refusals(neighbour)) == (400, {"wrong_token": 1})
        assert await events(neighbour) == []
    else:
        assert answer.status_code == 200
        [event] = await events(neighbour)
        assert event.payment_id is None
        assert event.status in ("ignored", "unmatched")  # where it names only what that account does not have
        assert event.outcome in ("no such payment in this account", "no payment of ours")
        health = (await neighbour.api.get("/webhooks/health")).json()["callbacks"]
        assert health["outcomes"] == {event.outcome: 1}
        bearer = {"authorization": f"Bearer {await admin_key(shop.service)}"}
        scraped = (await shop.service.http.get(f"{shop.service.api_url}/metrics", headers=bearer)).text
        assert f'webhook_outcomes{{outcome="{event.outcome}",provider="{shop.account.provider}"}}' in scraped
    assert (await shop.read(payment["id"]))["status"] == "pending"
    assert (await neighbour.read(theirs["id"]))["status"] == "pending"
    assert await books(shop, payment["id"]) == await books(neighbour, theirs["id"]) == NOTHING


@pytest.mark.parametrize("shop", ASKED, indirect=True)
async def test_a_signed_callback_is_a_reason_to_look_and_no_more(shop: Shop) -> None:
    """It tells, with one payment's money, of another payment that nobody has paid; and of sums that nobody holds."""
    unpaid, payment = await shop.pays(), await shop.pays()
    await callbacks(shop, "lose")
    await pays(shop, payment)
    hand = await capture_told(shop)
    claims = {"reference": unpaid["id"]}
    if shop.account.provider == "meshulam":
        grow: Any = shop.till.payer
        [process] = await grow.processes(UUID(unpaid["id"]))
        claims |= {name: str(process[name]) for name in ("processId", "processToken")}
    elif shop.account.provider != "wompi":  # what Wompi's event claims beside the amount is not signed at all
        claims |= {"amount": "1.00"}
    assert (await send(shop, hand.lie(**claims))).status_code == 200

    async def looked() -> list[WebhookEvent]:
        return await events(shop, WebhookEvent.handled_at.is_not(None))

    [event] = await eventually(looked)
    assert event.outcome == "pending"
    assert (await shop.read(unpaid["id"]))["status"] == "pending"
    assert await books(shop, unpaid["id"]) == NOTHING


@pytest.mark.parametrize(
    ("shop", "held"),
    [(name, "amount") for name in sorted(PROVIDERS)]
    + [(name, "currency") for name in sorted(PROVIDERS) if not payer_class(name).one_currency],
    indirect=["shop"],
)
async def test_other_money_at_the_provider_is_flagged_and_not_settled(shop: Shop, held: str) -> None:
    payment = await shop.pays()
    opened = await shop.checkout(payment)
    await callbacks(shop, "lose")
    other = {"amount": "100.00" if shop.workspace.currency == "ILS" else LOWER, "currency": FOREIGN}[held]
    await shop.till.payer.pays_otherwise(opened, UUID(payment["id"]), **{held: other})
    hand = await capture_told(shop)
    assert (await send(shop, hand.genuine())).status_code == 200
    flagged = await shop.until(payment["id"], "unknown")
    assert flagged["flag"] == f"{held}_mismatch"
    assert await books(shop, payment["id"]) == NOTHING | {"outbox": 2}
    health = (await shop.api.get("/webhooks/health")).json()["callbacks"]
    assert health["outcomes"] == {f"unknown ({held}_mismatch)": 1}
