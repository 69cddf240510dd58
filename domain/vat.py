"""Value added tax inside a gross price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
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


@dataclass(frozen=True, slots=True)
class DatedRate:
    """A rate, as a fraction, that holds from a day on, until the day of the next one."""

    from_day: date
    rate: Decimal

    def to_json(self) -> dict[str, str]:
        """For storage."""
        return {"from": self.from_day.isoformat(), "rate": format(self.rate.normalize(), "f")}

    @classmethod
    def from_json(cls, stored: Mapping[str, str]) -> DatedRate:
        """The reverse of `to_json`."""
        return cls(date.fromisoformat(stored["from"]), Decimal(stored["rate"]))


BEGINNING = date(1970, 1, 1)
"""The day of a rate of which nobody said from when on it holds."""


def rate_on(day: date, rates: Sequence[DatedRate], otherwise: Decimal) -> Decimal:
    """The rate of a day: the latest one that holds by then. `otherwise` where there are none at all.

    A day before the first rate has the first one: nothing is known of what was before.
    """
    if not rates:
        return otherwise
    held = [one for one in rates if one.from_day <= day]
    return max(held, key=lambda one: one.from_day).rate if held else min(rates, key=lambda one: one.from_day).rate


def with_rate_from(day: date, rate: Decimal, rates: Sequence[DatedRate], otherwise: Decimal) -> list[DatedRate]:
    """The rates when another one holds from a day on, to the next that is known; the days before keep what they had."""
    before = [one for one in rates if one.from_day < day]
    if not before:
        before = [DatedRate(BEGINNING, rate_on(BEGINNING, rates, otherwise))]
    return [*before, DatedRate(day, rate), *(one for one in rates if one.from_day > day)]
