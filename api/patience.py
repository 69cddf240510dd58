"""How long a caller is kept waiting for a provider: not at all while that provider is asked nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from uuid import UUID

from api.context import Services
from domain.payment import Checkout
from storage import provider_health

SOON = timedelta(seconds=2)
"""A provider that is well has answered by then; only afterwards is it worth asking how it is."""


async def waited(
    services: Services, accounts: Sequence[UUID], ask: Callable[[timedelta], Awaitable[Checkout | None]]
) -> Checkout | None:
    """What the workflow answers within the caller's patience; `ask` waits as long as it is told, again and again."""
    patience = timedelta(seconds=services.limits.checkout_wait_seconds)
    checkout = await ask(min(SOON, patience))
    if checkout is not None or patience <= SOON or await back_in(services, accounts) is not None:
        return checkout
    return await ask(patience - SOON)


async def back_in(services: Services, accounts: Sequence[UUID]) -> int | None:
    """Seconds until one of the accounts is asked again, if the circuits of all of them are open."""
    async with services.database.statement() as session:
        moment = await provider_health.back_at(session, accounts)
    return None if moment is None else max(1, round((moment - services.now()).total_seconds()))


async def come_back(services: Services, accounts: Sequence[UUID]) -> dict[str, str]:
    """The header of a 202 that says when to read again, where that is known."""
    seconds = await back_in(services, accounts)
    return {} if seconds is None else {"retry-after": str(seconds)}
