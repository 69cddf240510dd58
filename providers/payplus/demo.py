"""The account of the demonstration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from providers.demo_account import DemoAccount


def credentials(_: Mapping[str, str]) -> dict[str, str]:
    """Of an account that the sandbox knows."""
    return {
        "api_key": f"demo-{secrets.token_hex(8)}",
        "secret_key": secrets.token_hex(16),
        "payment_page_uid": f"page-{secrets.token_hex(8)}",
    }


DEMO = DemoAccount(
    "ILS",
    credentials,
    lambda sandbox: {"api_base": f"{sandbox}/payplus/api/v1.0", "terminal_uid": "t-1", "cashier_uid": "k-1"},
)
