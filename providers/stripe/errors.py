"""The one table from Stripe's errors to what is known about the money.

Stripe's messages may echo e-mail addresses or parts of keys, so only codes, parameter names and request ids are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus

import stripe

from providers.base import (
    UNREACHABLE,
    NothingMoved,
    OutcomeUnknown,
    ProviderBusy,
    ProviderDeclined,
    ProviderError,
    ProviderMisconfigured,
    ProviderRejected,
)
from providers.http import retry_after
from providers.stripe.transport import NotConnected

IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
"""The key was used before with other parameters: an earlier try may have acted."""
FAILURE_REPLAYED = "failure_replayed"
"""Stripe repeats the stored 5xx of a try with this key, and will go on doing so."""
NOT_FOUND = "resource_missing"
SHOULD_RETRY = "stripe-should-retry"
LATER = timedelta(minutes=1)
"""The least wait after a rate limit of which Stripe says that a repeat does not help."""
_NOTHING_MOVED = frozenset({400, 401, 402, 403, 404, 409, 429})

_CODE = re.compile(r"[a-z0-9_]{1,64}")
_INTENT = re.compile(r"pi_[A-Za-z0-9_]{1,250}")
_PARAMETER = re.compile(r"[a-z0-9_\[\].]{1,100}")
_REQUEST_ID = re.compile(r"req_[A-Za-z0-9]{1,64}")


def known_about(error: stripe.StripeError, now: datetime) -> ProviderError:
    """What an error of the library says about the money. `now` (UTC) resolves a Retry-After given as a date.

    `Stripe-Should-Retry` decides whether a repeat helps where nothing moved; of what moved it says nothing.
    """
    code, detail, helps = _code(error), _detail(error), repeat_helps(error)
    if helps and error.http_status in _NOTHING_MOVED:
        return ProviderBusy(code or "try_again", detail, retry_after=_retry_after(error, now))
    if isinstance(error, stripe.RateLimitError | NotConnected):
        said = UNREACHABLE if isinstance(error, NotConnected) else code or "rate_limit"
        wait = _retry_after(error, now)
        # a limit passes whatever the header says: no repeat soon, and no refusal of what may be asked later
        return ProviderBusy(said, detail, retry_after=max(wait or LATER, LATER) if helps is False else wait)
    if error.http_status == HTTPStatus.CONFLICT and helps is None:
        # another request with our key, or on this object, still runs
        return ProviderBusy(code or "conflict", detail, retry_after=_retry_after(error, now))
    return _refusal(error) or OutcomeUnknown(_silence_code(error), detail)


def _refusal(error: stripe.StripeError) -> NothingMoved | None:
    """What is final and moved nothing; None where that is not certain."""
    code, detail = _code(error), _detail(error)
    match error:
        case stripe.CardError():
            return ProviderDeclined(
                _decline_code(error) or code or "card_declined", detail, session_id=_intent_id(error)
            )
        case stripe.AuthenticationError() | stripe.PermissionError():
            return ProviderMisconfigured(code or f"http_{error.http_status}", detail)
        case stripe.InvalidRequestError() | stripe.IdempotencyError():
            return ProviderRejected(_rejection_code(error), detail)
    conflict = error.http_status == HTTPStatus.CONFLICT
    return ProviderRejected(code or "conflict", detail) if conflict else None


def repeat_helps(error: stripe.StripeError) -> bool | None:
    """What Stripe says of sending the same request once more; None where it says nothing."""
    return {"true": True, "false": False}.get(_header(error, SHOULD_RETRY))


def customer_is_gone(error: ProviderError) -> bool:
    """Whether a request was refused because Stripe has no such customer any more."""
    return error.code == NOT_FOUND and "param customer," in f"{error.detail},"


def acted(error: ProviderError) -> bool:
    """Whether the key itself shows that an earlier try got through to Stripe, so that its object may exist."""
    return error.code in (IDEMPOTENCY_KEY_REUSED, FAILURE_REPLAYED)


def _rejection_code(error: stripe.StripeError) -> str:
    if isinstance(error, stripe.IdempotencyError):
        return IDEMPOTENCY_KEY_REUSED
    return _code(error) or (NOT_FOUND if error.http_status == HTTPStatus.NOT_FOUND else "invalid_request")


def _silence_code(error: stripe.StripeError) -> str:
    if isinstance(error, stripe.APIConnectionError):
        return "connection"
    status = error.http_status or 0
    stored = _header(error, "idempotent-replayed") == "true" or repeat_helps(error) is False
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and stored:
        return FAILURE_REPLAYED
    return f"http_{status}" if status else "unreadable_answer"


def _field(error: stripe.StripeError, name: str) -> str:
    """One field of the error object in the answer's body; the library copies only some of them to its exceptions."""
    body = error.json_body
    fault = body.get("error") if isinstance(body, Mapping) else None
    value = fault.get(name) if isinstance(fault, Mapping) else None
    return value if isinstance(value, str) else ""


def _intent_id(error: stripe.StripeError) -> str | None:
    """The payment intent that was declined, which Stripe puts into the error as a whole."""
    body = error.json_body
    fault = body.get("error") if isinstance(body, Mapping) else None
    intent = fault.get("payment_intent") if isinstance(fault, Mapping) else None
    intent_id = intent.get("id") if isinstance(intent, Mapping) else None
    return intent_id if isinstance(intent_id, str) and _INTENT.fullmatch(intent_id) else None


def _header(error: stripe.StripeError, name: str) -> str:
    value = error.headers.get(name) if isinstance(error.headers, Mapping) else None
    return value if isinstance(value, str) else ""


def _code(error: stripe.StripeError) -> str:
    code = _field(error, "code")
    return code if _CODE.fullmatch(code) else ""


def _decline_code(error: stripe.StripeError) -> str:
    code = _field(error, "decline_code")
    return code if _CODE.fullmatch(code) else ""


def _detail(error: stripe.StripeError) -> str:
    """HTTP status, parameter name and request id: enough to find the call in Stripe's own log."""
    parameter, request = _field(error, "param"), _header(error, "request-id")
    parts = (
        f"HTTP {error.http_status}" if error.http_status else type(error).__name__,
        f"param {parameter}" if _PARAMETER.fullmatch(parameter) else "",
        f"request {request}" if _REQUEST_ID.fullmatch(request) else "",
    )
    return ", ".join(part for part in parts if part)


def _retry_after(error: stripe.StripeError, now: datetime) -> timedelta | None:
    return retry_after(_header(error, "retry-after"), now)
