"""The Wompi (Colombia) adapter."""

from providers.wompi.adapter import WompiProvider
from providers.wompi.webhooks import WEBHOOK_TOOLS

__all__ = ["WEBHOOK_TOOLS", "WompiProvider"]
