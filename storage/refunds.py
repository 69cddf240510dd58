"""Refunds: reserved under the payment's lock, settled or released once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from domain.money import Money
from domain.refund import CAME_BACK, RefundState
from storage import audit, credit
from storage.models import Payment, Refund
from storage.paging import newest_first

UNDER_WAY = (RefundState.REQUESTED.value, RefundState.PENDING.value, RefundState.UNKNOWN.value)


class OverRefund(ValueError):
    """More than is left of the capture; the text says how much is left. `used`: credit of it has paid the rest."""

    def __init__(self, words: str, used: Money) -> None:
        super().__init__(words)
        self.used = used


def left_of(payment: Payment) -> Money:
    """What has not gone back of a captured payment; what its credit has paid elsewhere cannot go back either."""
    return credit.left_of(payment)


def refunded_of(payment: Payment) -> Money:
    """What has gone back."""
    return Money.from_decimal(payment.refunded, payment.currency)


async def with_the_payer(session: AsyncSession, payment: Payment) -> Money:
    """What has gone back by the provider and has not come back to us again."""
    rows = [row for row in await of_payment(session, payment.id) if RefundState(row.status) in CAME_BACK]
    return refunded_of(payment) - sum((row.money for row in rows), Money.zero(payment.currency))


async def request(session: AsyncSession, payment: Payment, values: dict[str, Any], *, actor: str) -> Refund:
    """Reserve part of a locked payment, take its unused credit back, and put the refund on record. Raises OverRefund.

    Credit comes first: it would pay an invoice while the provider is asked. A refund that fails gives it back.
    The payment's constraint refuses at commit what this check should have refused.
    """
    amount, source = Money.from_decimal(values["amount"], payment.currency), await credit.source_of(session, payment)
    if source.refundable < amount:
        raise OverRefund(f"{source.refundable} {payment.currency} is left", source.used)
    payment.refund_reserved = payment.refund_reserved + values["amount"]
    refund = await _add(session, payment, values, actor=actor)
    await take_credit(session, payment, refund, actor=actor)
    return refund


async def take_credit(session: AsyncSession, payment: Payment, refund: Refund, *, actor: str) -> None:
    """Take the payment's unused credit back with a refund of it, once."""
    if refund.credit_taken is not None:
        return
    taken = await credit.take_back(session, payment, refund.money, cause=refund.id)
    refund.credit_taken = taken.to_decimal()
    _note_credit(session, payment, refund, "taken_back", taken, actor=actor)


async def restore_credit(session: AsyncSession, payment: Payment, refund: Refund) -> None:
    """A refund was not made, and its money is free again: so is the credit that it took.

    Should it turn out to have been made after all, it takes credit anew.
    """
    if refund.credit_taken:
        most = Money.from_decimal(refund.credit_taken, payment.currency)
        again = await credit.restore(session, payment, most, cause=refund.id)
        _note_credit(session, payment, refund, "restored", again, actor="provider")
    refund.credit_taken = None


def _note_credit(
    session: AsyncSession, payment: Payment, refund: Refund, what: str, amount: Money, *, actor: str
) -> None:
    if amount.minor:
        audit.record(
            session,
            payment.workspace_id,
            actor=actor,
            action=f"credit.{what}",
            subject=("payment", payment.id),
            details={"refund_id": str(refund.id), "amount": str(amount), "currency": payment.currency},
        )


async def record_foreign(session: AsyncSession, payment: Payment, values: dict[str, Any]) -> Refund:
    """Put a refund on record that was made at the provider; it is settled by the caller, in this transaction."""
    payment.refund_reserved = payment.refund_reserved + values["amount"]
    return await _add(session, payment, values, actor="provider")


async def record_failed(
    session: AsyncSession, payment: Payment, values: dict[str, Any], *, code: str | None, at: datetime
) -> Refund:
    """Put a refund on record that was made at the provider and had failed before it was seen. It reserves nothing."""
    ended = {"status": RefundState.FAILED.value, "failure_code": (code or "failed")[:100], "finished_at": at}
    return await _add(session, payment, values | ended, actor="provider")


async def _add(session: AsyncSession, payment: Payment, values: dict[str, Any], *, actor: str) -> Refund:
    refund = Refund(
        workspace_id=payment.workspace_id,
        payment_id=payment.id,
        provider=payment.provider,
        currency=payment.currency,
        requested_by=actor,
        **values,
    )
    session.add(refund)
    await session.flush()
    audit.record(
        session,
        payment.workspace_id,
        actor=actor,
        action="refund.requested",
        subject=("payment", payment.id),
        details={
            "refund_id": str(refund.id),
            "amount": str(refund.money),
            "currency": refund.currency,
            "origin": refund.origin or "merchant",
        },
    )
    return refund


async def made_by_provider(session: AsyncSession, payment: Payment) -> int:
    """How many refunds the payment's provider has made or is asked for, whoever asked. Those that failed are none."""
    query = select(func.count()).where(
        Refund.payment_id == payment.id,
        Refund.provider == payment.provider,
        Refund.status != RefundState.FAILED.value,
    )
    return (await session.execute(query)).scalar_one()


async def get(session: AsyncSession, refund_id: UUID, workspace_id: UUID | None = None) -> Refund | None:
    """One refund; with a workspace, only if it is that workspace's."""
    query = select(Refund).where(Refund.id == refund_id)
    return await session.scalar(query if workspace_id is None else query.where(Refund.workspace_id == workspace_id))


async def unconfirmed(session: AsyncSession, payment_id: UUID) -> Sequence[Refund]:
    """Refunds that a person has to compare with the provider's own list, oldest first."""
    await session.flush()
    rows = await under_way(session, payment_id)
    return sorted((row for row in rows if row.failure_code is not None), key=lambda row: (row.created_at, row.id))


async def lock(session: AsyncSession, refund_id: UUID) -> Refund:
    """A refund as it is now, under its row lock; take the payment's lock before it. Raises NoResultFound."""
    query = select(Refund).where(Refund.id == refund_id).with_for_update()
    return (await session.scalars(query.execution_options(populate_existing=True))).one()


async def claim(session: AsyncSession, refund_id: UUID, *, seen: datetime | None, at: datetime | None) -> bool:
    """Note when the provider was asked for it, unless somebody has done so since `seen`. Returns whether it was."""
    statement = (
        update(Refund).where(Refund.id == refund_id, Refund.asked_at.is_not_distinct_from(seen)).values(asked_at=at)
    )
    return (await session.execute(statement.returning(Refund.id))).first() is not None


async def of_payment(session: AsyncSession, payment_id: UUID) -> Sequence[Refund]:
    """All refunds of one payment, oldest first."""
    query = select(Refund).where(Refund.payment_id == payment_id).order_by(Refund.created_at, Refund.id)
    return (await session.scalars(query)).all()


async def made_at(session: AsyncSession, account_id: UUID, *, limit: int) -> Sequence[tuple[str, str]]:
    """Refunds that one account's provider has made: its ids of the capture and of the refund, the newest first."""
    query = (
        select(Payment.provider_transaction_id, Refund.provider_refund_id)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(
            Payment.provider_account_id == account_id,
            Payment.provider_transaction_id.is_not(None),
            Refund.provider_refund_id.is_not(None),
            Refund.status == RefundState.SUCCEEDED.value,
        )
        .order_by(Refund.finished_at.desc(), Refund.id)
        .limit(limit)
    )
    return [(str(capture), str(refund)) for capture, refund in await session.execute(query)]


async def under_way(session: AsyncSession, payment_id: UUID) -> Sequence[Refund]:
    """Refunds of a payment whose end is not known yet."""
    query = select(Refund).where(Refund.payment_id == payment_id, Refund.status.in_(UNDER_WAY))
    return (await session.scalars(query.order_by(Refund.created_at))).all()


async def requested_of_subscription(session: AsyncSession, subscription_id: UUID) -> Sequence[Refund]:
    """Refunds of a subscription's payments whose workflow may not have begun."""
    query = (
        select(Refund)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(Payment.subscription_id == subscription_id, Refund.status == RefundState.REQUESTED.value)
    )
    return (await session.scalars(query.order_by(Refund.created_at))).all()


async def unstarted(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[Refund]:
    """Refunds that were accepted, or found pending at the provider, but whose workflow may never have begun."""
    query = select(Refund).where(
        or_(
            Refund.status == RefundState.REQUESTED.value,
            and_(Refund.status == RefundState.PENDING.value, Refund.origin == "provider", Refund.asked_at.is_(None)),
        ),
        Refund.created_at < older_than,
    )
    return (await session.scalars(query.order_by(Refund.created_at).limit(limit))).all()


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    payment_id: UUID | None = None,
    status: str | None = None,
) -> Sequence[Refund]:
    """Newest first."""
    query = select(Refund).where(Refund.workspace_id == workspace_id)
    if payment_id is not None:
        query = query.where(Refund.payment_id == payment_id)
    if status is not None:
        query = query.where(Refund.status == status)
    query = newest_first(query, Refund, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def hold_key(session: AsyncSession, workspace_id: UUID, key: str) -> None:
    """Let nobody else use an idempotency key until the transaction ends, for this payment or another.

    Take it before the payment's lock. Two payments have two locks, so without this one the second request of a reused
    key would run into the constraint instead of being told.
    """
    name = f"refund:{workspace_id}:{key}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def by_key(session: AsyncSession, workspace_id: UUID, key: str) -> Refund | None:
    """The refund that an idempotency key has made."""
    return await session.scalar(
        select(Refund).where(Refund.workspace_id == workspace_id, Refund.idempotency_key == key)
    )
