"""Tokenised cards at PayU: what is taken over from the merchant's page, and the charge of one. Pure functions.

A card is made a token by PayU's own library in the payer's browser; its number never comes here. A charge is a
SUBMIT_TRANSACTION with `creditCardTokenId` in place of the card, and the card's network as `paymentMethod`, so the
network is kept with the token (`VISA:…`). Without a security code PayU wants `processWithoutCvv2`, for which an account
needs PayU's authorisation. UNCONFIRMED: which fields of payer and browser, all marked as mandatory, PayU insists
on when nobody is there.
"""

from __future__ import annotations

import re
from typing import Any

from providers.base import ChargeRequest, ProviderRejected, SavedMethod
from providers.payu.account import PayuAccount
from providers.payu.amounts import CURRENCY, taxes, whole_pesos
from providers.payu.methods import CARD_BRANDS
from providers.payu.requests import address_of, browser_of, buyer_of, language_of, payer_of, value_of, without_none

ONE_INSTALMENT = {"INSTALLMENTS_NUMBER": 1}
MAX_DESCRIPTION = 255

_TOKEN = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,127}", re.ASCII)

DECLINES = {
    "antifraud_rejected": "fraudulent",
    "bank_fraud_rejected": "fraudulent",
    "contact_the_entity": "call_issuer",
    "credit_card_not_authorized_for_internet_transactions": "not_permitted",
    "entity_declined": "do_not_honor",
    "entity_messaging_error": "processing_error",
    "exceeded_amount": "amount_limit_exceeded",
    "insufficient_funds": "insufficient_funds",
    "invalid_card": "incorrect_number",
    "invalid_expiration_date_or_security_code": "incorrect_cvc",
    "invalid_transaction": "transaction_not_allowed",
    "payment_network_rejected": "generic_decline",
    "repeat_transaction": "duplicate_transaction",
    "restricted_card": "restricted_card",
    "expired_card": "expired_card",
}
"""PayU's response codes in small letters, in the words of domain/declines.py."""


def imported(given: SavedMethod) -> SavedMethod:
    """A token from PayU's library as it is kept. Raises ProviderRejected: unknown network, or no token at all."""
    network = (given.brand or "").upper()
    if network not in CARD_BRANDS:
        raise ProviderRejected("brand_missing", f"brand is one of {', '.join(sorted(CARD_BRANDS))}")
    if not _TOKEN.fullmatch(given.token) or given.token.isdigit():
        raise ProviderRejected("not_a_token")
    return SavedMethod(
        token=f"{network}:{given.token}",
        brand=network.lower(),
        last4=given.last4,
        exp_month=given.exp_month,
        exp_year=given.exp_year,
    )


def charge_submission(request: ChargeRequest, account: PayuAccount) -> dict[str, Any]:
    """The `transaction` of SUBMIT_TRANSACTION for a tokenised card. Raises ProviderRejected."""
    network, _, token = request.token.partition(":")
    if network not in CARD_BRANDS or not token:
        raise ProviderRejected("not_a_token")
    pesos, reference = whole_pesos(request.amount), str(request.reference)
    address = address_of(request.payer, {})
    values: dict[str, Any] = {"TX_VALUE": value_of(pesos)}
    if account.sends_tax and request.vat is not None:
        tax = taxes(request.amount, request.vat)
        values |= {"TX_TAX": value_of(tax.tax), "TX_TAX_RETURN_BASE": value_of(tax.base)}
    order = {
        "accountId": account.account_id,
        "referenceCode": reference,
        "description": (" ".join(request.description.split()) or request.order_id)[:MAX_DESCRIPTION],
        "language": language_of(request.language),
        "signature": account.signing.digest(account.merchant_id, reference, str(pesos), CURRENCY),
        "notifyUrl": request.callback_url,
        "additionalValues": values,
        "buyer": buyer_of(request.payer) | {"shippingAddress": address},
    }
    return without_none(
        {
            "order": without_none(order),
            "payer": payer_of(request.payer) | {"billingAddress": address},
            "creditCardTokenId": token,
            "creditCard": _card(request, account),
            **browser_of(request.reference, {}),
            "extraParameters": ONE_INSTALMENT,
            "type": "AUTHORIZATION_AND_CAPTURE",
            "paymentMethod": network,
            "paymentCountry": "CO",
            "ipAddress": request.payer.ip,
        }
    )


def _card(request: ChargeRequest, account: PayuAccount) -> dict[str, Any] | None:
    """What PayU wants beside a token: the card's last month, and that there is no security code."""
    card: dict[str, Any] = {}
    if request.exp_month is not None and request.exp_year is not None:
        card["expirationDate"] = f"{request.exp_year:04}/{request.exp_month:02}"
    if account.charges_without_cvv:
        card["processWithoutCvv2"] = True
    return card or None


def decline_of(failure: str | None) -> str:
    """A response code of PayU's in our words; one that is not in the table keeps its own."""
    return DECLINES.get(failure or "", failure or "generic_decline")
