"""The account of the demonstration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from providers.demo_account import DemoAccount


def credentials(_: Mapping[str, str]) -> dict[str, str]:
    """Of an account that the sandbox knows."""
    return {"agreement": str(100_000 + secrets.randbelow(900_000)), "callback_secret": secrets.token_hex(16)}


DEMO = DemoAccount(
    "COP",
    credentials,
    lambda sandbox: {
        "live": False,
        "voucher_url": f"{sandbox}/efecty?agreement={{agreement}}&code={{code}}&amount={{amount}}&expires={{expires}}",
    },
    ("agreement", "callback_secret"),
)
