"""Payment links: an address that stays good until it is paid or closed, each visit of it a session of its own.

A link has no expiry at Stripe; it is closed by us. A session that was opened before lives on for up to 24 hours, so
closing a link closes its sessions as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import stripe

from domain.payment import PaymentStatus
from providers.base import (
    CheckoutRef,
    CheckoutRequest,
    Method,
    OpenedCheckout,
    OutcomeUnknown,
    ProviderError,
    ProviderPayment,
    ProviderRejected,
)
from providers.stripe.errors import NOT_FOUND, acted
from providers.stripe.objects import JsonObject, payment_of_link, text
from providers.stripe.requests import link_params
from providers.stripe.search import StripeSearch

LINK: Final = Method("link", "link", max_lifetime=timedelta(days=30))
"""For hosted checkouts whose address must live longer than a session's 24 hours. The limit is ours: Stripe has none."""

_PREFIX = "plink_"
_UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)


def is_link(ref: CheckoutRef) -> bool:
    """Whether an attempt was, or would have been, made as a payment link."""
    return ref.method == LINK.name if ref.session_id is None else ref.session_id.startswith(_PREFIX)


class StripeLinks:
    """The link operations of one account. `call` sends a request and turns failures into ProviderError."""

    def __init__(self, client: stripe.StripeClient, call: Callable[[Awaitable[Any]], Awaitable[JsonObject]]) -> None:
        self._links = client.v1.payment_links
        self._sessions = client.v1.checkout.sessions
        self._search = StripeSearch(client, call)
        self._call = call

    async def open(self, request: CheckoutRequest, *, key_trusted: bool) -> OpenedCheckout:
        """Create the link under the key `link-{reference}`, or find again the one that an earlier try created.

        Price and product are made inside the same request, so there is one object and one key. Where the key cannot be
        trusted (`key_trusted`, a stored failure, other parameters) our reference is looked up.
        """
        params = link_params(request)
        if not key_trusted:
            found = await self._search.link(str(request.reference))
            if found is not None:
                return _opened(await self._call(self._links.retrieve_async(found)))
        options: stripe.RequestOptions = {"idempotency_key": f"link-{request.reference}"}
        try:
            return _opened(await self._call(self._links.create_async(params, options)))
        except ProviderError as error:
            found = await self._search.link(str(request.reference)) if acted(error) else None
            if found is None:
                raise
            return _opened(await self._call(self._links.retrieve_async(found)))

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What the link's sessions took, or whether they still may. UNKNOWN when Stripe does not know the link."""
        link_id = ref.session_id or await self._search.link(str(ref.reference))
        return _UNKNOWN if link_id is None else await self._look(link_id)

    async def close(self, ref: CheckoutRef) -> ProviderPayment:
        """Close the link, then every session that was opened from it; a repeat is harmless. The state after it."""
        link_id = ref.session_id or await self._search.link(str(ref.reference))
        if link_id is None:
            return _UNKNOWN
        try:
            await self._call(self._links.update_async(link_id, {"active": False}))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return _UNKNOWN  # any other refusal leaves it open, and the look says so
        for session in await self._search.sessions_of_link(link_id, "open"):
            await self._expire(session)
        return await self._look(link_id)

    async def _look(self, link_id: str) -> ProviderPayment:
        """The order matters: a session that is paid between two of these calls is seen in the last one."""
        try:
            link = await self._call(self._links.retrieve_async(link_id))
            open_ones = await self._search.sessions_of_link(link_id, "open")
            complete = await self._search.sessions_of_link(link_id, "complete")
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return _UNKNOWN
            raise
        return payment_of_link(link, open_ones, complete)

    async def _expire(self, session: JsonObject) -> None:
        session_id = text(session, "id")
        if session_id is None:
            raise OutcomeUnknown("unreadable_answer", "session without id")
        try:
            await self._call(self._sessions.expire_async(session_id))
        except ProviderRejected:  # paid or expired meanwhile: the look that follows says which
            return


def _opened(link: JsonObject) -> OpenedCheckout:
    link_id = text(link, "id")
    if link_id is None:
        raise OutcomeUnknown("unreadable_answer", "payment link without id")
    return OpenedCheckout(link_id, text(link, "url"))
