"""The PayPlus adapter (Israel): hosted payment pages, classic REST API v1.0 with amounts in major units."""

from providers.payplus.adapter import PayPlusProvider
from providers.payplus.webhooks import WEBHOOK_TOOLS, explain_signature, sign_webhook

__all__ = ["WEBHOOK_TOOLS", "PayPlusProvider", "explain_signature", "sign_webhook"]
