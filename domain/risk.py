"""What a provider warns of about a captured payment: the bank's early fraud warnings, and its own reviews."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class RiskAlertKind(StrEnum):
    """`early_fraud_warning`: the payer's bank reports fraud, and may dispute. `review`: a person at the desk looks."""

    EARLY_FRAUD_WARNING = "early_fraud_warning"
    REVIEW = "review"


class FraudWarningAction(StrEnum):
    """What a workspace does about an early fraud warning: tell the order service, or also refund before a dispute."""

    TELL = "tell"
    REFUND = "refund"


class RiskDecision(StrEnum):
    """What was done about an alert when it was first seen, and why nothing was given back."""

    REFUNDED = "refund_requested"
    TOLD = "told"
    """The workspace wants no more, or it is a review."""
    NOT_ACTIONABLE = "not_actionable"
    """The provider says that it is disputed, or that all of it went back."""
    DISPUTED = "disputed"
    NOTHING_LEFT = "nothing_left"
    OVERPAYMENT = "overpayment"
    """The money is beyond what was owed, and goes back as such."""
    NOT_PAID = "not_paid"
    """A person has to decide first whether the money counts as paid."""


@dataclass(frozen=True, slots=True)
class ReconcileRisk:
    """A provider warned about this payment: ask what it says, record it and follow the workspace's policy."""

    payment_id: UUID
    inbox_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RiskReconciled:
    """What follows: `refund_ids` are requested and to be made."""

    refund_ids: tuple[UUID, ...] = ()
