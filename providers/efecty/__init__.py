"""Efecty by an agreement (convenio) of one's own: a cash network in Colombia that is told nothing and tells us."""

from providers.base import ProviderClass
from providers.efecty.adapter import EfectyProvider
from providers.efecty.demo import DEMO
from providers.efecty.notifications import WEBHOOK_TOOLS, explain_signature, sign_webhook

PROVIDER: ProviderClass = EfectyProvider

__all__ = ["DEMO", "PROVIDER", "WEBHOOK_TOOLS", "EfectyProvider", "explain_signature", "sign_webhook"]
