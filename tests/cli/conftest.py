"""Operators with and without a service, one payment's whole story, and databases apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import settings
from embedded import postgres
from embedded.stack import Stack, migrate
from storage import inbox
from storage.session import Database
from tests.cli.running import NOTHING_SET, Apart, Operator
from tests.support.service import CREDENTIALS_KEY, Service, Shop, eventually


@pytest.fixture(scope="module", autouse=True)
def _quiet_logs() -> Iterator[None]:
    """The service of the tests runs in this process; its log must not mix with what a command prints."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def _no_local_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's `make up` must not reach the tests."""
    monkeypatch.setattr(settings, "DEVELOPMENT_FILE", Path("/nonexistent/dev.env"))


@pytest.fixture
def nobody() -> Operator:
    """An operator without any settings."""
    return Operator(dict(NOTHING_SET))


@pytest.fixture
def operator(service: Service) -> Operator:
    """An operator of the service that runs."""
    return Operator(
        NOTHING_SET
        | {
            "DATABASE_URL": service.stack.database_url,
            "CREDENTIALS_KEYS": CREDENTIALS_KEY,
            "PUBLIC_BASE_URL": "https://pay.example/",
            "TEMPORAL_ADDRESS": service.settings.temporal_address,
            "TEMPORAL_TASK_QUEUE": service.settings.temporal_task_queue,
        }
    )


@pytest_asyncio.fixture(scope="session")
async def sold(service: Service) -> AsyncIterator[tuple[Shop, dict[str, Any]]]:
    """A shop and its one payment: paid, receipted, notified, every callback handled."""
    shop = await service.shop()
    payment = await shop.pays()
    await shop.pay(payment)
    paid = await shop.until(payment["id"], "paid")

    async def quiet() -> bool:
        health = (await shop.api.get("/webhooks/health")).json()
        pdf = await shop.api.get(f"/receipts/{paid['receipt_id']}.pdf")
        callbacks, notices = health["callbacks"]["counts"], health["order_notifications"]["counts"]
        if "received" in callbacks:  # it came as the workflow ended, and would wait seconds for its next turn
            async with service.database.transaction() as session:
                await inbox.replay(session, actor="test", pending=True)
        return pdf.status_code == 200 and set(callbacks) == {"handled"} and notices == {"delivered": 2}

    await eventually(quiet)
    yield shop, paid
    await shop.api.aclose()


@pytest_asyncio.fixture(scope="session")
async def _migrated(stack: Stack) -> str:
    """The name of a database with tables and nothing in them."""
    name = f"cli_{uuid4().hex[:8]}"
    await asyncio.to_thread(postgres.ensure_database, stack.state / "postgres", name)
    await asyncio.to_thread(migrate, postgres.database_url(stack.state / "postgres", name))
    return name


@pytest_asyncio.fixture
async def apart(stack: Stack, _migrated: str) -> AsyncIterator[Apart]:
    name = f"cli_{uuid4().hex[:8]}"
    admin = create_async_engine(stack.database_url, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{_migrated}"'))
    await admin.dispose()
    url = postgres.database_url(stack.state / "postgres", name)
    database = Database(url)
    yield Apart(url, database, Operator(NOTHING_SET | {"DATABASE_URL": url, "CREDENTIALS_KEYS": CREDENTIALS_KEY}))
    await database.close()
