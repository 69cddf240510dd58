"""Referral commissions: who earns what on an order, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from domain.money import Money


class CommissionStatus(StrEnum):
    """A commission's life."""

    ACCRUED = "accrued"
    PAID = "paid"
    CLAWED_BACK = "clawed_back"
    """All of it went back with the order's refunds before it was paid out."""


class CommissionRefusal(StrEnum):
    """Why an order earns no commission. Each is written to the audit log."""

    NO_REFERRER = "no_referrer"
    SELF_REFERRAL = "self_referral"
    BELOW_MINIMUM = "below_minimum"
    NO_RATE = "no_rate"
    ORDER_HAS_COMMISSION = "order_has_commission"


@dataclass(frozen=True, slots=True)
class CommissionDecision:
    """Either an `amount` to accrue or the `refusal`, never both."""

    amount: Money | None
    refusal: CommissionRefusal | None


def decide_commission(
    *,
    paid: Money,
    rate: Decimal,
    minimum: Money,
    referrer_id: str | None,
    customer_id: str | None,
) -> CommissionDecision:
    """Decide on the paid amount at the workspace's rate (a fraction: 0.10 is ten percent).

    Rounds half up to the minor unit. The minimum applies to the commission itself, so that no report fills up with
    shares too small to pay out. That an order earns at most once is decided by a constraint in storage, not here.
    """
    refusal = _refusal(rate, referrer_id, customer_id)
    if refusal is not None:
        return CommissionDecision(None, refusal)
    amount = paid.times(rate)
    if amount < minimum or amount.minor <= 0:
        return CommissionDecision(None, CommissionRefusal.BELOW_MINIMUM)
    return CommissionDecision(amount, None)


def _refusal(rate: Decimal, referrer_id: str | None, customer_id: str | None) -> CommissionRefusal | None:
    if not referrer_id:
        return CommissionRefusal.NO_REFERRER
    if customer_id is not None and _same_person(referrer_id, customer_id):
        return CommissionRefusal.SELF_REFERRAL
    if rate <= 0:
        return CommissionRefusal.NO_RATE
    return None


def _same_person(referrer_id: str, customer_id: str) -> bool:
    return referrer_id.strip().casefold() == customer_id.strip().casefold()
