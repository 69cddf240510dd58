"""Amounts on Meshulam's wire: shekels in major units, as a number or as text, without any currency."""

from __future__ import annotations

import re
from decimal import Decimal

from domain.money import Money, MoneyError
from providers.base import ProviderRejected

CURRENCY = "ILS"

_AMOUNT = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,8})?")


def to_wire(amount: Money) -> str:
    """`129.90`. Raises ProviderRejected for another currency and for what is not more than nothing."""
    if amount.currency != CURRENCY:
        raise ProviderRejected("currency_not_supported", amount.currency)
    if amount.minor <= 0:
        raise ProviderRejected("invalid_amount")
    return str(amount)


def from_wire(text: str) -> Money:
    """Read `129.9` or `129`, exactly. Raises MoneyError."""
    if not _AMOUNT.fullmatch(text):
        raise MoneyError("not an amount")
    return Money.from_decimal(Decimal(text), CURRENCY)
