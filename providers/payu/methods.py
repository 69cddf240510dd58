"""What a payer can choose at PayU in Colombia, with PayU's names and limits (major units of COP)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

from providers.base import Method
from providers.payu.amounts import CURRENCY

MAX_CASH_LIFETIME = timedelta(days=7)
"""Default and maximum of a cash code; PayU replaces a later moment by its default."""

_WHO = ("name", "email", "document_type", "document")


def _cash(name: str, minimum: int | None = None, maximum: int | None = None) -> Method:
    return Method(
        name,
        kind="cash",
        currency=CURRENCY,
        minimum=None if minimum is None else Decimal(minimum),
        maximum=None if maximum is None else Decimal(maximum),
        payer_fields=("name", "email", "document_type", "document", "phone", "ip"),
        refundable=False,  # PayU refunds cards
        max_lifetime=MAX_CASH_LIFETIME,
    )


CARD = Method("card", kind="card", currency=CURRENCY, payer_fields=(*_WHO, "phone"))
"""PayU's own page (WebCheckout): card numbers never come here."""
PSE = Method(
    "pse",
    kind="bank",
    currency=CURRENCY,
    fields=("financial_institution_code", "user_type"),
    payer_fields=(*_WHO, "ip", "phone"),
    refundable=False,
)
METHODS = (
    CARD,
    PSE,
    _cash("efecty", 20_000, 6_000_000),
    _cash("baloto", 3_000, 1_000_000),
    _cash("bank_referenced"),
    _cash("others_cash", 1_000, 4_000_000),
)

FEWER_PAYER_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"card": (), "bank": (*_WHO, "ip"), "cash": ("name", "email")}
)
"""By kind, what PayU is known to need; what it marks as mandatory beyond that is UNCONFIRMED to be enforced."""
NAME_AT_PAYU: Mapping[str, str] = MappingProxyType(
    {
        "pse": "PSE",
        "efecty": "EFECTY",
        "baloto": "BALOTO",
        "bank_referenced": "BANK_REFERENCED",
        "others_cash": "OTHERS_CASH",
    }
)
NETWORKS: Mapping[str, str] = MappingProxyType(
    {"efecty": "Efecty", "baloto": "Baloto", "bank_referenced": "Bank", "others_cash": "Su Red"}
)
"""What the payer calls the counter."""
_OURS = MappingProxyType({theirs: ours for ours, theirs in NAME_AT_PAYU.items()})
CARD_BRANDS = frozenset({"VISA", "MASTERCARD", "AMEX", "DINERS", "CODENSA", "VISA_DEBIT", "MASTERCARD_DEBIT"})


def method_named(payment_method: str | None) -> str | None:
    """Our name of a payment method in PayU's answers; a method that we do not know keeps its name in small letters."""
    if payment_method is None:
        return None
    if payment_method in CARD_BRANDS:
        return CARD.name
    return _OURS.get(payment_method, payment_method.lower())
