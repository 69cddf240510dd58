"""The demonstration's workspaces, and how an account of each provider reaches the sandbox."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

CLINIC, MARKETPLACE = "demo-clinic", "demo-marketplace"

WORKSPACES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        CLINIC: {
            "name": "Demo Clinic",
            "currency": "ILS",
            "country": "IL",
            "timezone": "Asia/Jerusalem",
            "language": "he",
            "dealer": "company",
            "legal_name": "Demo Clinic Ltd",
            "legal_name_he": "מרפאת הדגמה בע״מ",
            "business_number": "514000009",
            "address": "הרצל 12, חיפה",
            "vat_rate": Decimal("0.18"),
            "commission_rate": Decimal("0.10"),
            "commission_minimum": Decimal("1.00"),
        },
        MARKETPLACE: {
            "name": "Demo Marketplace",
            "currency": "COP",
            "country": "CO",
            "timezone": "America/Bogota",
            "language": "en",
            "dealer": "foreign",
            "legal_name": "Mercado Demo S.A.S.",
            "business_number": "901.234.567-8",
            "address": "Carrera 7 # 71-21, Bogotá",
            "vat_rate": Decimal("0.19"),
            "commission_rate": Decimal("0.10"),
            "commission_minimum": Decimal("1.00"),
        },
    }
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is bought in a workspace. Amounts are major units; `commission` is what the referrer earns on it."""

    amount: str
    description: str
    customer: Mapping[str, str]
    commission: str


ORDERS: Mapping[str, Order] = MappingProxyType(
    {
        CLINIC: Order(
            "129.90",
            "ייעוץ רפואי (30 דקות)",
            {"id": "cust-77", "name": "דנה לוי", "email": "dana@example.com", "phone": "0541234567"},
            "12.99",
        ),
        MARKETPLACE: Order(
            "119000.00",
            "Handmade hammock",
            {
                "id": "cust-77",
                "name": "Laura Gómez",
                "email": "laura@example.com",
                "phone": "3001234567",
                "document_type": "CC",
                "document": "1020304050",
            },
            "11900.00",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """One provider of the demonstration.

    `credentials` makes them, once (from the settings, where they are kept there); `options` follow from the sandbox's
    address. `callbacks` is for a provider whose callback address is registered beforehand: which credential names the
    account to it, and which one it signs with. The others are told the address with each payment.
    """

    workspace: str
    credentials: Callable[[Mapping[str, str]], dict[str, str]]
    options: Callable[[str], dict[str, Any]]
    callbacks: tuple[str, str] | None = None


def _stripe(env: Mapping[str, str]) -> dict[str, str]:
    return {"secret_key": env["DEMO_PROVIDER_KEY"], "webhook_secret": env["DEMO_WEBHOOK_SECRET"]}


def _payplus(_: Mapping[str, str]) -> dict[str, str]:
    return {
        "api_key": f"demo-{secrets.token_hex(8)}",
        "secret_key": secrets.token_hex(16),
        "payment_page_uid": f"page-{secrets.token_hex(8)}",
    }


def _meshulam(_: Mapping[str, str]) -> dict[str, str]:
    page_code = secrets.token_hex(6)
    return {
        "user_id": f"business-{secrets.token_hex(6)}",
        "page_code": page_code,
        "page_code_bit": f"{page_code}bit",
        "callback_token": secrets.token_urlsafe(32),
    }


def _payu(_: Mapping[str, str]) -> dict[str, str]:
    merchant_id = str(100_000_000 + secrets.randbelow(900_000_000))
    return {
        "api_key": f"sandbox-key-{merchant_id}",  # the key by which the sandbox knows this merchant
        "api_login": secrets.token_hex(8),
        "merchant_id": merchant_id,
        "account_id": "512321",
    }


def _wompi(_: Mapping[str, str]) -> dict[str, str]:
    merchant = secrets.token_hex(12)  # the sandbox knows a merchant's secrets when all four end alike
    return {
        "public_key": f"pub_test_{merchant}",
        "private_key": f"prv_test_{merchant}",
        "integrity_secret": f"test_integrity_{merchant}",
        "events_secret": f"test_events_{merchant}",
    }


def _efecty(_: Mapping[str, str]) -> dict[str, str]:
    return {"agreement": str(100_000 + secrets.randbelow(900_000)), "callback_secret": secrets.token_hex(16)}


PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "stripe": Place(CLINIC, _stripe, lambda sandbox: {"api_base": sandbox}, ("secret_key", "webhook_secret")),
        "payplus": Place(
            CLINIC,
            _payplus,
            lambda sandbox: {"api_base": f"{sandbox}/payplus/api/v1.0", "terminal_uid": "t-1", "cashier_uid": "k-1"},
        ),
        "meshulam": Place(CLINIC, _meshulam, lambda sandbox: {"api_base": f"{sandbox}/meshulam"}),
        "payu": Place(MARKETPLACE, _payu, lambda sandbox: {"api_base": sandbox}),
        "wompi": Place(
            MARKETPLACE,
            _wompi,
            lambda sandbox: {"api_base": f"{sandbox}/wompi/v1", "checkout_base": f"{sandbox}/wompi/checkout"},
            ("public_key", "events_secret"),
        ),
        "efecty": Place(
            MARKETPLACE,
            _efecty,
            lambda sandbox: {
                "live": False,
                "voucher_url": f"{sandbox}/efecty?agreement={{agreement}}&code={{code}}&amount={{amount}}"
                "&expires={expires}",
            },
            ("agreement", "callback_secret"),
        ),
    }
)
"""The first of a workspace is the one that its payments take when they name none."""
