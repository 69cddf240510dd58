"""Fields that many requests share, each checked in one way only."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator, Field

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_KEY, MAX_TEXT = 40, 500


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


AmountText = Annotated[str, BeforeValidator(_amount_text), Field(max_length=40, examples=["129.90"])]
"""A decimal string in major units; whoever reads it checks it against its currency."""
PlainText = Annotated[str, AfterValidator(_plain)]
"""One line, without control characters."""
SmallTexts = Annotated[dict[str, str], AfterValidator(_small)]
"""Texts that a caller may add freely, if they are short."""
PageSize = Annotated[int, Query(ge=1, le=100, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]
