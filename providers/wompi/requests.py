"""What is sent to Wompi, and the address of its Web Checkout. Pure: the same request gives the same text on every try.

Nothing personal is put into an address: the checkout page asks the payer itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from domain.money import Money
from providers.base import CheckoutRequest, Method, ProviderRejected
from providers.wompi.account import Account
from providers.wompi.objects import CURRENCY, MAX_WIRE
from providers.wompi.signatures import integrity_signature

CARD, LINK, PSE, NEQUI = "card", "link", "pse", "nequi"
BANK_FIELD = "financial_institution_code"
MAX_PSE_DESCRIPTION = 30
MAX_LINK_NAME = 100
DIRECT = frozenset({PSE, NEQUI})
"""Methods for which we create the transaction ourselves; it is the only one, so its end is the attempt's end."""

METHODS = (
    Method(CARD, "card", CURRENCY),
    Method(LINK, "link", CURRENCY, closes=True),
    Method(
        PSE,
        "bank",
        CURRENCY,
        fields=(BANK_FIELD,),
        payer_fields=("name", "email", "phone", "document_type", "document"),
        refundable=False,
    ),
    Method(NEQUI, "wallet", CURRENCY, payer_fields=("email", "phone"), refundable=False),
)
"""No limits: the ones that circulate (1,500 to 99,000,000 COP) are an aggregator's and for cards. Wompi refuses what
it does not take."""

_MOBILE = re.compile(r"(?:\+?57)?(3[0-9]{9})", re.ASCII)
_BANK_CODE = re.compile(r"[A-Za-z0-9]{1,16}", re.ASCII)
_USER_TYPES = {"0": 0, "1": 1}


class Acceptance(NamedTuple):
    """The tokens by which the payer's consent is stated; both are short-lived. `personal` is None where none came."""

    terms: str
    personal: str | None


def to_wire(amount: Money) -> int:
    """Cents. Raises ProviderRejected `currency_not_supported` or `amount_not_supported`."""
    if amount.currency != CURRENCY:
        raise ProviderRejected("currency_not_supported", amount.currency)
    if not 0 < amount.minor <= MAX_WIRE:
        raise ProviderRejected("amount_not_supported", f"{amount} {amount.currency}")
    return amount.minor


def expiration_of(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, the form that Wompi signs."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def web_checkout_url(request: CheckoutRequest, account: Account) -> str:
    """The address of the hosted page: signed, so nobody can change amount, reference or end."""
    fields = {
        "public-key": account.public_key,
        "currency": CURRENCY,
        "amount-in-cents": str(to_wire(request.amount)),
        "reference": str(request.reference),
        "signature:integrity": _signature(request, account),
        "expiration-time": expiration_of(request.expires_at),
    }
    if request.success_url:
        fields["redirect-url"] = request.success_url
    if request.vat is not None and request.vat.minor > 0:
        fields["tax-in-cents:vat"] = str(to_wire(request.vat))
    return f"{account.checkout_base}/p/?{urlencode(fields)}"


def link_url(link_id: str, account: Account) -> str:
    """The address of a payment link."""
    return f"{account.checkout_base}/l/{link_id}"


def link_body(request: CheckoutRequest) -> dict[str, Any]:
    """A payment link for one payment of a fixed amount. `sku` is our reference; the event does not carry it."""
    body: dict[str, Any] = {
        "name": _description(request)[:MAX_LINK_NAME],
        "description": _description(request),
        "single_use": True,
        "collect_shipping": False,
        "amount_in_cents": to_wire(request.amount),
        "currency": CURRENCY,
        "expires_at": expiration_of(request.expires_at),
        "sku": str(request.reference),
    }
    if request.success_url:
        body["redirect_url"] = request.success_url
    return body


def transaction_body(request: CheckoutRequest, account: Account, acceptance: Acceptance) -> dict[str, Any]:
    """A transaction by PSE or Nequi. Call `payment_method` before to have the fields checked without any call."""
    payer = request.payer
    customer = {
        "full_name": payer.name,
        "phone_number": payer.phone,
        "legal_id": payer.document,
        "legal_id_type": payer.document_type,
    }
    body: dict[str, Any] = {
        "acceptance_token": acceptance.terms,
        "amount_in_cents": to_wire(request.amount),
        "currency": CURRENCY,
        "customer_email": payer.email,
        "payment_method": payment_method(request),
        "reference": str(request.reference),
        "signature": _signature(request, account),
        "expiration_time": expiration_of(request.expires_at),
    }
    optional = {
        account.personal_auth_field: acceptance.personal,
        "customer_data": _given(customer) if payer.name else None,
        "redirect_url": request.success_url,
        "ip": payer.ip,
    }
    return body | {field: value for field, value in optional.items() if field and value}


def payment_method(request: CheckoutRequest) -> dict[str, Any]:
    """The `payment_method` of a direct transaction. Raises ProviderRejected `field_missing` or `field_invalid`."""
    _needed(request.payer.email, "email")
    if request.method == NEQUI:
        phone = request.method_fields.get("phone_number") or request.payer.phone or ""
        return {"type": "NEQUI", "phone_number": _mobile(phone)}
    _needed(request.payer.name, "name")
    _needed(request.payer.phone, "phone")
    bank = _needed(request.method_fields.get(BANK_FIELD), BANK_FIELD)
    if not _BANK_CODE.fullmatch(bank):
        raise ProviderRejected("field_invalid", BANK_FIELD)
    document_type = _needed(request.payer.document_type, "document_type").upper()
    return {
        "type": "PSE",
        "user_type": _user_type(request.method_fields, document_type),
        "user_legal_id_type": document_type,
        "user_legal_id": _needed(request.payer.document, "document"),
        BANK_FIELD: bank,
        "payment_description": _description(request)[:MAX_PSE_DESCRIPTION],
    }


def _user_type(fields: Mapping[str, str], document_type: str) -> int:
    """0 a person, 1 a company: as given, else by the kind of document (NIT is a company's)."""
    given = fields.get("user_type")
    if given is None:
        return 1 if document_type == "NIT" else 0
    if given not in _USER_TYPES:
        raise ProviderRejected("field_invalid", "user_type")
    return _USER_TYPES[given]


def _mobile(phone: str) -> str:
    match = _MOBILE.fullmatch(re.sub(r"[\s().-]", "", phone))
    if match is None:
        raise ProviderRejected("field_invalid" if phone.strip() else "field_missing", "phone_number")
    return match.group(1)


def _needed(value: str | None, field: str) -> str:
    text = (value or "").strip()
    if not text:
        raise ProviderRejected("field_missing", field)
    return text


def _given(values: Mapping[str, str | None]) -> dict[str, str]:
    return {field: value for field, value in values.items() if value}


def _description(request: CheckoutRequest) -> str:
    return request.description.strip() or request.order_id


def _signature(request: CheckoutRequest, account: Account) -> str:
    return integrity_signature(
        str(request.reference),
        to_wire(request.amount),
        CURRENCY,
        expiration_of(request.expires_at),
        account.integrity_secret,
    )
