"""The dispatcher with a workflow engine that fails for some: nothing waits for what cannot be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from dispatch import late
from dispatch.inbox import BATCH, InboxDispatcher
from domain.payment import PollPlan, ProviderTrigger, StartPayment
from embedded import postgres
from embedded.stack import Stack, migrate
from engine.payments import EngineUnavailable, PaymentEngine
from storage import inbox, payments
from storage.models import Payment, WebhookEvent
from storage.session import Database
from tests.support.service import Service, Shop

NOW = datetime.now(UTC)


@dataclass
class Engine:
    """Does as it is told, and remembers what it was asked for."""

    trouble: dict[UUID, Exception] = field(default_factory=dict)
    started: list[UUID] = field(default_factory=list)
    signalled: list[UUID] = field(default_factory=list)

    async def start(self, command: StartPayment, *, wait: timedelta) -> None:
        self.started.append(command.payment_id)
        self._fail_for(command.payment_id)

    async def signal(self, payment_id: UUID, trigger: ProviderTrigger) -> None:
        self.signalled.append(payment_id)
        self._fail_for(payment_id)

    def _fail_for(self, payment_id: UUID) -> None:
        if payment_id in self.trouble:
            raise self.trouble[payment_id]


@dataclass
class Desk:
    """A dispatcher on a database where nobody else works."""

    shop: Shop
    database: Database
    engine: Engine
    dispatcher: InboxDispatcher

    async def payments(self, number: int, status: str) -> list[UUID]:
        """So many payments, an hour old, the first the oldest."""
        ids = [uuid4() for _ in range(number)]
        async with self.database.transaction() as session:
            for age, payment_id in enumerate(ids):
                await payments.insert_new(session, self._values(payment_id, status, timedelta(minutes=60 - age)))
        return ids

    def _values(self, payment_id: UUID, status: str, age: timedelta) -> dict[str, Any]:
        return {
            "id": payment_id,
            "workspace_id": self.shop.workspace.id,
            "provider_account_id": self.shop.account.id,
            "provider": "stripe",
            "order_id": str(payment_id),
            "amount": Decimal("10.00"),
            "currency": self.shop.workspace.currency,
            "status": status,
            "description": "x",
            "expires_at": NOW + timedelta(hours=1),
            "created_at": NOW - age,
        }

    async def event(self, payment_id: UUID) -> int:
        """A callback about it that is due."""
        values = {
            "provider_account_id": self.shop.account.id,
            "provider": "stripe",
            "event_id": f"evt_{payment_id}",
            "type": "checkout.session.completed",
            "kind": "captured",
            "payment_id": payment_id,
            "body": b"{}",
            "next_attempt_at": NOW - timedelta(minutes=1),
        }
        async with self.database.transaction() as session:
            return (await inbox.store(session, values)).inbox_id

    async def row(self, inbox_id: int) -> WebhookEvent:
        async with self.database.transaction() as session:
            return (await session.scalars(select(WebhookEvent).where(WebhookEvent.id == inbox_id))).one()


@pytest_asyncio.fixture(scope="module")
async def quiet_database(stack: Stack) -> AsyncIterator[Database]:
    data, name = stack.state / "postgres", f"dispatch_{uuid4().hex[:8]}"
    await asyncio.to_thread(postgres.ensure_database, data, name)
    await asyncio.to_thread(migrate, postgres.database_url(data, name))
    database = Database(postgres.database_url(data, name), pool_size=2)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def desk(quiet_database: Database, service: Service) -> AsyncIterator[Desk]:
    shop = await replace(service, database=quiet_database).shop(callbacks=False)
    engine = Engine()
    acting: Any = engine
    yield Desk(shop, quiet_database, engine, InboxDispatcher(quiet_database, acting, PollPlan()))
    await shop.api.aclose()
    async with quiet_database.transaction() as session:
        await session.execute(update(Payment).values(status="failed"))
        await session.execute(update(WebhookEvent).values(status="handled"))


def test_the_engine_of_these_tests_is_called_like_the_real_one() -> None:
    for name in ("start", "signal"):
        assert getattr(Engine, name).__code__.co_varnames[:3] == getattr(PaymentEngine, name).__code__.co_varnames[:3]


@pytest.mark.parametrize("error", [EngineUnavailable("INVALID_ARGUMENT"), RuntimeError("a bug")])
async def test_a_payment_that_cannot_be_started_keeps_no_other_waiting(desk: Desk, error: Exception) -> None:
    first, *others = await desk.payments(3, "created")
    desk.engine.trouble[first] = error
    assert await desk.dispatcher.start_unstarted(older_than=NOW) == 2
    assert set(desk.engine.started) == {first, *others}


async def test_what_was_tried_lately_is_not_tried_in_every_round(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    [first] = await desk.payments(1, "created")
    for _ in range(3):
        await desk.dispatcher.start_unstarted(older_than=NOW)
    assert desk.engine.started == [first]
    monkeypatch.setattr(late, "TRIED_AGAIN_SECONDS", -1.0)
    [second] = await desk.payments(1, "created")
    for _ in range(2):
        await desk.dispatcher.start_unstarted(older_than=NOW)
    assert desk.engine.started == [first, second, second]


async def test_a_payment_accepted_just_now_is_left_to_its_caller(desk: Desk) -> None:
    await desk.payments(2, "created")
    assert await desk.dispatcher.start_unstarted(older_than=NOW - timedelta(hours=2)) == 0


@pytest.mark.parametrize("error", [EngineUnavailable("UNAVAILABLE"), RuntimeError("a bug")])
async def test_an_event_that_cannot_be_handed_over_keeps_no_other_waiting(desk: Desk, error: Exception) -> None:
    first, *others = await desk.payments(3, "pending")
    rows = [await desk.event(payment_id) for payment_id in (first, *others)]
    desk.engine.trouble[first] = error
    assert await desk.dispatcher.dispatch_due() == 3
    assert set(desk.engine.signalled) == {first, *others}
    stuck, *handed_over = [await desk.row(inbox_id) for inbox_id in rows]
    assert [row.status for row in handed_over] == ["dispatched"] * 2
    assert (stuck.status, stuck.attempts) == ("received", 1)
    assert stuck.last_error in ("temporal: UNAVAILABLE", "RuntimeError")
    assert stuck.next_attempt_at > NOW
    assert await desk.dispatcher.dispatch_due() == 0


@pytest.mark.parametrize("away", [False, True])
async def test_a_long_line_is_worked_off_unless_temporal_is_away(desk: Desk, *, away: bool) -> None:
    """A settlement file puts thousands in line. While nothing gets through, one batch finds that out, not all."""
    waiting = await desk.payments(BATCH + 20, "pending")
    await asyncio.gather(*(desk.event(payment_id) for payment_id in waiting))
    if away:
        desk.engine.trouble = dict.fromkeys(waiting, EngineUnavailable("UNAVAILABLE"))
    assert await desk.dispatcher.dispatch_due() == (BATCH if away else BATCH + 20)
    assert len(desk.engine.signalled) == len(set(desk.engine.signalled)) == (BATCH if away else BATCH + 20)
