"""PayPlus's callbacks: who sent them, and what they claim.

Scheme: header `hash` = base64(HMAC-SHA256(body, secret key)), key as UTF-8 text, beside `user-agent: PayPlus`. The body
is hashed as it was sent (PayPlus's WooCommerce plug-in) or as JavaScript writes its value anew (the documents' sample):
either is accepted, since both say the same. There is no timestamp, so an old callback verifies for ever; its event id
is the same, and the truth is what a status query says. The agent's name proves nothing and is not asked for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from providers.base import EventKind, ProviderEvent, Rejection, WebhookRejected
from providers.payplus.objects import APPROVAL, APPROVED, CHARGE, REFUND, Transaction, read_transaction
from providers.payplus.wire import JsonObject, as_javascript, id_of, part
from providers.reading import read_json
from providers.webhook_signatures import (
    DEFAULT_OPTIONS,
    RequestSigner,
    SignatureOptions,
    SignatureVerdict,
    WebhookTools,
    mask,
)

HASH_HEADER = "hash"
MAX_HEADER_LENGTH = 256
MAX_REWRITTEN_BYTES = 65_536
"""A longer body is not parsed before its sender is known."""

SAVING = frozenset({"check", "token"})
"""What a page that makes a token may call itself (UNCONFIRMED which)."""
_TYPES = frozenset({CHARGE, APPROVAL, REFUND, *SAVING})


def hash_of(body: bytes, secret: str) -> str:
    """The value of the `hash` header for a body."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode("ascii")


def check_signature(header: str | None, body: bytes, secrets: Sequence[str]) -> None:
    """Accept a callback signed with any of the secrets (two while they are changed). Raises WebhookRejected."""
    if not header or not header.strip():
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no hash header")
    if len(header) > MAX_HEADER_LENGTH:
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "hash header too long")
    given = header.strip().encode("utf-8", "replace")
    if not _fits(given, body, secrets) and not _fits(given, rewritten(body), secrets):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no signature matches")


def rewritten(body: bytes) -> bytes | None:
    """A body as JavaScript's JSON.stringify writes its value; None for what is no readable JSON, or too long."""
    if len(body) > MAX_REWRITTEN_BYTES:
        return None
    try:
        return as_javascript(read_json(body)).encode()
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _fits(given: bytes, body: bytes | None, secrets: Sequence[str]) -> bool:
    if body is None:
        return False
    fits = [hmac.compare_digest(hash_of(body, secret).encode("ascii"), given) for secret in secrets if secret]
    return any(fits)


def read_event(body: bytes, *, terminal_uid: str | None = None) -> ProviderEvent:
    """What a callback claims. Call `check_signature` first.

    The event's id is transaction, type and status: a repeat has the same, a later state of the same transaction
    another. `terminal_uid`, where known, must be the callback's. Raises WebhookRejected.
    """
    try:
        event = read_json(body)
    except ValueError:
        raise WebhookRejected(Rejection.MALFORMED, "not a readable JSON document") from None
    if not isinstance(event, dict):
        raise WebhookRejected(Rejection.MALFORMED, "not a JSON object")
    source = part(event, "transaction")
    one = read_transaction({**part(event, "data"), **source}, event.get("transaction_type"))
    if one is None or one.status_code is None:
        raise WebhookRejected(Rejection.MALFORMED, "a callback has a transaction with uid and status_code")
    _check_terminal(event, source, terminal_uid)
    known_type = one.type if one.type in _TYPES else "other"
    return ProviderEvent(
        event_id=f"{one.uid}:{known_type}:{one.status_code}",
        type=f"{known_type}.{one.status_code}",
        kind=_kind(one),
        reference=_reference(one),
        session_id=one.page_uid,
        transaction_id=one.uid,
        amount=one.amount,
        method_token=one.token,
    )


def explain_signature(headers: Mapping[str, str], body: bytes, secret: str) -> SignatureVerdict:
    """Check a callback by hand: whether it is valid, why not, and what was signed."""
    signed = mask(body.decode("utf-8", errors="replace"), secret)
    try:
        check_signature(headers.get(HASH_HEADER), body, (secret,))
    except WebhookRejected as rejected:
        return SignatureVerdict(valid=False, why=str(rejected), signed_string_masked=signed)
    return SignatureVerdict(valid=True, why="the hash fits the body", signed_string_masked=signed)


def sign_webhook(secret: str, body: bytes) -> dict[str, str]:
    """The header by which PayPlus authenticates this body."""
    return {HASH_HEADER: hash_of(body, secret)}


class _PayPlusWebhookTools:
    """This module's functions as WebhookTools; PayPlus signs no requests, and in one way only, without a time."""

    request_signers: Mapping[str, RequestSigner] = MappingProxyType({})

    def explain_signature(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,
        now: datetime,  # noqa: ARG002
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> SignatureVerdict:
        return explain_signature(headers, body, secret)

    def sign_webhook(
        self,
        secret: str,
        body: bytes,
        timestamp: int,  # noqa: ARG002
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> dict[str, str]:
        return sign_webhook(secret, body)


WEBHOOK_TOOLS: WebhookTools = _PayPlusWebhookTools()


def _reference(one: Transaction) -> UUID | None:
    """Ours. A refund's `more_info` is the refund's id; a charge without a page has ours in `more_info_1`."""
    if one.type == REFUND:
        return None
    return one.reference or (one.further_reference if one.page_uid is None else None)


def _kind(one: Transaction) -> EventKind:
    if one.type == REFUND:
        return EventKind.REFUND
    if one.type in SAVING:
        return EventKind.SETUP
    if one.type not in (CHARGE, APPROVAL):
        return EventKind.OTHER
    if one.status_code != APPROVED:
        return EventKind.ATTEMPT_FAILED
    return EventKind.CAPTURED if one.type == CHARGE else EventKind.PROCESSING


def _check_terminal(event: JsonObject, source: JsonObject, terminal_uid: str | None) -> None:
    """Refuse a callback of another terminal: one merchant's key may cover several."""
    if terminal_uid is None:
        return
    seen = id_of(part(event, "data").get("terminal_uid")) or id_of(source.get("terminal_uid"))
    if seen is None or not hmac.compare_digest(seen.encode(), terminal_uid.encode()):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "another terminal's callback")
