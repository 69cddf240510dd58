"""One whole service with everything that is measured on it, in a folder of its own, gone afterwards."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import TextClause, text
from temporalio.client import Client

from bench.cpu import CpuMeter
from bench.payments import WholePayments
from bench.wire import Unexpected
from embedded.bootstrap import Demo, ensure_demo
from embedded.parts import Part, free_port, listens
from embedded.stack import ROOT, Ports, Stack, service
from engine.client import TemporalTarget, connect
from settings import async_url
from storage.session import Database

SERVICE_SETTINGS = {"RATE_LIMIT_PER_MINUTE": "1000000"}
"""The defaults of `make up`, but for the rate limit: all callers here share one key."""

SERVICE_PARTS = ("api", "worker", "sandbox", "postgres", "temporal")
YARDSTICK_PARTS = ("bench-worker", "bench-bare-api")
STUCK_SECONDS = 60.0
"""Notifications and events that wait this long without one of them being done are an error."""

_LEFT = text(
    "SELECT (SELECT count(*) FROM outbox WHERE status = 'waiting')"
    " + (SELECT count(*) FROM webhook_events WHERE status IN ('received', 'dispatched'))"
)
_RECEIPTS = text(
    "SELECT count(*) FROM payments JOIN receipts ON receipts.payment_id = payments.id"
    " JOIN receipt_pdfs ON receipt_pdfs.receipt_id = receipts.id WHERE payments.status = 'paid'"
)


@dataclass(frozen=True, slots=True)
class Lab:
    """What the measurements need."""

    stack: Stack
    demo: Demo
    client: Client
    database: Database
    meter: CpuMeter
    whole: WholePayments
    bare_api_url: str

    async def quiet(self) -> None:
        """Wait until every event is handled and every notification delivered. Raises Unexpected when that stops."""
        fewest, since = await self._number(_LEFT), time.monotonic()
        while fewest > 0:
            await asyncio.sleep(0.1)
            left = await self._number(_LEFT)
            if left < fewest:
                fewest, since = left, time.monotonic()
            elif time.monotonic() - since > STUCK_SECONDS:
                raise Unexpected(f"{left} events and notifications are not worked off")

    async def check_books(self) -> int:
        """Every payment that ended is paid and has one receipt with its PDF. Returns how many. Raises Unexpected."""
        documents = await self._number(_RECEIPTS)
        if documents != len(self.whole.paid):
            raise Unexpected(f"{len(self.whole.paid)} payments ended paid, {documents} have a receipt")
        return documents

    async def _number(self, query: TextClause) -> int:
        async with self.database.transaction() as session:
            return int(await session.scalar(query) or 0)


@asynccontextmanager
async def open_lab() -> AsyncIterator[Lab]:
    """Start the service as `make up` does, on free ports, and the yardsticks' processes beside it."""
    with tempfile.TemporaryDirectory(prefix="durable-payments-bench-") as folder:
        state = Path(folder)
        state.chmod(0o711)  # PostgreSQL's user walks through it
        async with service(state, Ports.free(), SERVICE_SETTINGS) as stack:
            demo = await ensure_demo(stack)
            bare_api_port = free_port()
            await stack.supervisor.start(_yardstick_worker(stack), _bare_api(stack, bare_api_port))
            database = Database(async_url(stack.database_url))
            client = await connect(TemporalTarget(f"127.0.0.1:{stack.ports.temporal}"))
            whole = WholePayments(client, stack.api_url, demo.api_key)
            meter = CpuMeter(stack.supervisor, SERVICE_PARTS + YARDSTICK_PARTS)
            try:
                yield Lab(stack, demo, client, database, meter, whole, f"http://127.0.0.1:{bare_api_port}")
            finally:
                await whole.close()
                await database.close()


def _yardstick_worker(stack: Stack) -> Part:
    ready_file = stack.state / "bench-worker.ready"

    async def ready() -> bool:
        return ready_file.exists()

    address = f"127.0.0.1:{stack.ports.temporal}"
    return Part(
        name="bench-worker",
        command=(sys.executable, "-m", "bench.worker", "--address", address),
        ready=ready,
        env={"READY_FILE": str(ready_file)},
        cwd=ROOT,
    )


def _bare_api(stack: Stack, port: int) -> Part:
    return Part(
        name="bench-bare-api",
        command=(sys.executable, "-m", "bench.bare_api", "--port", str(port)),
        ready=lambda: listens(port),
        env=stack.env,
        cwd=ROOT,
    )
