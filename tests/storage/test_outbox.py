"""The line of notifications: in order, each once, and nobody's backlog is read for another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from storage import outbox
from storage.models import OrderNotice
from tests.storage.test_settlement import new_payments
from tests.support.service import Service, Shop

HOUR = timedelta(hours=1)


@asynccontextmanager
async def line_of(shop: Shop, payment_id: UUID, length: int) -> AsyncIterator[tuple[AsyncSession, list[OrderNotice]]]:
    """A payment's notifications, all due, in a transaction that is never committed: no relay sees them."""
    async with AsyncSession(shop.service.database.engine, autoflush=False) as session:
        line = [
            OrderNotice(
                id=uuid4(), workspace_id=shop.workspace.id, payment_id=payment_id, seq=seq, type="t", payload={}
            )
            for seq in range(1, length + 1)
        ]
        session.add_all(line)
        await session.flush()
        for notice in line:
            await session.refresh(notice)
        session.expunge_all()  # as a relay holds them while it delivers
        yield session, line


async def due(session: AsyncSession, shop: Shop, *, per_workspace: int = 8) -> list[UUID]:
    """What a relay would deliver now."""
    claimed = await outbox.claim_due(session, lease=timedelta(0), per_workspace=per_workspace, under_way={})
    return [notice.id for notice, workspace in claimed if workspace.id == shop.workspace.id]


async def waits_by_now(session: AsyncSession, shop: Shop) -> int:
    query = select(func.count()).where(
        OrderNotice.workspace_id == shop.workspace.id,
        OrderNotice.status == "waiting",
        OrderNotice.next_attempt_at <= func.now(),
    )
    return int(await session.scalar(query) or 0)


async def test_what_stands_behind_a_failed_notification_waits_with_it(service: Service, shop: Shop) -> None:
    """It was looked through at every round: days of one merchant's backlog cost half a second of every half second."""
    (payment_id,) = await new_payments(shop, 1)
    async with line_of(shop, payment_id, 3) as (session, line):
        assert await due(session, shop) == [line[0].id]
        await outbox.mark_failed(session, line[0], error="ConnectError", retry_in=HOUR)
        assert (await due(session, shop), await waits_by_now(session, shop)) == ([], 0)
        await outbox.mark_delivered(session, line[0])
        assert await due(session, shop) == [line[1].id]
        await outbox.mark_failed(session, line[1], error="ConnectError", retry_in=None)  # given up
        assert await due(session, shop) == [line[2].id]


async def test_what_another_relay_has_delivered_stays_delivered(service: Service, shop: Shop) -> None:
    """The slower of two that delivered the same could give it up."""
    (payment_id,) = await new_payments(shop, 1)
    async with line_of(shop, payment_id, 2) as (session, line):
        await outbox.mark_delivered(session, line[0])
        await outbox.mark_failed(session, line[0], error="ConnectError", retry_in=None)
        found = await session.get_one(OrderNotice, line[0].id)
        assert (found.status, found.last_error) == ("delivered", None)
        await outbox.mark_failed(session, line[0], error="ConnectError", retry_in=HOUR)
        assert await due(session, shop) == [line[1].id]


async def test_a_merchant_gets_its_share_of_a_round(service: Service, shop: Shop) -> None:
    first, *others = await new_payments(shop, 5)
    async with line_of(shop, first, 1) as (session, line):
        session.add_all(
            OrderNotice(id=uuid4(), workspace_id=shop.workspace.id, payment_id=one, seq=1, type="t", payload={})
            for one in others
        )
        await session.flush()
        assert len(await due(session, shop, per_workspace=3)) == 3
        under_way = {line[0].workspace_id: 6}  # it was given eight more, whatever was under way
        claimed = await outbox.claim_due(session, lease=timedelta(0), per_workspace=8, under_way=under_way)
        assert sum(workspace.id == shop.workspace.id for _, workspace in claimed) == 2
        claimed = await outbox.claim_due(session, lease=timedelta(0), per_workspace=6, under_way=under_way)
        assert not any(workspace.id == shop.workspace.id for _, workspace in claimed)
