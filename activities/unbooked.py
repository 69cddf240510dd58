"""Money that arrived and is not booked as a sale: taken on record, and ended once it is with the payer again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from domain.money import Money
from domain.payment import Confirmation, PaymentStatus, SurplusStatus
from domain.review import ReviewReason
from providers.base import ProviderPayment
from storage import attempts, payments, surplus
from storage.models import Attempt, Payment, Workspace


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Why the money was not booked, and how it went back: at the provider, or by other means under a reference."""

    reason: ReviewReason
    actor: str = "provider"
    outside_reference: str | None = None


async def adopt(session: AsyncSession, payment: Payment, attempt: Attempt | None, observed: ProviderPayment) -> Attempt:
    """Make the way by which the money came the payment's own; put it on record if its opening was never answered."""
    if attempt is None:
        values = {
            "provider": payment.provider,
            "provider_account_id": payment.provider_account_id,
            "checkout_mode": payment.checkout_mode,
            "method": payment.method,
            "session_id": observed.session_id,
            "status": "pending",
        }
        await attempts.record(session, payment.id, 1, values)
        attempt = (await attempts.of_payment(session, payment.id))[0]
    await attempts.set_settled(
        session,
        attempt.id,
        status="paid",
        transaction_id=observed.transaction_id,
        other_ids=observed.other_ids,
    )
    payment.provider, payment.provider_account_id = attempt.provider, attempt.provider_account_id
    payment.provider_session_id, payment.checkout_mode = attempt.session_id, attempt.checkout_mode
    payment.provider_transaction_id = observed.transaction_id
    payment.method = attempt.method
    return attempt


async def take_unbooked(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    observed: ProviderPayment,
    attempt: Attempt | None,
    *,
    amount: Money,
    reason: ReviewReason,
) -> UUID | None:
    """Put money that is not booked as a sale on record as an overpayment of a locked payment, to be sent back.

    Returns the overpayment's id; None where the provider's transaction has settled another payment.
    """
    attempt = await adopt(session, payment, attempt, observed)
    transaction_id = observed.transaction_id or str(attempt.reference)
    kept = await surplus.record(
        session,
        workspace,
        payment,
        attempt,
        transaction_id=transaction_id,
        amount=amount,
        reason=reason,
        status=SurplusStatus.REFUNDING,
    )
    return surplus.id_of(payment.id, attempt.provider, transaction_id) if kept else None


async def close_given_back(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    observed: ProviderPayment,
    attempt: Attempt | None,
    how: GivenBack,
    *,
    at: datetime,
) -> Confirmation:
    """End a locked payment whose money was never booked and is with the payer again: refunded, without documents."""
    captured = observed.captured
    assert captured is not None  # noqa: S101  (what the caller looked at)
    taken = await take_unbooked(session, payment, workspace, observed, attempt, amount=captured, reason=how.reason)
    if taken is None:
        details = {"transaction_id": observed.transaction_id}
        payments.set_flag(session, payment, ReviewReason.TRANSACTION_TAKEN, details=details)
        return Confirmation(PaymentStatus(payment.status), None, payment.flag)
    row, settled = await surplus.lock(session, taken)
    if how.outside_reference is None:
        surplus.change_status(session, row, settled, SurplusStatus.REFUNDED, at=at, actor=how.actor)
    else:
        surplus.settle_outside(session, row, reference=how.outside_reference, at=at, actor=how.actor)
    end_given_back(session, payment, workspace, captured, reason=how.reason, at=at, actor=how.actor)
    return Confirmation(PaymentStatus(payment.status))


def end_given_back(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    amount: Money,
    *,
    reason: ReviewReason,
    at: datetime,
    actor: str,
) -> None:
    """Move a locked payment all of whose money is with the payer again to its end, and tell the order service."""
    payments.clear_flag(session, payment, reason, actor=actor)
    payments.change_status(
        session,
        workspace,
        payment,
        PaymentStatus.REFUNDED,
        at=at,
        actor=actor,
        reason=reason,
        details={"refunded_amount": str(amount), "refunded_total": str(amount), "refunded_currency": amount.currency},
    )
