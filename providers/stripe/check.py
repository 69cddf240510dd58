"""The connection test: whose account it is, what a restricted key may not, and how the endpoint sends events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from operator import attrgetter
from typing import Any
from uuid import UUID

import stripe

from providers.base import AccountCheck, NothingMoved, ProviderError, ProviderMisconfigured
from providers.stripe.endpoints import endpoint_differences
from providers.stripe.objects import JsonObject, items_of, text
from providers.stripe.permissions import PERMISSIONS, WITHOUT_LIST, Permission

AT_ONCE = 5
"""Probes side by side; a test account may be asked 25 times a second."""


class StripeCheck:
    """The connection test of one account. `call` sends a request and turns failures into ProviderError."""

    def __init__(self, client: stripe.StripeClient, call: Callable[[Awaitable[Any]], Awaitable[JsonObject]]) -> None:
        self._v1 = client.v1
        self._call = call

    async def run(self, account_id: UUID, *, live: bool, restricted: bool, follows: bool) -> AccountCheck:
        """The account's own name, whether it can take money, and what differs from what is expected.

        `restricted`: its key may not do everything, so each permission is tried. `follows`: it has the option
        `follow_subscriptions`.
        """
        account = await self._call(self._v1.accounts.retrieve_current_async())
        profile = account.get("business_profile")
        name = text(profile, "name") if isinstance(profile, Mapping) else None
        own_id = text(account, "id")
        detail = "can take payments" if account.get("charges_enabled") else "cannot take payments yet"
        return AccountCheck(
            name or own_id or "stripe",
            live=live,
            detail=detail if own_id is None else f"{own_id} {detail}",
            differences=(
                *(await self._missing_permissions(follows=follows) if restricted else ()),
                *await self._endpoint_differences(account_id, follows=follows),
            ),
        )

    async def _endpoint_differences(self, account_id: UUID, *, follows: bool) -> tuple[str, ...]:
        """What this account's webhook endpoint does otherwise than expected, where the key may read endpoints."""
        try:
            found = await self._call(self._v1.webhook_endpoints.list_async({"limit": 100}))
        except NothingMoved as refused:
            return (f"the webhook endpoints could not be read ({refused.code}); compare version and events by hand",)
        return endpoint_differences(items_of(found), account_id, stripe.api_version, follows=follows)

    async def _missing_permissions(self, *, follows: bool) -> tuple[str, ...]:
        """What the key may not read; whether it may write cannot be tried without doing it, and is said once."""
        gate = asyncio.Semaphore(AT_ONCE)
        wanted = [one for one in PERMISSIONS if follows or one.only_for != "follow_subscriptions"]

        async def tried(one: Permission) -> str | None:
            async with gate:
                return await self._refused(one)

        found = [said for said in await asyncio.gather(*(tried(one) for one in wanted)) if said is not None]
        write = ", ".join(one.resource for one in wanted if one.level == "write")
        return (*found, f"the key is restricted: that it may write was not tried ({write})")

    async def _refused(self, one: Permission) -> str | None:
        service = attrgetter(one.reads)(self._v1)
        nobody = WITHOUT_LIST.get(one.reads)
        if one.reads == "accounts":
            return None  # read above
        try:
            await self._call(service.list_async({"limit": 1}) if nobody is None else service.retrieve_async(nobody))
        except ProviderMisconfigured as refused:
            unless = "" if one.only_for is None else f", which `{one.only_for}` needs"
            return f"the key may not read {one.resource}{unless} ({refused.code}); it needs {one.level}: {one.why}"
        except ProviderError:
            return None  # allowed, or not known
        return None
