"""The account of the demonstration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from providers.demo_account import DemoAccount


def credentials(_: Mapping[str, str]) -> dict[str, str]:
    """Of an account that the sandbox knows."""
    merchant = secrets.token_hex(12)  # the sandbox knows a merchant's secrets when all four end alike
    return {
        "public_key": f"pub_test_{merchant}",
        "private_key": f"prv_test_{merchant}",
        "integrity_secret": f"test_integrity_{merchant}",
        "events_secret": f"test_events_{merchant}",
    }


DEMO = DemoAccount(
    "COP",
    credentials,
    lambda sandbox: {"api_base": f"{sandbox}/wompi/v1", "checkout_base": f"{sandbox}/wompi/checkout"},
    ("public_key", "events_secret"),
)
