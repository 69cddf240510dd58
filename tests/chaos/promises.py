"""What must hold once everything has come to rest, each promise by its number in docs/architecture.md.

Our books are read by SQL, the providers' books from the sandbox, what the order services were told from themselves.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from standardwebhooks.webhooks import Webhook
from temporalio.client import Client

from activities.confirmation import ref_of
from domain.money import Money
from domain.payment import CAPTURED
from engine.client import data_converter
from storage import audit
from storage.attempts import Loaded, Way
from storage.models import LedgerEntry, OrderNotice, Payment, SurplusCapture, WebhookEvent
from storage.session import Database
from tests.chaos.rules import OWED, PIECES, RULES, SERIES, STUCK, UNBALANCED, UNHANDLED, UNREST
from tests.support.market import Market
from tests.support.replays import replayer
from tests.support.service import CUSTOMERS, NOTICE_SECRET, Merchant

REPLAYED = 60
"""Histories that are replayed, the newest first."""


@dataclass
class Tally:
    """How often each promise was looked at, and where it was broken."""

    checked: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def look(self, promise: str, wrong: Sequence[str] = (), *, times: int = 1) -> None:
        self.checked[promise] += times
        self.broken[promise] += wrong

    def require(self, promise: str, holds: bool, wrong: str) -> None:  # noqa: FBT001  (reads as a sentence)
        self.look(promise, () if holds else (wrong,))

    def lines(self) -> list[str]:
        """One a promise, and each breach."""
        found = []
        for promise in sorted(self.checked, key=lambda name: int(name.split()[0])):
            breaches = self.broken[promise]
            found.append(f"  {'ok    ' if not breaches else 'BROKEN'} {self.checked[promise]:6}  {promise}")
            found += [f"                {breach}" for breach in breaches[:20]]
        return found

    @property
    def kept(self) -> bool:
        return not any(self.broken.values())


ANSWERS = "0 whoever asks gets a true answer in the end"
LOST = "1 what a provider holds as paid is paid here"
TWICE = "2 no payment is charged twice"
TAKEN = "3 a callback that was taken is on record"
FORGED = "3 what is forged or foreign is refused"
WHOLE = "4 a settlement is whole or not there"
GAPS = "5 numbers of documents have no gaps"
REFUNDS = "6 what went back is what was asked for, and never more than there was"
SHARES = "7 one commission an order, clawed back in proportion"
TOLD = "8 order services were told all, in order, signed"
FAULTS = "0 no process met what it does not expect"
SECRETS = "9 nothing secret or personal in a log"
CHAIN = "10 the audit log is whole"
STOPS = "11 who is told to stop does so in time"
REPLAY = "11 workflows end well and replay"
ONE = "12 one obligation, one capture"
REST = "13 nothing stays unknown"
CENTS = "14 every cent is booked twice"


@dataclass
class Judge:
    """Reads everybody's books."""

    database: Database
    markets: Sequence[Market]
    merchant: Merchant
    tally: Tally = field(default_factory=Tally)

    @property
    def shops(self) -> list[UUID]:
        return [market.shop.workspace.id for market in self.markets]

    async def unrest(self) -> dict[str, int]:
        """What is still to be done."""
        found = {name: (await self.rows(query))[0][0] for name, query in UNREST.items()}
        return {name: count for name, count in found.items() if count}

    async def judge(self) -> Tally:
        """All promises but those that need Temporal or the logs."""
        unrest = await self.unrest()
        self.tally.look(REST, [f"{count} {name}" for name, count in unrest.items()], times=len(UNREST))
        await self._settlements()
        await self._books()
        await self._providers()
        await self._inbox()
        await self._notices()
        async with self.database.transaction() as session:
            faults = [f"{one.workspace_id} at {one.seq}: {one.fault}" async for one in audit.chain_faults(session)]
            ours = [fault for fault in faults if any(fault.startswith(str(shop)) for shop in self.shops)]
            self.tally.look(CHAIN, ours, times=len(self.shops))
        return self.tally

    async def rows(self, query: str) -> Sequence[Any]:
        """Of these shops only."""
        async with self.database.transaction() as session:
            return (await session.execute(text(query), {"shops": self.shops})).all()

    async def _settlements(self) -> None:
        for row in await self.rows(PIECES):
            once = 1 if row.status in CAPTURED else 0
            pieces = {name: getattr(row, name) for name in ("receipts", "commissions", "captures", "settled", "told")}
            self.tally.require(WHOLE, set(pieces.values()) == {once}, f"payment {row.id} is {row.status}: {pieces}")
            self.tally.require(SHARES, row.commissions <= 1, f"payment {row.id} has {row.commissions} commissions")
            self.tally.require(
                REFUNDS,
                row.sent_back == row.refunded <= row.amount and row.notes == row.refunds,
                f"payment {row.id} of {row.amount}: {row.refunded} refunded, {row.sent_back} in {row.refunds} refunds, "
                f"{row.notes} credit notes",
            )

    async def _books(self) -> None:
        for row in await self.rows(SERIES):
            self.tally.require(
                GAPS,
                row.last_number == row.documents and row.first == 1,
                f"{row.kind} {row.fiscal_year}: {row.documents} documents, the last is {row.last_number}",
            )
        unbalanced = await self.rows(UNBALANCED)
        movements = (
            await self.rows("SELECT count(DISTINCT movement_id) FROM ledger_entries WHERE workspace_id = ANY(:shops)")
        )[0][0]
        self.tally.look(
            CENTS, [f"movement {row.movement_id}: {row.rest} {row.currency}" for row in unbalanced], times=movements
        )
        for rule in RULES:
            times = (await self.rows(rule.looked_at))[0][0]
            self.tally.look(rule.promise, [line for (line,) in await self.rows(rule.broken)], times=times)
        for row in await self.rows(OWED):
            self.tally.require(
                SHARES, row.owed == row.booked, f"{row.referrer_id} is owed {row.owed}, booked is {row.booked}"
            )

    async def _providers(self) -> None:
        for market in self.markets:
            async with self.database.transaction() as session:
                ids = await session.scalars(select(Payment.id).where(Payment.workspace_id == market.shop.workspace.id))
            for payment_id in ids:
                await self._provider(market, await market.loaded(str(payment_id)))

    async def _provider(self, market: Market, loaded: Loaded) -> None:
        """A payment beside what its providers hold."""
        payment, owed = loaded.payment, defaultdict[str, int](int)
        async with self.database.transaction() as session:
            kept = list(await session.scalars(select(SurplusCapture).where(SurplusCapture.payment_id == payment.id)))
            entries = (
                await session.execute(
                    select(LedgerEntry.account, LedgerEntry.kind, LedgerEntry.amount).where(
                        LedgerEntry.payment_id == payment.id, LedgerEntry.account.startswith("provider:")
                    )
                )
            ).all()
        captured = 0
        for way in loaded.ways:
            if way.attempt is None:
                continue
            charges, taken, back = await self._seen(market, loaded, way)
            name = f"payment {payment.id}, way {way.attempt.number} at {way.attempt.provider}"
            if market.pool.of(way.account).capabilities.status_call:  # at a counter it is the payer who pays twice
                self.tally.require(TWICE, charges <= 1, f"{name}: {charges} charges")
                charges = min(charges, 1)
            self.tally.require(REFUNDS, back <= taken, f"{name}: {back} of {taken} went back")
            captured += charges
            owed[f"provider:{way.account.id}"] += taken - back
        self.tally.require(
            LOST, (captured > 0) == (payment.status in CAPTURED), f"payment {payment.id} is {payment.status}"
        )
        paid = [way for way in loaded.ways if way.attempt is not None and way.attempt.status == "paid"]
        self.tally.require(
            ONE,
            len(paid) == min(captured, 1) and len(kept) == max(captured - 1, 0),
            f"payment {payment.id}: {captured} captures, {len(paid)} of them the payment's, {len(kept)} surplus",
        )
        booked = defaultdict[str, int](int)
        for account, kind, amount in entries:
            if not kind.startswith("dispute"):  # the bank's, not the provider's doing
                booked[account] += Money.from_decimal(amount, payment.currency).minor
        self.tally.require(
            CENTS,
            all(owed[account] == booked[account] for account in {*owed, *booked}),
            f"payment {payment.id}: {dict(owed)}, booked {dict(booked)}",
        )

    async def _seen(self, market: Market, loaded: Loaded, way: Way) -> tuple[int, int, int]:
        """How many charges the provider made, and what they took and gave back, minor units."""
        assert way.attempt is not None
        provider = market.pool.of(way.account)
        if not provider.capabilities.status_call:
            paid = await market.shop.sandbox("GET", f"/efecty/payments?code={way.attempt.session_id or 'none'}")
            return len(paid), sum(Money.parse(one["amount"], one["currency"]).minor for one in paid), 0
        if way.attempt.session_id is None:
            charges = await market.tills[way.attempt.provider].payer.charges_of(way.attempt.reference)
            return charges, 0, 0
        seen = await provider.look(ref_of(loaded.payment, way.attempt, market.service.sealer))
        charges = await market.tills[way.attempt.provider].payer.charges_of(way.attempt.reference)
        zero = Money.zero(loaded.payment.currency)
        return charges, (seen.captured or zero).minor, (seen.refunded or zero).minor

    async def _inbox(self) -> None:
        """Stripe's events carry the id that the inbox keeps."""
        for market in self.markets:
            till = market.tills["stripe"]
            sent = await market.shop.sandbox("GET", "/deliveries")
            taken = {one["event"] for one in sent if one["url"] == till.hook_url and one["status"] == 200}
            async with self.database.transaction() as session:
                query = select(WebhookEvent.event_id).where(WebhookEvent.provider_account_id == till.account.id)
                kept = set(await session.scalars(query))
            self.tally.look(TAKEN, [f"event {one} is not on record" for one in taken - kept], times=len(taken))

    async def _notices(self) -> None:
        """Repeats say that they are; without them, each payment's notices came in their order."""
        hooks = {str(market.shop.workspace.order_webhook_url).rsplit("/", 1)[1] for market in self.markets}
        async with self.database.transaction() as session:
            rows = list(await session.scalars(select(OrderNotice).where(OrderNotice.workspace_id.in_(self.shops))))
        known, seen, newest = {str(row.id): row for row in rows}, set[str](), defaultdict[UUID, int](int)
        for notice, headers, body in zip(
            self.merchant.notices, self.merchant.headers, self.merchant.bodies, strict=True
        ):
            if notice["hook"] not in hooks or headers["webhook-id"] in seen:
                continue
            seen.add(headers["webhook-id"])
            at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
            signature = Webhook(NOTICE_SECRET).sign(headers["webhook-id"], at, body.decode())
            self.tally.require(
                TOLD, headers["webhook-signature"] == signature, f"{headers['webhook-id']} is not signed"
            )
            row = known.get(headers["webhook-id"])
            self.tally.require(
                TOLD, row is not None and row.seq > newest[row.stream], f"{headers['webhook-id']} came out of order"
            )
            if row is not None:
                newest[row.stream] = row.seq
        self.tally.look(TOLD, [f"{one} was never told" for one in known.keys() - seen], times=len(known))


async def reasons(judge: Judge, client: Client) -> AsyncIterator[str]:
    """Why callbacks, payments and refunds are not at rest, as the inbox and Temporal say it."""
    for row in await judge.rows(UNHANDLED):
        yield (
            f"{row.provider} {row.type} ({row.kind}) of payment {row.payment}, which is {row.stands}: {row.status} "
            f"for {row.age} s, {row.attempts} tries, again in {row.again} s; {row.last_error}"
        )
    for (workflow_id,) in await judge.rows(STUCK):
        described = await client.get_workflow_handle(workflow_id).describe()
        tries = described.raw_description.pending_activities
        yield f"{workflow_id} {described.status.name if described.status else ''}" + "".join(
            f"; {one.activity_type.name}, try {one.attempt}, again {one.next_attempt_schedule_time.ToJsonString()}: "
            f"{one.last_failure.message}"
            for one in tries
        )


async def judge_workflows(client: Client, tally: Tally) -> None:
    """None failed, and the newest replay."""
    async for bad in client.list_workflows("ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut')"):
        tally.look(REPLAY, [f"{bad.id} ended as {bad.status.name if bad.status else 'nothing'}"])
    runner = replayer(data_converter())
    number = 0
    async for one in client.list_workflows(page_size=REPLAYED):
        history = await client.get_workflow_handle(one.id, run_id=one.run_id).fetch_history()
        result = await runner.replay_workflow(history, raise_on_replay_failure=False)
        failure = result.replay_failure
        tally.require(REPLAY, failure is None, f"{one.id} does not replay: {failure}")
        number += 1
        if number == REPLAYED:
            break


def judge_logs(logs: Path, markets: Sequence[Market], tally: Tally) -> None:
    """No process has written what nobody may read there, or of a fault that is not the trouble's."""
    secret = {"notice secret": NOTICE_SECRET}
    for market in markets:
        secret |= {"API key": market.shop.api_key}
        for name, till in market.tills.items():
            secret |= {f"{name} {what}": value for what, value in till.credentials.items() if _is_secret(what)}
    personal = {f"customer's {what}": one[what] for one in CUSTOMERS.values() for what in ("name", "email", "phone")}
    for log in sorted(logs.glob("*.log")):
        if log.stem in ("worker", "api"):
            content = log.read_text(errors="replace")
            tally.look(
                SECRETS,
                [f"{what} is in {log.name}" for what, value in (secret | personal).items() if value in content],
                times=len(secret | personal),
            )
            lines = content.splitlines()
            faults = [f"{log.name} line {number}: {line[:300]}" for number, line in enumerate(lines, 1) if _FAULT(line)]
            tally.look(FAULTS, faults, times=len(lines))


_FAULT = re.compile(
    r"\[(error|critical) *\] (?!Exception (closing|terminating) connection|Cancel \d+ running task)"
    r"|never retrieved|was never awaited|Exception ignored"
).search
"""What PostgreSQL, Temporal, providers and order services do to us is a warning at most. Two libraries say it louder:
the pool, when it cannot close a connection to a killed PostgreSQL well, and the server that breaks off who waits."""


def _is_secret(name: str) -> bool:
    return any(word in name for word in ("key", "secret", "token"))
