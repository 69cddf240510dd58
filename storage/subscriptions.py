"""Subscriptions and their invoices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.billing_calendar import Anchor, Interval, Unit, resolve
from domain.dunning import DunningPolicy, FinalAction
from domain.payment import OPEN
from domain.subscription import InvoiceStatus, SubscriptionChange, SubscriptionChanged, SubscriptionStatus
from storage.models import (
    Invoice,
    Payment,
    Plan,
    ProviderAccount,
    Subscription,
    SubscriptionChangeRecord,
    Workspace,
)
from storage.paging import newest_first
from storage.plans import interval_of


def policy_of(workspace: Workspace) -> DunningPolicy:
    """The workspace's rules of dunning."""
    return DunningPolicy(
        tuple(workspace.dunning_retry_days),
        workspace.dunning_grace_days,
        FinalAction(workspace.dunning_final_action),
    )


def first_values(*, plan: Plan, zone: ZoneInfo, at: datetime, trial_days: int, quantity: int) -> dict[str, Any]:
    """The columns of a new subscription that its plan and its beginning decide.

    A trial is period 0, and the first paid period begins at its end; without one (0 days) it begins now.
    """
    anchor = Anchor.at(at, zone).after(Interval(Unit.DAY), trial_days)
    trial_end = anchor.moment(zone) if trial_days else None
    end = trial_end or anchor.after(interval_of(plan), 1).moment(zone)
    status = SubscriptionStatus.TRIALING if trial_days else SubscriptionStatus.INCOMPLETE
    return anchor_columns(anchor, trial_end or at) | {
        "plan_id": plan.id,
        "quantity": quantity,
        "status": status.value,
        "timezone": zone.key,
        "anchor_period": 1,
        "period": 0 if trial_days else 1,
        "current_period_start": at,
        "current_period_end": end,
        "trial_end": trial_end,
        "wake_wanted_at": at,
        "created_at": at,
        "updated_at": at,
    }


def anchor_columns(anchor: Anchor, moment: datetime) -> dict[str, Any]:
    """An anchor on record; `moment` is when it is."""
    return {"anchor": moment, "anchor_wall": anchor.wall, "anchor_day": anchor.day}


def anchor_of(row: Subscription) -> Anchor:
    """The anchor as it was agreed; its moment's own day and time where what was agreed is not on record."""
    zone = ZoneInfo(row.timezone)
    if row.anchor_wall is None or row.anchor_day is None or resolve(row.anchor_wall, zone) != row.anchor:
        return Anchor.at(row.anchor, zone)
    return Anchor(row.anchor_wall, row.anchor_day)


def followed_values(
    account: ProviderAccount, provider_subscription_id: str, *, timezone: str, now: datetime
) -> dict[str, Any]:
    """The columns of a subscription that was first heard of by an event; the look that follows fills them."""
    return {
        "id": uuid5(account.id, f"subscription:{provider_subscription_id}"),
        "workspace_id": account.workspace_id,
        "customer_id": provider_subscription_id[:128],
        "status": SubscriptionStatus.INCOMPLETE.value,
        "timezone": timezone,
        "anchor": now,
        "anchor_period": 1,
        "period": 0,
        "current_period_start": now,
        "current_period_end": now + timedelta(seconds=1),
        "managed_by": "provider",
        "provider_account_id": account.id,
        "provider_subscription_id": provider_subscription_id,
        "wake_wanted_at": now,
        "created_at": now,
        "updated_at": now,
    }


async def get(session: AsyncSession, subscription_id: UUID, workspace_id: UUID | None = None) -> Subscription | None:
    """One subscription; with a workspace, only if it is that workspace's."""
    query = select(Subscription).where(Subscription.id == subscription_id)
    if workspace_id is not None:
        query = query.where(Subscription.workspace_id == workspace_id)
    return await session.scalar(query)


async def lock(session: AsyncSession, subscription_id: UUID) -> tuple[Subscription, Workspace] | None:
    """A subscription under its row lock with its workspace. A payment's lock, if needed, is taken before it."""
    query = (
        select(Subscription, Workspace)
        .join(Workspace, Workspace.id == Subscription.workspace_id)
        .where(Subscription.id == subscription_id)
        .with_for_update(of=Subscription)
        .execution_options(populate_existing=True)
    )
    row = (await session.execute(query)).first()
    return None if row is None else (row[0], row[1])


async def insert_new(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Create it unless its id or its idempotency key exists. Returns whether this call created it."""
    statement = insert(Subscription).values(values).on_conflict_do_nothing().returning(Subscription.id)
    return (await session.execute(statement)).first() is not None


async def by_key(session: AsyncSession, workspace_id: UUID, key: str) -> Subscription | None:
    """The subscription that an idempotency key has made."""
    query = select(Subscription).where(Subscription.workspace_id == workspace_id, Subscription.idempotency_key == key)
    return await session.scalar(query)


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    customer_id: str | None = None,
    status: str | None = None,
) -> Sequence[Subscription]:
    """Newest first."""
    query = select(Subscription).where(Subscription.workspace_id == workspace_id)
    if customer_id is not None:
        query = query.where(Subscription.customer_id == customer_id)
    if status is not None:
        query = query.where(Subscription.status == status)
    query = newest_first(query, Subscription, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def of_customer(session: AsyncSession, customer_id: str) -> Sequence[Subscription]:
    """A customer's subscriptions in every workspace, oldest first; for operators."""
    query = select(Subscription).where(Subscription.customer_id == customer_id)
    return (await session.scalars(query.order_by(Subscription.created_at))).all()


async def of_provider(session: AsyncSession, account_id: UUID, provider_subscription_id: str) -> Subscription | None:
    """The subscription that follows one at a provider."""
    query = select(Subscription).where(
        Subscription.provider_account_id == account_id,
        Subscription.provider_subscription_id == provider_subscription_id,
    )
    return await session.scalar(query)


async def left_asleep(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[Subscription]:
    """Those whose workflow should have seen a change by now: it was not started, or its signal was lost."""
    query = select(Subscription).where(Subscription.wake_wanted_at < older_than)
    return (await session.scalars(query.order_by(Subscription.wake_wanted_at).limit(limit))).all()


async def overdue(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[Subscription]:
    """Those whose workflow should have acted before this moment: it was stopped, or waits for a provider."""
    query = select(Subscription).where(Subscription.next_action_at < older_than)
    return (await session.scalars(query.order_by(Subscription.next_action_at).limit(limit))).all()


async def wake_customer(session: AsyncSession, workspace_id: UUID, customer_id: str, *, at: datetime) -> list[UUID]:
    """Have all running subscriptions of a customer look again: a payment method was added or taken away."""
    ended = (SubscriptionStatus.CANCELLED.value, SubscriptionStatus.EXPIRED.value)
    statement = (
        update(Subscription)
        .where(
            Subscription.workspace_id == workspace_id,
            Subscription.customer_id == customer_id,
            Subscription.status.not_in(ended),
        )
        .values(wake_wanted_at=at)
        .returning(Subscription.id)
    )
    return list((await session.scalars(statement)).all())


async def add_invoice(session: AsyncSession, values: dict[str, Any]) -> Invoice:
    """Put an invoice on record; the one of the same id if it is there already."""
    await session.execute(insert(Invoice).values(values).on_conflict_do_nothing())
    return (await session.scalars(select(Invoice).where(Invoice.id == values["id"]))).one()


async def open_invoice(session: AsyncSession, subscription_id: UUID) -> Invoice | None:
    """The oldest invoice that waits for money."""
    query = select(Invoice).where(
        Invoice.subscription_id == subscription_id, Invoice.status == InvoiceStatus.OPEN.value
    )
    rows = (await session.scalars(query.order_by(Invoice.period, Invoice.sequence))).all()
    # one that this transaction has just closed is still open in the table: nothing is flushed before the commit
    return next((row for row in rows if row.status == InvoiceStatus.OPEN), None)


async def invoice(session: AsyncSession, invoice_id: UUID) -> Invoice | None:
    """One invoice."""
    return await session.scalar(select(Invoice).where(Invoice.id == invoice_id))


async def invoices_of(session: AsyncSession, subscription_id: UUID) -> Sequence[Invoice]:
    """All invoices, first to last."""
    query = select(Invoice).where(Invoice.subscription_id == subscription_id)
    return (await session.scalars(query.order_by(Invoice.period, Invoice.sequence))).all()


async def latest_invoices(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Invoice]:
    """The last invoice of each of these subscriptions that has one."""
    query = (
        select(Invoice)
        .where(Invoice.subscription_id.in_(ids))
        .ext(distinct_on(Invoice.subscription_id))
        .order_by(Invoice.subscription_id, Invoice.period.desc(), Invoice.sequence.desc())
    )
    return {row.subscription_id: row for row in await session.scalars(query)}


async def invoice_page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    subscription_id: UUID | None = None,
    status: str | None = None,
) -> Sequence[Invoice]:
    """Newest first."""
    query = select(Invoice).where(Invoice.workspace_id == workspace_id)
    if subscription_id is not None:
        query = query.where(Invoice.subscription_id == subscription_id)
    if status is not None:
        query = query.where(Invoice.status == status)
    query = newest_first(query, Invoice, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def next_sequence(session: AsyncSession, subscription_id: UUID, period: int) -> int:
    """The number of the next change within a period; 0 is the period's own invoice."""
    query = select(func.max(Invoice.sequence)).where(
        Invoice.subscription_id == subscription_id, Invoice.period == period
    )
    last = await session.scalar(query)
    return 1 if last is None else int(last) + 1


async def payments_of(session: AsyncSession, subscription_id: UUID) -> Sequence[Payment]:
    """All attempts of all invoices, oldest first."""
    query = select(Payment).where(Payment.subscription_id == subscription_id)
    return (await session.scalars(query.order_by(Payment.created_at, Payment.id))).all()


async def open_payments(session: AsyncSession, subscription_id: UUID) -> Sequence[Payment]:
    """Attempts that may still bring money in the ordinary way."""
    query = select(Payment).where(
        Payment.subscription_id == subscription_id, Payment.status.in_([status.value for status in OPEN])
    )
    return (await session.scalars(query.order_by(Payment.created_at))).all()


async def answered(session: AsyncSession, change_id: UUID) -> tuple[SubscriptionChanged, str | None] | None:
    """What a wish was answered when it was carried out, and the fingerprint of its request if it had one."""
    known = await session.scalar(select(SubscriptionChangeRecord).where(SubscriptionChangeRecord.id == change_id))
    if known is None:
        return None
    kept = known.answer
    answer = SubscriptionChanged(SubscriptionStatus(kept["status"]), kept["effects"], kept["refusal"], kept["detail"])
    return answer, kept.get("fingerprint")


def keep_answer(session: AsyncSession, wish: SubscriptionChange, answer: SubscriptionChanged, at: datetime) -> None:
    """Keep it for a repeat; the primary key refuses to carry out the same wish twice."""
    kept = asdict(answer) | {"status": answer.status.value, "fingerprint": wish.fingerprint}
    session.add(
        SubscriptionChangeRecord(
            id=wish.change_id,
            subscription_id=wish.subscription_id,
            kind=wish.kind.value,
            answer=kept,
            created_at=at,
        )
    )


def wake(row: Subscription, at: datetime | None = None) -> None:
    """Have its workflow look again soon."""
    row.wake_wanted_at = at or row.updated_at


ASLEEP_AFTER = timedelta(seconds=10)
"""A wake-up that was not answered by then was lost."""
OVERDUE_AFTER = timedelta(minutes=15)
"""A workflow that has not acted by then may be gone. If it is not, waking it does no harm."""
