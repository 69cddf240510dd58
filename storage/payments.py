"""Payments: creation, locking, the one way to change a status, and lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.money import Money
from domain.payment import (
    CAPTURED,
    OPEN,
    Advance,
    PaymentStatus,
    PollPlan,
    StartPayment,
    Transition,
    advance,
)
from domain.review import ReviewReason
from storage import audit, outbox
from storage.models import Payment, Workspace
from storage.paging import newest_first


def start_command(payment: Payment, poll: PollPlan) -> StartPayment:
    """The command that starts a payment's workflow; always the same for the same row."""
    return StartPayment(
        payment_id=payment.id,
        workspace_id=payment.workspace_id,
        provider=payment.provider,
        provider_account_id=payment.provider_account_id,
        order_id=payment.order_id,
        customer_id=payment.customer_id,
        amount_minor=payment.money.minor,
        currency=payment.currency,
        expires_at=payment.expires_at,
        poll=poll,
        payment_method_id=payment.payment_method_id,
        subscription_id=payment.subscription_id,
    )


async def insert_new(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Create the payment unless its id or its idempotency key exists. Returns whether this call created it."""
    statement = insert(Payment).values(values).on_conflict_do_nothing().returning(Payment.id)
    return (await session.execute(statement)).first() is not None


async def get(session: AsyncSession, workspace_id: UUID, payment_id: UUID) -> Payment | None:
    """One payment of one workspace."""
    return await session.scalar(select(Payment).where(Payment.id == payment_id, Payment.workspace_id == workspace_id))


async def named(session: AsyncSession, workspace_id: UUID, ids: Collection[UUID]) -> dict[UUID, Payment]:
    """Those of these payments that are there, by id."""
    rows = await session.scalars(select(Payment).where(Payment.id.in_(ids), Payment.workspace_id == workspace_id))
    return {row.id: row for row in rows}


async def lock(session: AsyncSession, payment_id: UUID) -> tuple[Payment, Workspace]:
    """The payment as it is now, under its row lock, held to the commit, with its workspace. Raises NoResultFound.

    Take the lock before you change anything of the payment: what the session has not flushed is read over.
    """
    query = (
        select(Payment, Workspace)
        .join(Workspace, Workspace.id == Payment.workspace_id)
        .where(Payment.id == payment_id)
        .with_for_update(of=Payment)
        .execution_options(populate_existing=True)
    )
    row = (await session.execute(query)).one()
    return row[0], row[1]


def change_status(
    session: AsyncSession,
    workspace: Workspace,
    payment: Payment,
    observed: PaymentStatus,
    *,
    at: datetime,
    actor: str,
    reason: str | None = None,
    details: dict[str, Any] | None = None,
) -> Transition:
    """Apply an observed status to a locked payment: status, audit entry and notification in one transaction.

    A status that would go backwards is recorded and ignored; a repeat leaves no trace.
    """
    previous = PaymentStatus(payment.status)
    transition = advance(previous, observed)
    weaker_but_open = transition.advance is Advance.IGNORED and previous in OPEN
    if transition.advance is Advance.UNCHANGED or weaker_but_open:
        return transition
    facts = {"observed": observed.value, "from": previous.value, "to": transition.status.value, **(details or {})}
    if reason:
        facts["reason"] = reason
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action=f"payment.{'ignored' if transition.advance is Advance.IGNORED else transition.status.value}",
        subject=("payment", payment.id),
        details=facts | ({"late": True} if transition.advance is Advance.LATE else {}),
    )
    if transition.advance is Advance.IGNORED:
        return transition
    payment.status = transition.status.value
    payment.status_reason = reason
    payment.updated_at = at
    if transition.status in CAPTURED and payment.paid_at is None:
        payment.paid_at = at
    outbox.add_notice(
        session,
        workspace,
        payment,
        notice_type=f"payment.{transition.status.value}",
        at=at,
        data=notice_data(payment, previous) | (details or {}),
    )
    return transition


def notice_data(payment: Payment, previous: PaymentStatus) -> dict[str, Any]:
    """What the merchant's order service is told about a payment. No personal data.

    `amount` is the payment's; a notification about another object, such as a refund, puts that object's in its place.
    """
    return {
        "payment_id": str(payment.id),
        "order_id": payment.order_id,
        "status": payment.status,
        "previous_status": previous.value,
        "review_reason": payment.flag,
        "amount": str(payment.money),
        "payment_amount": str(payment.money),
        "refunded_total": str(Money.from_decimal(payment.refunded or Decimal(0), payment.currency)),
        "currency": payment.currency,
        "provider": payment.provider,
        "provider_transaction_id": payment.provider_transaction_id,
    }


def set_flag(session: AsyncSession, payment: Payment, flag: ReviewReason, *, details: dict[str, Any]) -> None:
    """Mark a locked payment as needing a person's decision, once a kind of trouble; domain.review has the acts."""
    if payment.flag == flag:
        return
    payment.flag = flag.value
    audit.record(
        session,
        payment.workspace_id,
        actor="provider",
        action="payment.flagged",
        subject=("payment", payment.id),
        details={"flag": flag, **details},
    )


def clear_flag(session: AsyncSession, payment: Payment, flag: ReviewReason, *, actor: str = "provider") -> None:
    """Take a flag from a locked payment once its trouble is over; another flag stays."""
    if payment.flag != flag:
        return
    payment.flag = None
    audit.record(
        session,
        payment.workspace_id,
        actor=actor,
        action="payment.unflagged",
        subject=("payment", payment.id),
        details={"flag": flag},
    )


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    status: str | None = None,
    order_id: str | None = None,
) -> Sequence[Payment]:
    """Newest first; `before` is the position of the last row of the page before."""
    query = select(Payment).where(Payment.workspace_id == workspace_id)
    if status is not None:
        query = query.where(Payment.status == status)
    if order_id is not None:
        query = query.where(Payment.order_id == order_id)
    query = newest_first(query, Payment, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def waiting_for_review(session: AsyncSession, *, limit: int) -> Sequence[Payment]:
    """Payments that wait for a person's decision, those that have waited longest first."""
    query = select(Payment).where(Payment.flag.is_not(None))
    return (await session.scalars(query.order_by(Payment.updated_at, Payment.id).limit(limit))).all()


async def holder_of_transaction(session: AsyncSession, provider: str, transaction_id: str | None) -> UUID | None:
    """Which payment a provider's transaction has settled."""
    if transaction_id is None:
        return None
    query = select(Payment.id).where(Payment.provider == provider, Payment.provider_transaction_id == transaction_id)
    return await session.scalar(query)


async def unstarted(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[Payment]:
    """Payments that were accepted but whose workflow never began (the process died between the two)."""
    query = select(Payment).where(Payment.status == "created", Payment.created_at < older_than)
    return (await session.scalars(query.order_by(Payment.created_at).limit(limit))).all()
