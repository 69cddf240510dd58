"""Confirmation bodies: a form, or JSON, to fields as text exactly as they were posted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import parse_qsl

from providers.base import Rejection, WebhookRejected
from providers.reading import refuse_constant, without_repeats

Fields: TypeAlias = Mapping[str, object]

MAX_FIELDS = 300
MAX_FIELD_LENGTH = 512


def read_fields(body: bytes) -> Fields:
    """The fields of a body; numbers in JSON stay the text that they were. Raises WebhookRejected (malformed).

    A name that occurs twice is refused: two readers could take different values from it. Unknown names are let pass,
    because PayU adds some. A form's letters may come in another encoding than UTF-8; no field that is signed has any.
    """
    try:
        if body.lstrip()[:1] == b"{":
            return _object(body.decode("utf-8"))
        return _form(body.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        raise WebhookRejected(Rejection.MALFORMED, "neither a readable form nor a JSON object") from None


def text(fields: Fields, name: str) -> str | None:
    """A printable, not empty field of usual length, else None."""
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_FIELD_LENGTH or not value.isprintable():
        return None
    return value


def required(fields: Fields, name: str) -> str:
    """The same; raises WebhookRejected (malformed) when there is none."""
    value = text(fields, name)
    if value is None:
        raise WebhookRejected(Rejection.MALFORMED, f"no readable {name}")
    return value


def _form(body: str) -> Fields:
    fields = without_repeats(list(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS)))
    if not fields:
        raise ValueError("no fields")
    return fields


def _object(body: str) -> Fields:
    value = json.loads(
        body, object_pairs_hook=without_repeats, parse_float=str, parse_int=str, parse_constant=refuse_constant
    )
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (one kind of error for all that is unreadable)
    return value
