"""The service exactly as `make up` runs it, in processes of its own, with its supervisor at hand to be killed under."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook
from temporalio.service import RPCError, RPCStatusCode

import wiring
from embedded.stack import Ports, Stack, service
from engine.client import connect
from engine.payments import workflow_id
from settings import Settings
from tests.support.service import NOTICE_SECRET, Merchant, Service, Shop, eventually, served, settings_for

QUICKER = {
    "DISPATCH_INTERVAL_SECONDS": "0.1",
    "OUTBOX_TIMEOUT_SECONDS": "1",  # so that a delivery cut off by a kill is repeated after three seconds
    "OUTBOX_FIRST_RETRY_SECONDS": "0.2",
    "RATE_LIMIT_PER_MINUTE": "1000000",
}
"""Shorter waits; everything else is as `make up` has it."""

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

ONCE = """
    SELECT p.status,
           (SELECT count(*) FROM receipts r WHERE r.payment_id = p.id) AS receipts,
           (SELECT count(*) FROM receipt_pdfs d JOIN receipts r ON r.id = d.receipt_id
             WHERE r.payment_id = p.id) AS pdfs,
           (SELECT count(*) FROM commissions c WHERE c.payment_id = p.id AND c.order_id = p.order_id) AS commissions,
           (SELECT count(DISTINCT l.movement_id) FROM ledger_entries l WHERE l.payment_id = p.id) AS movements,
           (SELECT coalesce(sum(l.amount), -1) FROM ledger_entries l WHERE l.payment_id = p.id) AS balance,
           (SELECT count(*) FROM audit_log a WHERE a.subject_id = p.id::text AND a.action = 'payment.paid') AS settled,
           (SELECT count(*) FROM outbox o WHERE o.payment_id = p.id AND o.type = 'payment.paid') AS notices,
           (SELECT count(*) FROM webhook_events w WHERE w.payment_id = p.id
             AND w.status IN ('received', 'dispatched')) AS unanswered
      FROM payments p WHERE p.id = $1
"""
PAID_ONCE = {
    "status": "paid",
    "receipts": 1,
    "pdfs": 1,
    "commissions": 1,
    "movements": 1,
    "balance": 0,
    "settled": 1,
    "notices": 1,
    "unanswered": 0,
}
NUMBERS = """
    SELECT array_agg(r.number ORDER BY r.number) AS numbers, c.last_number
      FROM receipts r JOIN receipt_counters c USING (workspace_id, kind, fiscal_year)
     WHERE r.workspace_id = $1 GROUP BY r.kind, r.fiscal_year, c.last_number
"""
# a session that has taken a receipt number and now waits for a lock: settlement, not yet committed
SETTLING = """
    SELECT count(*) FROM pg_locks waiting JOIN pg_locks held ON held.pid = waiting.pid
     WHERE NOT waiting.granted AND held.granted
       AND held.relation = 'receipt_counters'::regclass AND held.mode = 'RowExclusiveLock'
"""


@dataclass
class Live:
    """The running service."""

    stack: Stack
    service: Service

    def pid(self, part: str) -> int:
        return self.stack.supervisor.pid(part)

    async def kill(self, *parts: str) -> None:
        """kill -9, and nothing else: getting up again is the supervisor's business."""
        pids = {part: self.pid(part) for part in parts}
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for part, pid in pids.items():
            await eventually(lambda part=part, pid=pid: self._replaced(part, pid))
        if "postgres" in parts:
            await self.service.database.close()  # the test's own connections died too

    async def _replaced(self, part: str, old: int) -> bool:
        return self.pid(part) != old

    async def ready(self, *parts: str) -> None:
        for part in parts:
            assert await self.stack.supervisor.is_ready(part, 30)

    @asynccontextmanager
    async def stopped(self, part: str) -> AsyncIterator[None]:
        """The part is there but does nothing, as if its machine hung, until the block ends or it is killed."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def sql(self, query: str, *arguments: Any) -> list[Any]:
        """Ask the database, which may be restarting at the moment."""
        deadline = time.monotonic() + 20
        while True:
            try:
                connection = await self._connect()
                try:
                    return list(await connection.fetch(query, *arguments))
                finally:
                    await connection.close()
            except AWAY:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def _connect(self) -> Any:
        return await asyncpg.connect(self.stack.database_url.replace("+asyncpg", ""))

    @asynccontextmanager
    async def books_closed(self, shop: Shop) -> AsyncIterator[None]:
        """Hold the end of the workspace's audit chain: a settlement writes everything and cannot commit."""
        connection = await self._connect()
        try:
            await connection.execute("BEGIN")
            await connection.execute("SELECT FROM audit_heads WHERE workspace_id = $1 FOR UPDATE", shop.workspace.id)
            yield
        finally:
            with suppress(*AWAY):
                await connection.close(timeout=2)

    async def settling(self, number: int) -> None:
        """Wait until so many settlements hang at their commit."""

        async def counted() -> bool:
            return bool((await self.sql(SETTLING))[0][0] == number)

        await eventually(counted)

    async def has_workflow(self, payment_id: str) -> bool:
        client = await connect(wiring.temporal_target(self.service.settings))
        try:
            await client.get_workflow_handle(workflow_id(UUID(payment_id))).describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    async def row(self, order_id: str) -> Any:
        """The payment that a caller asked for, whether it got an answer or not."""
        rows = await self.sql("SELECT * FROM payments WHERE order_id = $1", order_id)
        return rows[0] if rows else None

    async def completes_once(self, shop: Shop, *payment_ids: str) -> None:
        """Each payment gets paid without anybody's help; then there is one of everything, everywhere."""
        for payment_id in payment_ids:
            await eventually(lambda payment_id=payment_id: self._told_of(payment_id), 40)
            record = dict((await self.sql(ONCE, UUID(payment_id)))[0])
            assert record == PAID_ONCE, payment_id
            totals = await shop.totals(payment_id)
            assert (totals["sessions"], totals["charges"], totals["charged"]) == (1, 1, 12990)
            self._signed_notice(payment_id)
        [series] = await self.sql(NUMBERS, shop.workspace.id)
        assert series["numbers"] == list(range(1, series["last_number"] + 1))

    async def _told_of(self, payment_id: str) -> bool:
        """The merchant knows, the picture of the receipt is there, and no callback waits."""
        [record] = await self.sql(ONCE, UUID(payment_id))
        told = self.service.merchant.told(payment_id)
        return bool(record["pdfs"] and not record["unanswered"] and "payment.paid" in told)

    def _signed_notice(self, payment_id: str) -> None:
        merchant = self.service.merchant
        paid = [
            index
            for index, notice in enumerate(merchant.notices)
            if notice["type"] == "payment.paid" and notice["data"].get("payment_id") == payment_id
        ]
        ids = {merchant.headers[index]["webhook-id"] for index in paid}
        assert len(ids) == 1  # it may come twice, but then it says so
        verified = Webhook(NOTICE_SECRET).verify(merchant.bodies[paid[0]], merchant.headers[paid[0]])
        assert verified["data"]["status"] == "paid"


@pytest_asyncio.fixture(scope="package")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    state = tmp_path_factory.mktemp("crash")
    for folder in (state, *state.parents):
        if folder.owner() == "root" and folder != Path("/") and folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(folder.stat().st_mode | 0o111)
    merchant = Merchant()
    async with (
        served(merchant.app()) as merchant.url,
        service(state, Ports.free(), QUICKER) as stack,
        httpx.AsyncClient(timeout=30) as http,
    ):
        settings = _settings(stack)
        database = wiring.database(settings)
        try:
            yield Live(
                stack,
                Service(
                    stack,
                    settings,
                    database,
                    wiring.sealer(settings),
                    stack.sandbox_url,
                    stack.api_url,
                    merchant,
                    http,
                ),
            )
        finally:
            await database.close()


def _settings(stack: Stack) -> Settings:
    return settings_for(
        stack, credentials_keys=stack.env["CREDENTIALS_KEYS"], temporal_task_queue="payments", db_pool_size=2
    )


@pytest_asyncio.fixture
async def new_shop(live: Live) -> AsyncIterator[Callable[[], Awaitable[Shop]]]:
    """Shops that are gone with the test."""
    async with AsyncExitStack() as open_clients:

        async def opened() -> Shop:
            shop = await live.service.shop()
            await open_clients.enter_async_context(shop.api)
            return shop

        yield opened
        await live.service.http.delete(f"{live.stack.sandbox_url}/sandbox/faults")
