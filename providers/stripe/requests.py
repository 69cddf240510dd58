"""The parameters that we send to Stripe. Pure: the same request gives the same parameters on every try.

That is what makes idempotency keys work: a second try with other parameters is refused, one with the same parameters
gets the first one's answer.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from stripe.params import PaymentIntentCreateParams, PaymentLinkCreateParams, RefundCreateParams
from stripe.params.checkout import SessionCreateParams

from providers.base import CheckoutRequest, RefundRequest
from providers.stripe.amounts import to_wire

MIN_SESSION_LIFETIME = timedelta(minutes=30)
MAX_SESSION_LIFETIME = timedelta(hours=24)
OPENING_WINDOW = timedelta(minutes=30)
"""How long after the payment's creation tries to open its checkout still find `expires_at` acceptable."""
CLOCK_SKEW = timedelta(minutes=5)

MAX_NAME_LENGTH = 250

_LOCALES = """
auto bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hi-IN hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR ro ru
sk sl sv th tr vi zh zh-HK zh-TW
"""
_KNOWN_LOCALES = frozenset(_LOCALES.split())
_REFUND_REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer"})


def session_params(request: CheckoutRequest) -> SessionCreateParams:
    """A hosted checkout session for one payment. Raises ProviderRejected when the amount cannot be expressed."""
    metadata = _references(request)
    params: SessionCreateParams = {
        "mode": "payment",
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.amount.currency.lower(),
                    "unit_amount": to_wire(request.amount),
                    "product_data": {"name": _name(request)},
                },
            }
        ],
        "client_reference_id": str(request.reference),
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},  # Stripe copies a session's metadata to nothing else
        "expires_at": int(session_expiry(request).timestamp()),
        "locale": locale(request.language),
    }
    if request.success_url:
        params["success_url"] = request.success_url
    if request.cancel_url:
        params["cancel_url"] = request.cancel_url
    if request.save_method:
        params["payment_intent_data"] = {"metadata": metadata, "setup_future_usage": "off_session"}
    if request.customer:
        params["customer"] = request.customer
    elif request.payer.email:
        params["customer_email"] = request.payer.email
    return params


def link_params(request: CheckoutRequest) -> PaymentLinkCreateParams:
    """A payment link that can be paid once. Raises ProviderRejected when the amount cannot be expressed.

    Stripe copies a link's metadata to its sessions, and the other metadata to their payment intents.
    """
    metadata = _references(request)
    params: PaymentLinkCreateParams = {
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.amount.currency.lower(),
                    "unit_amount": to_wire(request.amount),
                    "product_data": {"name": _name(request)},
                },
            }
        ],
        "restrictions": {"completed_sessions": {"limit": 1}},
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},
    }
    if request.success_url:
        params["after_completion"] = {"type": "redirect", "redirect": {"url": request.success_url}}
    return params


def session_expiry(request: CheckoutRequest) -> datetime:
    """When the session closes at Stripe: the wanted moment, moved into what Stripe will accept.

    Stripe accepts 30 minutes to 24 hours from the moment of the call, and a repeat must send the same moment. So the
    bounds count from the payment's creation: at least 30 minutes plus the window in which tries are made, at most
    24 hours less a margin for clocks. A session that stays open longer than was wanted is closed by `close_checkout`.
    """
    return session_window(request.created_at, request.expires_at)


def session_window(created_at: datetime, wanted: datetime) -> datetime:
    """The nearest moment to the wanted one that Stripe accepts on every try."""
    earliest = created_at + MIN_SESSION_LIFETIME + OPENING_WINDOW
    latest = created_at + MAX_SESSION_LIFETIME - CLOCK_SKEW
    return min(max(wanted, earliest), latest)


def intent_params(request: CheckoutRequest) -> PaymentIntentCreateParams:
    """A payment intent for the merchant's own page. Raises ProviderRejected when the amount cannot be expressed."""
    params: PaymentIntentCreateParams = {
        "amount": to_wire(request.amount),
        "currency": request.amount.currency.lower(),
        "automatic_payment_methods": {"enabled": True},
        "metadata": _references(request),
    }
    if request.description.strip():
        params["description"] = request.description.strip()[:MAX_NAME_LENGTH]
    if request.save_method:
        params["setup_future_usage"] = "off_session"
    if request.customer:
        params["customer"] = request.customer
    return params


def refund_params(request: RefundRequest) -> RefundCreateParams:
    """A refund of part or all of a payment. The amount is always sent, so that `all` cannot mean more than asked."""
    params: RefundCreateParams = {
        "amount": to_wire(request.amount),
        "metadata": {"payment_id": str(request.payment.reference), "refund_id": str(request.refund_id)},
    }
    params["charge" if request.transaction_id.startswith("ch_") else "payment_intent"] = request.transaction_id
    if request.reason in _REFUND_REASONS:
        params["reason"] = request.reason
    return params


def _name(request: CheckoutRequest) -> str:
    return (request.description.strip() or request.order_id)[:MAX_NAME_LENGTH]


def _references(request: CheckoutRequest) -> dict[str, str]:
    return {
        "payment_id": str(request.reference),
        "workspace_id": str(request.workspace_id),
        "order_id": request.order_id[:500],
    }


def locale(language: str) -> str:
    """The nearest language of Stripe's page; `auto` (the browser's) where it has none, as for Hebrew."""
    base = language.split("-", 1)[0].lower()
    return language if language in _KNOWN_LOCALES else base if base in _KNOWN_LOCALES else "auto"
