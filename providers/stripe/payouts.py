"""Payouts as Stripe's events tell of them."""

from __future__ import annotations

from datetime import UTC, date, datetime

from domain.money import MoneyError
from domain.provider_payout import PayoutSnapshot, ProviderPayoutStatus
from providers.stripe.amounts import from_wire
from providers.stripe.objects import JsonObject, text

_STATUS = {
    "pending": ProviderPayoutStatus.PENDING,
    "in_transit": ProviderPayoutStatus.IN_TRANSIT,
    "paid": ProviderPayoutStatus.PAID,
    "canceled": ProviderPayoutStatus.CANCELLED,
    "failed": ProviderPayoutStatus.FAILED,
}


def payout_of(source: JsonObject) -> PayoutSnapshot | None:
    """A payout; None where id, status or amount is none that is known."""
    payout_id, status = text(source, "id"), _STATUS.get(str(source.get("status")))
    try:
        amount = from_wire(source.get("amount"), source.get("currency"))
    except MoneyError:
        return None
    if source.get("object") != "payout" or payout_id is None or status is None:
        return None
    return PayoutSnapshot(payout_id, status, amount, _day(source.get("arrival_date")), text(source, "failure_code"))


def _day(seconds: object) -> date | None:
    """Stripe gives a bank's day as its midnight in UTC."""
    if type(seconds) is not int:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).date()
    except (ValueError, OverflowError, OSError):
        return None
