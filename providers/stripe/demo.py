"""The account of the demonstration."""

from __future__ import annotations

from collections.abc import Mapping

from providers.demo_account import DemoAccount


def credentials(env: Mapping[str, str]) -> dict[str, str]:
    """Of an account that the sandbox knows."""
    return {"secret_key": env["DEMO_PROVIDER_KEY"], "webhook_secret": env["DEMO_WEBHOOK_SECRET"]}


DEMO = DemoAccount("ILS", credentials, lambda sandbox: {"api_base": sandbox}, ("secret_key", "webhook_secret"))
