"""Wompi's events: who sent them and what they claim.

An event is `{event, data, environment, signature: {properties, checksum}, timestamp, sent_at}`; the header
`X-Event-Checksum` repeats the checksum. Only the named properties, the timestamp and the secret are signed: neither
the reference nor the currency or environment is. That is why an event is a reason to look and nothing more.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from domain.money import Money
from providers.base import EventKind, ProviderEvent, Rejection, WebhookRejected
from providers.reading import Tolerance, check_age, own_reference, split_secrets
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
from providers.wompi.account import EVENT_MAX_AGE_SECONDS, Environment
from providers.wompi.objects import CURRENCY, MAX_WIRE, link_of, name
from providers.wompi.signatures import event_checksum, integrity_signature, signed_values

CHECKSUM_HEADER = "x-event-checksum"
TRANSACTION_UPDATED = "transaction.updated"
MUST_BE_SIGNED = ("transaction.id", "transaction.status", "transaction.amount_in_cents")
"""The list comes from the body, so a body may not choose to leave these out."""

_CHECKSUM = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_MAX_TIMESTAMP = 10**12
_KINDS = {
    "APPROVED": EventKind.CAPTURED,
    "PENDING": EventKind.PROCESSING,
    "DECLINED": EventKind.ATTEMPT_FAILED,
    "ERROR": EventKind.ATTEMPT_FAILED,
    "VOIDED": EventKind.REFUND,
}


USUAL_TOLERANCE = Tolerance(past_seconds=EVENT_MAX_AGE_SECONDS)
"""The past is as long as Wompi goes on trying."""


def check_event(
    headers: Mapping[str, str],
    event: Mapping[str, Any],
    secrets: Sequence[str],
    now: datetime,
    tolerance: Tolerance = USUAL_TOLERANCE,
) -> None:
    """Accept an event whose every shown checksum fits one of the secrets and whose timestamp is not out of bounds.

    The checksum in the body and the one in the header count alike; at least one must be there. Raises WebhookRejected.
    The checksum is judged before the timestamp: only a signed timestamp means anything.
    """
    values, timestamp = signed_parts(event)
    shown = _shown_checksums(headers, event)
    if not any(_fits(shown, event_checksum(values, timestamp, secret)) for secret in secrets):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "the checksum does not match")
    check_age(timestamp, now, tolerance)


def signed_parts(event: Mapping[str, Any]) -> tuple[str, int]:
    """The joined values and the timestamp, as far as an event has them. Raises WebhookRejected."""
    data, signature, timestamp = event.get("data"), event.get("signature"), event.get("timestamp")
    if not isinstance(data, Mapping) or not isinstance(signature, Mapping):
        raise WebhookRejected(Rejection.MALFORMED, "an event has data and a signature")
    if type(timestamp) is not int or not 0 < timestamp < _MAX_TIMESTAMP:
        raise WebhookRejected(Rejection.MALFORMED, "an event has a timestamp in whole seconds")
    properties = signature.get("properties")
    values = signed_values(data, properties)
    if event.get("event") == TRANSACTION_UPDATED and not set(MUST_BE_SIGNED) <= set(properties or ()):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "id, status and amount are not all signed")
    return values, timestamp


def read_event(event: Mapping[str, Any], environment: Environment | None) -> ProviderEvent:
    """What a checked event claims. Its id is the transaction's id with its status, so a replay is the same event.

    An event of another kind than `transaction.updated` is OTHER. Raises WebhookRejected for an event of the other
    environment, for a currency that no account here has, and for what is no event at all.
    """
    event_type = name(event.get("event"))
    if event_type is None:
        raise WebhookRejected(Rejection.MALFORMED, "an event has a type")
    if environment is not None and event.get("environment") != environment:
        raise WebhookRejected(Rejection.MALFORMED, "an event of another environment than this account's")
    occurred_at = datetime.fromtimestamp(event["timestamp"], UTC) if event["timestamp"] < _LAST_MOMENT else None
    if event_type != TRANSACTION_UPDATED:
        values, timestamp = signed_parts(event)
        event_id = f"{event_type}:{event_checksum(values, timestamp, '')[:32]}"
        return ProviderEvent(event_id, event_type, EventKind.OTHER, occurred_at=occurred_at)
    transaction = event["data"].get("transaction")
    transaction_id, status = name(transaction.get("id")), name(transaction.get("status"))
    if transaction_id is None or status is None:
        raise WebhookRejected(Rejection.MALFORMED, "a transaction has an id and a status")
    return ProviderEvent(
        event_id=f"{transaction_id}:{status}",
        type=event_type,
        kind=_KINDS.get(status, EventKind.OTHER),
        reference=own_reference(transaction.get("reference")),
        session_id=link_of(transaction),
        transaction_id=transaction_id,
        amount=_amount(transaction),
        occurred_at=occurred_at,
    )


_LAST_MOMENT = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp())


def _amount(transaction: Mapping[str, Any]) -> Money:
    amount, currency = transaction.get("amount_in_cents"), transaction.get("currency", CURRENCY)
    if currency != CURRENCY:
        raise WebhookRejected(Rejection.MALFORMED, "a currency that this account does not have")
    if type(amount) is not int or not 0 <= amount <= MAX_WIRE:
        raise WebhookRejected(Rejection.MALFORMED, "an amount is a whole number of cents")
    return Money(amount, CURRENCY)


def _shown_checksums(headers: Mapping[str, str], event: Mapping[str, Any]) -> list[str]:
    found = [headers.get(CHECKSUM_HEADER), event["signature"].get("checksum")]
    shown = [checksum for checksum in found if checksum is not None]
    if not shown or not all(isinstance(checksum, str) and _CHECKSUM.fullmatch(checksum) for checksum in shown):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no readable checksum")
    return shown


def _fits(shown: Sequence[str], expected: str) -> bool:
    """Whether all of them are the expected one, in either case; each is compared in constant time."""
    return all(hmac.compare_digest(checksum.lower(), expected) for checksum in shown)


class _IntegritySigner:
    """Signs a checkout or transaction by hand; `expiration` exactly as it is sent."""

    required: tuple[str, ...] = ("reference", "amount_in_cents", "currency")
    optional: tuple[str, ...] = ("expiration",)

    def __call__(self, fields: Mapping[str, str], secret: str, options: SignatureOptions) -> str:
        """The digest. Raises CannotSign."""
        unknown = sorted(set(fields) - {*self.required, *self.optional})
        missing = [required for required in self.required if not fields.get(required)]
        if unknown or missing:
            raise CannotSign(f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}")
        if options.algorithm is not None and re.sub(r"[-_ ]", "", options.algorithm.lower()) != "sha256":
            raise CannotSign("Wompi signs with sha256 only")
        amount = fields["amount_in_cents"]
        if not re.fullmatch(r"[0-9]{1,15}", amount, re.ASCII) or str(int(amount)) != amount:
            raise CannotSign("amount_in_cents is a whole number of cents, without separators")
        try:
            return integrity_signature(
                fields["reference"], int(amount), fields["currency"], fields.get("expiration", ""), secret
            )
        except UnicodeEncodeError:
            raise CannotSign("a field is not UTF-8") from None


class _WompiWebhookTools:
    """Sign and check by hand."""

    request_signers: Mapping[str, RequestSigner] = MappingProxyType({"integrity": _IntegritySigner()})

    def explain_signature(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,
        now: datetime,
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002  (there is one way only)
    ) -> SignatureVerdict:
        """Whether an event is authentic, why not, and what was signed. `secret` may be a comma separated list."""
        signed = ""
        secrets = split_secrets(secret)
        try:
            event = read_json_object(body)
            values, timestamp = signed_parts(event)
            signed = f"{values}{timestamp}"
            for one in secrets:
                signed = mask(signed, one)
            signed += "***"
            check_event(headers, event, secrets, now)
        except WebhookRejected as rejected:
            return SignatureVerdict(valid=False, why=str(rejected), signed_string_masked=signed)
        return SignatureVerdict(valid=True, why="checksum and timestamp are good", signed_string_masked=signed)

    def sign_webhook(
        self,
        secret: str,
        body: bytes,
        timestamp: int,  # noqa: ARG002  (the signed timestamp is the one inside the body)
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """The checksum's header for this body, with the body's own timestamp.

        Raises CannotSign for what is no event, and for a body that already has another checksum inside: no header
        makes that one authentic.
        """
        try:
            event = read_json_object(body)
            values, moment = signed_parts(event)
            checksum = event_checksum(values, moment, secret)
        except (WebhookRejected, UnicodeEncodeError) as error:
            raise CannotSign(str(error) if isinstance(error, WebhookRejected) else "the secret is not UTF-8") from None
        inside = event["signature"].get("checksum")
        if inside is not None and not (isinstance(inside, str) and inside.lower() == checksum):
            raise CannotSign(f"the checksum is inside the body: signature.checksum must be {checksum} or be left out")
        return {CHECKSUM_HEADER: checksum}


WEBHOOK_TOOLS: WebhookTools = _WompiWebhookTools()
