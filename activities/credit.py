"""What happens to a customer's credit when the money that it comes from goes back, and when a person decides on it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from domain.credit import Part
from domain.money import Money
from domain.payment import PaymentStatus
from domain.review import ReviewReason
from storage import audit, credit, outbox, payments
from storage.credit import Owner
from storage.models import Dispute, Payment, Workspace


class NothingOverdrawn(ValueError):
    """There is no loss to bear."""


async def take_for_dispute(session: AsyncSession, payment: Payment, row: Dispute, held: Money) -> None:
    """A bank holds so much more of a locked payment: its unused credit is the first to go."""
    taken = await credit.take_back(session, payment, held, cause=row.id)
    row.credit_taken = (row.credit_taken or Decimal(0)) + taken.to_decimal()
    _note(session, payment, row, "taken_back", taken)


async def restore_of_dispute(session: AsyncSession, payment: Payment, row: Dispute, let_go: Money) -> None:
    """A bank has let go of so much: credit that it took is credit again, as far as money is behind it."""
    taken = Money.from_decimal(row.credit_taken or Decimal(0), payment.currency)
    if not taken.minor:
        return
    again = await credit.restore(session, payment, min(taken, let_go), cause=row.id)
    row.credit_taken = (taken - again).to_decimal()
    _note(session, payment, row, "restored", again)


async def show_overdrawn(session: AsyncSession, workspace: Workspace, payment: Payment, *, at: datetime) -> None:
    """Flag a locked payment whose used credit has no money behind it any more, and tell; or take the flag away."""
    if payment.subscription_id is None:
        return
    lost = (await credit.source_of(session, payment)).overdrawn
    if not lost.minor:
        payments.clear_flag(session, payment, ReviewReason.CREDIT_OVERDRAWN)
        return
    facts = {"overdrawn": str(lost)}
    if payment.flag is None:  # what is flagged already waits for a person; the credit's own page shows this too
        payments.set_flag(session, payment, ReviewReason.CREDIT_OVERDRAWN, details=facts)
    told = {"amount": str(lost), "customer_id": payment.customer_id}
    data = payments.notice_data(payment, PaymentStatus(payment.status)) | told
    await outbox.add_notice_once(
        session, workspace, payment, notice_type="credit.overdrawn", key=str(lost), at=at, data=data
    )


async def write_off(
    session: AsyncSession, workspace: Workspace, payment: Payment, *, cause: UUID, reason: str, actor: str, at: datetime
) -> Money:
    """Bear the loss of a locked payment's overdrawn credit: what it paid stays paid. Raises NothingOverdrawn."""
    lost = await credit.write_off(session, payment, cause=cause, reason=reason)
    if not lost.minor:
        raise NothingOverdrawn("No credit of this payment is overdrawn.")
    payments.clear_flag(session, payment, ReviewReason.CREDIT_OVERDRAWN, actor=actor)
    facts = {"amount": str(lost), "currency": payment.currency, "reason": reason}
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="credit.written_off",
        subject=("payment", payment.id),
        details=facts,
    )
    data = payments.notice_data(payment, PaymentStatus(payment.status)) | facts | {"customer_id": payment.customer_id}
    outbox.add_notice(session, workspace, payment, notice_type="credit.written_off", at=at, data=data)
    return lost


async def withdraw(
    session: AsyncSession,
    workspace: Workspace,
    owner: Owner,
    amount: Money,
    *,
    cause: UUID,
    reason: str,
    actor: str,
    at: datetime,
) -> list[Part]:
    """Take credit from a customer by a person's decision. Returns what was taken, by source."""
    parts = await credit.withdraw(session, owner, amount, cause=cause, reason=reason)
    sources = [
        {"payment_id": None if part.payment_id is None else str(part.payment_id), "amount": str(part.amount)}
        for part in parts
    ]
    facts = {"amount": str(amount), "currency": owner.currency, "reason": reason, "sources": sources}
    told = {"customer_id": owner.customer_id} | facts
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="credit.withdrawn",
        subject=("customer_credit", uuid5(workspace.id, owner.customer_id)),
        details=facts,
    )
    outbox.add_lone_notice(
        session,
        workspace,
        cause,
        notice_type="credit.withdrawn",
        at=at,
        data=told,
    )
    return parts


def _note(session: AsyncSession, payment: Payment, row: Dispute, what: str, amount: Money) -> None:
    if amount.minor:
        audit.record(
            session,
            payment.workspace_id,
            actor="provider",
            action=f"credit.{what}",
            subject=("payment", payment.id),
            details={"dispute_id": str(row.id), "amount": str(amount), "currency": payment.currency},
        )
