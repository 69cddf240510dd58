"""Reading PayPlus's JSON strictly: exact numbers, no repeated names, amounts in major units."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from domain.money import MAX_MAJOR_DIGITS, Money, MoneyError

JsonObject: TypeAlias = Mapping[str, Any]

CURRENCIES = frozenset({"ILS", "USD", "EUR", "GBP"})
"""What PayPlus documents. Its list prints GBP as `GPB`, so that spelling is read as GBP too."""
CLUB_CARDS = ("multipass", "valuecard", "tav-zahav", "finitione", "praxell", "verifone")
"""Gift and club cards: what they lack of an amount is paid by another method of the page."""
MAX_DIGITS = 24
"""Significant digits of an amount that is read: far above any real one, below where Decimal would round."""

LARGEST_POINT, SMALLEST_POINT = 21, -6
"""Where JavaScript begins to write a number with an exponent."""

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


def as_javascript(value: object) -> str:
    """A JSON value as JavaScript writes it: compact, letters as they are, numbers in their shortest form.

    Raises ValueError for a number that JavaScript does not have.
    """
    if isinstance(value, Mapping):
        names = sorted(value, key=_place)  # stable: only names that are indices move
        return (
            "{"
            + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{as_javascript(value[name])}" for name in names)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(as_javascript(item) for item in value) + "]"
    if isinstance(value, Decimal) or type(value) is int:
        return _javascript_number(float(value))
    return json.dumps(value, ensure_ascii=False)


def _place(name: str) -> tuple[bool, int]:
    """Names that are array indices come first, by number."""
    index = name == "0" or (name.isascii() and name.isdigit() and name[0] != "0" and int(name[:11]) < 2**32 - 1)
    return (not index, int(name) if index else 0)


def _javascript_number(value: float) -> str:
    """Python and JavaScript find the same shortest digits, and set the point in other places."""
    if not math.isfinite(value):
        raise ValueError("no number of JavaScript's")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # noqa: S101  (it is finite)
    text = "".join(str(digit) for digit in digits)
    point = len(text) + exponent
    if value == 0:
        return "0"
    if 0 < point <= LARGEST_POINT:
        shown = text[:point].ljust(point, "0") + (f".{text[point:]}" if len(text) > point else "")
    elif SMALLEST_POINT < point <= 0:
        shown = f"0.{'0' * -point}{text}"
    else:
        shown = f"{text[0]}{f'.{text[1:]}' if len(text) > 1 else ''}e{point - 1:+d}"
    return f"-{shown}" if sign else shown
