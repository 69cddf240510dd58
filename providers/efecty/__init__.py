"""Efecty by an agreement (convenio) of one's own: a cash network in Colombia that is told nothing and tells us."""

from providers.efecty.adapter import EfectyProvider
from providers.efecty.notifications import WEBHOOK_TOOLS, explain_signature, sign_webhook

__all__ = ["WEBHOOK_TOOLS", "EfectyProvider", "explain_signature", "sign_webhook"]
