"""Wompi's two signatures. Both are a plain SHA-256 over joined text with the secret at its end, not an HMAC.

Source: Wompi documentation, "Widget & Checkout Web" (integrity) and "Eventos" (checksum). The checksum printed in the
example of "Eventos" does not follow from the rule stated beside it; the rule is what real events follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from providers.base import Rejection, WebhookRejected

MAX_PROPERTIES = 32
MAX_PATH_LENGTH = 200


def integrity_signature(reference: str, amount_in_cents: int, currency: str, expiration: str, secret: str) -> str:
    """The signature of a checkout or transaction. `expiration` exactly as it is sent, '' where none is sent."""
    return _sha256(f"{reference}{amount_in_cents}{currency}{expiration}{secret}")


def signed_values(data: Mapping[str, object], properties: object) -> str:
    """The values that an event's `signature.properties` name, as text, joined in the given order.

    Raises WebhookRejected when the list is none, is empty, repeats itself, or names what the event does not have: a
    reader that skips a missing path would accept a body from which the signed values were taken out.
    """
    return "".join(_text_at(data, path) for path in checked_paths(properties))


def checked_paths(properties: object) -> Sequence[str]:
    """The property list, if it is one. Raises WebhookRejected."""
    if not isinstance(properties, list) or not 0 < len(properties) <= MAX_PROPERTIES:
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no list of signed properties")
    paths = [path for path in properties if isinstance(path, str) and 0 < len(path) <= MAX_PATH_LENGTH]
    if len(paths) != len(properties) or len(set(paths)) != len(paths):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "unreadable list of signed properties")
    return paths


def event_checksum(values: str, timestamp: int, secret: str) -> str:
    """The checksum of an event, in lower case. Raises WebhookRejected when the values are not text in UTF-8."""
    try:
        return _sha256(f"{values}{timestamp}{secret}")
    except UnicodeEncodeError:
        raise WebhookRejected(Rejection.MALFORMED, "signed values are not UTF-8") from None


def _text_at(data: Mapping[str, object], path: str) -> str:
    value: object = data
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise WebhookRejected(Rejection.BAD_SIGNATURE, "a signed property is missing")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
