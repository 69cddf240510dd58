"""The account of the demonstration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from providers.demo_account import DemoAccount


def credentials(_: Mapping[str, str]) -> dict[str, str]:
    """Of an account that the sandbox knows."""
    merchant_id = str(100_000_000 + secrets.randbelow(900_000_000))
    return {
        "api_key": f"sandbox-key-{merchant_id}",  # the key by which the sandbox knows this merchant
        "api_login": secrets.token_hex(8),
        "merchant_id": merchant_id,
        "account_id": "512321",
    }


DEMO = DemoAccount("COP", credentials, lambda sandbox: {"api_base": sandbox})
