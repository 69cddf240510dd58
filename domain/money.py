"""Exact money: an integer count of minor units, always with its currency.

Decimals appear only at the edges (HTTP bodies, NUMERIC columns); floats never do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from domain.currencies import MINOR_DIGITS

MAX_MAJOR_DIGITS = 15
"""Digits before the decimal point; NUMERIC(19, 4) in storage holds exactly this many."""

_MAX_TEXT = 40
_AMOUNT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.([0-9]+))?")


class MoneyError(ValueError):
    """The text or number is not an amount of this currency. Nothing is rounded to make it fit."""


class UnknownCurrency(MoneyError):
    """Not an active ISO 4217 currency code."""


def minor_digits(currency: str) -> int:
    """Digits after the decimal point of an ISO 4217 currency: 0, 2, 3 or 4."""
    try:
        return MINOR_DIGITS[currency]
    except KeyError:
        raise UnknownCurrency(
            f"{currency[:8]!r} is not an ISO 4217 currency code; use three capital letters such as ILS"
        ) from None


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units of one currency. Arithmetic between currencies is an error."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise MoneyError(f"minor units are an int, not {type(self.minor).__name__}")
        minor_digits(self.currency)

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Read a decimal string in major units: `Money.parse("129.90", "ILS")` is 12990 agorot.

        Raises MoneyError on anything but plain digits, on more digits than the currency has, and on amounts too
        large for storage.
        """
        digits = minor_digits(currency)
        match = _AMOUNT.fullmatch(text) if len(text) <= _MAX_TEXT else None
        if match is None:
            raise MoneyError('an amount is a decimal string in major units, such as "129.90"')
        fraction = match.group(1) or ""
        if len(fraction) > digits:
            raise MoneyError(f"{currency} has {digits} decimal digits; the amount has {len(fraction)}")
        if len(text.lstrip("-").split(".", 1)[0]) > MAX_MAJOR_DIGITS:
            raise MoneyError(f"an amount has at most {MAX_MAJOR_DIGITS} digits before the decimal point")
        return cls(int(text.replace(".", "") + "0" * (digits - len(fraction))), currency)

    @classmethod
    def from_decimal(cls, value: Decimal, currency: str) -> Money:
        """From a NUMERIC column in major units. Raises MoneyError if a digit would be lost."""
        scaled = value.scaleb(minor_digits(currency))
        if scaled != scaled.to_integral_value():
            raise MoneyError(f"{value} has more digits than {currency} has")
        return cls(int(scaled), currency)

    @classmethod
    def zero(cls, currency: str) -> Money:
        """Nothing, of one currency."""
        return cls(0, currency)

    @property
    def is_storable(self) -> bool:
        """Whether it has no more digits than storage has room for; sums and multiples may have."""
        return len(str(abs(self.minor))) <= MAX_MAJOR_DIGITS + minor_digits(self.currency)

    def to_decimal(self) -> Decimal:
        """Major units with the currency's own number of digits, for NUMERIC columns."""
        return Decimal(self.minor).scaleb(-minor_digits(self.currency))

    def __str__(self) -> str:
        """The decimal string in major units, as the API writes it: `129.90`."""
        digits = minor_digits(self.currency)
        sign, number = ("-" if self.minor < 0 else ""), str(abs(self.minor)).rjust(digits + 1, "0")
        return f"{sign}{number[:-digits]}.{number[-digits:]}" if digits else f"{sign}{number}"

    def __add__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.minor + other.minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.minor - other.minor, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor < other.minor

    def __le__(self, other: Money) -> bool:
        self._same_currency(other)
        return self.minor <= other.minor

    def times(self, factor: Decimal | Fraction) -> Money:
        """Multiply and round half away from zero to the minor unit (what tax and commission tables do)."""
        exact = Fraction(self.minor) * Fraction(factor)
        rounded = (abs(exact.numerator) * 2 + exact.denominator) // (exact.denominator * 2)
        return Money(rounded if exact >= 0 else -rounded, self.currency)

    def split(self, weights: Sequence[int]) -> list[Money]:
        """Divide in proportion to non-negative weights by largest remainder: the parts always sum to the whole.

        Ties go to the earlier part. Raises MoneyError when there is nothing to weigh by.
        """
        total = sum(weights)
        if total <= 0 or min(weights) < 0:
            raise MoneyError("weights are non-negative and not all zero")
        sign, whole = (-1 if self.minor < 0 else 1), abs(self.minor)
        shares = [divmod(whole * weight, total) for weight in weights]
        left = whole - sum(share for share, _ in shares)
        by_remainder = sorted(range(len(weights)), key=lambda index: (-shares[index][1], index))
        extra = set(by_remainder[:left])
        return [Money(sign * (share + (index in extra)), self.currency) for index, (share, _) in enumerate(shares)]

    def _same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise MoneyError(f"cannot combine {self.currency} with {other.currency}")
