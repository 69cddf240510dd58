"""The Wompi (Colombia) adapter."""

from providers.base import ProviderClass
from providers.wompi.adapter import WompiProvider
from providers.wompi.demo import DEMO
from providers.wompi.webhooks import WEBHOOK_TOOLS

PROVIDER: ProviderClass = WompiProvider

__all__ = ["DEMO", "PROVIDER", "WEBHOOK_TOOLS", "WompiProvider"]
