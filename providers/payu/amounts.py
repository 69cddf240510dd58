"""PayU's amounts: major units, and three different texts of one value for three signatures.

What is sent has whole pesos and no decimal point. A confirmation posts `20000.00` and signs `20000.0`; the response
page rounds half to even. Nothing here ever becomes a float.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

from domain.money import MAX_MAJOR_DIGITS, Money, MoneyError
from providers.base import ProviderRejected

CURRENCY = "COP"
"""What an account in Colombia takes."""

MINOR_IN_PESO = 100
_VALUE = re.compile(r"(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,12}))?", re.ASCII)
_DIGITS_KEPT = 2
_MAX_EXPONENT = 12
_EXACT = Context(prec=40)


class Taxes(NamedTuple):
    """TX_TAX and TX_TAX_RETURN_BASE in whole pesos."""

    tax: int
    base: int


def whole_pesos(amount: Money) -> int:
    """The value exactly as it is sent and signed. Raises ProviderRejected for other currencies and for centavos."""
    if amount.currency != CURRENCY:
        raise ProviderRejected("currency_not_supported", amount.currency)
    if amount.minor <= 0:
        raise ProviderRejected("amount_not_positive")
    pesos, centavos = divmod(amount.minor, MINOR_IN_PESO)
    if centavos:
        raise ProviderRejected("fractional_pesos", "PayU takes whole pesos in Colombia")
    return pesos


def taxes(amount: Money, vat: Money) -> Taxes:
    """Tax and base, each cut to whole pesos: 20000 with 3193.28 of tax gives 3193 and 16806, as PayU's page has it.

    No tax has no base either. Raises ProviderRejected when the tax is no part of the amount.
    """
    if vat.currency != amount.currency or not 0 <= vat.minor < amount.minor:
        raise ProviderRejected("vat_not_part_of_amount")
    if vat.minor == 0:
        return Taxes(0, 0)
    return Taxes(vat.minor // MINOR_IN_PESO, (amount.minor - vat.minor) // MINOR_IN_PESO)


def money_from(value: object, currency: object) -> Money:
    """An amount of an answer, written as a JSON number or as a string. Raises MoneyError, also for huge numbers."""
    if not isinstance(currency, str):
        raise MoneyError("an amount without a currency")
    if isinstance(value, str):
        if not _VALUE.fullmatch(value):
            raise MoneyError("not an amount")
        number = Decimal(value)
    elif isinstance(value, Decimal) or type(value) is int:
        number = Decimal(value)
    else:
        raise MoneyError("not an amount")
    if not number.is_finite() or not 0 <= number < 10**MAX_MAJOR_DIGITS or not _plain(number):
        raise MoneyError("not an amount")
    return Money.from_decimal(number, currency)


def confirmation_value(text: str) -> str:
    """`new_value` of a confirmation: two decimals, of which the second goes when it is 0; nothing is rounded.

    150.00 → 150.0, 150.50 → 150.5, 150.25 → 150.25, 150 → 150.0. Raises ValueError for what is no such value.
    """
    whole, fraction = _parts(text)
    if fraction[_DIGITS_KEPT:].strip("0"):
        raise ValueError("a value has at most two decimals")
    kept = fraction.ljust(_DIGITS_KEPT, "0")[:_DIGITS_KEPT]
    return f"{whole}.{kept[0] if kept[1] == '0' else kept}"


def response_value(text: str) -> str:
    """`new_value` of the response page: exactly one decimal, rounded half to even: 150.25 → 150.2, 150.35 → 150.4.

    Raises ValueError for what is no such value.
    """
    _parts(text)
    return f"{Decimal(text).quantize(Decimal('0.1'), ROUND_HALF_EVEN, _EXACT):f}"


def _plain(number: Decimal) -> bool:
    """Whether it is written with digits that can be counted: 1E-999999 would take a megabyte."""
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and abs(exponent) <= _MAX_EXPONENT


def _parts(text: str) -> tuple[str, str]:
    match = _VALUE.fullmatch(text)
    if match is None:
        raise ValueError("a value is a decimal number such as 20000.00")
    return match.group(1), match.group(2) or ""
