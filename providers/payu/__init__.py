"""The adapter of PayU Latam, for accounts in Colombia."""

from providers.payu.adapter import PayuProvider
from providers.payu.signatures import WEBHOOK_TOOLS, explain_signature

__all__ = ["WEBHOOK_TOOLS", "PayuProvider", "explain_signature"]
