"""The adapter of PayU Latam, for accounts in Colombia."""

from providers.base import ProviderClass
from providers.payu.adapter import PayuProvider
from providers.payu.demo import DEMO
from providers.payu.signatures import WEBHOOK_TOOLS, explain_signature

PROVIDER: ProviderClass = PayuProvider

__all__ = ["DEMO", "PROVIDER", "WEBHOOK_TOOLS", "PayuProvider", "explain_signature"]
