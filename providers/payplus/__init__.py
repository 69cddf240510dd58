"""The PayPlus adapter (Israel): hosted payment pages, classic REST API v1.0 with amounts in major units."""

from providers.base import ProviderClass
from providers.payplus.adapter import PayPlusProvider
from providers.payplus.demo import DEMO
from providers.payplus.webhooks import WEBHOOK_TOOLS, explain_signature, sign_webhook

PROVIDER: ProviderClass = PayPlusProvider

__all__ = ["DEMO", "PROVIDER", "WEBHOOK_TOOLS", "PayPlusProvider", "explain_signature", "sign_webhook"]
