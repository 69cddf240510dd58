"""Stripe's webhooks: who sent them (signature, timestamp) and what they claim.

Scheme: header `Stripe-Signature: t=<Unix seconds>,v1=<hex>[,v1=<hex>…]`, HMAC-SHA256 over `t.body` with the endpoint's
secret as it is written. The library's own check compares with the wall clock and lets timestamps of the future pass,
so it is used for the signature alone and the bounds of time are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import stripe

from domain.money import Money, MoneyError
from providers.base import EventKind, ProviderEvent, Rejection, WebhookRejected
from providers.reading import USUAL_TOLERANCE, Tolerance, check_age, own_reference, split_secrets
from providers.stripe.amounts import from_wire
from providers.stripe.objects import our_reference, reference
from providers.stripe.payouts import payout_of
from providers.stripe.subscriptions import is_of_subscription, named_subscription, payment_ids
from providers.webhook_signatures import (
    DEFAULT_OPTIONS,
    RequestSigner,
    SignatureOptions,
    SignatureVerdict,
    WebhookTools,
    mask,
    read_json_object,
)

SIGNATURE_HEADER = "stripe-signature"
MAX_HEADER_LENGTH = 4096

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,255}")

_KINDS = {
    "checkout.session.async_payment_succeeded": EventKind.CAPTURED,
    "checkout.session.async_payment_failed": EventKind.FAILED,
    "checkout.session.expired": EventKind.EXPIRED,
    "payment_intent.succeeded": EventKind.CAPTURED,
    "payment_intent.payment_failed": EventKind.ATTEMPT_FAILED,
    "payment_intent.canceled": EventKind.CANCELED,
    "payment_intent.requires_action": EventKind.ACTION_REQUIRED,
    "payment_intent.processing": EventKind.PROCESSING,
    "charge.refunded": EventKind.REFUND,
    "charge.refund.updated": EventKind.REFUND,
    "setup_intent.succeeded": EventKind.SETUP,
    "setup_intent.setup_failed": EventKind.SETUP,
    "setup_intent.canceled": EventKind.SETUP,
    "payment_method.detached": EventKind.METHOD,
    "payment_method.updated": EventKind.METHOD,
    "payment_method.automatically_updated": EventKind.METHOD,
    "payment_method.card_automatically_updated": EventKind.METHOD,
    "customer.deleted": EventKind.METHOD,
    "mandate.updated": EventKind.METHOD,
    "review.opened": EventKind.RISK,
    "review.closed": EventKind.RISK,
}
"""Event type → what it claims. `checkout.session.completed` depends on its content; families are in `_kind`."""

_FAMILIES = {
    "refund.": EventKind.REFUND,
    "charge.dispute.": EventKind.DISPUTE,
    "radar.early_fraud_warning.": EventKind.RISK,
    "payout.": EventKind.PAYOUT,
    "customer.subscription.": EventKind.SUBSCRIPTION,
    "invoice.": EventKind.SUBSCRIPTION,
}
"""First part of an event's type → what all of its family claim."""

_AMOUNT_FIELDS = {
    "checkout.session": ("amount_total",),
    "payment_intent": ("amount_received", "amount"),
    "charge": ("amount_refunded",),
    "refund": ("amount",),
    "dispute": ("amount",),
}
"""Type of the object inside the event → the fields with the amount that the event claims; the first that is not 0."""


def check_signature(
    header: str | None,
    body: bytes,
    secrets: Sequence[str],
    now: datetime,
    tolerance: Tolerance = USUAL_TOLERANCE,
) -> None:
    """Accept a callback signed with any of the secrets (two during a rotation) and recent enough at `now`.

    Raises WebhookRejected. The signature is judged before the timestamp: only a signed timestamp means anything.
    """
    timestamp = _timestamp_of(header)
    if not any(_signed_with(secret, header, body) for secret in secrets if secret):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no signature matches")
    check_age(timestamp, now, tolerance)


def read_event(body: bytes, *, live: bool | None = None, own_account: str | None = None) -> ProviderEvent:
    """What a callback claims. Call `check_signature` first.

    An unknown type or a thin (v2) notification is OTHER: recorded, and nothing follows from it. So is an event of the
    other mode than the key's (`live`, None when not known) or of another account than ours, with the reason as
    `ignored`: an endpoint for connected accounts is sent theirs too, each with the `account` that it is of, and
    `own_account` is what Stripe calls ours, where we were told. One of a type that we act upon which does not say what
    it is about, in any shape that is known, is `unreadable`. Raises WebhookRejected when it is no event at all.
    """
    event = read_json_object(body)
    event_id, event_type = _name(event.get("id")), _name(event.get("type"))
    if event_id is None or event_type is None or event.get("object") not in ("event", "v2.core.event"):
        raise WebhookRejected(Rejection.MALFORMED, "an event has an id, a type and the object name `event`")
    source = _inner_object(event)
    ignored = _not_ours(event, live=live, own_account=own_account)
    if ignored is not None:  # names nobody; the token is known only so that it is not kept
        at, token = _moment(event.get("created")), _method_token(source)
        return ProviderEvent(event_id, event_type, EventKind.OTHER, occurred_at=at, method_token=token, ignored=ignored)
    kind = EventKind.OTHER if event.get("object") != "event" else _kind(event_type, source)
    return ProviderEvent(
        event_id=event_id,
        type=event_type,
        kind=kind,
        reference=own_reference(our_reference(source)),
        session_id=_session_id(source),
        transaction_id=_transaction_id(source),
        amount=_amount(source),
        occurred_at=_moment(event.get("created")),
        method_token=_method_token(source),
        mandate=_name(source.get("id")) if source.get("object") == "mandate" else None,
        subscription_id=_name(named_subscription(source)),
        customer=_name(source.get("id") if source.get("object") == "customer" else reference(source, "customer")),
        also_named=_also_named(source),
        payout=payout_of(source) if kind is EventKind.PAYOUT else None,
        unreadable=_unreadable(kind, source),
    )


def explain_signature(headers: Mapping[str, str], body: bytes, secret: str, now: datetime) -> SignatureVerdict:
    """Check a callback by hand: whether it is valid, why not, and what was signed. `secret` may be a comma list."""
    header = headers.get(SIGNATURE_HEADER)
    try:
        signed = f"{_timestamp_of(header)}.{body.decode('utf-8', errors='replace')}"
    except WebhookRejected as rejected:
        return SignatureVerdict(valid=False, why=str(rejected), signed_string_masked="")
    secrets = split_secrets(secret)
    for one in secrets:
        signed = mask(signed, one)
    try:
        check_signature(header, body, secrets, now)
    except WebhookRejected as rejected:
        return SignatureVerdict(valid=False, why=str(rejected), signed_string_masked=signed)
    return SignatureVerdict(valid=True, why="signature and timestamp are good", signed_string_masked=signed)


def sign_webhook(secret: str, body: bytes, timestamp: int) -> dict[str, str]:
    """The header that Stripe would send with this body. Raises ValueError when the body is not UTF-8."""
    value = stripe.WebhookSignature.generate_signature_header(body.decode("utf-8"), secret, timestamp)
    return {SIGNATURE_HEADER: str(value)}


class _StripeWebhookTools:
    """This module's functions as WebhookTools; Stripe has one way to sign, so there is nothing to choose."""

    request_signers: Mapping[str, RequestSigner] = MappingProxyType({})

    def explain_signature(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,
        now: datetime,
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> SignatureVerdict:
        return explain_signature(headers, body, secret, now)

    def sign_webhook(
        self,
        secret: str,
        body: bytes,
        timestamp: int,
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> dict[str, str]:
        return sign_webhook(secret, body, timestamp)


WEBHOOK_TOOLS: WebhookTools = _StripeWebhookTools()


def _timestamp_of(header: str | None) -> int:
    """The one `t` of the header, in Unix seconds. Anything unusual is a bad signature."""
    if not header:
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "no Stripe-Signature header")
    if len(header) > MAX_HEADER_LENGTH:
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "Stripe-Signature header too long")
    values = [value for name, _, value in (part.partition("=") for part in header.split(",")) if name == "t"]
    if len(values) != 1 or not _TIMESTAMP.fullmatch(values[0]):
        raise WebhookRejected(Rejection.BAD_SIGNATURE, "Stripe-Signature header has no readable timestamp")
    return int(values[0])


def _signed_with(secret: str, header: str | None, body: bytes) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, header, secret, tolerance=None)
    except Exception:  # the library lets TypeError and UnicodeError through on odd headers and bodies
        return False
    return True


def _kind(event_type: str, source: Mapping[str, Any]) -> EventKind:
    if source.get("object") == "checkout.session" and source.get("mode") == "setup":
        return EventKind.SETUP
    if event_type == "checkout.session.completed":
        paid = source.get("payment_status") in ("paid", "no_payment_required")
        return EventKind.CAPTURED if paid else EventKind.PROCESSING
    if event_type == "checkout.session.expired" and source.get("payment_link"):
        return EventKind.OTHER  # somebody opened the link and left; the link is as payable as before
    if event_type.startswith("invoice.") and named_subscription(source) is None and not is_of_subscription(source):
        return EventKind.OTHER  # the merchant's own, of no subscription
    family = next((kind for prefix, kind in _FAMILIES.items() if event_type.startswith(prefix)), EventKind.OTHER)
    return _KINDS.get(event_type, family)


def _not_ours(event: Mapping[str, Any], *, live: bool | None, own_account: str | None) -> str | None:
    """Why an event is not about this account's own business; None where it is."""
    if live is not None and event.get("livemode") is (not live):
        return "of test mode, and the key is live" if live else "of live mode, and the key is for tests"
    account = event.get("account")
    if account is None or (own_account is not None and account == own_account):
        return None
    return f"of another account at the provider: {_name(account) or 'not readable'}"[:200]


def _method_token(source: Mapping[str, Any]) -> str | None:
    """The saved method that an object is, or is the mandate of."""
    if source.get("object") == "mandate":
        return _name(reference(source, "payment_method"))
    return _name(source.get("id")) if source.get("object") == "payment_method" else None


def _inner_object(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    source = data.get("object") if isinstance(data, Mapping) else None
    return source if isinstance(source, Mapping) else {}


def _session_id(source: Mapping[str, Any]) -> str | None:
    """The checkout as we know it: the session, or the payment link that it was opened from."""
    if source.get("object") != "checkout.session":
        return None
    return _name(reference(source, "payment_link")) or _name(source.get("id"))


def _transaction_id(source: Mapping[str, Any]) -> str | None:
    if source.get("object") == "payment_intent":
        return _name(source.get("id"))
    return _name(reference(source))


def _also_named(source: Mapping[str, Any]) -> tuple[str, ...]:
    """The charge, the invoice and what paid it, beside what an event's object is known by."""
    kind = source.get("object")
    named = [source.get("id")] if kind in ("charge", "invoice", "review", "setup_intent") else []
    named += [reference(source, "charge"), reference(source, "latest_charge"), reference(source, "setup_intent")]
    named += [reference(source, "invoice"), *(payment_ids(source) if kind == "invoice" else ())]
    return tuple(dict.fromkeys(one for one in (_name(value) for value in named) if one is not None))


def _unreadable(kind: EventKind, source: Mapping[str, Any]) -> str | None:
    """What an event of this kind should say and does not."""
    what = str(source.get("object") or "event")[:40]
    if kind is EventKind.SUBSCRIPTION:
        return None if named_subscription(source) else f"{what} without its subscription"
    if kind is EventKind.PAYOUT:
        return None if payout_of(source) else f"{what} that says no known amount and status"
    if kind is EventKind.METHOD:
        named = _method_token(source) or (source.get("id") if source.get("object") == "customer" else None)
        named = named or reference(source, "customer")
    else:
        named = our_reference(source) or _session_id(source) or _transaction_id(source) or _also_named(source)
    return None if kind is EventKind.OTHER or named else f"{what} without its payment"


def _amount(source: Mapping[str, Any]) -> Money | None:
    fields = _AMOUNT_FIELDS.get(str(source.get("object")), ())
    amount = next((source[field] for field in fields if source.get(field)), None)
    try:
        return from_wire(amount, source.get("currency"))
    except MoneyError:
        return None


def _moment(seconds: object) -> datetime | None:
    if type(seconds) is not int:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _name(value: object) -> str | None:
    """An id or type that is safe to store and print."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None
