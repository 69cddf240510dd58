"""The Stripe adapter. Inside this package `import stripe` is the client library: imports are absolute."""

from providers.stripe.adapter import StripeProvider
from providers.stripe.webhooks import WEBHOOK_TOOLS, explain_signature, sign_webhook

__all__ = ["WEBHOOK_TOOLS", "StripeProvider", "explain_signature", "sign_webhook"]
