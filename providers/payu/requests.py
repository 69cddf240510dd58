"""What is sent to PayU. Pure: the same request gives the same form or body on every try."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from providers.base import CheckoutRequest, FormPost, Method, Payer, ProviderRejected, RefundRequest
from providers.payu.account import PayuAccount
from providers.payu.amounts import CURRENCY, Taxes, taxes, whole_pesos
from providers.payu.methods import CARD, MAX_CASH_LIFETIME, NAME_AT_PAYU, PSE
from providers.payu.signatures import NAME_IN_FORM

CHECKOUT_PATH = "/ppp-web-gateway-payu/"
MAX_DESCRIPTION = 255
MAX_REASON = 255
MAX_URL = 2048
MAX_FORM_URL = 255
MAX_PAYER_NAME, MAX_BUYER_NAME, MAX_PHONE = 50, 150, 20
UNKNOWN = "n/a"
"""What is sent for a mandatory field about the payer's browser that nobody has told us."""
COLOMBIA = timezone(timedelta(hours=-5))
"""PayU's own clock; Colombia has no summer time."""
MIN_REFUND_PESOS = 100

_LANGUAGES = frozenset({"es", "en", "pt"})
_BANK_CODE = re.compile(r"[0-9A-Za-z]{1,20}", re.ASCII)
_FROM_BROWSER = {"device_session_id": "deviceSessionId", "cookie": "cookie", "user_agent": "userAgent"}
"""Optional method fields about the payer's browser."""
_ADDRESS = {"address": "street1", "city": "city", "state": "state", "postal_code": "postalCode"}
"""Optional method fields about where the payer lives, of which PayU marks most as mandatory."""


def checked(request: CheckoutRequest, method: Method) -> int:
    """The amount in whole pesos, once everything that PayU would refuse is there. Raises ProviderRejected."""
    pesos = whole_pesos(request.amount)
    if (method.minimum is not None and pesos < method.minimum) or (
        method.maximum is not None and pesos > method.maximum
    ):
        raise ProviderRejected("amount_outside_limits", method.name)
    if absent := [name for name in method.fields if not request.method_fields.get(name)]:
        raise ProviderRejected("method_field_missing", ", ".join(absent))
    if missing := [name for name in method.payer_fields if not getattr(request.payer, name)]:
        raise ProviderRejected("payer_field_missing", ", ".join(missing))
    longest = MAX_FORM_URL if method.name == CARD.name else MAX_URL
    for url in (request.callback_url, request.success_url):
        if url is not None and len(url) > longest:
            raise ProviderRejected("url_too_long")
    return pesos


def checkout_form(request: CheckoutRequest, method: Method, account: PayuAccount) -> FormPost:
    """The WebCheckout form; nothing is sent by us. Raises ProviderRejected."""
    pesos, payer = checked(request, method), request.payer
    phone = _cut(payer.phone, MAX_PHONE)
    reference, tax = str(request.reference), _taxes(request, account)
    signed = [account.merchant_id, reference, str(pesos), CURRENCY]
    if account.payment_methods is not None:
        signed.append(account.payment_methods)
    fields: dict[str, str | None] = {
        "lng": language_of(request.language),
        "merchantId": account.merchant_id,
        "accountId": account.account_id,
        "description": _description(request),
        "referenceCode": reference,
        "amount": str(pesos),
        "tax": None if tax is None else str(tax.tax),
        "taxReturnBase": None if tax is None else str(tax.base),
        "currency": CURRENCY,
        "signature": account.signing.digest(*signed),
        "algorithmSignature": NAME_IN_FORM[account.signing.algorithm],
        "expirationDate": cash_expiry(request).astimezone(COLOMBIA).strftime("%Y-%m-%d %H:%M:%S"),
        "paymentMethods": account.payment_methods,
        "test": "1" if account.test_flag else "0",
        "buyerEmail": payer.email,
        "buyerFullName": _cut(payer.name, MAX_BUYER_NAME),
        "buyerDocumentType": payer.document_type,
        "buyerDocument": payer.document,
        "telephone": phone,
        "payerFullName": _cut(payer.name, MAX_PAYER_NAME),
        "payerEmail": payer.email,
        "payerPhone": phone,
        "payerDocumentType": payer.document_type,
        "payerDocument": payer.document,
        "responseUrl": request.success_url,
        "confirmationUrl": request.callback_url,
    }
    return FormPost(account.checkout_base + CHECKOUT_PATH, {name: value for name, value in fields.items() if value})


def submission(request: CheckoutRequest, method: Method, account: PayuAccount, now: datetime) -> dict[str, Any]:
    """The `transaction` of SUBMIT_TRANSACTION for PSE or cash. `now` is UTC. Raises ProviderRejected."""
    pesos = checked(request, method)
    values: dict[str, Any] = {"TX_VALUE": value_of(pesos)}
    tax = _taxes(request, account)
    if tax is not None:
        values |= {"TX_TAX": value_of(tax.tax), "TX_TAX_RETURN_BASE": value_of(tax.base)}
    reference, address = str(request.reference), address_of(request.payer, request.method_fields)
    order = {
        "accountId": account.account_id,
        "referenceCode": reference,
        "description": _description(request),
        "language": language_of(request.language),
        "signature": account.signing.digest(account.merchant_id, reference, str(pesos), CURRENCY),
        "notifyUrl": request.callback_url,
        "additionalValues": values,
        "buyer": buyer_of(request.payer) | {"shippingAddress": address},
        "shippingAddress": address,
    }
    transaction: dict[str, Any] = {
        "order": without_none(order),
        "payer": payer_of(request.payer) | {"billingAddress": address},
        "type": "AUTHORIZATION_AND_CAPTURE",
        "paymentMethod": NAME_AT_PAYU[method.name],
        "paymentCountry": "CO",
        "ipAddress": request.payer.ip,
    }
    transaction |= {theirs: request.method_fields.get(ours) for ours, theirs in _FROM_BROWSER.items()}
    if method.name == PSE.name:
        transaction |= browser_of(request.reference, request.method_fields)
        transaction["extraParameters"] = _pse(request)
    else:
        expiry = cash_expiry(request)
        if expiry <= now:
            raise ProviderRejected("checkout_window_passed")
        transaction["expirationDate"] = expiry.astimezone(COLOMBIA).strftime("%Y-%m-%dT%H:%M:%S")
    return without_none(transaction)


def cash_expiry(request: CheckoutRequest) -> datetime:
    """Until when the code is good: the wanted moment, at most 7 days from the creation, the same on every try."""
    return min(request.expires_at, request.created_at + MAX_CASH_LIFETIME).astimezone(UTC)


def refund_submission(request: RefundRequest, order_id: str, account: PayuAccount, *, whole: bool) -> dict[str, Any]:
    """The `transaction` of a refund. Our refund's id opens the reason, by which it is found again.

    REFUND gives all back (`whole`); a part is PARTIAL_REFUND with its value, whose place in the body PayU's page leaves
    open: the transaction, or the order with the option `partial_value_in_order`. Raises ProviderRejected.
    """
    pesos = whole_pesos(request.amount)
    if pesos < MIN_REFUND_PESOS:
        raise ProviderRejected("refund_below_minimum", f"{MIN_REFUND_PESOS} COP")
    order: dict[str, Any] = {"id": order_id}
    transaction: dict[str, Any] = {
        "type": "REFUND",
        "order": order,
        "parentTransactionId": request.transaction_id,
        "reason": f"{request.refund_id} {request.reason or ''}".strip()[:MAX_REASON],
    }
    if not whole:
        transaction["type"] = "PARTIAL_REFUND"
        place = order if account.partial_value_in_order else transaction
        place["additionalValues"] = {"TX_VALUE": value_of(pesos)}
    return transaction


def _pse(request: CheckoutRequest) -> dict[str, str]:
    fields, payer = request.method_fields, request.payer
    if fields["user_type"] not in ("N", "J"):
        raise ProviderRejected("method_field_invalid", "user_type is N (person) or J (company)")
    if not _BANK_CODE.fullmatch(fields["financial_institution_code"]):
        raise ProviderRejected("method_field_invalid", "financial_institution_code")
    return without_none(
        {
            "RESPONSE_URL": request.success_url,
            "PSE_REFERENCE1": payer.ip,
            "FINANCIAL_INSTITUTION_CODE": fields["financial_institution_code"],
            "USER_TYPE": fields["user_type"],
            "PSE_REFERENCE2": payer.document_type,
            "PSE_REFERENCE3": payer.document,
        }
    )


def _taxes(request: CheckoutRequest, account: PayuAccount) -> Taxes | None:
    """None: PayU is told nothing and computes 19 % itself."""
    return taxes(request.amount, request.vat) if account.sends_tax and request.vat is not None else None


def payer_of(payer: Payer) -> dict[str, Any]:
    """Who pays, as PayU takes a payer."""
    return without_none({"merchantPayerId": payer.id} | _person(payer))


def buyer_of(payer: Payer) -> dict[str, Any]:
    """Who pays, as PayU takes a buyer, whose id has another name."""
    return without_none({"merchantBuyerId": payer.id} | _person(payer))


def address_of(payer: Payer, fields: Mapping[str, str]) -> dict[str, Any]:
    """The payer's address as far as it is known: in Colombia."""
    known = {theirs: fields.get(ours) for ours, theirs in _ADDRESS.items()}
    return without_none(known | {"country": "CO", "phone": _cut(payer.phone, MAX_PHONE)})


def browser_of(reference: UUID, fields: Mapping[str, str]) -> dict[str, str]:
    """What PayU wants of the payer's browser. The session of the device is ours where the shop has told none."""
    told = {theirs: fields.get(ours) or UNKNOWN for ours, theirs in _FROM_BROWSER.items()}
    return told | ({} if fields.get("device_session_id") else {"deviceSessionId": reference.hex})


def _person(payer: Payer) -> dict[str, Any]:
    return {
        "fullName": _cut(payer.name, MAX_BUYER_NAME),
        "emailAddress": payer.email,
        "contactPhone": _cut(payer.phone, MAX_PHONE),
        "dniNumber": payer.document,
        "dniType": payer.document_type,
    }


def _cut(text: str | None, longest: int) -> str | None:
    return None if text is None else text[:longest].rstrip()


def value_of(pesos: int) -> dict[str, Any]:
    """An amount in whole pesos."""
    return {"value": pesos, "currency": CURRENCY}


def _description(request: CheckoutRequest) -> str:
    return (" ".join(request.description.split()) or request.order_id)[:MAX_DESCRIPTION]


def language_of(language: str) -> str:
    """PayU's language of a text, Spanish where it has none."""
    base = language.split("-", 1)[0].lower()
    return base if base in _LANGUAGES else "es"


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {name: value for name, value in values.items() if value is not None}
