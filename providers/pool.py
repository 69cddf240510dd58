"""Adapters of all accounts in use, built once and kept until the account changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from providers.base import AccountConfig, Provider
from providers.network import Network
from providers.registry import build_provider


class StoredAccount(Protocol):
    """What the pool reads of an account's row."""

    id: Any
    provider: Any
    credentials: Any
    options: Any
    updated_at: Any


class ProviderPool:
    """Finds or builds the adapter of an account. `unseal` opens its encrypted credentials.

    The caller reads the account's row anyway; its `updated_at` tells whether the adapter is still right.
    """

    def __init__(
        self,
        unseal: Callable[[bytes], Mapping[str, str]],
        *,
        timeout_seconds: float,
        webhook_tolerance_seconds: int = 300,
        webhook_future_tolerance_seconds: int = 60,
        network: Network | None = None,
    ) -> None:
        self._unseal = unseal
        self._timeout_seconds = timeout_seconds
        self._tolerance = (webhook_tolerance_seconds, webhook_future_tolerance_seconds)
        self._network = network or Network()
        self._built: dict[UUID, tuple[datetime, Provider]] = {}
        self._replaced: list[Provider] = []

    def of(self, account: StoredAccount) -> Provider:
        """The adapter of this account as it is now. Raises UnknownProvider, SealingError."""
        known = self._built.get(account.id)
        if known is not None and known[0] == account.updated_at:
            return known[1]
        past, future = self._tolerance
        provider = build_provider(
            account.provider,
            AccountConfig(
                account_id=account.id,
                credentials=self._unseal(account.credentials),
                options=account.options,
                timeout_seconds=self._timeout_seconds,
                webhook_tolerance_seconds=past,
                webhook_future_tolerance_seconds=future,
                network=self._network,
            ),
        )
        if known is not None:
            self._replaced.append(known[1])  # calls may still be using it: closed with the pool
        self._built[account.id] = (account.updated_at, provider)
        return provider

    async def close(self) -> None:
        """Release all connections."""
        for provider in [*self._replaced, *(provider for _, provider in self._built.values())]:
            await provider.aclose()
        self._built.clear()
        self._replaced.clear()
