"""Which providers there are: one line each. Everything else is in the provider's folder, under fixed names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Protocol, TypeVar, cast

from providers.base import AccountConfig, Capabilities, Provider, ProviderClass
from providers.demo_account import DemoAccount
from providers.webhook_signatures import WebhookTools

Part = TypeVar("Part")

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


class _Imported(Mapping[str, Part]):
    """Something of every folder by provider, in the order of NAMES; a folder is imported when it is first asked for."""

    def __init__(self, pick: Callable[[ProviderPackage], Part]) -> None:
        self._pick = pick

    def __getitem__(self, name: str) -> Part:
        if name not in NAMES:
            raise KeyError(name)
        return self._pick(cast("ProviderPackage", import_module(f"providers.{name}")))

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)

    def __contains__(self, name: object) -> bool:
        return name in NAMES


PACKAGES: Mapping[str, ProviderPackage] = _Imported(lambda package: package)
PROVIDERS: Mapping[str, ProviderClass] = _Imported(lambda package: package.PROVIDER)
WEBHOOK_TOOLS: Mapping[str, WebhookTools] = _Imported(lambda package: package.WEBHOOK_TOOLS)


def load_all() -> None:
    """Import every folder now: for servers, which must not stop for an import at their first payment."""
    for _ in PACKAGES.values():
        pass


def build_provider(name: str, config: AccountConfig) -> Provider:
    """The adapter of one account. Raises UnknownProvider, or ProviderMisconfigured when a credential is missing."""
    return _provider(name)(config)


def capabilities_of(name: str) -> Capabilities:
    """A provider's capability sheet. Raises UnknownProvider."""
    return _provider(name).capabilities


def required_credentials(name: str) -> tuple[str, ...]:
    """The credential keys that an account at this provider needs. Raises UnknownProvider."""
    return _provider(name).required_credentials


def known_options(name: str) -> frozenset[str]:
    """The option keys that an account at this provider may have. Raises UnknownProvider."""
    return _provider(name).options


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
