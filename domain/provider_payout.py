"""Payouts of a provider to the merchant's bank account, as the provider tells of them; kept for reconciliation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from domain.money import Money


class ProviderPayoutStatus(StrEnum):
    """Where a payout stands at the provider. One that was paid may fail days later, when the bank sends it back."""

    PENDING = "pending"
    IN_TRANSIT = "in_transit"
    PAID = "paid"
    CANCELLED = "cancelled"
    FAILED = "failed"


STRENGTH: Final[Mapping[ProviderPayoutStatus, int]] = MappingProxyType(
    {status: rank for rank, status in enumerate(ProviderPayoutStatus)}
)
"""A status gives way to a stronger one alone, so that events in any order end the same."""


@dataclass(frozen=True, slots=True)
class PayoutSnapshot:
    """A payout as one event tells it. `arrival_date` is the bank's day, as the provider expects it."""

    payout_id: str
    status: ProviderPayoutStatus
    amount: Money
    arrival_date: date | None = None
    failure_code: str | None = None
