"""Fields that many requests share, each checked in one way only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyAddress,
    Strict,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,9}")
MAX_KEY, MAX_TEXT = 40, 500
Value = TypeVar("Value")


class RequestBody(BaseModel):
    """What a caller sends: no other fields than these, and each of the JSON type that its schema names."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, strict=True)


@dataclass(frozen=True, slots=True)
class SameNumber:
    """Marks a text that is a decimal number: 29.9 and 29.90 say the same."""


@dataclass(frozen=True, slots=True)
class AnyOrder:
    """Marks a list of which neither the order nor a repetition says anything."""


def _address_text(value: object) -> object:
    if not isinstance(value, str) or "%" in value:  # what follows a % names a network card of some other machine
        raise ValueError("an IP address as a string, such as 203.0.113.7")
    return value


def _moment_text(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value.strip())):
        return value
    raise ValueError("a moment with its zone, such as 2026-11-30T22:00:00Z")


def _day_text(value: object) -> object:
    if isinstance(value, date) or (isinstance(value, str) and _DAY.fullmatch(value)):
        return value
    raise ValueError("a day such as 2026-11-30")


def _flag_text(value: object) -> object:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _number_text(value: object) -> object:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("a whole number, in digits")


def in_utc(moment: datetime) -> datetime:
    """The same moment. Raises ValueError for one that UTC's calendar does not have."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment between the years 1 and 9999, in UTC") from None


def _amount_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('an amount is a string in major units, such as "129.90"; numbers lose cents')  # noqa: TRY004
    return value


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("control characters are not allowed")
    return value


def _small(value: dict[str, str]) -> dict[str, str]:
    if any(len(key) > MAX_KEY or len(text) > MAX_TEXT or "\x00" in key + text for key, text in value.items()):
        raise ValueError(f"keys have at most {MAX_KEY} characters and values {MAX_TEXT}, and no NUL")
    return value


AmountText = Annotated[str, SameNumber(), BeforeValidator(_amount_text), Field(max_length=40, examples=["129.90"])]
"""A decimal string in major units; whoever reads it checks it against its currency."""
PlainText = Annotated[str, AfterValidator(_plain)]
"""One line, without control characters."""
SmallTexts = Annotated[dict[str, str], AfterValidator(_small)]
"""Texts that a caller may add freely, if they are short."""
Id = Annotated[UUID, Strict(strict=False)]
"""An id in a body: JSON has it as a string."""
OneOf = Annotated[Value, Strict(strict=False)]
"""A word of an enumeration in a body: JSON has it as a string."""
IpAddress = Annotated[IPvAnyAddress, BeforeValidator(_address_text)]
"""An address as people write it: 0 and false are addresses to the library."""
Moment = Annotated[AwareDatetime, Strict(strict=False), BeforeValidator(_moment_text), AfterValidator(in_utc)]
"""A moment with its zone, in ISO 8601, as a request gives it; kept in UTC, so one moment is one request."""
Day = Annotated[date, Strict(strict=False), BeforeValidator(_day_text)]
"""A day, in ISO 8601: a number is none."""
Flag = Annotated[bool, BeforeValidator(_flag_text)]
"""true or false in a query."""
Whole = Annotated[int, BeforeValidator(_number_text)]
"""A whole number in a query, in digits."""
PageSize = Annotated[Whole, Query(ge=1, le=100, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
