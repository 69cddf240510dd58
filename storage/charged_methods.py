"""What is on record of a customer's methods and of the attempts to charge an invoice to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.declines import decline_class
from domain.next_method import Attempts, Card, Preferred, Tried
from domain.payment import CAPTURED, PaymentStatus
from domain.setup import MethodStatus
from storage.models import Attempt, Invoice, Payment, PaymentMethod, ProviderAccount


async def usable_of(session: AsyncSession, workspace_id: UUID, customer_id: str) -> list[PaymentMethod]:
    """A customer's methods that can be charged at accounts that are enabled, best first.

    Best is what was charged last with success and without a dispute, then what was added last.
    """
    return list(await session.scalars(_best_first(workspace_id, customer_id).where(ProviderAccount.enabled)))


async def best_of(session: AsyncSession, workspace_id: UUID, customer_id: str) -> PaymentMethod | None:
    """The first of these; one whose account is disabled where there is no other."""
    query = _best_first(workspace_id, customer_id).order_by(None)
    found = await session.scalars(query.order_by(ProviderAccount.enabled.desc(), *_BEST).limit(1))
    return found.first()


async def attempts_for(session: AsyncSession, invoice: Invoice, last: Payment | None) -> Attempts:
    """What was tried for an invoice; `last` is its last attempt, None before the first one."""
    query = (
        select(Payment.payment_method_id, Payment.status_reason, Attempt)
        .outerjoin(Attempt, (Attempt.payment_id == Payment.id) & (Attempt.number == 1))
        .where(
            Payment.invoice_id == invoice.id,
            Payment.payment_method_id.is_not(None),
            Payment.status == PaymentStatus.FAILED.value,
        )
        .order_by(Payment.created_at, Payment.id)
    )
    tried = [
        Tried(method_id, decline_class(reason), None if attempt is None else _card_then(method_id, attempt))
        for method_id, reason, attempt in await session.execute(query)
        if method_id is not None
    ]
    return Attempts(
        tried, _preferred_then(invoice), last=None if last is None else last.payment_method_id, any=last is not None
    )


def card_of(method: PaymentMethod) -> Card:
    """What a method is known by now."""
    return Card(method.id, method.token_hash, method.fingerprint, _expiry_of(method))


def columns_of_charge(method: PaymentMethod) -> dict[str, Any]:
    """The columns of an attempt that say which card it charges."""
    expiry = _expiry_of(method)
    return {
        "method_token_hash": method.token_hash,
        "method_fingerprint": method.fingerprint,
        "method_expiry": None if expiry is None else f"{expiry[0]:04}-{expiry[1]:02}",
    }


def record_preferred(invoice: Invoice, preferred: Preferred) -> None:
    """Keep what was preferred when an attempt was chosen, so that a change of it is seen."""
    own, default = (None if one is None else str(one) for one in (preferred.own, preferred.default))
    invoice.preferred_methods = {"own": own, "default": default}


_BEST = (
    select(func.max(Payment.paid_at))
    .where(
        Payment.workspace_id == PaymentMethod.workspace_id,
        Payment.customer_id == PaymentMethod.customer_id,
        Payment.payment_method_id == PaymentMethod.id,
        Payment.status.in_([one.value for one in CAPTURED]),
        Payment.disputed.is_(False),
    )
    .correlate(PaymentMethod)
    .scalar_subquery()
    .desc()
    .nulls_last(),
    PaymentMethod.created_at.desc(),
    PaymentMethod.id,
)


def _best_first(workspace_id: UUID, customer_id: str) -> Select[PaymentMethod]:
    return (
        select(PaymentMethod)
        .join(ProviderAccount, ProviderAccount.id == PaymentMethod.provider_account_id)
        .where(
            PaymentMethod.workspace_id == workspace_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.status == MethodStatus.ACTIVE.value,
        )
        .order_by(*_BEST)
    )


def _expiry_of(method: PaymentMethod) -> tuple[int, int] | None:
    if method.exp_year is None or method.exp_month is None:
        return None
    return method.exp_year, method.exp_month


def _card_then(method_id: UUID, attempt: Attempt) -> Card | None:
    if attempt.method_token_hash is None:  # an attempt from before this was recorded
        return None
    expiry = None
    if attempt.method_expiry is not None:
        year, month = attempt.method_expiry.split("-")
        expiry = int(year), int(month)
    return Card(method_id, attempt.method_token_hash, attempt.method_fingerprint, expiry)


def _preferred_then(invoice: Invoice) -> Preferred | None:
    kept = invoice.preferred_methods
    if kept is None:
        return None
    own, default = (None if kept.get(name) is None else UUID(kept[name]) for name in ("own", "default"))
    return Preferred(own, default)
