"""The provider's customer of a customer of ours: found on record, or made."""

from __future__ import annotations

from activities.guard import ProviderGuard
from providers.base import KeepsCustomers, Payer, Provider, ProviderRejected
from storage import payment_methods
from storage.models import ProviderAccount, ProviderHealth
from storage.session import Database


class ProviderCustomers:
    """Resolves customers before something is saved for them; where a provider has none there is nothing to resolve."""

    def __init__(self, database: Database, guard: ProviderGuard) -> None:
        self._database = database
        self._guard = guard

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
