"""The account of the demonstration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from providers.demo_account import DemoAccount


def credentials(_: Mapping[str, str]) -> dict[str, str]:
    """Of an account that the sandbox knows."""
    page_code = secrets.token_hex(6)
    return {
        "user_id": f"business-{secrets.token_hex(6)}",
        "page_code": page_code,
        "page_code_bit": f"{page_code}bit",
        "callback_token": secrets.token_urlsafe(32),
    }


DEMO = DemoAccount("ILS", credentials, lambda sandbox: {"api_base": f"{sandbox}/meshulam"})
