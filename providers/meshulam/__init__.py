"""The Meshulam (Grow) adapter, for the form interface `/api/light/server/1.0/`."""

from providers.base import ProviderClass
from providers.meshulam.adapter import MeshulamProvider
from providers.meshulam.demo import DEMO
from providers.meshulam.webhooks import WEBHOOK_TOOLS

PROVIDER: ProviderClass = MeshulamProvider

__all__ = ["DEMO", "PROVIDER", "WEBHOOK_TOOLS", "MeshulamProvider"]
