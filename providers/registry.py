"""Which providers there are: one line each. Everything else about a provider is read from its class."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from providers.base import AccountConfig, Capabilities, Provider
from providers.efecty import WEBHOOK_TOOLS as EFECTY_WEBHOOKS
from providers.efecty import EfectyProvider
from providers.meshulam import WEBHOOK_TOOLS as MESHULAM_WEBHOOKS
from providers.meshulam import MeshulamProvider
from providers.payplus import WEBHOOK_TOOLS as PAYPLUS_WEBHOOKS
from providers.payplus import PayPlusProvider
from providers.payu import WEBHOOK_TOOLS as PAYU_WEBHOOKS
from providers.payu import PayuProvider
from providers.stripe import WEBHOOK_TOOLS as STRIPE_WEBHOOKS
from providers.stripe import StripeProvider
from providers.webhook_signatures import WebhookTools
from providers.wompi import WEBHOOK_TOOLS as WOMPI_WEBHOOKS
from providers.wompi import WompiProvider


class UnknownProvider(LookupError):
    """No provider of this name."""


class ProviderClass(Protocol):
    """What a provider's class offers before an account exists."""

    @property
    def capabilities(self) -> Capabilities:
        """The capability sheet."""
        ...

    @property
    def required_credentials(self) -> tuple[str, ...]:
        """Keys that `AccountConfig.credentials` must hold."""
        ...

    def __call__(self, config: AccountConfig) -> Provider:
        """Build the adapter of one account. Raises ProviderMisconfigured when a credential is missing."""
        ...


PROVIDERS: Mapping[str, ProviderClass] = MappingProxyType(
    {
        "efecty": EfectyProvider,
        "meshulam": MeshulamProvider,
        "payplus": PayPlusProvider,
        "payu": PayuProvider,
        "stripe": StripeProvider,
        "wompi": WompiProvider,
    }
)
WEBHOOK_TOOLS: Mapping[str, WebhookTools] = MappingProxyType(
    {
        "efecty": EFECTY_WEBHOOKS,
        "meshulam": MESHULAM_WEBHOOKS,
        "payplus": PAYPLUS_WEBHOOKS,
        "payu": PAYU_WEBHOOKS,
        "stripe": STRIPE_WEBHOOKS,
        "wompi": WOMPI_WEBHOOKS,
    }
)


def build_provider(name: str, config: AccountConfig) -> Provider:
    """The adapter of one account. Raises UnknownProvider, or ProviderMisconfigured when a credential is missing."""
    return _provider(name)(config)


def capabilities_of(name: str) -> Capabilities:
    """A provider's capability sheet. Raises UnknownProvider."""
    return _provider(name).capabilities


def required_credentials(name: str) -> tuple[str, ...]:
    """The credential keys that an account at this provider needs. Raises UnknownProvider."""
    return _provider(name).required_credentials


def webhook_tools(name: str) -> WebhookTools:
    """A provider's tools to sign and check callbacks by hand. Raises UnknownProvider."""
    try:
        return WEBHOOK_TOOLS[name]
    except KeyError:
        raise UnknownProvider(
            f"no webhook tools for {name[:40]!r}; known: {', '.join(sorted(WEBHOOK_TOOLS))}"
        ) from None


def _provider(name: str) -> ProviderClass:
    try:
        return PROVIDERS[name]
    except KeyError:
        raise UnknownProvider(f"no provider {name[:40]!r}; known: {', '.join(sorted(PROVIDERS))}") from None
