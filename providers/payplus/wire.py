"""Reading PayPlus's JSON strictly: exact numbers, no repeated names, amounts in major units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from domain.money import MAX_MAJOR_DIGITS, Money, MoneyError

JsonObject: TypeAlias = Mapping[str, Any]

CURRENCIES = frozenset({"ILS", "USD", "EUR", "GBP"})
"""What PayPlus documents. Its list prints GBP as `GPB`, so that spelling is read as GBP too."""
MAX_DIGITS = 24
"""Significant digits of an amount that is read: far above any real one, below where Decimal would round."""

_SPELLINGS = {"GPB": "GBP"}
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")


def money_of(amount: object, currency: object) -> Money:
    """An amount in major units, as a JSON number or a string, with its currency code. Raises MoneyError.

    Nothing is rounded: an amount with a part of an agora is an error.
    """
    if type(amount) is int:
        value = Decimal(amount) if abs(amount) < 10**MAX_MAJOR_DIGITS else None
    elif isinstance(amount, Decimal):
        value = amount
    elif isinstance(amount, str) and re.fullmatch(r"-?[0-9]{1,15}(?:\.[0-9]{1,8})?", amount, re.ASCII):
        value = Decimal(amount)
    else:
        value = None
    if value is None or not value.is_finite() or len(value.as_tuple().digits) > MAX_DIGITS:
        raise MoneyError("an amount at PayPlus is a number in major units")
    if value and not -MAX_DIGITS < value.adjusted() < MAX_MAJOR_DIGITS:
        raise MoneyError("an amount at PayPlus is a number in major units")
    if not isinstance(currency, str):
        raise MoneyError("an amount has a currency code")
    code = currency.strip().upper()
    return Money.from_decimal(value, _SPELLINGS.get(code, code))


def id_of(value: object) -> str | None:
    """An id that is safe to store and print, else None."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def code_of(value: object) -> str | None:
    """A code such as `000`; PayPlus writes them as strings, and a number is read as its three digits."""
    if type(value) is int and 0 <= value <= 999:  # noqa: PLR2004
        return f"{value:03d}"
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def first(source: JsonObject, *names: str) -> Any:
    """The first of several fields that has a value; PayPlus names the same thing differently in places."""
    return next((source[name] for name in names if source.get(name) not in (None, "")), None)


def part(source: JsonObject, name: str) -> JsonObject:
    """A field that is an object; an empty one if it is not."""
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}
