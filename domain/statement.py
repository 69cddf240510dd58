"""A referrer's statement of account, from ledger movements alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain.money import Money


class Posting(StrEnum):
    """What a movement means to a referrer."""

    ACCRUAL = "accrual"
    CLAW_BACK = "claw_back"
    """Refunds, lost disputes and refused reviews; less what lost disputes that were won after all gave back."""
    PAYOUT = "payout"
    """What was sent, less what came back."""
    OTHER = "other"


POSTINGS: Mapping[str, Posting] = {
    "capture": Posting.ACCRUAL,
    "refund": Posting.CLAW_BACK,
    "dispute_lost": Posting.CLAW_BACK,
    "dispute_loss_undone": Posting.CLAW_BACK,
    "commission_rejected": Posting.CLAW_BACK,
    "commission_payout": Posting.PAYOUT,
    "payout_sent": Posting.PAYOUT,
    "payout_returned": Posting.PAYOUT,
}
"""By the ledger's kind of movement; what is not here is OTHER, so that the sums are right whatever is booked."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A period of one referrer's account. A positive balance is owed to the referrer, a negative one is carried on.

    `opening + accrued - clawed_back - paid + other = closing`, to the minor unit, by construction.
    """

    opening: Money
    accrued: Money
    clawed_back: Money
    paid: Money
    other: Money

    @property
    def closing(self) -> Money:
        """The balance at the end of the period."""
        return self.opening + self.accrued - self.clawed_back - self.paid + self.other


def statement(opening: Money, credits_by_kind: Mapping[str, Money]) -> Statement:
    """A statement from the balance before the period and the sums of what each kind of movement added in it.

    Credits are positive where they add to what is owed.
    """
    sums = {posting: Money.zero(opening.currency) for posting in Posting}
    for kind, credit in credits_by_kind.items():
        posting = POSTINGS.get(kind, Posting.OTHER)
        sums[posting] = sums[posting] + credit
    return Statement(
        opening,
        accrued=sums[Posting.ACCRUAL],
        clawed_back=-sums[Posting.CLAW_BACK],
        paid=-sums[Posting.PAYOUT],
        other=sums[Posting.OTHER],
    )
