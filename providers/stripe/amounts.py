"""Amounts on Stripe's wire: integers in Stripe's own smallest unit, which is not always ISO 4217's minor unit.

Source of the rules: Stripe documentation "Supported currencies".
"""

from __future__ import annotations

from math import gcd

from domain.currencies import MINOR_DIGITS
from domain.money import Money, MoneyError, UnknownCurrency
from providers.base import ProviderRejected

_ZERO_DECIMAL = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
_WHOLE_UNITS_IN_HUNDREDTHS = "ISK UGX"
_THREE_DECIMAL = "BHD JOD KWD OMR TND"
_USUAL_DIGITS = 2
_SCALE = (
    {code: digits for code, digits in MINOR_DIGITS.items() if digits == _USUAL_DIGITS}
    | dict.fromkeys(_ZERO_DECIMAL.split(), 0)
    | dict.fromkeys(_WHOLE_UNITS_IN_HUNDREDTHS.split(), 2)
    | dict.fromkeys(_THREE_DECIMAL.split(), 3)
)
"""Currency → decimal digits of the wire integer. A currency that is missing has no documented scale there."""
_STEP = dict.fromkeys(_WHOLE_UNITS_IN_HUNDREDTHS.split(), 100) | dict.fromkeys(_THREE_DECIMAL.split(), 10)
"""Currency → what the wire integer must be divisible by."""


def _least(code: str) -> int:
    """The fewest of our minor units that the wire can express; all it can express are multiples of that."""
    step, digits = _STEP.get(code, 1), _SCALE[code] - MINOR_DIGITS[code]
    return step // gcd(step, 10**digits) if digits >= 0 else int(step * 10**-digits)


STEPS = {code: least for code in sorted(_SCALE) if (least := _least(code)) > 1}
"""Currency → minor units that an amount must be a multiple of: 10 fils of Kuwait, 100 iraimbilanja (one ariary)."""
SUPPORTED_CURRENCIES = frozenset(_SCALE)
"""ISO 4217 codes whose scale at Stripe is known. Guessing one (IQD, LYD, CLF …) could be wrong by a factor of ten."""

MAX_WIRE = 10**14
"""Far above any charge (Stripe takes 8 to 12 digits), and in every currency within what storage holds."""


def to_wire(amount: Money) -> int:
    """Stripe's integer for an amount.

    Raises ProviderRejected `currency_not_supported` when the scale is not known, `amount_not_representable` when
    Stripe cannot express the amount exactly (5.124 KWD, 0.50 MGA). Nothing is rounded.
    """
    if amount.currency not in _SCALE:
        raise ProviderRejected("currency_not_supported", amount.currency)
    wire, lost = _rescale(amount.minor, _SCALE[amount.currency] - MINOR_DIGITS[amount.currency])
    if lost or wire % _STEP.get(amount.currency, 1):
        raise ProviderRejected("amount_not_representable", f"{amount} {amount.currency}")
    return wire


def from_wire(amount: object, currency: object) -> Money:
    """Our amount for Stripe's integer and lower-case currency code.

    Raises MoneyError when the two are not an amount that we can hold exactly.
    """
    if type(amount) is not int or abs(amount) > MAX_WIRE or not isinstance(currency, str):
        raise MoneyError("an amount at Stripe is an integer with a currency code")
    code = currency.upper()
    if code not in _SCALE:
        raise UnknownCurrency(f"{code[:8]!r} has no known scale at Stripe")
    minor, lost = _rescale(amount, MINOR_DIGITS[code] - _SCALE[code])
    if lost:
        raise MoneyError(f"{amount} is not a whole number of {code} minor units")
    return Money(minor, code)


def _rescale(units: int, digits: int) -> tuple[int, int]:
    """Move the decimal point; the second number is what would be lost."""
    factor = int(10 ** abs(digits))
    return (units * factor, 0) if digits >= 0 else divmod(units, factor)
