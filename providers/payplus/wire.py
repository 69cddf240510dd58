"""Reading PayPlus's JSON strictly: exact numbers, no repeated names, amounts in major units."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn, TypeAlias
from uuid import UUID

from domain.money import MAX_MAJOR_DIGITS, Money, MoneyError

JsonObject: TypeAlias = Mapping[str, Any]

CURRENCIES = frozenset({"ILS", "USD", "EUR", "GBP"})
"""What PayPlus documents. Its list prints GBP as `GPB`, so that spelling is read as GBP too."""
MAX_DIGITS = 24
"""Significant digits of an amount that is read: far above any real one, below where Decimal would round."""

_SPELLINGS = {"GPB": "GBP"}
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")


def read_json(raw: bytes) -> Any:
    """The document, numbers with a fraction as Decimal. Raises ValueError for anything that two could read twice."""
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=_without_repeats, parse_float=Decimal, parse_constant=_refuse
        )
    except (ArithmeticError, RecursionError):  # an exponent that Decimal cannot hold; nesting too deep
        raise ValueError("not a readable JSON document") from None


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


def uuid_of(value: object) -> UUID | None:
    """A UUID in its usual form, else None: other systems use the same free fields for other things."""
    if not isinstance(value, str):
        return None
    try:
        found = UUID(value)
    except ValueError:
        return None
    return found if str(found) == value.lower() else None


def first(source: JsonObject, *names: str) -> Any:
    """The first of several fields that has a value; PayPlus names the same thing differently in places."""
    return next((source[name] for name in names if source.get(name) not in (None, "")), None)


def part(source: JsonObject, name: str) -> JsonObject:
    """A field that is an object; an empty one if it is not."""
    value = source.get(name)
    return value if isinstance(value, Mapping) else {}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
