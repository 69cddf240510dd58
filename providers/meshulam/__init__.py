"""The Meshulam (Grow) adapter, for the form interface `/api/light/server/1.0/`."""

from providers.meshulam.adapter import MeshulamProvider
from providers.meshulam.webhooks import WEBHOOK_TOOLS

__all__ = ["WEBHOOK_TOOLS", "MeshulamProvider"]
