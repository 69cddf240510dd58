"""The bodies of PayPlus's requests. Amounts are JSON numbers in major units, written digit by digit from Decimals."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from providers.base import CheckoutRequest, Payer, ProviderRejected
from providers.payplus.options import PayPlusAccount
from providers.payplus.wire import CLUB_CARDS, CURRENCIES

CHARGE_NOW = 1
"""`charge_method` J4: money moves at once. J5 would only hold it."""
MAX_NAME_LENGTH = 250
MIN_LIFETIME = timedelta(minutes=1)
VAT_DIGITS = 9
ISRAELI_DOCUMENTS = frozenset({None, "TZ", "ID", "HP", "VAT"})
"""Types of a payer's document whose number may be an Israeli one; a Colombian number could look like one by chance."""

_LANGUAGE = re.compile(r"[a-z]{2}")
_LOCAL_PHONE = re.compile(r"0[2-9][0-9]{7,8}")


def link_body(request: CheckoutRequest, account: PayPlusAccount, now: datetime) -> dict[str, Any]:
    """A payment page for one payment.

    `unique_request_id` is our reference: PayPlus may answer an identical request with the same page, so a repeat may
    and another payment cannot. Raises ProviderRejected when the currency or the time left is none that PayPlus takes.
    """
    if request.amount.currency not in CURRENCIES:
        raise ProviderRejected("currency_not_supported", request.amount.currency)
    if request.amount.minor <= 0:
        raise ProviderRejected("amount_not_positive")
    amount = request.amount.to_decimal()
    name = (request.description.strip() or request.order_id)[:MAX_NAME_LENGTH]
    item: dict[str, Any] = {"name": name, "quantity": 1, "price": amount}
    if request.vat is not None:
        item["vat_type"] = 0  # the price includes VAT
    body: dict[str, Any] = {
        "payment_page_uid": account.payment_page_uid,
        "charge_method": CHARGE_NOW,
        "amount": amount,
        "currency_code": account.gbp_code if request.amount.currency == "GBP" else request.amount.currency,
        "sendEmailApproval": account.send_email_approval,
        "sendEmailFailure": account.send_email_failure,
        "send_failure_callback": True,
        "expiry_datetime": str(minutes_left(request.expires_at, now)),
        "more_info": str(request.reference),
        "more_info_1": request.order_id[:MAX_NAME_LENGTH],
        "unique_request_id": str(request.reference),
        "items": [item],
    }
    body |= addresses(request.success_url, request.cancel_url, request.callback_url) | _method(request.method)
    body |= language_of(request.language)
    if request.save_method:
        body["create_token"] = True
    if account.initial_invoice is not None:
        body["initial_invoice"] = account.initial_invoice
    if customer := customer_of(request.payer):
        body["customer"] = customer
    return body


def minutes_left(expires_at: datetime, now: datetime) -> int:
    """Whole minutes until the page closes, begun ones included: a page is rather open a moment longer than cut off."""
    left = expires_at - now
    if left <= timedelta(0):
        raise ProviderRejected("checkout_window_passed")
    return -(-left // MIN_LIFETIME)


def addresses(success_url: str | None, cancel_url: str | None, callback_url: str | None) -> dict[str, str]:
    """Where the browser goes (unsigned, so nothing is believed from it) and where PayPlus reports."""
    named = {
        "refURL_success": success_url,
        "refURL_failure": cancel_url,
        "refURL_cancel": cancel_url,
        "refURL_callback": callback_url,
    }
    return {name: url for name, url in named.items() if url}


def language_of(language: str) -> dict[str, str]:
    """The page's language, where it is a plain one."""
    short = language.split("-", 1)[0].lower()
    return {"language_code": short} if _LANGUAGE.fullmatch(short) else {}


def _method(method: str | None) -> dict[str, Any]:
    """One method alone when the payer has chosen; else all of the page's own.

    A gift or club card stands before the others and hides none: what it lacks must be paid by another one.
    """
    if method is None:
        return {}
    if method in CLUB_CARDS:
        return {"charge_default": method, "hide_other_charge_methods": False}
    return {"allowed_charge_methods": [method], "charge_default": method, "hide_other_charge_methods": True}


def customer_of(payer: Payer) -> dict[str, str]:
    """What PayPlus is told of the payer."""
    customer: dict[str, str | None] = {"customer_name": payer.name, "email": payer.email, "phone": _phone(payer.phone)}
    if payer.document_type in ISRAELI_DOCUMENTS:
        customer["vat_number"] = israeli_number(payer.document)
    return {name: value for name, value in customer.items() if value}


def israeli_number(document: str | None) -> str | None:
    """A person's or a company's number with all its digits, where the last one is its check digit; None for any other.

    PayPlus refuses the whole request for another one (`vat-id-not-valid`).
    """
    if document is None or not (document.isascii() and document.isdigit() and len(document) <= VAT_DIGITS):
        return None
    number = document.zfill(VAT_DIGITS)
    products = [int(digit) * (1 + place % 2) for place, digit in enumerate(number)]
    valid = sum(one // 10 + one % 10 for one in products) % 10 == 0
    return number if valid and int(number) else None


def _phone(phone: str | None) -> str | None:
    """Country code and number without plus, as 3-D Secure wants it; a local Israeli number gets its 972."""
    digits = re.sub(r"[^0-9]", "", phone or "")
    return f"972{digits[1:]}" if _LOCAL_PHONE.fullmatch(digits) else digits or None
