"""How PayPlus writes: its envelope and the other forms of a refusal, its numbers, its signature, its credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from fastapi import Response

from sandbox.state import Json


class Refusal(Exception):
    """An error in PayPlus's envelope; HTTP 200 unless said otherwise. `bare`: a JSON string alone, as documented."""

    def __init__(self, description: str, status: int = 200, *, bare: bool = False) -> None:
        super().__init__(description)
        self.description = description
        self.status = status
        self.bare = bare


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    api_key: str
    secret_key: str
    fields: Json
    raw: bytes
    base_url: str


def seal(secret: str, body: bytes) -> Mapping[str, str]:
    """The headers of a callback."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return {"hash": base64.b64encode(digest).decode(), "user-agent": "PayPlus"}


def seal_value(secret: str, body: bytes) -> Mapping[str, str]:
    """The headers of a callback whose hash is over its value, written compactly, and not over its bytes."""
    return seal(secret, dumps(json.loads(body, parse_float=Decimal)).encode())


def dumps(value: Any) -> str:
    """Compact JSON with raw Hebrew; a Decimal is a plain number without zeros at its end, as JavaScript writes it."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{dumps(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def spread(body: bytes) -> bytes:
    """The same document in other bytes: with spaces, escaped Hebrew and escaped slashes."""
    document = json.loads(body)
    return json.dumps(document, indent=1).replace("/", "\\/").encode()


def envelope(status: str, code: int, description: str, data: Any, http: int = 200) -> Response:
    """What nearly every answer comes in."""
    body = {"results": {"status": status, "code": code, "description": description}, "data": data}
    return Response(dumps(body), http, media_type="application/json")


def authenticate(headers: Mapping[str, str]) -> tuple[str, str]:
    """Either form of the credentials; a key with `invalid` in it is none."""
    api_key, secret_key = headers.get("api-key", ""), headers.get("secret-key", "")
    if "authorization" in headers:
        try:
            pair = json.loads(headers["authorization"])
            api_key, secret_key = str(pair["api_key"]), str(pair["secret_key"])
        except (ValueError, KeyError, TypeError):
            api_key = ""
    if not api_key or not secret_key or "invalid" in api_key + secret_key:
        raise Refusal("not-authorize", 403)
    return api_key, secret_key


def fields_of(raw: bytes) -> Json:
    """A request's body. Raises Refusal."""
    try:
        fields = json.loads(raw or b"{}", parse_float=Decimal)
    except ValueError:
        raise Refusal("not-a-valid-json", 400) from None
    if not isinstance(fields, dict):
        raise Refusal("not-a-valid-json", 400)
    return fields


def amount_of(value: object) -> Decimal:
    """An amount in major units. Raises Refusal."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise Refusal("amount-is-not-valid", 422) from None


def minutes_of(value: object) -> int:
    """The life of a page. Raises Refusal."""
    text = str(value or 30)
    if not text.isdecimal() or not 0 < int(text) < 10**8:
        raise Refusal("expiry-datetime-is-not-valid", 422)
    return int(text)


def check_vat_number(value: object) -> None:
    """An Israeli number of nine digits whose last one is its check digit; any other is refused."""
    text = str(value)
    if len(text) != 9 or not (text.isascii() and text.isdigit()):
        raise Refusal("vat-id-not-valid", 422)
    products = [int(digit) * (1 + place % 2) for place, digit in enumerate(text)]
    if sum(one // 10 + one % 10 for one in products) % 10:
        raise Refusal("vat-id-not-valid", 422)
