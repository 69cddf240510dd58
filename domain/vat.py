"""Value added tax inside a gross price."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from domain.money import Money, MoneyError


@dataclass(frozen=True, slots=True)
class VatSplit:
    """Net and tax of one gross amount; they always add up to it."""

    net: Money
    vat: Money
    rate: Decimal

    @property
    def total(self) -> Money:
        """What was paid."""
        return self.net + self.vat


def split_gross(gross: Money, rate: Decimal) -> VatSplit:
    """Take the tax out of a price that includes it. The rate is a fraction: 0.18 is eighteen percent.

    Tax is gross × rate / (1 + rate), rounded half up to the minor unit once for the whole document; net is the rest, so
    the parts add up in every currency. Raises MoneyError for a rate below 0 or from 1 up.
    """
    if not (Decimal(0) <= rate < Decimal(1)):
        raise MoneyError("a VAT rate is a fraction from 0 up to, but not including, 1")
    vat = gross.times(Fraction(rate) / (1 + Fraction(rate)))
    return VatSplit(gross - vat, vat, rate)
