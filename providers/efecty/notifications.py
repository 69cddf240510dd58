"""Confirmations of payment as callbacks: who sent them and what they claim.

Efecty's own wire format is known to its contract partners only (UNCONFIRMED), so the account chooses one of two:

`hmac` (ours, the default): a JSON object with the agreement's fields, and two headers: a Unix time in seconds, and the
hex HMAC-SHA256 over `time.body` with the shared secret. Everything in the body is covered.

`payvalida`: the notification of the one public interface that knows own agreements (efecty.md, section 3). Its
`pv_checksum` is the hex SHA-256 of `po_id`, `status` and a fixed secret: the amount and the transaction are NOT covered
and there is no time in it. So neither is read, and the event's id is made from what is covered: a replay, or a copy
with another amount, is the same event.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

from providers.base import Callback, EventKind, ProviderEvent, Rejection, WebhookRejected
from providers.efecty.agreement import HMAC, PAYVALIDA, SIGNATURE_HEADER, TIMESTAMP_HEADER, Agreement
from providers.efecty.claims import UnreadableClaim, checked_code, event_of
from providers.reading import USUAL_TOLERANCE, Tolerance, check_age, split_secrets
from providers.webhook_signatures import (
    DEFAULT_OPTIONS,
    CannotSign,
    RequestSigner,
    SignatureOptions,
    SignatureVerdict,
    WebhookTools,
    mask,
    read_json_object,
)

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_MAX_EXPONENT = 20
_UNKNOWN_SCHEME = f"the algorithm is {HMAC} or {PAYVALIDA}"
_PAYVALIDA_KINDS = {"approved": EventKind.CAPTURED, "cancelled": EventKind.CANCELED}


def read_callback(callback: Callback, agreement: Agreement, tolerance: Tolerance = USUAL_TOLERANCE) -> ProviderEvent:
    """Authenticate a callback in the agreement's scheme and read it. Raises WebhookRejected, nothing else."""
    try:
        if agreement.scheme == PAYVALIDA:
            return _read_payvalida(callback.body, agreement)
        signature = callback.headers.get(agreement.signature_header)
        timestamp = callback.headers.get(agreement.timestamp_header)
        check_signature(signature, timestamp, callback.body, agreement.secrets, callback.received_at, tolerance)
        body = read_json_object(callback.body)
        return event_of({own: _text(body.get(wire), own) for own, wire in agreement.fields.items()}, agreement)
    except UnreadableClaim as unreadable:
        raise WebhookRejected(Rejection.MALFORMED, unreadable.code) from None


def check_signature(
    signature: str | None,
    timestamp: str | None,
    body: bytes,
    secrets: Sequence[str],
    now: datetime,
    tolerance: Tolerance = USUAL_TOLERANCE,
) -> None:
    """Accept a body signed with any of the secrets and recent enough at `now`. Raises WebhookRejected.

    The signature is judged before the time: only a signed time means anything.
    """
    if not timestamp or not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no readable timestamp header")
    if not signature or not _DIGEST.fullmatch(signature):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no readable signature header")
    digests = [_digest(secret, timestamp, body) for secret in secrets]
    if not any([hmac.compare_digest(digest, signature.lower()) for digest in digests]):  # noqa: C419  (all are compared)
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no signature matches")
    check_age(int(timestamp), now, tolerance)


def payvalida_checksum(po_id: str, status: str, secret: str) -> str:
    """The `pv_checksum` of a Payválida notification."""
    return hashlib.sha256(f"{po_id}{status}{secret}".encode()).hexdigest()


def explain_signature(
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    now: datetime,
    options: SignatureOptions = DEFAULT_OPTIONS,
) -> SignatureVerdict:
    """Check a callback by hand, with the default header names; `options.algorithm` may be `payvalida`."""
    secrets = split_secrets(secret)
    if options.algorithm == PAYVALIDA:
        return _explain_payvalida(body, secrets)
    if options.algorithm not in (None, HMAC):
        return SignatureVerdict(valid=False, why=_UNKNOWN_SCHEME, signed_string_masked="")
    timestamp = headers.get(TIMESTAMP_HEADER)
    signed = f"{timestamp or ''}.{body.decode('utf-8', errors='replace')}"
    for one in secrets:
        signed = mask(signed, one)
    try:
        check_signature(headers.get(SIGNATURE_HEADER), timestamp, body, secrets, now)
    except WebhookRejected as rejected:
        return SignatureVerdict(valid=False, why=str(rejected), signed_string_masked=signed)
    return SignatureVerdict(valid=True, why="signature and timestamp are good", signed_string_masked=signed)


def sign_webhook(
    secret: str, body: bytes, timestamp: int, options: SignatureOptions = DEFAULT_OPTIONS
) -> dict[str, str]:
    """The headers of scheme `hmac`, by their default names. Raises CannotSign for `payvalida`: it signs in the body."""
    if options.algorithm == PAYVALIDA:
        raise CannotSign("the signature is the field pv_checksum inside the body")
    if options.algorithm not in (None, HMAC):
        raise CannotSign(_UNKNOWN_SCHEME)
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: _digest(secret, str(timestamp), body)}


class _EfectyWebhookTools:
    """This module's functions as WebhookTools; requests are not signed because none is sent."""

    request_signers: Mapping[str, RequestSigner] = MappingProxyType({})
    explain_signature = staticmethod(explain_signature)
    sign_webhook = staticmethod(sign_webhook)


WEBHOOK_TOOLS: WebhookTools = _EfectyWebhookTools()


def _digest(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _read_payvalida(body: bytes, agreement: Agreement) -> ProviderEvent:
    fields = read_json_object(body)
    po_id, status, checksum = (fields.get(name) for name in ("po_id", "status", "pv_checksum"))
    if not isinstance(po_id, str) or not isinstance(status, str) or not isinstance(checksum, str):
        raise WebhookRejected(Rejection.MALFORMED, "po_id, status and pv_checksum are texts")
    if not _payvalida_signed(po_id, status, checksum, agreement.secrets):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no checksum matches")
    kind = _PAYVALIDA_KINDS.get(status)
    if kind is None:  # also where the two fields were cut at another place than the sender did
        raise UnreadableClaim("bad_status")
    code = checked_code(po_id, agreement)
    return ProviderEvent(event_id=f"pv:{code}:{status}", type=f"cash.{status}", kind=kind, session_id=code)


def _payvalida_signed(po_id: str, status: str, checksum: str, secrets: Sequence[str]) -> bool:
    if not _DIGEST.fullmatch(checksum):
        return False
    try:
        digests = [payvalida_checksum(po_id, status, secret) for secret in secrets]
    except UnicodeEncodeError:  # half a surrogate pair, which JSON lets through
        return False
    return any([hmac.compare_digest(digest, checksum.lower()) for digest in digests])  # noqa: C419  (all are compared)


def _explain_payvalida(body: bytes, secrets: Sequence[str]) -> SignatureVerdict:
    try:
        fields = read_json_object(body)
    except WebhookRejected as rejected:
        return SignatureVerdict(valid=False, why=str(rejected), signed_string_masked="")
    po_id, status, checksum = (str(fields.get(name)) for name in ("po_id", "status", "pv_checksum"))
    valid = _payvalida_signed(po_id, status, checksum, secrets)
    why = "checksum is good; it does not cover the amount" if valid else "bad_signature: no checksum matches"
    signed = f"{po_id}{status}".encode(errors="replace").decode()
    for one in secrets:
        signed = mask(signed, one)
    return SignatureVerdict(valid=valid, why=why, signed_string_masked=f"{signed}***")


def _text(value: object, name: str) -> str:
    """A field as text. Numbers of JSON are read digit by digit; everything but texts and numbers is refused."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, Decimal) and name == "amount" and value.is_finite() and abs(value.adjusted()) < _MAX_EXPONENT:
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and abs(exponent) < _MAX_EXPONENT:
            return f"{value:f}"
    raise UnreadableClaim(f"bad_{name}")
