"""Refunds: how a captured payment's parts go back, exactly, however it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from uuid import UUID

from domain.money import Money, MoneyError


class RefundState(StrEnum):
    """A refund with us.

    `unknown`: the provider was asked and has not answered; it is asked what it did. With a failure code it, or one that
    is pending, is left to a person as well (`refund_unconfirmed`). `returned`: it had succeeded, and
    the payer's bank sent the money back later, so that it is owed to the payer. `settled_outside`: it was returned, and
    the merchant has paid it by other means, such as a bank transfer.
    """

    REQUESTED = "requested"
    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETURNED = "returned"
    SETTLED_OUTSIDE = "settled_outside"


FINAL_REFUND = frozenset({RefundState.SUCCEEDED, RefundState.FAILED, RefundState.RETURNED, RefundState.SETTLED_OUTSIDE})
CAME_BACK = frozenset({RefundState.RETURNED, RefundState.SETTLED_OUTSIDE})
"""The provider's refund failed after it had succeeded: what the payer has of it did not go by the provider."""


@dataclass(frozen=True, slots=True)
class StartRefund:
    """Start of a refund's workflow."""

    refund_id: UUID
    payment_id: UUID


@dataclass(frozen=True, slots=True)
class AdvanceRefund:
    """Ask the provider about one refund, or ask it to make it, and record what it says."""

    refund_id: UUID


@dataclass(frozen=True, slots=True)
class LeaveRefund:
    """Leave a refund that the provider has not ended to a person; `code` says why."""

    refund_id: UUID
    code: str


@dataclass(frozen=True, slots=True)
class RefundProgress:
    """Where a refund stands. `receipt_id` is the credit note's, once the money is on its way back."""

    refund_id: UUID
    state: RefundState
    receipt_id: UUID | None = None
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class ReconcileRefunds:
    """A provider told of a refund of this payment: find out whether we know of all that went back."""

    payment_id: UUID
    inbox_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of it. `receipt_ids` are credit notes to render; `open_refunds` are still under way."""

    receipt_ids: tuple[UUID, ...] = ()
    open_refunds: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class RefundSplit:
    """The parts of one refund. Net and VAT add up to the amount.

    `commission` is what the referrer gives back, `fee` what the provider gives back of its own.
    """

    net: Money
    vat: Money
    commission: Money
    fee: Money

    @property
    def total(self) -> Money:
        """What goes back to the payer."""
        return self.net + self.vat


def share(whole: Money, *, part: Money, of: Money, before: Money) -> Money:
    """What belongs of `whole` to one refund of `part`, when `before` of `of` has gone back already.

    Rounded on the running total, so the shares of any sequence of refunds add up to exactly the share of their sum,
    and to all of `whole` when everything has gone back. Raises MoneyError when more would go back than there was.
    """
    after = before + part
    if before.minor < 0 or part.minor <= 0 or of < after:
        raise MoneyError("a refund is positive and at most what is left")
    return _running(whole, after, of) - _running(whole, before, of)


def split_refund(
    *,
    amount: Money,
    before: Money,
    total: Money,
    vat: Money,
    commission: Money,
    fee: Money | None = None,
) -> RefundSplit:
    """Cut a refund of `amount` as its payment was cut: `total` with `vat` in it, `fee` that comes back with refunds.

    `before` is what has gone back of the payment already. `commission` is what the referrer gives back now, which
    disputes have a say in too (`domain.commission.claw_back`). Raises MoneyError when it is more than is left.
    """
    tax = share(vat, part=amount, of=total, before=before)
    returned = Money.zero(amount.currency) if fee is None else share(fee, part=amount, of=total, before=before)
    return RefundSplit(amount - tax, tax, commission, returned)


def _running(whole: Money, returned: Money, of: Money) -> Money:
    return whole.times(Fraction(returned.minor, of.minor))
