"""Order notifications: written with the state change, delivered later, in order per payment and per subscription."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import exists as is_there
from sqlalchemy import func, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from storage import audit
from storage.models import OrderNotice, Payment, Subscription, Workspace


def add_notice(
    session: AsyncSession,
    workspace: Workspace,
    payment: Payment,
    *,
    notice_type: str,
    at: datetime,
    data: dict[str, Any],
) -> None:
    """Queue one notification if the workspace has an endpoint. The caller holds the payment's row lock.

    The id follows from payment and sequence, so the receiver can tell a repeat.
    """
    if workspace.order_webhook_url is None:
        return
    payment.notice_seq += 1
    notice_id = uuid5(payment.id, f"notice-{payment.notice_seq}")
    session.add(_of_payment(notice_id, workspace, payment, notice_type, at, data))


async def add_notice_once(
    session: AsyncSession,
    workspace: Workspace,
    payment: Payment,
    *,
    notice_type: str,
    key: str,
    at: datetime,
    data: dict[str, Any],
) -> None:
    """Queue one notification that no change of state goes with, such as a reminder, and never a second one about it.

    The id follows from `key`, which names the intent, so that a repeat finds the first. The caller holds the payment's
    row lock; should two write it all the same, the second is refused by the primary key.
    """
    notice_id = uuid5(payment.id, f"notice:{notice_type}:{key}")
    if workspace.order_webhook_url is None or await session.get(OrderNotice, notice_id) is not None:
        return
    payment.notice_seq += 1
    session.add(_of_payment(notice_id, workspace, payment, notice_type, at, data))


def _of_payment(
    notice_id: UUID, workspace: Workspace, payment: Payment, notice_type: str, at: datetime, data: dict[str, Any]
) -> OrderNotice:
    return OrderNotice(
        id=notice_id,
        workspace_id=workspace.id,
        payment_id=payment.id,
        seq=payment.notice_seq,
        type=notice_type,
        payload={"type": notice_type, "timestamp": at.isoformat(), "data": data},
    )


async def add_subscription_notice(
    session: AsyncSession,
    workspace: Workspace,
    subscription: Subscription,
    *,
    notice_type: str,
    key: str,
    at: datetime,
    data: dict[str, Any],
) -> None:
    """Queue one notification of a subscription. The caller holds the subscription's row lock.

    The id follows from `key`, which names the intent (an invoice's attempt, the end of a trial): a second message
    about the same is not queued.
    """
    notice_id = uuid5(subscription.id, f"notice:{notice_type}:{key}")
    if workspace.order_webhook_url is None or await session.get(OrderNotice, notice_id) is not None:
        return
    subscription.notice_seq += 1
    session.add(
        OrderNotice(
            id=notice_id,
            workspace_id=workspace.id,
            subscription_id=subscription.id,
            seq=subscription.notice_seq,
            type=notice_type,
            payload={"type": notice_type, "timestamp": at.isoformat(), "data": data},
        ),
    )


def add_lone_notice(
    session: AsyncSession,
    workspace: Workspace,
    about: UUID,
    *,
    notice_type: str,
    number: int = 1,
    at: datetime,
    data: dict[str, Any],
) -> None:
    """Queue a notification about a payout batch, a line of one or a set-up, if the workspace has an endpoint.

    It waits for no other. The id follows from what it is about, type and number: written twice, the second is refused.
    """
    if workspace.order_webhook_url is None:
        return
    session.add(
        OrderNotice(
            id=uuid5(about, f"notice:{notice_type}:{number}"),
            workspace_id=workspace.id,
            payment_id=None,
            seq=number,
            type=notice_type,
            payload={"type": notice_type, "timestamp": at.isoformat(), "data": data},
        ),
    )


async def exists(session: AsyncSession, payout_id: UUID, notice_type: str, number: int) -> bool:
    """Whether this notification about a payout batch was queued before."""
    return await session.get(OrderNotice, uuid5(payout_id, f"notice:{notice_type}:{number}")) is not None


async def claim_due(
    session: AsyncSession, *, lease: timedelta, per_workspace: int, under_way: Mapping[UUID, int]
) -> Sequence[tuple[OrderNotice, Workspace]]:
    """Take notices that are due and first in their line, and hide them from others for the lease.

    At most so many a workspace, with those that the caller has under way: one merchant's slow endpoint holds up nobody
    else. A crash after the claim only delays delivery by the lease: at least once.
    """
    full = [workspace_id for workspace_id, number in under_way.items() if number >= per_workspace]
    earlier = aliased(OrderNotice)
    first_in_line = ~is_there().where(
        earlier.stream == OrderNotice.stream, earlier.seq < OrderNotice.seq, earlier.status == "waiting"
    )
    due = (OrderNotice.status == "waiting", OrderNotice.next_attempt_at <= func.now())
    # workspace by workspace, each no further than its share: the backlog of one must not be read to find another's
    share = (
        select(OrderNotice.id)
        .where(OrderNotice.workspace_id == Workspace.id, *due, first_in_line)
        .order_by(OrderNotice.next_attempt_at)
        .limit(per_workspace)
        .correlate(Workspace)
        .lateral()
    )
    chosen = select(share.c.id).select_from(Workspace).join(share, true())
    query = (
        select(OrderNotice, Workspace)
        .join(Workspace, Workspace.id == OrderNotice.workspace_id)
        .where(OrderNotice.id.in_(chosen.where(Workspace.id.not_in(full))), *due)
        .with_for_update(of=OrderNotice, skip_locked=True)
    )
    rows: list[tuple[OrderNotice, Workspace]] = []
    taken = Counter(under_way)
    for notice, workspace in (await session.execute(query)).all():
        if taken[workspace.id] < per_workspace:
            taken[workspace.id] += 1
            rows.append((notice, workspace))
    if rows:
        await session.execute(
            update(OrderNotice)
            .where(OrderNotice.id.in_([notice.id for notice, _ in rows]))
            .values(next_attempt_at=func.now() + lease)
            .execution_options(synchronize_session=False)
        )
    return rows


async def mark_delivered(session: AsyncSession, notice: OrderNotice) -> None:
    """The receiver answered 2xx: the next in line is due."""
    await session.execute(
        update(OrderNotice)
        .where(OrderNotice.id == notice.id)
        .values(status="delivered", delivered_at=func.now(), attempts=OrderNotice.attempts + 1, last_error=None)
    )
    await _put_off_the_line(session, notice, timedelta(0))


async def mark_failed(session: AsyncSession, notice: OrderNotice, *, error: str, retry_in: timedelta | None) -> None:
    """The receiver did not take it. Without `retry_in` it is given up, visibly, until an operator sends it again.

    One that another worker has delivered meanwhile stays delivered. Those behind it in line wait as long as it does,
    so that they are not looked through at every round.
    """
    still_waiting = await session.execute(
        update(OrderNotice)
        .where(OrderNotice.id == notice.id, OrderNotice.status == "waiting")
        .values(
            attempts=OrderNotice.attempts + 1,
            last_error=error[:300],
            **({"next_attempt_at": func.now() + retry_in} if retry_in is not None else {"status": "given_up"}),
        )
        .returning(OrderNotice.id)
    )
    if still_waiting.first() is not None:
        await _put_off_the_line(session, notice, retry_in or timedelta(0))


async def _put_off_the_line(session: AsyncSession, notice: OrderNotice, wait: timedelta) -> None:
    """Have what stands behind a notice in its line wait so long from now."""
    await session.execute(
        update(OrderNotice)
        .where(OrderNotice.stream == notice.stream, OrderNotice.seq > notice.seq, OrderNotice.status == "waiting")
        .values(next_attempt_at=func.now() + wait)
    )


async def send_again(session: AsyncSession, workspace_id: UUID | None = None, *, actor: str) -> int:
    """Put given-up and failing notices back in line, due now. Returns how many."""
    statement = (
        update(OrderNotice)
        .where(OrderNotice.status.in_(["given_up", "waiting"]), OrderNotice.attempts > 0)
        .values(status="waiting", next_attempt_at=func.now())
    )
    if workspace_id is not None:
        statement = statement.where(OrderNotice.workspace_id == workspace_id)
    notices = Counter(await session.scalars(statement.returning(OrderNotice.workspace_id)))
    for owner, number in notices.items():
        audit.record(
            session,
            owner,
            actor=actor,
            action="order_notices.sent_again",
            subject=("workspace", owner),
            details={"notices": number},
        )
    return notices.total()


async def notices_of(session: AsyncSession, payment_id: UUID) -> Sequence[OrderNotice]:
    """All notifications of one payment, in order."""
    return (
        await session.scalars(select(OrderNotice).where(OrderNotice.payment_id == payment_id).order_by(OrderNotice.seq))
    ).all()


async def health(session: AsyncSession, workspace_id: UUID) -> dict[str, Any]:
    """How delivery is going: counts by status, those failing now, and the oldest that waits."""
    counts = await session.execute(
        select(OrderNotice.status, func.count())
        .where(OrderNotice.workspace_id == workspace_id)
        .group_by(OrderNotice.status)
    )
    failing = await session.execute(
        select(func.count(), func.min(OrderNotice.created_at), func.max(OrderNotice.last_error)).where(
            OrderNotice.workspace_id == workspace_id, OrderNotice.status == "waiting", OrderNotice.attempts > 0
        )
    )
    number, oldest, error = failing.one()
    return {
        "counts": dict(counts.all()),
        "failing": number,
        "oldest_failing_since": oldest,
        "last_error": error,
    }


async def notices_of_subscription(session: AsyncSession, subscription_id: UUID) -> Sequence[OrderNotice]:
    """All notifications of one subscription, in order."""
    query = select(OrderNotice).where(OrderNotice.subscription_id == subscription_id).order_by(OrderNotice.seq)
    return (await session.scalars(query)).all()
