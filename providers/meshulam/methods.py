"""How a payer can pay at Grow; each way has a page of its own."""

from __future__ import annotations

from decimal import Decimal

from providers.base import Method
from providers.meshulam.amounts import CURRENCY

PAYER_FIELDS = ("name", "phone")
"""What Grow insists on, on its pages and for a charge of a saved card: two names, and an Israeli mobile number."""
BIT_MAXIMUM = Decimal(3600)

METHODS = (
    Method("card", currency=CURRENCY, payer_fields=PAYER_FIELDS),
    Method("bit", "wallet", CURRENCY, maximum=BIT_MAXIMUM, payer_fields=PAYER_FIELDS),
    Method("paybox", "wallet", CURRENCY, payer_fields=PAYER_FIELDS),
    Method("apple_pay", "wallet", CURRENCY, payer_fields=PAYER_FIELDS),
    Method("google_pay", "wallet", CURRENCY, payer_fields=PAYER_FIELDS),
    Method("bank_transfer", "bank", CURRENCY, payer_fields=PAYER_FIELDS),
)
