"""One obligation, one capture: whatever ways a payer has and however many of them are paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from engine.payments import workflow_id
from storage import administration
from storage.models import AuditEntry, Commission, Payment, Receipt, WebhookEvent
from tests.e2e.test_payment_methods import charge, saved
from tests.support.market import KINDS, Kind, Market, market
from tests.support.service import Service, Shop, eventually

ALL = [(currency, kind) for currency, kinds in KINDS.items() for kind in kinds]
IDS = [f"{currency}-{kind.name}" for currency, kind in ALL]
STRIPE, PAYPLUS, MESHULAM = KINDS["ILS"]
WOMPI = KINDS["COP"][3]
CASH = KINDS["COP"][4]


@dataclass
class Markets:
    """Shops that propose surplus to a person and shops that refund it by themselves."""

    proposing: dict[str, Market]
    refunding: dict[str, Market]


@pytest_asyncio.fixture(scope="module")
async def markets(service: Service) -> AsyncIterator[Markets]:
    async with AsyncExitStack() as stack:
        made = [
            {
                currency: await stack.enter_async_context(market(service, currency, surplus_policy=policy))
                for currency in KINDS
            }
            for policy in ("propose", "refund")
        ]
        yield Markets(*made)


@pytest.fixture
def ils(markets: Markets) -> Market:
    return markets.proposing["ILS"]


@pytest.fixture
def cop(markets: Markets) -> Market:
    return markets.proposing["COP"]


async def lose_callbacks(shop: Shop, *, lost: bool = True) -> None:
    if lost:
        await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 1000})
    else:
        await shop.sandbox("DELETE", "/faults")


async def look(shop: Shop, payment_id: str) -> str:
    """Make the workflow look at once: a cancel looks first and loses against money."""
    answer = await shop.api.post(f"/payments/{payment_id}/cancel")
    assert answer.status_code in (200, 202, 409), answer.text
    return str(answer.json().get("status") or answer.json()["status_now"])


# both ways paid


@pytest.mark.parametrize(("currency", "first"), ALL, ids=IDS)
async def test_two_ways_paid_at_once_are_one_capture_and_one_refund(
    markets: Markets, currency: str, first: Kind
) -> None:
    """Every pair in this order, both paid before anybody has looked; no callback arrives."""
    shops = markets.refunding[currency]
    others = [kind for kind in KINDS[currency] if kind != first]

    async def both_paid(second: Kind) -> str:
        payment_id = await shops.starts(first, second)
        await lose_callbacks(shops.shop)
        await asyncio.gather(shops.pays(payment_id, 1, first), shops.pays(payment_id, 2, second))
        if first.asked or second.asked:
            assert await look(shops.shop, payment_id) == "paid"
        return payment_id

    paid = await asyncio.gather(*(both_paid(second) for second in others))
    await lose_callbacks(shops.shop, lost=False)
    if any(not kind.asked for kind in (first, *others)):
        await shops.hears_of_cash()
    for payment_id, second in zip(paid, others, strict=True):
        settled = second if not first.asked else first  # cash is heard of last
        beyond = first if settled is second else second
        (row,) = await shops.surplus(payment_id, until=(surplus_end(beyond),))
        books = await shops.books(payment_id)
        books.check()
        assert books.payment.status == "paid"
        assert books.payment.flag == (None if row.status == "refunded" else "second_capture")
        assert row.reason == "second_capture"
        by_kind = {first.name: books.attempts[0].status, second.name: books.attempts[1].status}
        assert by_kind == {settled.name: "paid", beyond.name: "surplus"}, f"{first.name} and {second.name}"
        assert row.failure_code == (None if beyond.refundable else "refund_not_supported")
        if row.status == "refunded":
            assert books.held[1 if beyond is first else 2].minor == 0
            assert books.ledger[f"payer_credit:{payment_id}"].minor == 0


def surplus_end(beyond: Kind) -> str:
    """Where a refund at once gets to: PayU decides days later (tests/workflows), cash has no way back."""
    if not beyond.refundable:
        return "refund_failed"
    return "refunding" if beyond.provider == "payu" else "refunded"


@pytest.mark.parametrize(("currency", "first"), ALL, ids=IDS)
async def test_what_could_be_closed_is_closed_and_what_is_paid_later_is_proposed(
    markets: Markets, currency: str, first: Kind
) -> None:
    """Every pair in this order: the second way is tried after the first has settled the payment."""
    shops = markets.proposing[currency]
    others = [kind for kind in KINDS[currency] if kind != first]

    async def one_after_the_other(second: Kind) -> None:
        payment_id = await shops.starts(first, second)
        await shops.pays(payment_id, 1, first)
        await shops.shop.until(payment_id, "paid")
        if second.closes:
            await shops.closed(payment_id, 2)
            await shops.tries_to_pay(payment_id, 2, second)
        else:
            await shops.pays(payment_id, 2, second)
            (row,) = await shops.surplus(payment_id)
            assert (row.status, row.reason) == ("proposed", "second_capture")
        books = await shops.books(payment_id)
        books.check()
        assert len(books.surplus) == (0 if second.closes else 1)
        assert books.attempts[0].status == "paid"
        assert books.payment.provider_account_id == books.attempts[0].provider_account_id
        listed = (await shops.shop.api.get(f"/payments/{payment_id}/attempts")).json()
        assert [way["checkout_url"] for way in listed] == [None, None]  # nobody is sent there any more

    await asyncio.gather(*(one_after_the_other(second) for second in others))


async def test_a_further_way_leaves_what_the_payment_shows_until_it_is_the_one_that_is_paid(cop: Market) -> None:
    payment_id = await cop.starts(WOMPI)
    before = await cop.shop.read(payment_id)
    assert before["checkout_url"]
    assert await cop.opens(payment_id, CASH) == 2
    assert await cop.shop.read(payment_id) == before
    await cop.pays(payment_id, 2, CASH)
    paid = await cop.shop.until(payment_id, "paid")
    assert (paid["provider"], paid["method"]) == ("efecty", "efecty")


async def test_our_own_pages_do_not_take_a_payer_on_to_a_second_payment(cop: Market) -> None:
    """A form of ours and a cash code of ours are shown while the payment is open, and gone when it is paid."""
    for kind in (KINDS["COP"][1], CASH):
        payment_id = await cop.starts(WOMPI)
        answer = await cop.shop.api.post(
            f"/payments/{payment_id}/attempts", json={"provider": kind.provider, "method": kind.method}
        )
        url = answer.json()["checkout_url"]
        assert (await cop.service.http.get(url)).status_code == 200
        await cop.pays(payment_id, 1, WOMPI)
        await cop.shop.until(payment_id, "paid")
        assert (await cop.service.http.get(url)).status_code == 410


async def test_a_cash_code_paid_twice_is_one_capture(cop: Market) -> None:
    """Nobody at the counter knows that the code was paid: the second money is beyond, whenever it comes."""
    payment_id = await cop.starts(CASH)
    await cop.pays(payment_id, 1, CASH)
    await cop.shop.until(payment_id, "paid")
    await cop.pays(payment_id, 1, CASH)
    (row,) = await cop.surplus(payment_id)
    assert (row.status, row.reason, str(row.money)) == ("proposed", "second_capture", "25000.00")
    books = await cop.books(payment_id)
    books.check()
    assert books.statuses() == ["paid"]

    at_once = await cop.starts(CASH)
    await lose_callbacks(cop.shop)
    await cop.pays(at_once, 1, CASH)
    await cop.pays(at_once, 1, CASH)
    await lose_callbacks(cop.shop, lost=False)
    await cop.hears_of_cash()
    await cop.shop.until(at_once, "paid")
    await cop.surplus(at_once)
    (await cop.books(at_once)).check()


async def test_a_reference_that_a_provider_captured_twice_is_settled_once(cop: Market) -> None:
    """The payer had PayU's page open in two tabs. PayU tells the sum of what it holds for our reference."""
    card = KINDS["COP"][1]
    payment_id = await cop.starts(card)
    await cop.pays(payment_id, 1, card)
    await cop.shop.until(payment_id, "paid")
    await cop.shop.sandbox("POST", "/payu/pay", {"reference": payment_id})
    (row,) = await cop.surplus(payment_id)
    assert (row.reason, str(row.money)) == ("second_capture", "25000.00")
    orders = (
        await cop.service.http.get(f"{cop.service.sandbox_url}/sandbox/payu/orders?reference={payment_id}")
    ).json()
    ids = {one["id"] for order in orders for one in order["transactions"]}
    assert row.transaction_id in ids - {(await cop.books(payment_id)).payment.provider_transaction_id}
    (await cop.books(payment_id)).check()


async def test_money_of_the_wrong_amount_does_not_keep_the_right_one_from_settling(ils: Market) -> None:
    payment_id = await ils.starts(STRIPE, MESHULAM)
    session_id = ils.payers[payment_id, 1].session_id
    await ils.shop.sandbox("POST", f"/sessions/{session_id}/amount", {"amount_total": 100})
    await ils.pays(payment_id, 1, STRIPE)
    flagged = await ils.shop.until(payment_id, "unknown")
    assert flagged["flag"] == "amount_mismatch"
    await ils.pays(payment_id, 2, MESHULAM)
    await ils.shop.until(payment_id, "paid")
    (row,) = await ils.surplus(payment_id)
    assert str(row.money) == "1.00"
    books = await ils.books(payment_id)
    assert books.statuses() == ["surplus", "paid"]
    assert (books.receipts, books.commissions) == (1, 1)


# two payments of one order


async def two_of_an_order(shops: Market) -> list[str]:
    """Both are paid before anybody looks."""
    order_id = f"order-{uuid4().hex[:8]}"
    made = [await shops.starts(STRIPE, order_id=order_id), await shops.starts(PAYPLUS, order_id=order_id)]
    await lose_callbacks(shops.shop)
    await asyncio.gather(shops.pays(made[0], 1, STRIPE), shops.pays(made[1], 1, PAYPLUS))
    await lose_callbacks(shops.shop, lost=False)
    assert await asyncio.gather(*(look(shops.shop, payment_id) for payment_id in made)) == ["paid", "paid"]
    return made


@pytest.mark.parametrize("policy", ["propose", "refund"])
async def test_an_order_paid_by_two_payments_at_once_is_settled_once(markets: Markets, policy: str) -> None:
    shops = (markets.refunding if policy == "refund" else markets.proposing)["ILS"]
    made = await two_of_an_order(shops)
    books = [await shops.books(payment_id) for payment_id in made]
    flagged = [one for one in books if one.surplus]
    settled = [one for one in books if not one.surplus]
    assert (len(flagged), len(settled)) == (1, 1)
    assert settled[0].payment.flag is None
    settled[0].check()
    twice = str(flagged[0].payment.id)
    assert (flagged[0].receipts, flagged[0].commissions) == (0, 0)
    if policy == "propose":
        (row,) = await shops.surplus(twice, until=("proposed",))
        assert (await shops.shop.api.post(f"/surplus/{row.id}/refund")).status_code == 202
    (row,) = await shops.surplus(twice, until=("refunded",))
    assert row.reason == "order_paid_twice"
    await shops.shop.until(twice, "refunded")
    after = await shops.books(twice)
    after.check(settled=False)
    assert (after.held[1].minor, after.payment.flag) == (0, None)
    refused = await shops.shop.api.post("/refunds", json={"payment_id": twice})
    assert refused.status_code == 409, refused.text

    async def told() -> bool:
        """The provider's own words about the refund are no further refund of the payment."""
        async with shops.service.database.transaction() as session:
            query = select(WebhookEvent.status).where(
                WebhookEvent.payment_id == UUID(twice), WebhookEvent.kind == "refund"
            )
            states = list(await session.scalars(query))
        return bool(states) and set(states) == {"handled"}

    await eventually(told)
    assert (await shops.shop.api.get(f"/refunds?payment_id={twice}")).json()["data"] == []
    (await shops.books(twice)).check(settled=False)


@pytest.mark.parametrize("first", ["the session", "the saved card", "both at once"])
async def test_a_saved_card_and_an_open_session_of_one_order_are_one_capture(markets: Markets, first: str) -> None:
    shops = markets.refunding["ILS"]
    card = await saved(shops.shop)
    order_id = f"order-{uuid4().hex[:8]}"
    session = await shops.starts(PAYPLUS, order_id=order_id)
    if first == "the session":
        await shops.pays(session, 1, PAYPLUS)
        await shops.shop.until(session, "paid")
        refused = await charge(shops.shop, card, order_id=order_id)
        assert (refused.status_code, refused.json()["code"]) == (409, "order_is_paid")
        assert (await shops.books(session)).surplus == []
        return
    if first == "the saved card":
        charged = await charge(shops.shop, card, order_id=order_id)
        await shops.pays(session, 1, PAYPLUS)
    else:
        charged, _ = await asyncio.gather(charge(shops.shop, card, order_id=order_id), shops.pays(session, 1, PAYPLUS))
        if charged.status_code == 409:  # the session was faster by far
            assert charged.json()["code"] == "order_is_paid"
            await shops.shop.until(session, "paid")
            return
    assert charged.status_code == 201, charged.text

    async def settled() -> list[str] | None:
        states = [(await shops.shop.read(one))["status"] for one in (session, charged.json()["id"])]
        return states if sorted(states) == ["paid", "refunded"] else None

    states = await eventually(settled)
    if first == "the saved card":
        assert states == ["refunded", "paid"]
    async with shops.service.database.transaction() as books:
        for model in (Receipt, Commission):
            mine = select(func.count()).where(model.payment_id.in_([UUID(session), UUID(charged.json()["id"])]))
            assert await books.scalar(mine) == 1


async def test_an_order_that_is_paid_in_parts_may_have_many_payments(service: Service) -> None:
    async with market(service, "ILS", one_capture_per_order=False) as shops:
        for payment_id in await two_of_an_order(shops):
            books = await shops.books(payment_id)
            assert (books.payment.flag, books.receipts, books.surplus) == (None, 1, [])


async def test_an_order_that_was_refunded_may_be_paid_again(markets: Markets) -> None:
    shops = markets.proposing["ILS"]
    order_id = f"order-{uuid4().hex[:8]}"
    first = await shops.starts(STRIPE, order_id=order_id)
    await shops.pays(first, 1, STRIPE)
    await shops.shop.until(first, "paid")
    assert (await shops.shop.api.post("/refunds", json={"payment_id": first})).status_code == 201
    await shops.shop.until(first, "refunded")
    again = await shops.starts(PAYPLUS, order_id=order_id)
    await shops.pays(again, 1, PAYPLUS)
    await shops.shop.until(again, "paid")
    books = await shops.books(again)
    assert (books.payment.flag, books.receipts, books.surplus) == (None, 1, [])


# a provider in trouble


async def test_a_provider_that_is_down_does_not_hold_up_another_ones_money(ils: Market) -> None:
    payment_id = await ils.starts(PAYPLUS, STRIPE)
    await ils.shop.sandbox("POST", "/faults", {"operation": "payplus_disable", "fault": "error:503", "count": 50})
    await ils.shop.sandbox("POST", "/faults", {"operation": "payplus_ipn", "fault": "error:503", "count": 50})
    await ils.pays(payment_id, 2, STRIPE)
    await ils.shop.until(payment_id, "paid")
    assert (await ils.books_at(payment_id)) == ["pending", "paid"]
    await ils.shop.sandbox("DELETE", "/faults")
    await ils.pays(payment_id, 1, PAYPLUS)
    await ils.surplus(payment_id)
    (await ils.books(payment_id)).check()


async def test_a_further_way_that_is_not_answered_is_tried_on_and_opened_once(ils: Market) -> None:
    """The provider acts and is silent: the caller gets 202, the same call finds the way later, and there is one."""
    payment_id = await ils.starts(MESHULAM)
    await ils.shop.sandbox("POST", "/faults", {"operation": "create_session", "fault": "timeout_after:4", "count": 1})
    path, body = f"/payments/{payment_id}/attempts", {"provider": "stripe"}
    answer = await ils.shop.api.post(path, json=body)
    assert answer.status_code in (201, 202), answer.text

    async def opened() -> dict[str, Any] | None:
        again = await ils.shop.api.post(path, json=body)
        return dict(again.json()) if again.json().get("checkout_url") else None

    way = await eventually(opened)
    assert way["number"] == 2
    loaded = await ils.loaded(payment_id)
    assert len(loaded.ways) == 2
    assert loaded.ways[1].attempt is not None
    stripe = ils.tills["stripe"].payer
    assert len(await stripe.checkouts_of(loaded.ways[1].attempt.reference)) == 1
    await stripe.pays(await ils.shop.checkout({"id": payment_id}, 2))
    await ils.shop.until(payment_id, "paid")


async def test_a_further_way_that_is_refused_says_why_and_leaves_the_payment_as_it_is(ils: Market) -> None:
    payment_id = await ils.starts(STRIPE)
    wrong = await ils.service.connect(
        ils.shop.workspace,
        ils.tills["payplus"].payer,
        name=f"wrong-{uuid4().hex[:6]}",
        callbacks=False,
        options={"api_base": f"{ils.service.sandbox_url}/nowhere"},
    )
    answer = await ils.shop.api.post(
        f"/payments/{payment_id}/attempts", json={"provider_account_id": str(wrong.account.id)}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "provider_rejected"), answer.text
    listed = (await ils.shop.api.get(f"/payments/{payment_id}/attempts")).json()
    assert [(way["status"], way["error_code"]) for way in listed] == [("pending", None), ("failed", "http_404")]
    async with ils.service.database.transaction() as session:
        await session.refresh(account := await session.merge(wrong.account))
        account.enabled = False
    await ils.pays(payment_id, 1, STRIPE)
    await ils.shop.until(payment_id, "paid")
    (await ils.books(payment_id)).check()


# races


async def test_the_same_further_way_asked_for_twenty_times_at_once_is_opened_once(ils: Market) -> None:
    payment_id = await ils.starts(STRIPE)
    path, body = f"/payments/{payment_id}/attempts", {"provider": "payplus"}
    answers = await asyncio.gather(*(ils.shop.api.post(path, json=body) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.json()["checkout_url"] for answer in answers}) == 1
    listed = (await ils.shop.api.get(path)).json()
    assert [way["number"] for way in listed] == [1, 2]
    loaded = await ils.loaded(payment_id)
    assert loaded.ways[1].attempt is not None
    assert len(await ils.tills["payplus"].payer.checkouts_of(loaded.ways[1].attempt.reference)) == 1
    assert (await ils.shop.api.post(f"/payments/{payment_id}/cancel")).json()["status"] == "canceled"


@pytest.mark.parametrize("rival", ["paid", "canceled"])
async def test_ways_opened_while_the_payment_is_being_closed_cannot_be_paid_unnoticed(
    markets: Markets, rival: str
) -> None:
    """Ten payments, each with a way that is opened at the moment at which it is paid or cancelled."""
    shops = markets.refunding["ILS"]
    made = await asyncio.gather(*(shops.starts(STRIPE) for _ in range(10)))

    async def race(payment_id: str, delay: float) -> None:
        async def end() -> None:
            if rival == "paid":
                await shops.pays(payment_id, 1, STRIPE)
            else:
                await look(shops.shop, payment_id)

        async def open_way() -> int:
            await asyncio.sleep(delay)
            path = f"/payments/{payment_id}/attempts"
            answer = await shops.shop.api.post(path, json={"provider": "payplus"})
            assert answer.status_code in (200, 201, 202, 409), answer.text
            if answer.status_code == 409:
                assert answer.json()["code"] == "payment_is_final"
            return answer.status_code

        await asyncio.gather(end(), open_way())

    await asyncio.gather(*(race(payment_id, (number % 10) * 0.02) for number, payment_id in enumerate(made)))
    for payment_id in made:
        await shops.shop.until(payment_id, rival)
        await nobody_works_on(shops, payment_id)
        books = await shops.books(payment_id)
        books.check(settled=rival == "paid")
        pages = [attempt for attempt in books.attempts if attempt.provider == "payplus" and attempt.session_id]
        for attempt in pages:
            found = (
                await shops.service.http.get(
                    f"{shops.service.sandbox_url}/sandbox/payplus/pages", params={"more_info": str(attempt.reference)}
                )
            ).json()
            assert {page["state"] for page in found} == {"disabled"}
            assert attempt.status == "canceled"


async def nobody_works_on(shops: Market, payment_id: str) -> None:
    """Wait until the payment's workflow has ended: nothing is left that may be paid."""
    client = await shops.temporal()
    await asyncio.wait_for(client.get_workflow_handle(workflow_id(UUID(payment_id))).result(), 20)


# after the end


async def test_money_of_another_way_after_the_workflow_has_ended_is_surplus(markets: Markets) -> None:
    """PayPlus captures a hold days after the page was closed and the payment settled: the after-life takes it up."""
    shops = markets.refunding["ILS"]
    payment_id = await shops.starts(STRIPE, PAYPLUS)
    await shops.pays(payment_id, 1, STRIPE)
    await shops.shop.until(payment_id, "paid")
    await nobody_works_on(shops, payment_id)
    page = shops.payers[payment_id, 2].session_id
    await shops.shop.sandbox("POST", f"/payplus/pages/{page}/capture", {})
    await shops.surplus(payment_id, until=("refunded",))
    (await shops.books(payment_id)).check()


async def test_an_event_that_could_not_be_handed_over_is_dispatched_later(markets: Markets) -> None:
    """The same, with the first hand-over lost: the dispatcher finds the row and does not take it for settled."""
    shops = markets.refunding["ILS"]
    payment_id = await shops.starts(STRIPE, PAYPLUS)
    await shops.pays(payment_id, 1, STRIPE)
    await shops.shop.until(payment_id, "paid")
    await nobody_works_on(shops, payment_id)
    page = shops.payers[payment_id, 2].session_id
    await lose_callbacks(shops.shop)
    await shops.shop.sandbox("POST", f"/payplus/pages/{page}/capture", {})
    await lose_callbacks(shops.shop, lost=False)
    loaded = await shops.loaded(payment_id)
    attempt = loaded.ways[1].attempt
    assert attempt is not None
    async with shops.service.database.transaction() as session:
        session.add(
            WebhookEvent(
                provider_account_id=attempt.provider_account_id,
                provider="payplus",
                event_id=f"late-{uuid4()}",
                type="Charge",
                kind="captured",
                payment_id=UUID(payment_id),
                reference=attempt.reference,
                body=b"{}",
            )
        )
    await shops.surplus(payment_id, until=("refunded",))
    (await shops.books(payment_id)).check()


# decisions


async def test_surplus_is_listed_decided_once_and_by_those_who_may(ils: Market, markets: Markets) -> None:
    rows = []
    for _ in range(3):
        payment_id = await ils.starts(STRIPE, MESHULAM)
        await ils.pays(payment_id, 1, STRIPE)
        await ils.shop.until(payment_id, "paid")
        await ils.pays(payment_id, 2, MESHULAM)
        rows += await ils.surplus(payment_id, until=("proposed",))
    refunded, kept, waiting = (str(row.id) for row in rows)
    api = ils.shop.api

    answers = await asyncio.gather(*(api.post(f"/surplus/{refunded}/refund") for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    (row,) = await ils.surplus(str(rows[0].payment_id), until=("refunded",))
    again = await api.post(f"/surplus/{refunded}/refund")
    assert (again.status_code, again.json()["code"]) == (409, "surplus_is_final")
    assert (await api.post(f"/surplus/{refunded}/keep")).status_code == 409
    books = await ils.books(str(row.payment_id))
    books.check()
    assert books.held[2].minor == 0

    for _ in range(2):
        answer = await api.post(f"/surplus/{kept}/keep")
        assert (answer.status_code, answer.json()["status"]) == (200, "kept")
    assert (await api.post(f"/surplus/{kept}/refund")).json()["code"] == "surplus_is_final"
    (await ils.books(str(rows[1].payment_id))).check()

    listed = (await api.get("/surplus?status=proposed&limit=100")).json()["data"]
    assert waiting in [one["id"] for one in listed]
    assert {one["status"] for one in listed} == {"proposed"}
    seen, cursor = [], ""
    while True:
        page = (await api.get(f"/surplus?limit=1{cursor}")).json()
        seen += [one["id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen))
    assert {refunded, kept, waiting} <= set(seen)
    shown = next(one for one in listed if one["id"] == waiting)
    assert (shown["amount"], shown["currency"], shown["provider"]) == ("129.90", "ILS", "meshulam")

    for what in ("refund", "keep"):
        assert (await api.post(f"/surplus/{uuid4()}/{what}")).json()["code"] == "not_found"
        other = markets.refunding["ILS"].shop.api
        assert (await other.post(f"/surplus/{waiting}/{what}")).status_code == 404
        async with ils.service.database.transaction() as session:
            made = administration.create_api_key(
                session,
                workspace_id=ils.shop.workspace.id,
                name="clerk",
                scopes=[scope for scope in administration.SCOPES if scope not in ("refunds:write", "admin")],
                actor="test",
            )
        headers = {"authorization": f"Bearer {made.key}"}
        assert (await api.post(f"/surplus/{waiting}/{what}", headers=headers)).json()["code"] == "forbidden"
    assert (await ils.surplus(str(rows[2].payment_id)))[0].status == "proposed"


async def test_a_refund_that_failed_is_started_again_as_another_one(ils: Market) -> None:
    """PayPlus refuses the first, for certain; the operator tries again days later, and the money goes back once."""
    payment_id = await ils.starts(STRIPE, PAYPLUS)
    await lose_callbacks(ils.shop)
    await asyncio.gather(ils.pays(payment_id, 1, STRIPE), ils.pays(payment_id, 2, PAYPLUS))
    await lose_callbacks(ils.shop, lost=False)
    assert await look(ils.shop, payment_id) == "paid"
    (row,) = await ils.surplus(payment_id, until=("proposed",))
    key = ils.tills["payplus"].credentials["api_key"]
    await ils.shop.sandbox("POST", "/payplus/refund_status", {"api_key": key, "value": "051"})
    await ils.shop.api.post(f"/surplus/{row.id}/refund")
    (row,) = await ils.surplus(payment_id, until=("refund_failed",))
    assert row.failure_code == "051"
    (await ils.books(payment_id)).check()
    await ils.forget_refund_status(key)
    assert (await ils.shop.api.post(f"/surplus/{row.id}/refund")).status_code == 202
    (row,) = await ils.surplus(payment_id, until=("refunded",))
    assert row.refund_id != row.id
    books = await ils.books(payment_id)
    books.check()
    assert books.held[2].minor == 0


async def test_a_refund_that_nobody_began_is_begun_by_the_dispatcher(ils: Market) -> None:
    """The process died between the decision and the start."""
    payment_id = await ils.starts(STRIPE, MESHULAM)
    await ils.pays(payment_id, 1, STRIPE)
    await ils.shop.until(payment_id, "paid")
    await ils.pays(payment_id, 2, MESHULAM)
    (row,) = await ils.surplus(payment_id, until=("proposed",))
    dispatcher = await ils.dispatcher()
    async with ils.service.database.transaction() as session:
        found = await session.merge(row)
        found.status = "refunding"
        found.updated_at = ils.now(minutes=-1)
    assert await dispatcher.start_unstarted_surplus(older_than=ils.now(minutes=-2)) == 0  # somebody is probably at it
    assert await dispatcher.start_unstarted_surplus(older_than=ils.now()) == 1
    await ils.surplus(payment_id, until=("refunded",))
    (await ils.books(payment_id)).check()


async def test_the_audit_log_tells_the_story(ils: Market) -> None:
    payment_id = await ils.starts(STRIPE, MESHULAM)
    await ils.pays(payment_id, 1, STRIPE)
    await ils.shop.until(payment_id, "paid")
    await ils.pays(payment_id, 2, MESHULAM)
    (row,) = await ils.surplus(payment_id)
    await ils.shop.api.post(f"/surplus/{row.id}/refund")
    await ils.surplus(payment_id, until=("refunded",))
    async with ils.service.database.transaction() as session:
        query = select(AuditEntry).where(AuditEntry.subject_id == payment_id).order_by(AuditEntry.id)
        entries = [(entry.action, entry.actor.split(":")[0]) for entry in await session.scalars(query)]
    story = [entry for entry in entries if entry[0].startswith(("surplus.", "payment.way", "payment.flagged"))]
    assert story == [
        ("payment.way_added", "api-key"),
        ("payment.flagged", "provider"),
        ("surplus.recorded", "provider"),
        ("surplus.refunding", "api-key"),
        ("surplus.refunded", "workflow"),
    ]
    assert Decimal((await ils.shop.read(payment_id))["refunded"]) == 0
    async with ils.service.database.transaction() as session:
        payment = await session.get(Payment, UUID(payment_id))
        assert payment is not None
        assert payment.flag is None
