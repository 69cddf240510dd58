"""The forms that we send to Meshulam. Pure: what is missing is refused here, before any call."""

from __future__ import annotations

import re
from collections.abc import Mapping

from providers.base import CheckoutRequest, ProviderRejected, RefundRequest
from providers.meshulam.amounts import to_wire
from providers.meshulam.objects import Process, Transaction

REGULAR_CHARGE = "1"
MAX_TEXT = 100
"""Longest description or name that is sent. Meshulam states no limit; its page shows about this much."""
FULL_NAME_PARTS = 2

_ISRAELI_MOBILE = re.compile(r"05[0-9]{8}")
_PHONE_NOISE = re.compile(r"[ ().-]")
_SPECIAL = re.compile(r"[\W_]+")

ACKNOWLEDGED_FIELDS = (
    "transactionId", "transactionToken", "transactionTypeId", "paymentType", "sum", "firstPaymentSum",
    "periodicalPaymentSum", "paymentsNum", "allPaymentsNum", "paymentDate", "asmachta", "description", "fullName",
    "payerPhone", "payerEmail", "cardSuffix", "cardType", "cardTypeCode", "cardBrand", "cardBrandCode", "cardExp",
)  # fmt: skip
"""What approveTransaction takes of a transaction, beside the process."""


def checkout_form(request: CheckoutRequest, notify_url: str | None) -> dict[str, str]:
    """createPaymentProcess, without the account's own fields: one payment, so that `paymentNum` is left out.

    Meshulam wants no special characters in its parameters, so texts are reduced to letters, digits and blanks, and
    our reference goes as 32 hexadecimal digits. Raises ProviderRejected: `payer_name_required` (first and last name),
    `payer_phone_required` (an Israeli mobile number), `currency_not_supported`, `invalid_amount`.
    """
    form = {
        "sum": to_wire(request.amount),
        "description": shown_text(request.description) or shown_text(request.order_id) or "Payment",
        "chargeType": REGULAR_CHARGE,
        "pageField[fullName]": full_name(request.payer.name),
        "pageField[phone]": mobile_number(request.payer.phone),
        "cField1": request.reference.hex,
    }
    optional = {
        "pageField[email]": request.payer.email,
        "successUrl": request.success_url,
        "cancelUrl": request.cancel_url or request.success_url,
        "notifyUrl": notify_url,
    }
    if request.save_method:
        form["saveCardToken"] = "1"
    return form | {name: value for name, value in optional.items() if value}


def refund_form(request: RefundRequest, charge: Transaction) -> dict[str, str]:
    """refundTransaction, without the account's own fields. Raises ProviderRejected as `to_wire` does."""
    return {
        "transactionId": charge.fields["transactionId"],
        "transactionToken": charge.token,
        "refundSum": to_wire(request.amount),
    }


def acknowledgement_form(process: Process, process_token: str, charge: Transaction) -> Mapping[str, str]:
    """approveTransaction, without the account's own fields: the transaction as Meshulam describes it, sent back."""
    told = {name: charge.fields[name] for name in ACKNOWLEDGED_FIELDS if name in charge.fields}
    return told | {"processId": process.id, "processToken": process_token}


def full_name(name: str | None) -> str:
    """First and last name. Raises ProviderRejected `payer_name_required`."""
    text = shown_text(name or "")
    if len(text.split()) < FULL_NAME_PARTS:
        raise ProviderRejected("payer_name_required", "first and last name")
    return text


def mobile_number(phone: str | None) -> str:
    """`0541234567`, also from `+972-54-123-4567`. Raises ProviderRejected `payer_phone_required`."""
    digits = _PHONE_NOISE.sub("", phone or "")
    for prefix in ("+972", "00972", "972"):
        if digits.startswith(prefix):
            digits = "0" + digits.removeprefix(prefix).removeprefix("0")
            break
    if not _ISRAELI_MOBILE.fullmatch(digits):
        raise ProviderRejected("payer_phone_required", "an Israeli mobile number")
    return digits


def shown_text(text: str) -> str:
    """A text as Meshulam takes it: letters, digits and blanks."""
    return _SPECIAL.sub(" ", text)[:MAX_TEXT].strip()
