"""Asking a provider for a refund so that it is made once: refunds of payments and of surplus both go through here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from activities.guard import YOUNG, ProviderGuard, looking_back
from providers.base import (
    MadeRefund,
    OutcomeUndecided,
    Provider,
    ProviderBusy,
    ProviderRefund,
    RefundRequest,
    RefundStatus,
)
from storage import refunds
from storage.attempts import Way
from storage.session import Database

EARLIER = 3
"""How many refunds that were made an account shows, at most, before it is said that it shows none."""
BEING_ASKED = timedelta(seconds=20)
"""When another process that asks the provider at this moment will have its answer."""

Claim = Callable[[datetime | None, datetime | None], Awaitable[bool]]
"""Put on record when the provider was asked: the second moment, if the first still stands there. Whether it did."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is on record of earlier requests: the provider's id of the refund, and when it was last asked.

    `accepted`: the provider has taken it on, with or without an id, so that it is never asked for again.
    """

    known_as: str | None
    at: datetime | None
    accepted: bool = False


NEVER = Asked(None, None)


class RefundCalls:
    """The provider is asked between transactions; `now` is the activities' clock."""

    def __init__(self, guard: ProviderGuard, now: Callable[[], datetime]) -> None:
        self._guard = guard
        self._now = now

    async def make(self, way: Way, request: RefundRequest, asked: Asked, claim: Claim) -> ProviderRefund:
        """Have the refund made, or say what became of it where it was asked for before.

        Raises NothingMoved only for what the provider said to the request itself: then the refund was not made. A
        look that is refused (a revoked key) says nothing of the earlier request, and raises OutcomeUnknown. Raises
        OutcomeUndecided when the provider cannot tell and has had time to act.
        """
        request = replace(request, asked_at=asked.at)
        if asked != NEVER:
            found = await self._look(way, request, asked)
            if found is not None:
                return found
        at = self._now()

        async def ask(provider: Provider) -> ProviderRefund:
            if not await claim(asked.at, at):  # a provider without idempotency keys would refund twice
                raise ProviderBusy("refund_is_being_asked", retry_after=BEING_ASKED)
            try:
                return await provider.refund(request)
            except ProviderBusy:  # refused before it acted: there is nothing to look up
                await claim(at, asked.at)
                raise

        return await self._guard.call(way.account, way.health, ask)

    async def _look(self, way: Way, request: RefundRequest, asked: Asked) -> ProviderRefund | None:
        """What became of the earlier request; None when it may be made again."""
        young = asked.at is not None and self._now() - asked.at < YOUNG
        try:
            with looking_back():
                keys_live = self._guard.provider(way.account).capabilities.idempotency_key_lifetime
                found = await self._guard.call(way.account, way.health, looking(request, asked.known_as))
        except OutcomeUndecided:
            if young:
                raise ProviderBusy("refund_not_visible_yet", retry_after=YOUNG) from None
            raise
        if found is None and (asked.accepted or asked.known_as is not None):
            return ProviderRefund(asked.known_as, RefundStatus.PENDING)
        if found is None and young and keys_live is None:
            raise ProviderBusy("refund_not_visible_yet", retry_after=YOUNG)
        return found


async def with_earlier(database: Database, way: Way, request: RefundRequest, asked: Asked) -> RefundRequest:
    """The request with refunds that the account's provider has made, where an earlier try is looked up by them."""
    if asked == NEVER:
        return request
    async with database.statement() as session:
        made = await refunds.made_at(session, way.account.id, limit=EARLIER)
    return replace(request, earlier=[MadeRefund(*ids) for ids in made])


def looking(request: RefundRequest, known_as: str | None) -> Callable[[Provider], Awaitable[ProviderRefund | None]]:
    """The question what became of a refund."""

    async def look(provider: Provider) -> ProviderRefund | None:
        return await provider.look_refund(request, known_as)

    return look
