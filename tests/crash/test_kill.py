"""kill -9 at the worst moments of a payment: the supervisor restarts what died, and the payment completes once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from domain.money import Money
from embedded import supervisor
from tests.crash.conftest import Live
from tests.support.referrals import owed, sold
from tests.support.service import Shop, eventually

NewShop = Callable[[], Awaitable[Shop]]
Call = asyncio.Task[httpx.Response]


def ask(shop: Shop, order_id: str) -> Call:
    """A caller that asks for a payment and may never hear of it; a repeat is the same request."""
    return asyncio.create_task(
        shop.api.post("/payments", json=shop.order(order_id=order_id), headers={"Idempotency-Key": order_id})
    )


async def ask_again(shop: Shop, order_id: str) -> dict[str, Any]:
    """What a caller does who got no answer, until there is an address to pay at."""

    async def asked() -> dict[str, Any] | None:
        try:
            answer = await ask(shop, order_id)
        except httpx.HTTPError:
            return None
        return dict(answer.json()) if answer.is_success and answer.json()["checkout_url"] else None

    return dict(await eventually(asked, 40))


def new_order() -> str:
    return f"order-{secrets.token_hex(6)}"


async def fault(shop: Shop, operation: str, kind: str) -> None:
    await shop.sandbox("POST", "/faults", {"operation": operation, "fault": kind, "count": 1})


@dataclass(frozen=True)
class MidPayment:
    """Payments, each at another moment of its life."""

    shop: Shop
    opening: str
    """By order id: the provider has made the checkout, and we have not heard of it yet."""
    pending: dict[str, Any]
    delivering: dict[str, Any]
    """Paid by the block, at the very last."""
    looking: dict[str, Any]
    closed: Shop
    settling: dict[str, Any]

    async def complete(self, live: Live) -> None:
        await self.shop.pay(self.pending)
        opened = await ask_again(self.shop, self.opening)
        await self.shop.pay(opened)
        ids = [payment["id"] for payment in (self.pending, self.delivering, self.looking, opened)]
        await live.completes_once(self.shop, *ids)
        await live.completes_once(self.closed, self.settling["id"])


@asynccontextmanager
async def mid_payment(live: Live, shop: Shop, closed: Shop) -> AsyncIterator[MidPayment]:
    """Bring payments to all moments, and hold them there while the block kills."""
    pending, delivering, looking, settling = await asyncio.gather(shop.pays(), shop.pays(), shop.pays(), closed.pays())
    async with live.books_closed(closed):
        await closed.pay(settling)
        await live.settling(1)
        await fault(shop, "read_session", "timeout_before:2")
        await shop.pay(looking)
        await eventually(lambda: _dispatched(live, looking["id"]))
        order_id = new_order()
        await fault(shop, "create_session", "timeout_after:2")
        call = ask(shop, order_id)
        opening = await eventually(lambda: live.row(order_id))
        await eventually(lambda: _checkout_made(shop, str(opening["id"])))
        yield MidPayment(shop, order_id, pending, delivering, looking, closed, settling)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def _dispatched(live: Live, payment_id: str) -> bool:
    rows = await live.sql("SELECT status FROM webhook_events WHERE payment_id::text = $1", payment_id)
    return any(row["status"] == "dispatched" for row in rows)


async def _checkout_made(shop: Shop, payment_id: str) -> bool:
    return bool((await shop.totals(payment_id)).get("sessions"))


@asynccontextmanager
async def settled_unreported(live: Live, shop: Shop) -> AsyncIterator[dict[str, Any]]:
    """A settlement that is committed while Temporal hangs, so that nobody can be told. One other is held already."""
    payment = await shop.pays()
    async with AsyncExitStack() as hung:
        async with live.books_closed(shop):
            await shop.pay(payment)
            await live.settling(2)
            await hung.enter_async_context(live.stopped("temporal"))
        await eventually(lambda: _paid(live, payment["id"]))
        yield payment


@asynccontextmanager
async def held_at(live: Live, table: str) -> AsyncIterator[None]:
    """Whoever comes to this table waits, until the block ends or PostgreSQL dies."""
    connection = await live._connect()
    try:
        await connection.execute("BEGIN")
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
    finally:
        with suppress(Exception):
            await connection.close(timeout=2)


async def _waits_at(live: Live, table: str) -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE relation = $1::regclass AND NOT granted"
    return bool((await live.sql(query, table))[0][0])


async def _prepared(shop: Shop) -> dict[str, Any] | None:
    with suppress(httpx.HTTPError):
        answer = await shop.api.get("/payouts", params={"status": "prepared"})
        if answer.is_success and answer.json()["data"]:
            return dict(answer.json())
    return None


async def _file(shop: Shop, payout_id: str) -> str | None:
    answer = await shop.api.get(f"/payouts/{payout_id}/export.csv")
    return answer.text if answer.is_success else None


@dataclass(frozen=True)
class Payout:
    """A batch that was cut off twice: PostgreSQL died as it was prepared, the worker as its file was made."""

    shop: Shop
    asked: httpx.Response
    approved: dict[str, Any]


@pytest_asyncio.fixture(scope="module")
async def payout(live: Live) -> AsyncIterator[Payout]:
    """Made first: Temporal gives the activity of a dead worker half a minute, in which the other tests run."""
    shop = await live.service.shop()
    async with shop.api:
        for name in ("ann", "ben"):
            await sold(shop, Money.parse("100.00", "ILS"), referrer=name)
        async with held_at(live, "payout_items"):
            asking = asyncio.create_task(shop.api.post("/payouts", json={}))
            await eventually(lambda: _waits_at(live, "payout_items"))
            await live.kill("postgres")
        asked = await asking
        (found,) = (await eventually(lambda: _prepared(shop)))["data"]
        async with held_at(live, "payout_files"):
            approved = await shop.api.post(f"/payouts/{found['id']}/approve")
            assert approved.status_code == 200, approved.text
            await eventually(lambda: _waits_at(live, "payout_files"))
            await live.kill("worker")
        yield Payout(shop, asked, dict(approved.json()))


async def test_a_payout_is_prepared_and_approved_although_postgresql_is_killed(payout: Payout) -> None:
    assert payout.asked.status_code in (201, 202, 503), payout.asked.text
    assert len(payout.approved["lines"]) == 2


async def test_the_worker_killed_at_any_moment(live: Live, new_shop: NewShop) -> None:
    reported = await new_shop()
    async with (
        mid_payment(live, await new_shop(), await new_shop()) as made,
        settled_unreported(live, reported) as settled,
    ):
        await made.shop.pay(made.delivering)
        await live.kill("worker")
    await made.complete(live)
    await live.completes_once(reported, settled["id"])


async def test_postgresql_killed_at_any_moment(live: Live, new_shop: NewShop) -> None:
    async with mid_payment(live, await new_shop(), await new_shop()) as made:
        await made.shop.pay(made.delivering)
        await live.kill("postgres")
    await made.complete(live)


async def _paid(live: Live, payment_id: str) -> bool:
    rows = await live.sql("SELECT status FROM payments WHERE id::text = $1", payment_id)
    return bool(rows[0]["status"] == "paid")


async def deliver(shop: Shop, payment_id: str) -> httpx.Response:
    """A callback about a payment, signed as the provider signs."""
    event = {
        "id": f"evt_{secrets.token_hex(8)}",
        "object": "event",
        "created": int(time.time()),
        "type": "checkout.session.completed",
        "data": {
            "object": {
                "id": f"cs_test_{secrets.token_hex(8)}",
                "object": "checkout.session",
                "client_reference_id": payment_id,
                "payment_status": "paid",
                "amount_total": 12990,
                "currency": "ils",
            }
        },
    }
    body, at = json.dumps(event).encode(), int(time.time())
    digest = hmac.new(shop.hook_secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return await shop.service.http.post(
        shop.hook_url, content=body, headers={"stripe-signature": f"t={at},v1={digest}"}
    )


async def test_callbacks_are_kept_while_temporal_is_away(
    live: Live, new_shop: NewShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_SECONDS", 2.0)
    shop = await new_shop()
    paid, order_id = await shop.pays(), new_order()
    down = asyncio.create_task(live.kill("temporal"))
    call = ask(shop, order_id)
    await shop.pay(paid)
    answers = await eventually(lambda: _answers(shop))
    assert set(answers) == {200}
    assert await _statuses(live, paid["id"]) == {"received"}
    assert not down.done()
    await down
    await live.completes_once(shop, paid["id"])
    assert (await call).status_code in (201, 202)
    asked = await ask_again(shop, order_id)
    await shop.pay(asked)
    await live.completes_once(shop, asked["id"])


async def _answers(shop: Shop) -> list[int | None]:
    """What the provider got for its three callbacks about a payment."""
    sent = [each["status"] for each in await shop.sandbox("GET", "/deliveries") if each["url"] == shop.hook_url]
    return sent if len(sent) >= 3 else []


async def _statuses(live: Live, payment_id: str) -> set[str]:
    query = "SELECT status FROM webhook_events WHERE payment_id::text = $1 AND kind = 'captured'"
    return {row["status"] for row in await live.sql(query, payment_id)}


async def test_an_api_killed_between_record_and_workflow_is_made_up_for(live: Live, new_shop: NewShop) -> None:
    shop = await new_shop()
    delivering = await shop.pays()
    asked_again, _, forgotten = orders = [new_order() for _ in range(3)]
    async with live.stopped("temporal"):
        await shop.pay(delivering)
        calls = [ask(shop, order_id) for order_id in orders]
        rows = [await eventually(lambda order_id=order_id: live.row(order_id)) for order_id in orders]
        await live.kill("api", "temporal")  # both, so that nothing is half-way to Temporal
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, httpx.HTTPError) for answer in answers)
    await live.ready("temporal", "api")
    assert [await live.has_workflow(str(row["id"])) for row in rows] == [False] * 3
    # one is healed by its caller, one by a callback that comes before the workflow, one by nobody's doing
    assert (await deliver(shop, str(rows[1]["id"]))).status_code == 200
    assert await _statuses(live, str(rows[1]["id"])) == {"received"}
    await live.sql("UPDATE payments SET created_at = created_at - interval '1 minute' WHERE order_id = $1", forgotten)
    await ask_again(shop, asked_again)
    for order_id in orders:
        row = await eventually(lambda order_id=order_id: _opened(live, order_id))
        await shop.pay({"checkout_url": row["checkout_url"]})
    await live.completes_once(shop, delivering["id"], *(str(row["id"]) for row in rows))


async def _opened(live: Live, order_id: str) -> Any:
    row = await live.row(order_id)
    return row if row is not None and row["checkout_url"] else None


async def test_the_file_of_a_payout_is_made_whatever_is_killed_meanwhile(live: Live, payout: Payout) -> None:
    shop, payout_id = payout.shop, payout.approved["id"]
    content = await eventually(lambda: _file(shop, payout_id), 60)
    assert content.splitlines()[-1] == '"total","2","","20.00","ILS"'
    kept = "SELECT count(*) FROM audit_log WHERE action = 'payout.file_made' AND subject_id = $1"
    assert (await live.sql(kept, payout_id))[0][0] == 1
    for line in payout.approved["lines"]:
        done = await shop.api.post(f"/payouts/{payout_id}/lines/{line['id']}/paid", json={})
    assert done.json()["status"] == "closed"
    assert (await owed(shop, "ann")).minor == (await owed(shop, "ben")).minor == 0
