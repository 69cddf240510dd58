"""Which providers there are: one line each. Everything else is in the provider's folder, under fixed names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from providers.base import AccountConfig, Capabilities, Provider, ProviderClass
from providers.demo_account import DemoAccount
from providers.webhook_signatures import WebhookTools

NAMES = (
    "stripe",
    "payplus",
    "meshulam",
    "payu",
    "wompi",
    "efecty",
)
"""The folders. `make up` connects an account of each in this order; payments that name no provider take the first."""


class UnknownProvider(LookupError):
    """No provider of this name."""


class ProviderPackage(Protocol):
    """What a provider's folder exports."""

    PROVIDER: ProviderClass
    WEBHOOK_TOOLS: WebhookTools
    DEMO: DemoAccount


PACKAGES: Mapping[str, ProviderPackage] = MappingProxyType(
    {name: cast("ProviderPackage", import_module(f"providers.{name}")) for name in NAMES}
)
PROVIDERS: Mapping[str, ProviderClass] = MappingProxyType({name: one.PROVIDER for name, one in PACKAGES.items()})
WEBHOOK_TOOLS: Mapping[str, WebhookTools] = MappingProxyType(
    {name: one.WEBHOOK_TOOLS for name, one in PACKAGES.items()}
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
