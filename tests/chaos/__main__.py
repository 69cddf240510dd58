"""`make chaos`: people pay at six providers, subscribe, refund, dispute and pay referrers out while everything fails.

Then all promises are checked, against everybody's books, logs and histories.

Exit code 0: every promise held. 1: one was broken. The seed repeats the choices, not the moments at which they fall.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import httpx
from sqlalchemy import select, text
from temporalio.client import Client
from temporalio.service import RPCError

import process
import wiring
from domain.payment import ProviderTrigger
from embedded.stack import Ports, Stack, service
from embedded.supervisor import tell
from engine.client import connect
from engine.payments import EngineUnavailable, PaymentEngine
from providers.base import EventKind
from storage.models import Payment, Refund
from tests.chaos.asking import ask, insist
from tests.chaos.bookkeepers import Bookkeepers
from tests.chaos.desk import TOLD_AGAIN
from tests.chaos.promises import ANSWERS, FORGED, STOPS, Judge, Tally, judge_logs, judge_workflows, reasons
from tests.chaos.shapes import behave
from tests.chaos.subscribers import Subscribers
from tests.chaos.traffic import Traffic
from tests.chaos.trouble import PARTS, Deployer, Killer, Stranger, Weather
from tests.support.market import Market, market
from tests.support.service import Merchant, Service, served, settings_for

QUICKER = {
    "DISPATCH_INTERVAL_SECONDS": "0.2",
    "OUTBOX_FIRST_RETRY_SECONDS": "0.5",
    "OUTBOX_MAX_RETRY_SECONDS": "5",
    "POLL_FIRST_SECONDS": "2",
    "POLL_GROWTH": "1.5",
    "POLL_MAX_SECONDS": "10",
    "PROVIDER_TIMEOUT_SECONDS": "3",
    "CHECKOUT_WAIT_SECONDS": "5",
    "RATE_LIMIT_PER_MINUTE": "1000000",
}
"""Shorter waits; everything else is as `make up` has it."""
SHOPS = ("ILS", "COP", "ILS", "COP")
REST_SECONDS = 420.0
"""More than the five minutes for which a provider is left alone that has failed ten times in a row."""

HAND_OVER_AGAIN = """
    UPDATE webhook_events SET next_attempt_at = now()
     WHERE status = 'dispatched' AND dispatched_at < now() - interval '1 minute'
       AND provider_account_id IN (SELECT id FROM provider_accounts WHERE workspace_id = ANY(:shops))
"""


async def chaos(state: Path, *, seconds: float, people: int, seed: int) -> Tally:
    """Run it all in `state`; returns what was found."""
    chance, merchant = random.Random(seed), Merchant()
    async with (
        served(merchant.app()) as merchant.url,
        service(state, Ports.free(), QUICKER) as stack,
        _shops(stack, merchant) as markets,
    ):
        traffic = Traffic(markets, chance)
        traffic.further = (
            Subscribers(chance, traffic.done, traffic.wrong, traffic.desk).story,
            Bookkeepers(chance, traffic.done, traffic.wrong).story,
        )
        for line in await behave(markets, seed):
            tell(f"answers otherwise: {line}")
        killer, deployer, stranger = Killer(stack, chance), Deployer(stack, chance), Stranger(markets, chance)
        weather = Weather(stack.sandbox_url, merchant, chance)
        tell(f"{people} people at {len(markets)} shops, {seconds:.0f} s of trouble, seed {seed}")
        async with _living(traffic, people) as living:
            async with _trouble(killer, deployer, stranger, weather):
                await asyncio.wait(living, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
            await _calm(stack, merchant)
        tell("all is calm")
        await traffic.ends()
        client = await connect(wiring.temporal_target(markets[0].service.settings))
        tally = await _at_rest(Judge(markets[0].service.database, markets, merchant), client, traffic.desk)
        tally.look(FORGED, stranger.wrong, times=sum(stranger.done.values()))
        tally.look(ANSWERS, traffic.wrong, times=traffic.done["payments asked for"] + traffic.done["refunds asked for"])
        tally.look(STOPS, deployer.wrong, times=sum(deployer.done.values()))
        await judge_workflows(client, tally)
        judge_logs(state / "logs", markets, tally)
        for title, done in (
            ("people", traffic.done),
            ("trouble", killer.done + deployer.done + weather.done + stranger.done),
        ):
            _show(title, done)
        return tally


@asynccontextmanager
async def _trouble(*makers: Killer | Deployer | Stranger | Weather) -> AsyncIterator[None]:
    """Until the block ends. A maker that fails ends the run."""
    tasks = [asyncio.create_task(maker.work()) for maker in makers]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _living(traffic: Traffic, people: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """People with one story after the other; at the block's end they finish those that they are in."""
    living = [asyncio.create_task(traffic.work()) for _ in range(people)]
    try:
        yield living
        traffic.over = True
        await asyncio.gather(*living)
    finally:
        for one in living:
            one.cancel()


async def _calm(stack: Stack, merchant: Merchant) -> None:
    """Nothing fails any more."""
    merchant.answers.clear()
    async with httpx.AsyncClient(base_url=stack.sandbox_url) as http:
        (await http.delete("/sandbox/faults")).raise_for_status()
    for part in PARTS:
        await stack.supervisor.is_ready(part, REST_SECONDS)


async def _at_rest(judge: Judge, client: Client, desk: Iterable[str]) -> Tally:
    """The verdict once nothing is left to be done. What is only late becomes right in that time; nothing else does."""
    deadline = time.monotonic() + REST_SECONDS
    while True:
        await insist(lambda: _days_pass(judge, client, desk))
        unrest = await insist(judge.unrest)
        if unrest:
            tell("still to be done: " + ", ".join(f"{count} {name}" for name, count in unrest.items()))
            with suppress(RPCError):
                async for reason in reasons(judge, client):
                    tell(f"  {reason}")
        late = time.monotonic() > deadline
        if not unrest or late:
            judge.tally = Tally()
            tally = await insist(judge.judge)
            if tally.kept or late:
                return tally
            tell(f"not right yet: {'; '.join(one for broken in tally.broken.values() for one in broken)[:300]}")
        await asyncio.sleep(15)


@asynccontextmanager
async def _shops(stack: Stack, merchant: Merchant) -> AsyncIterator[list[Market]]:
    """Two in each country, with accounts at all providers of its currency."""
    settings = settings_for(
        stack, credentials_keys=stack.env["CREDENTIALS_KEYS"], temporal_task_queue="payments", db_pool_size=10
    )
    database, sealer = wiring.database(settings), wiring.sealer(settings)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(database.close)
        http = await closing.enter_async_context(httpx.AsyncClient(timeout=30))
        running = Service(stack, settings, database, sealer, stack.sandbox_url, stack.api_url, merchant, http)
        yield [
            await closing.enter_async_context(
                market(
                    running,
                    currency,
                    order_webhook_url=f"{merchant.url}/hooks/shop-{number}",
                    commission_holding_days=0,  # so that there is something to pay out
                )
            )
            for number, currency in enumerate(SHOPS)
        ]


async def _days_pass(judge: Judge, client: Client, desk: Iterable[str]) -> None:
    """What takes a day, or is not yet due: files of cash, decisions about refunds, the second try of a hand-over.

    Providers tell again of what was done at their desks, of refunds that came back and of disputes: Stripe by the same
    events, for three days, the others in their own ways, of which only the look that follows matters here.

    A signal that Temporal had taken and lost when it was killed is given again after ten minutes; here after one.
    """
    engine = PaymentEngine(client, judge.markets[0].service.settings.temporal_task_queue)
    for one in judge.markets:
        if "efecty" in one.tills:
            await one.hears_of_cash()
    for kind in TOLD_AGAIN:
        for event in await judge.markets[0].shop.events(kind):  # of all shops
            await judge.markets[0].shop.sandbox("POST", f"/events/{event['id']}/resend", {"times": 1})
    async with judge.database.transaction() as session:
        await session.execute(text(HAND_OVER_AGAIN), {"shops": judge.shops})
        waiting = list(await session.scalars(select(Refund).where(Refund.status.in_(("pending", "unknown")))))
    await _a_person_compares(judge, [refund for refund in waiting if refund.failure_code is not None])
    for refund in waiting:
        payer = next(one.tills[refund.provider].payer for one in judge.markets if refund.provider in one.tills)
        await payer.refunds_are_decided(refund.payment_id)
        told = ProviderTrigger(0, f"{refund.id} decided {time.monotonic()}", EventKind.REFUND.value)
        with suppress(EngineUnavailable):  # the next round tells it again
            await engine.signal_afterlife(refund.payment_id, told)
    async with judge.database.transaction() as session:
        query = select(Payment.id).where(Payment.id.in_([UUID(one) for one in desk]), Payment.provider != "stripe")
        seen = list(await session.scalars(query))
    for payment_id in seen:
        told = ProviderTrigger(0, f"{payment_id} at the desk {time.monotonic()}", EventKind.REFUND.value)
        with suppress(EngineUnavailable):
            await engine.signal_afterlife(payment_id, told)


async def _a_person_compares(judge: Judge, unconfirmed: Iterable[Refund]) -> None:
    """Refunds of which the provider does not tell whether they were made: somebody reads its own list of refunds."""
    for refund in unconfirmed:
        at = next(one for one in judge.markets if one.shop.workspace.id == refund.workspace_id)
        async with judge.database.transaction() as session:
            booked = (await session.get_one(Payment, refund.payment_id)).refunded
        payer = at.tills[refund.provider].payer
        made = await payer.has_made(refund.payment_id, refund.id, amount=refund.amount, booked=booked)
        await ask(at, "POST", f"/payments/{refund.payment_id}/review", {"action": "accept" if made else "close"})


def _show(title: str, done: Counter[str]) -> None:
    tell(f"\n{title}")
    for what, times in sorted(done.items()):
        tell(f"  {times:6}  {what}")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long everything fails")
    parser.add_argument("--people", type=int, default=8, help="how many buy at once")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="a new folder in which books and logs are left")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    with ExitStack() as closing:
        folder = chosen.keep or Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="durable-payments-")))
        folder.mkdir(parents=True, exist_ok=chosen.keep is None)
        folder.chmod(0o711)  # PostgreSQL's user walks through it
        os.environ["REFUSALS_PER_MINUTE"] = "1000000"  # all liars live at one address here, and each must be judged
        tally = asyncio.run(chaos(folder, seconds=chosen.seconds, people=chosen.people, seed=seed))
    tell("\npromises")
    for line in tally.lines():
        tell(line)
    tell("\nall promises were kept" if tally.kept else f"\nbroken (seed {seed})")
    return 0 if tally.kept else 1


if __name__ == "__main__":
    process.end(main)
