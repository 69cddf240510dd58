"""Disputes: the payer's bank takes captured money back, for now or for good."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class DisputeState(StrEnum):
    """Where a dispute stands. An inquiry moves no money; `closed` ended without a decision, as if it was won."""

    INQUIRY = "inquiry"
    NEEDS_RESPONSE = "needs_response"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"
    CLOSED = "closed"


HOLDS_MONEY = frozenset({DisputeState.NEEDS_RESPONSE, DisputeState.UNDER_REVIEW})
FINAL_DISPUTE = frozenset({DisputeState.WON, DisputeState.LOST, DisputeState.CLOSED})
REMINDERS = (timedelta(days=3), timedelta(days=1))
"""How long before the evidence is due the order service is reminded."""


@dataclass(frozen=True, slots=True)
class ReconcileDisputes:
    """A provider told of a dispute of this payment: ask for all of them and record how they stand."""

    payment_id: UUID
    inbox_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DisputeView:
    """A dispute as its workflow follows it."""

    dispute_id: UUID
    payment_id: UUID
    state: DisputeState
    evidence_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Reminder:
    """Remind the order service of one dispute, if it still waits for evidence.

    `number` counts the reminders of one date, from 1. Together with the date it names the reminder, which is told once;
    0 is what workflows sent before they counted.
    """

    dispute_id: UUID
    payment_id: UUID
    due_at: datetime
    number: int = 0
