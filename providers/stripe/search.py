"""Find what an earlier try created, by our own reference.

Lists by time of creation come first: they are consistent at once, while Stripe's search lags by up to a minute (in
outages an hour) and does not exist for every country. Search covers what was created far from the expected moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import stripe

from providers.base import ProviderRejected
from providers.stripe.objects import JsonObject, carries, items_of, reference, text

PAGE_SIZE = 100
MAX_PAGES = 20
"""Pages read in one window of time: 2,000 objects. A busier account is left to the search."""
_WINDOWS = (
    (timedelta(minutes=-5), timedelta(minutes=15)),
    (timedelta(minutes=15), timedelta(hours=2)),
)
"""Distances from the payment's creation, in the order in which they are read."""

_SESSION = ["data.payment_intent.latest_charge.refunds"]
_INTENT = ["data.latest_charge.refunds"]

Call = Callable[[Awaitable[Any]], Awaitable[JsonObject]]
ListCall = Callable[[Any], Awaitable[Any]]


class StripeSearch:
    """Look-ups on one account. `call` sends a request and turns failures into ProviderError."""

    def __init__(self, client: stripe.StripeClient, call: Call) -> None:
        self._v1 = client.v1
        self._call = call

    async def session(self, payment_id: str, created_at: datetime) -> JsonObject | None:
        """The checkout session made for this payment, expanded as for `look`; None when there is none to be seen."""
        sessions = self._v1.checkout.sessions.list_async
        found = await self._listed(sessions, _SESSION, payment_id, created_at)
        if found is not None:
            return found
        return await self._session_of_intent(await self._searched(payment_id))

    async def listed_session(self, reference: str, created_at: datetime, expand: list[str]) -> JsonObject | None:
        """The session of a reference among those of its time; for sessions that have no payment to search by."""
        return await self._listed(self._v1.checkout.sessions.list_async, expand, reference, created_at)

    async def intent(self, payment_id: str, created_at: datetime) -> JsonObject | None:
        """The payment intent made for this payment, expanded as for `look`; None when there is none to be seen."""
        found = await self._listed(self._v1.payment_intents.list_async, _INTENT, payment_id, created_at)
        return found if found is not None else await self._searched(payment_id)

    async def link(self, payment_id: str) -> str | None:
        """The id of the payment link made for this payment; None when there is none to be seen.

        Links have no time of creation, so the newest are read, up to MAX_PAGES; an older one that was paid is found
        through its payment.
        """
        async for link in self._pages(self._v1.payment_links.list_async, {}):
            if carries(link, payment_id):
                return text(link, "id")
        session = await self._session_of_intent(await self._searched(payment_id))
        return None if session is None else reference(session, "payment_link")

    async def sessions_of_link(self, link_id: str, status: str) -> list[JsonObject]:
        """The sessions of a link that are `open` or `complete`, newest first, expanded as for `look`."""
        params = {"payment_link": link_id, "status": status, "expand": _SESSION}
        return [session async for session in self._pages(self._v1.checkout.sessions.list_async, params)]

    async def refund(self, transaction_id: str, refund_id: str) -> JsonObject | None:
        """The refund of this payment that carries our refund id."""
        for refund in await self.refunds(transaction_id):
            metadata = refund.get("metadata")
            if isinstance(metadata, Mapping) and metadata.get("refund_id") == refund_id:
                return refund
        return None

    async def refunds(self, transaction_id: str) -> list[JsonObject]:
        """Every refund of this payment, newest first."""
        of_payment = {"charge" if transaction_id.startswith("ch_") else "payment_intent": transaction_id}
        return [refund async for refund in self._pages(self._v1.refunds.list_async, of_payment)]

    async def disputes(self, transaction_id: str) -> list[JsonObject]:
        """Every dispute of this payment."""
        of_payment = {"charge" if transaction_id.startswith("ch_") else "payment_intent": transaction_id}
        return [dispute async for dispute in self._pages(self._v1.disputes.list_async, of_payment)]

    async def fraud_warnings(self, transaction_id: str) -> list[JsonObject]:
        """Every early fraud warning about this payment."""
        warnings = self._v1.radar.early_fraud_warnings.list_async
        of_payment = {"charge" if transaction_id.startswith("ch_") else "payment_intent": transaction_id}
        return [warning async for warning in self._pages(warnings, of_payment)]

    async def _session_of_intent(self, intent: JsonObject | None) -> JsonObject | None:
        intent_id = text(intent, "id") if intent is not None else None
        if intent_id is None:
            return None
        sessions = self._v1.checkout.sessions.list_async
        async for session in self._pages(sessions, {"payment_intent": intent_id, "expand": _SESSION}):
            return session
        return None

    async def _listed(
        self,
        list_call: ListCall,
        expand: list[str],
        payment_id: str,
        created_at: datetime,
    ) -> JsonObject | None:
        for earliest, latest in _WINDOWS:
            created = {
                "gte": int((created_at + earliest).timestamp()),
                "lte": int((created_at + latest).timestamp()),
            }
            async for item in self._pages(list_call, {"created": created, "expand": expand}):
                if carries(item, payment_id):
                    return item
        return None

    async def _pages(self, list_call: ListCall, params: Mapping[str, Any]) -> AsyncIterator[JsonObject]:
        """Every object of a list, newest first, up to MAX_PAGES."""
        cursor: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await self._call(list_call({**params, "limit": PAGE_SIZE, **cursor}))
            items = items_of(page)
            for item in items:
                yield item
            last_id = text(items[-1], "id") if items else None
            if not page.get("has_more") or last_id is None:
                return
            cursor = {"starting_after": last_id}

    async def _searched(self, payment_id: str) -> JsonObject | None:
        found = self._v1.payment_intents.search_async(
            {"query": f"metadata['payment_id']:'{payment_id}'", "limit": 10, "expand": _INTENT}
        )
        try:
            items = items_of(await self._call(found))
        except ProviderRejected:  # an account without search: what the lists did not show is not known
            return None
        return next((item for item in items if carries(item, payment_id)), None)
