"""The provider's customer of a customer of ours: found on record, or made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from activities.guard import ProviderGuard
from domain.setup import customer_reference
from providers.base import CUSTOMER_GONE, KeepsCustomers, Payer, Provider, ProviderRejected
from storage import payment_methods
from storage.models import ProviderAccount, ProviderHealth
from storage.session import Database

Answer = TypeVar("Answer")


class ProviderCustomers:
    """Resolves customers before something is saved for them; where a provider has none there is nothing to resolve."""

    def __init__(self, database: Database, guard: ProviderGuard) -> None:
        self._database = database
        self._guard = guard

    async def using(
        self,
        account: ProviderAccount,
        health: ProviderHealth | None,
        customer_id: str | None,
        payer: Payer,
        ask: Callable[[str | None], Awaitable[Answer]],
    ) -> Answer:
        """Ask with the customer; should the provider have none like it any more, once again with a new one."""
        customer = await self.of(account, health, customer_id, payer)
        try:
            return await ask(customer)
        except ProviderRejected as rejected:
            if customer is None or customer_id is None or rejected.code != CUSTOMER_GONE:
                raise
        async with self._database.transaction() as session:
            await payment_methods.forget_customer(session, customer_reference(account.id, customer_id))
        return await ask(await self.of(account, health, customer_id, payer))

    async def of(
        self, account: ProviderAccount, health: ProviderHealth | None, customer_id: str | None, payer: Payer
    ) -> str | None:
        """The provider's id, the same from the first time on. Raises ProviderError subclasses."""
        if customer_id is None or not self._guard.provider(account).capabilities.customers:
            return None
        async with self._database.transaction() as session:
            known = await payment_methods.provider_customer(session, account.id, customer_id)
            reference = await payment_methods.reference_for_customer(session, account.id, customer_id)
        if known is not None:
            return known

        async def create(adapter: Provider) -> str:
            if not isinstance(adapter, KeepsCustomers):
                raise ProviderRejected("customers_not_supported")
            return await adapter.create_customer(reference, payer)

        made = await self._guard.call(account, health, create)
        async with self._database.transaction() as session:
            return await payment_methods.keep_customer(session, account, customer_id, made)
