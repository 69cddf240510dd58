"""Payout batches: their states, what a line pays, and the commands that cross the workflow boundary.

Nothing here carries personal data: these objects are written into workflow histories.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from domain.money import Money, MoneyError


class PayoutStatus(StrEnum):
    """A batch's life. `empty`: nobody had enough to be paid."""

    REQUESTED = "requested"
    PREPARED = "prepared"
    APPROVED = "approved"
    CLOSED = "closed"
    REJECTED = "rejected"
    EMPTY = "empty"


OPEN_PAYOUT = frozenset({PayoutStatus.REQUESTED, PayoutStatus.PREPARED, PayoutStatus.APPROVED})
"""A workspace has one of these at most."""


class LineStatus(StrEnum):
    """One referrer's part of a batch. `sent`: approved, on its way by the file; `dropped`: not paid by this batch.

    `returned`: it was booked as paid, and the bank brought it back later.
    """

    PREPARED = "prepared"
    SENT = "sent"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"
    DROPPED = "dropped"


class ItemStatus(StrEnum):
    """One commission inside a line, or paid by hand. All but `released` keep it from being paid anywhere else."""

    RESERVED = "reserved"
    SENT = "sent"
    PAID = "paid"
    RELEASED = "released"


REMINDERS = (timedelta(days=1), timedelta(days=2), timedelta(days=4))
LATER_REMINDERS = timedelta(days=7)


def reminder_after(reminded: int) -> timedelta:
    """How long a batch waits for people before they are reminded once more."""
    return REMINDERS[reminded] if reminded < len(REMINDERS) else LATER_REMINDERS


@dataclass(frozen=True, slots=True)
class Due:
    """What a referrer is to get: `gross` of its commissions, and what is `carried` from those that were paid before.

    `carried` is negative where claw-backs took from them since, positive where claw-backs were taken back since.
    """

    gross: Money
    carried: Money

    @property
    def amount(self) -> Money:
        """What is paid."""
        return self.gross + self.carried


def due(*, payable: Money, balance: Money, unpaid: Money, underpaid: Money) -> Due:
    """What a referrer is to get of `payable`, the remainders of the commissions that may be paid now.

    `balance` is what the ledger says that we owe, `unpaid` the remainders of all commissions that were not sent out.
    Where claw-backs took from commissions after they were paid, the balance is less than that, and where a dispute was
    won after a commission was paid without its part, it is more: the difference is carried. The payment settles it, so
    balance and remainders agree again. `underpaid` is by how much paid commissions are worth more now than was paid for
    them, the most that can be carried to the good. Raises MoneyError when the ledger owes more than there are
    commissions for: then the books disagree and nothing must be paid.
    """
    carried = balance - unpaid
    if underpaid < carried:
        raise MoneyError("the ledger owes more than the commissions say")
    return Due(payable, carried)


def is_paid_out(wanted: Due, minimum: Money) -> bool:
    """Whether a balance is worth a line: positive, and at least the minimum."""
    return wanted.amount.minor > 0 and minimum <= wanted.amount


@dataclass(frozen=True, slots=True)
class StartPayout:
    """Start of a batch's workflow."""

    payout_id: UUID
    workspace_id: UUID


@dataclass(frozen=True, slots=True)
class PreparePayout:
    """Collect the lines of a batch."""

    payout_id: UUID


@dataclass(frozen=True, slots=True)
class DecidePayout:
    """Approve or reject a batch. `actor` is who decides, as the audit log names keys; the reason is in the database."""

    payout_id: UUID
    actor: str
    approve: bool


@dataclass(frozen=True, slots=True)
class ExportPayout:
    """Make the file of an approved batch."""

    payout_id: UUID


@dataclass(frozen=True, slots=True)
class LookAtPayout:
    """Read how a batch stands."""

    payout_id: UUID


@dataclass(frozen=True, slots=True)
class RemindOfPayout:
    """Tell the order service that a batch waits for people; `number` counts the reminders from 1."""

    payout_id: UUID
    number: int


@dataclass(frozen=True, slots=True)
class PayoutProgress:
    """How a batch stands. `total_minor` in minor units; `lines` without those dropped; `open_lines` have no result."""

    payout_id: UUID
    status: PayoutStatus
    lines: int = 0
    open_lines: int = 0
    total_minor: int = 0
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a decision.

    `changed`: refunds, disputes or reviews have changed the batch since it was shown, so it was not approved; the
    lines are as they would be paid now and wait for another decision. `refused` is a stable code of why it cannot be.
    """

    progress: PayoutProgress
    changed: bool = False
    refused: str | None = None
