"""Strict reading of what providers write, the same for all of them: JSON, our reference, a signed moment's age."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from providers.base import Rejection, WebhookRejected


class Tolerance(NamedTuple):
    """How far a callback's timestamp may be from now, in seconds. The future is for clocks that differ."""

    past_seconds: int = 300
    future_seconds: int = 60


USUAL_TOLERANCE = Tolerance()


def check_age(timestamp: int, now: datetime, tolerance: Tolerance) -> None:
    """Raise WebhookRejected unless the moment (Unix seconds) is near enough. Judge the signature first."""
    age_seconds = now.timestamp() - timestamp
    if age_seconds > tolerance.past_seconds:
        detail = f"{age_seconds:.0f} s old, {tolerance.past_seconds} s allowed"
        raise WebhookRejected(Rejection.STALE_TIMESTAMP, detail)
    if -age_seconds > tolerance.future_seconds:
        detail = f"{-age_seconds:.0f} s ahead, {tolerance.future_seconds} s allowed"
        raise WebhookRejected(Rejection.FUTURE_TIMESTAMP, detail)


def split_secrets(text: str) -> tuple[str, ...]:
    """The secrets of one account: a comma separated list while one replaces another."""
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def own_reference(value: object) -> UUID | None:
    """Our reference, if it is one: other systems on the same account use the same fields for theirs."""
    if not isinstance(value, str):
        return None
    try:
        found = UUID(value)
    except ValueError:
        return None
    return found if str(found) == value.lower() else None  # not the braced and urn forms that UUID() also reads


def read_json(raw: bytes) -> Any:
    """The document; numbers with a fraction or exponent are Decimals, digit by digit.

    Raises ValueError for all else, a name that occurs twice included: two readers could take different values from it.
    """
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=without_repeats, parse_float=Decimal, parse_constant=refuse_constant
        )
    except (ArithmeticError, RecursionError):  # an exponent that Decimal cannot hold; nesting too deep
        raise ValueError("not a readable JSON document") from None


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Raises ValueError when a name occurs twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def refuse_constant(constant: str) -> NoReturn:
    """For NaN and its like, which Python reads and JSON does not have. Raises ValueError."""
    raise ValueError(f"{constant} is not JSON")
