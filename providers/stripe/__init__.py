"""The Stripe adapter. Inside this package `import stripe` is the client library: imports are absolute."""

from providers.base import ProviderClass
from providers.stripe.adapter import StripeProvider
from providers.stripe.demo import DEMO
from providers.stripe.webhooks import WEBHOOK_TOOLS, explain_signature, sign_webhook

PROVIDER: ProviderClass = StripeProvider

__all__ = ["DEMO", "PROVIDER", "WEBHOOK_TOOLS", "StripeProvider", "explain_signature", "sign_webhook"]
