"""What waits for a person on a payment: every review reason, what it means, and the acts that end it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ReviewReason(StrEnum):
    """Why a person has to decide on a payment."""

    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    AMOUNT_UNCONFIRMED = "amount_unconfirmed"
    TRANSACTION_TAKEN = "transaction_settled_another_payment"
    ORDER_PAID_TWICE = "order_paid_twice"
    SECOND_CAPTURE = "second_capture"
    REFUND_RETURNED = "refund_returned"
    REFUND_PAID_TWICE = "refund_paid_twice"
    REFUND_EXCEEDS_PAYMENT = "refund_exceeds_payment"
    REFUND_UNCONFIRMED = "refund_unconfirmed"
    CREDIT_OVERDRAWN = "credit_overdrawn"


class ReviewAction(StrEnum):
    """How a person decides. What each does is told reason by reason."""

    ACCEPT = "accept"
    REFUND = "refund"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Review:
    """What a reason means, and each act that ends it with what it does."""

    meaning: str
    acts: Mapping[ReviewAction, str]


_SEND_BACK = "send back all that the provider holds of it; the payment is refunded when the provider has done so"
_ALREADY_BACK = (
    "when the provider holds nothing of it any more, or with a reference when you have paid it back by other means"
)

REVIEWS: Mapping[ReviewReason, Review] = {
    ReviewReason.AMOUNT_MISMATCH: Review(
        "another amount was captured than was asked for; nothing is booked",
        {
            ReviewAction.ACCEPT: "paid with the captured amount: receipt, commission and ledger are of that",
            ReviewAction.REFUND: _SEND_BACK,
            ReviewAction.CLOSE: _ALREADY_BACK,
        },
    ),
    ReviewReason.CURRENCY_MISMATCH: Review(
        "money of another currency was captured; nothing is booked",
        {ReviewAction.REFUND: _SEND_BACK, ReviewAction.CLOSE: _ALREADY_BACK},
    ),
    ReviewReason.AMOUNT_UNCONFIRMED: Review(
        "the provider says that money came, and nobody vouches for the amount; nothing is booked",
        {
            ReviewAction.ACCEPT: "paid with the amount that you name",
            ReviewAction.CLOSE: "no money came, or with a reference when you have paid it back by other means",
        },
    ),
    ReviewReason.TRANSACTION_TAKEN: Review(
        "the provider names a transaction that has settled another payment",
        {ReviewAction.CLOSE: "nothing of its own came: an unpaid payment is cancelled, a paid one stays as it is"},
    ),
    ReviewReason.ORDER_PAID_TWICE: Review(
        "another payment has paid the order, so that all of this money is beyond it",
        {
            ReviewAction.ACCEPT: "keep it, as agreed with the payer",
            ReviewAction.REFUND: "send it back",
            ReviewAction.CLOSE: "with a reference: you have paid it back by other means",
        },
    ),
    ReviewReason.SECOND_CAPTURE: Review(
        "the payer has paid more than once, so that some of the money is beyond what was owed",
        {
            ReviewAction.ACCEPT: "keep what is beyond, as agreed with the payer",
            ReviewAction.REFUND: "send back what is beyond",
            ReviewAction.CLOSE: "with a reference: you have paid it back by other means",
        },
    ),
    ReviewReason.REFUND_RETURNED: Review(
        "a refund that had succeeded came back, and is owed to the payer",
        {ReviewAction.CLOSE: "with a reference: you have paid it by other means"},
    ),
    ReviewReason.REFUND_PAID_TWICE: Review(
        "a refund was made by other means and then by the provider too, so that the payer owes it to you",
        {
            ReviewAction.ACCEPT: "bear the loss",
            ReviewAction.CLOSE: "with a reference: the payer has given it back",
        },
    ),
    ReviewReason.REFUND_EXCEEDS_PAYMENT: Review(
        "more went back at the provider than was left of the payment; what was too much is in no books",
        {ReviewAction.CLOSE: "with a reference: what you agreed with the provider or the payer about it"},
    ),
    ReviewReason.REFUND_UNCONFIRMED: Review(
        "the provider does not tell whether it has made a refund of ours; compare with its own list of refunds",
        {
            ReviewAction.ACCEPT: "it was made: the oldest such refund is booked, with its credit note",
            ReviewAction.CLOSE: "it was not made: the oldest such refund has failed, and may be requested anew",
        },
    ),
    ReviewReason.CREDIT_OVERDRAWN: Review(
        "credit of it has paid invoices, and then its money went back: the customer has had both",
        {
            ReviewAction.ACCEPT: "bear the loss; what the credit has paid stays paid",
            ReviewAction.CLOSE: "with a reference: the customer has paid it by other means",
        },
    ),
}
"""Every reason has at least one act; a reason that is not here cannot be set."""

UNBOOKED = frozenset({ReviewReason.AMOUNT_MISMATCH, ReviewReason.CURRENCY_MISMATCH, ReviewReason.AMOUNT_UNCONFIRMED})
"""Money may be there, and nothing of it is in the books."""
OF_OVERPAYMENTS = frozenset({ReviewReason.ORDER_PAID_TWICE, ReviewReason.SECOND_CAPTURE})
"""The money is on record as an overpayment."""
WHOLE = UNBOOKED | {ReviewReason.ORDER_PAID_TWICE}
"""Reasons of an overpayment that is all the money of its payment: no receipt was issued for any of it."""
CLOSED_BY_REVIEW = "closed_by_review"
"""Status reason of a payment that a person has closed: what they saw then does not ask for a person again."""
NEEDS_REFERENCE = frozenset(
    {
        ReviewReason.ORDER_PAID_TWICE,
        ReviewReason.SECOND_CAPTURE,
        ReviewReason.REFUND_RETURNED,
        ReviewReason.REFUND_PAID_TWICE,
        ReviewReason.REFUND_EXCEEDS_PAYMENT,
        ReviewReason.CREDIT_OVERDRAWN,
    }
)
"""Reasons whose `close` says how the money went."""


class ReviewRefused(ValueError):
    """The decision does not fit the facts; the message says what does."""
