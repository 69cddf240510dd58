"""Money beyond the obligation: recorded once a transaction, refunded or kept by decision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Select, and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import settled_outside_entries, surplus_entries, surplus_refund_entries
from domain.money import Money
from domain.payment import PaymentStatus, SurplusStatus
from domain.review import WHOLE, ReviewReason
from storage import audit, ledger
from storage.models import Attempt, Payment, SurplusCapture, Workspace
from storage.paging import newest_first

_NOT_TAKEN_ON = and_(
    SurplusCapture.status == SurplusStatus.REFUNDING.value,
    SurplusCapture.provider_refund_id.is_(None),
    SurplusCapture.accepted_at.is_(None),
)

_WHOLE = select(SurplusCapture.id).where(SurplusCapture.reason.in_(WHOLE))
UNDECIDED = frozenset({SurplusStatus.PROPOSED, SurplusStatus.REFUND_FAILED})
"""What waits for a person."""


async def order_is_paid_by_another(session: AsyncSession, payment: Payment) -> bool:
    """Whether another payment of this order holds captured money; what was refunded in full no longer does.

    The advisory lock makes two settlements of one order see each other; it ends with the transaction.
    """
    key = f"order:{payment.workspace_id}:{payment.order_id}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))
    query = _paid_payments(payment.workspace_id, payment.order_id).where(Payment.id != payment.id)
    return await session.scalar(query.limit(1)) is not None


async def order_is_paid(session: AsyncSession, workspace_id: UUID, order_id: str) -> bool:
    """The same for an order without a look at who is settling it now."""
    return await session.scalar(_paid_payments(workspace_id, order_id).limit(1)) is not None


def _paid_payments(workspace_id: UUID, order_id: str) -> Select[UUID]:
    return select(Payment.id).where(
        Payment.workspace_id == workspace_id,
        Payment.order_id == order_id,
        Payment.status.in_([PaymentStatus.PAID.value, PaymentStatus.PARTIALLY_REFUNDED.value]),
        or_(Payment.flag.is_(None), Payment.flag != ReviewReason.ORDER_PAID_TWICE),
        ~_WHOLE.where(SurplusCapture.payment_id == Payment.id).exists(),  # all that it brought is beyond the order
    )


def id_of(payment_id: UUID, provider: str, transaction_id: str) -> UUID:
    """The same for the same transaction of a payment, so that it is put on record once."""
    return uuid5(payment_id, f"surplus:{provider}:{transaction_id}")


async def is_whole(session: AsyncSession, payment_id: UUID) -> bool:
    """Whether all the money of a payment is on record as beyond what was owed, so that there is no receipt of it."""
    return await session.scalar(_WHOLE.where(SurplusCapture.payment_id == payment_id).limit(1)) is not None


async def record(
    session: AsyncSession,
    workspace: Workspace,
    payment: Payment,
    attempt: Attempt,
    *,
    transaction_id: str,
    amount: Money,
    reason: ReviewReason,
    status: SurplusStatus | None = None,
) -> bool:
    """Put a surplus capture on record with its ledger entries and audit entry. Returns whether it is on record.

    The status is what the workspace's policy says, unless one is given. A repeat changes nothing. False means that
    another payment of the provider holds this transaction.
    """
    surplus_id = id_of(payment.id, attempt.provider, transaction_id)
    usual = SurplusStatus.REFUNDING if workspace.surplus_policy == "refund" else SurplusStatus.PROPOSED
    statement = insert(SurplusCapture).values(
        id=surplus_id,
        workspace_id=workspace.id,
        payment_id=payment.id,
        attempt_id=attempt.id,
        provider=attempt.provider,
        transaction_id=transaction_id,
        amount=amount.to_decimal(),
        currency=amount.currency,
        reason=reason,
        status=(status or usual).value,
    )
    made = await session.scalar(statement.on_conflict_do_nothing().returning(SurplusCapture.id))
    if made is None:
        return await get(session, surplus_id) is not None
    ledger.book(
        session,
        workspace_id=workspace.id,
        payment_id=payment.id,
        movement_id=surplus_id,
        kind="surplus",
        entries=surplus_entries(amount, provider_account=str(attempt.provider_account_id), payment_id=str(payment.id)),
    )
    audit.record(
        session,
        workspace.id,
        actor="provider",
        action="surplus.recorded",
        subject=("payment", payment.id),
        details={
            "surplus_id": str(surplus_id),
            "reason": reason,
            "amount": str(amount),
            "currency": amount.currency,
            "provider": attempt.provider,
            "transaction_id": transaction_id,
        },
    )
    return True


async def get(session: AsyncSession, surplus_id: UUID, workspace_id: UUID | None = None) -> SurplusCapture | None:
    """One surplus capture; with a workspace, only if it is that workspace's."""
    query = select(SurplusCapture).where(SurplusCapture.id == surplus_id)
    return await session.scalar(
        query if workspace_id is None else query.where(SurplusCapture.workspace_id == workspace_id)
    )


def refund_ids(surplus: SurplusCapture) -> list[UUID]:
    """Our ids of all refunds of it, of every decision; the provider may list each."""
    return [surplus.id, *(uuid5(surplus.id, f"refund-{number}") for number in range(2, surplus.refund_number + 1))]


async def lock(session: AsyncSession, surplus_id: UUID) -> tuple[SurplusCapture, Attempt]:
    """A surplus capture as it is now, under its row lock, with the attempt that brought it. Raises NoResultFound."""
    query = (
        select(SurplusCapture, Attempt)
        .join(Attempt, Attempt.id == SurplusCapture.attempt_id)
        .where(SurplusCapture.id == surplus_id)
        .with_for_update(of=SurplusCapture)
        .execution_options(populate_existing=True)
    )
    row = (await session.execute(query)).one()
    return row[0], row[1]


async def claim(session: AsyncSession, surplus_id: UUID, *, seen: datetime | None, at: datetime | None) -> bool:
    """Note when the provider was asked to send it back, unless somebody has since `seen`. Returns whether it was."""
    statement = (
        update(SurplusCapture)
        .where(SurplusCapture.id == surplus_id, SurplusCapture.asked_at.is_not_distinct_from(seen))
        .values(asked_at=at)
    )
    return (await session.execute(statement.returning(SurplusCapture.id))).first() is not None


def change_status(
    session: AsyncSession,
    surplus: SurplusCapture,
    attempt: Attempt,
    status: SurplusStatus,
    *,
    at: datetime,
    actor: str,
    provider_refund_id: str | None = None,
    failure_code: str | None = None,
) -> None:
    """Move a locked surplus capture on, with its audit entry; a refund that succeeded is booked.

    A refund that failed for certain and is wanted again is another refund, with an id of its own at the provider.
    """
    if surplus.status == status:
        surplus.provider_refund_id = provider_refund_id or surplus.provider_refund_id
        return
    details: dict[str, Any] = {"surplus_id": str(surplus.id), "from": surplus.status, "to": status.value}
    if failure_code:
        details["code"] = failure_code
    came_back = surplus.status == SurplusStatus.REFUNDED and status is SurplusStatus.REFUND_FAILED
    sides = {"provider_account": str(attempt.provider_account_id), "payment_id": str(surplus.payment_id)}
    if surplus.status == SurplusStatus.REFUND_FAILED and status is SurplusStatus.REFUNDING:
        surplus.refund_number += 1
        if surplus.provider_refund_id is not None:
            surplus.further_provider_refund_ids = [*surplus.further_provider_refund_ids, surplus.provider_refund_id]
        surplus.provider_refund_id = surplus.asked_at = surplus.accepted_at = None
    surplus.status = status.value
    surplus.provider_refund_id = provider_refund_id or surplus.provider_refund_id
    surplus.failure_code = failure_code
    surplus.updated_at = at
    if status is SurplusStatus.REFUNDED:
        ledger.book(
            session,
            workspace_id=surplus.workspace_id,
            payment_id=surplus.payment_id,
            movement_id=_movement(surplus, "refund"),
            kind="surplus_refund",
            entries=surplus_refund_entries(surplus.money, **sides),
        )
    if came_back:
        ledger.book(
            session,
            workspace_id=surplus.workspace_id,
            payment_id=surplus.payment_id,
            movement_id=_movement(surplus, "returned"),
            kind="surplus_returned",
            entries=surplus_entries(surplus.money, **sides),
        )
    audit.record(
        session,
        surplus.workspace_id,
        actor=actor,
        action=f"surplus.{status.value}",
        subject=("payment", surplus.payment_id),
        details=details,
    )


def _movement(surplus: SurplusCapture, what: str) -> UUID:
    """The id of a movement of this refund of it: another decision is another movement."""
    turn = surplus.refund_number + len(surplus.further_provider_refund_ids)
    return uuid5(surplus.id, what if turn == 1 else f"{what}-{turn}")


def settle_outside(session: AsyncSession, surplus: SurplusCapture, *, reference: str, at: datetime, actor: str) -> None:
    """The merchant has paid a locked surplus capture back by other means: nothing is owed to the payer any more."""
    details = {
        "surplus_id": str(surplus.id),
        "from": surplus.status,
        "to": SurplusStatus.SETTLED_OUTSIDE.value,
        "outside_reference": reference,
    }
    surplus.status, surplus.updated_at = SurplusStatus.SETTLED_OUTSIDE.value, at
    ledger.book(
        session,
        workspace_id=surplus.workspace_id,
        payment_id=surplus.payment_id,
        movement_id=uuid5(surplus.id, "settled-outside"),
        kind="surplus_settled_outside",
        entries=settled_outside_entries(surplus.money, payment_id=str(surplus.payment_id)),
    )
    audit.record(
        session,
        surplus.workspace_id,
        actor=actor,
        action="surplus.settled_outside",
        subject=("payment", surplus.payment_id),
        details=details,
    )


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    status: str | None = None,
) -> Sequence[SurplusCapture]:
    """Newest first."""
    query = select(SurplusCapture).where(SurplusCapture.workspace_id == workspace_id)
    if status is not None:
        query = query.where(SurplusCapture.status == status)
    query = newest_first(query, SurplusCapture, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def of_payment(session: AsyncSession, payment_id: UUID) -> Sequence[SurplusCapture]:
    """All surplus of one payment, oldest first."""
    query = select(SurplusCapture).where(SurplusCapture.payment_id == payment_id)
    return (await session.scalars(query.order_by(SurplusCapture.created_at, SurplusCapture.id))).all()


async def to_return(session: AsyncSession, payment_id: UUID) -> list[UUID]:
    """What of one payment is to go back and has not been taken on by its provider yet, oldest first.

    Not only what a look has just found: the process that found it may have died before the refund was begun.
    """
    query = select(SurplusCapture.id).where(SurplusCapture.payment_id == payment_id, _NOT_TAKEN_ON)
    return list(await session.scalars(query.order_by(SurplusCapture.created_at, SurplusCapture.id)))


async def given_back(session: AsyncSession, payment: Payment) -> Money:
    """What has gone back, or is on its way, of money beyond the obligation that came by the attempt that was paid."""
    query = (
        select(func.coalesce(func.sum(SurplusCapture.amount), Decimal(0)))
        .join(Attempt, Attempt.id == SurplusCapture.attempt_id)
        .where(
            SurplusCapture.payment_id == payment.id,
            SurplusCapture.currency == payment.currency,
            SurplusCapture.status.in_([SurplusStatus.REFUNDING.value, SurplusStatus.REFUNDED.value]),
            Attempt.status == "paid",
        )
    )
    return Money.from_decimal((await session.execute(query)).scalar_one(), payment.currency)


async def unstarted(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[UUID]:
    """What was to go back before this moment and no provider has taken on: perhaps nobody is at it."""
    query = select(SurplusCapture.id).where(_NOT_TAKEN_ON, SurplusCapture.updated_at < older_than)
    return (await session.scalars(query.order_by(SurplusCapture.updated_at).limit(limit))).all()
