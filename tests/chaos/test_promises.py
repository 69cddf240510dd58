"""The judge of `make chaos` finds what is broken: each breach is made by hand in books that were in order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from domain.payment import attempt_reference
from providers.registry import PROVIDERS
from tests.chaos import promises, rules, shapes
from tests.chaos.bookkeepers import Bookkeepers
from tests.chaos.promises import Judge, Tally, judge_logs
from tests.chaos.subscribers import Subscribers
from tests.providers.payers import payer_class
from tests.support.market import KINDS, market
from tests.support.service import Service, eventually

CARD = KINDS["ILS"][0]


@pytest_asyncio.fixture
async def sold(service: Service) -> AsyncIterator[tuple[Judge, str]]:
    """A shop with one payment, paid and told."""
    async with market(service, "ILS", order_webhook_url=f"{service.merchant.url}/hooks/promises") as shop:
        judge = Judge(service.database, [shop], service.merchant)
        payment_id = await shop.starts(CARD)
        await shop.pays(payment_id, 1, CARD)
        await shop.shop.until(payment_id, "paid")

        async def told() -> bool:
            return "payment.paid" in service.merchant.told(payment_id)

        await eventually(told)
        yield judge, payment_id


async def verdict(judge: Judge) -> Tally:
    """Once nothing is left to be done. What is only late becomes right in that time, as in `make chaos`."""

    async def right() -> bool:
        judge.tally = Tally()
        return not await judge.unrest() and (await judge.judge()).kept

    with suppress(AssertionError):  # the tally says what is not
        await eventually(right)
    assert judge.tally.kept, "\n".join(judge.tally.lines() or [f"no rest: {await judge.unrest()}"])
    return judge.tally


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_variant_of_the_payers_is_one_that_the_sandbox_has(name: str) -> None:
    payer = payer_class(name)
    named = {variant for entry in payer.variants for variant in entry.split("+")}
    assert named == set(shapes.variants_of(payer))


def test_variants_are_drawn_by_the_seed_and_each_is_drawn_by_some() -> None:
    for payer in map(payer_class, PROVIDERS):
        draws = [shapes.drawn(payer, seed, number) for seed in range(40) for number in range(4)]
        assert draws == [shapes.drawn(payer, seed, number) for seed in range(40) for number in range(4)]
        assert {name for names in draws for name in names} == set(shapes.variants_of(payer))
        assert not shapes.variants_of(payer) or [] in draws


async def test_accounts_are_answered_as_they_were_drawn(service: Service) -> None:
    """The choice is told to the sandbox for the account that the shop really has."""
    async with market(service, "COP") as shop:
        till = shop.tills["wompi"]
        seed = next(seed for seed in range(100) if "open_reads" in shapes.drawn(type(till.payer), seed, 0))
        payment_id = await shop.starts(KINDS["COP"][0])
        opened = await shop.opens(payment_id, next(kind for kind in KINDS["COP"] if kind.provider == "wompi"))
        await till.payer.pays(shop.payers[payment_id, opened])
        reference = attempt_reference(UUID(payment_id), opened)
        [transaction] = await till.payer.transactions(reference)  # type: ignore[attr-defined]
        headers = {"authorization": f"Bearer {till.credentials['public_key']}"}

        async def read() -> int:
            answer = await till.payer.http.get(f"/wompi/v1/transactions/{transaction['id']}", headers=headers)
            return answer.status_code

        assert await read() == 404
        lines = await shapes.behave([shop], seed)
        assert await read() == 200
        assert any("wompi" in line and "open_reads" in line for line in lines)


async def test_books_in_order_keep_every_promise(sold: tuple[Judge, str]) -> None:
    judge, _ = sold
    tally = await verdict(judge)
    assert {promise for promise, times in tally.checked.items() if not times} == {rules.PERIODS, rules.CREDIT}
    looked_at = {promise.split()[0] for promise in tally.checked}
    assert looked_at == {"1", "2", "3", "4", "5", "6", "7", "8", "10", "12", "13", "14"}


BREACHES: dict[str, tuple[str, str]] = {
    "not paid here": (promises.LOST, "UPDATE payments SET status = 'expired' WHERE id = :payment"),
    "no commission": (promises.WHOLE, "DELETE FROM commissions WHERE payment_id = :payment"),
    "a number left out": (
        promises.GAPS,
        """UPDATE receipt_counters SET last_number = 2
            WHERE workspace_id = (SELECT workspace_id FROM payments WHERE id = :payment)""",
    ),
    "a refund that nobody made": (
        promises.REFUNDS,
        "UPDATE payments SET refunded = 1, status = 'partially_refunded' WHERE id = :payment",
    ),
    "a claw-back without an entry": (
        promises.SHARES,
        "UPDATE commissions SET clawed_back = 0.01 WHERE payment_id = :payment",
    ),
    "a notice that nobody got": (
        promises.TOLD,
        """INSERT INTO outbox (id, workspace_id, payment_id, seq, type, payload, status)
           SELECT gen_random_uuid(), workspace_id, id, 99, 'payment.paid', '{}', 'delivered'
             FROM payments WHERE id = :payment""",
    ),
    "money booked at an account that has none": (
        promises.CENTS,
        """INSERT INTO ledger_entries (workspace_id, payment_id, movement_id, kind, account, amount, currency)
           SELECT p.workspace_id, p.id, '00000000-0000-4000-8000-000000000001', 'capture', side.account, side.amount,
                  p.currency
             FROM payments p, (VALUES ('provider:another', 1), ('sales', -1)) AS side (account, amount)
            WHERE p.id = :payment""",
    ),
    "an event that is gone": (promises.TAKEN, "DELETE FROM webhook_events WHERE payment_id = :payment"),
    "an event that has lost its owner": (
        rules.OWNERS,
        """UPDATE webhook_events SET payment_id = NULL, status = 'unmatched', kind = 'refund',
                  named = ARRAY(SELECT session_id FROM attempts WHERE payment_id = :payment)
            WHERE id = (SELECT min(id) FROM webhook_events WHERE payment_id = :payment)""",
    ),
    "an outcome that nobody looks for": (
        promises.REST,
        "UPDATE payments SET status = 'unknown' WHERE id = :payment",
    ),
    "a capture that belongs to nobody": (
        promises.ONE,
        "UPDATE attempts SET status = 'expired' WHERE payment_id = :payment",
    ),
}


@pytest.mark.parametrize("name", sorted(BREACHES))
async def test_a_breach_is_found(sold: tuple[Judge, str], name: str) -> None:
    judge, payment_id = sold
    promise, change = BREACHES[name]
    async with judge.database.transaction() as session:
        await session.execute(text(change), {"payment": UUID(payment_id)})
    assert (await judge.judge()).broken[promise]


LATER: dict[str, tuple[str, str]] = {
    "a period paid without a payment": (
        rules.PERIODS,
        "UPDATE payments SET invoice_id = NULL, subscription_id = NULL WHERE workspace_id = ANY(:shops)",
    ),
    "a period paid and not told": (
        rules.PERIODS,
        "DELETE FROM outbox WHERE type = 'subscription.activated' AND workspace_id = ANY(:shops)",
    ),
    "a period left out": (
        rules.PERIODS,
        "UPDATE subscriptions SET period = period + 1 WHERE workspace_id = ANY(:shops)",
    ),
    "an invoice that nobody collects": (
        rules.PERIODS,
        "UPDATE invoices SET status = 'open' WHERE workspace_id = ANY(:shops)",
    ),
    "credit out of nothing": (
        rules.CREDIT,
        """INSERT INTO customer_credits (workspace_id, customer_id, currency, balance)
            SELECT workspace_id, customer_id, 'ILS', 5 FROM subscriptions WHERE workspace_id = ANY(:shops)
            ON CONFLICT (workspace_id, customer_id, currency) DO UPDATE SET balance = customer_credits.balance + 5""",
    ),
    "credit of more than was captured": (
        rules.BACKED,
        """INSERT INTO credit_entries (workspace_id, customer_id, currency, payment_id, kind, unused, used, cause_id)
            SELECT workspace_id, customer_id, currency, id, 'granted', amount + 1, 0, id FROM payments
             WHERE workspace_id = ANY(:shops) AND paid_at IS NOT NULL""",
    ),
    "a line that pays too much": (
        rules.PAYOUTS,
        "UPDATE payout_lines SET gross = gross + 1, amount = amount + 1 WHERE workspace_id = ANY(:shops)",
    ),
    "a batch that pays too much": (
        rules.PAYOUTS,
        "UPDATE payouts SET total = total + 1 WHERE workspace_id = ANY(:shops)",
    ),
    "a commission paid by nobody": (
        rules.PAYOUTS,
        "UPDATE commissions SET status = 'paid' WHERE workspace_id = ANY(:shops)",
    ),
}
"""What is changed by hand in the books of a subscription and a batch of payouts, and which promise that breaks."""


async def test_what_comes_later_keeps_every_promise_and_each_breach_is_found(service: Service) -> None:
    chance, done, wrong = random.Random(1), Counter[str](), list[str]()
    url = f"{service.merchant.url}/hooks/later"
    async with market(service, "ILS", order_webhook_url=url, commission_holding_days=0) as shop:
        judge = Judge(service.database, [shop], service.merchant)
        customer = {"id": "cust-later", "name": "Dana", "email": "dana@example.com", "phone": "0541234567"}
        subscribers = Subscribers(chance, done, wrong)
        made = await subscribers._subscribes(shop, customer)
        assert made is not None, wrong
        await eventually(lambda: paid_periods(judge, 1))
        await subscribers._a_month(shop, made, customer)
        await eventually(lambda: paid_periods(judge, 2))
        await Bookkeepers(chance, done, wrong).story(shop)
        assert not wrong
        assert done["results of payouts taken"]
        unpaid = await shop.starts(CARD)
        await shop.pays(unpaid, 1, CARD)
        await shop.shop.until(unpaid, "paid")  # with a commission that is in no batch
        tally = await verdict(judge)
        assert all(tally.checked[promise] for promise in (rules.PERIODS, rules.PAYOUTS))
        for name, (promise, change) in LATER.items():
            assert promise in await _broken_by(judge, change), name


async def paid_periods(judge: Judge, count: int) -> bool:
    """Whether so many periods of the shop's subscriptions were paid and booked."""
    paid = "SELECT count(*) FROM invoices WHERE workspace_id = ANY(:shops) AND status = 'paid' AND total > 0"
    return bool((await judge.rows(paid))[0][0] == count)


async def _broken_by(judge: Judge, change: str) -> set[str]:
    """Which rules a change of the books breaks; it is taken back."""
    async with judge.database.transaction() as session:
        ours = {"shops": judge.shops}
        await session.execute(text(change), ours)
        broken = {rule.promise for rule in rules.RULES if (await session.execute(text(rule.broken), ours)).all()}
        await session.rollback()
    return broken


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("2026-01-01T00:00:00Z [warning  ] database is away               error=ConnectionRefusedError", 0),
        ("2026-01-01T00:00:00Z [error    ] Exception closing connection <AdaptedConnection>", 0),
        ("2026-01-01T00:00:00Z [error    ] inbox dispatch failed", 1),
        ("Task exception was never retrieved", 1),
    ],
)
def test_a_fault_in_a_log_is_found(tmp_path: Path, line: str, times: int) -> None:
    (tmp_path / "worker.log").write_text(line + "\n")
    tally = Tally()
    judge_logs(tmp_path, [], tally)
    assert len(tally.broken[promises.FAULTS]) == times


async def test_a_secret_in_a_log_is_found(sold: tuple[Judge, str], tmp_path: Path) -> None:
    judge, _ = sold
    (tmp_path / "api.log").write_text("all is well\n")
    judge_logs(tmp_path, judge.markets, judge.tally)
    assert not judge.tally.broken[promises.SECRETS]
    (tmp_path / "worker.log").write_text(f"key={judge.markets[0].shop.provider_key}\n")
    judge_logs(tmp_path, judge.markets, judge.tally)
    assert judge.tally.broken[promises.SECRETS] == ["stripe secret_key is in worker.log"]
