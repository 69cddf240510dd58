"""The demonstration's workspaces, and how an account of each provider reaches the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from providers.demo_account import DemoAccount
from providers.registry import PACKAGES

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
    """One provider of the demonstration: its workspace, and the account there."""

    workspace: str
    account: DemoAccount


_WORKSPACE_OF = {str(values["currency"]): name for name, values in WORKSPACES.items()}
PLACES: Mapping[str, Place] = MappingProxyType(
    {name: Place(_WORKSPACE_OF[package.DEMO.currency], package.DEMO) for name, package in PACKAGES.items()}
)
"""The first of a workspace is the one that its payments take when they name none."""
