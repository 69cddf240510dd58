"""Radar's early fraud warnings and reviews of a payment, fetched anew at every event about one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import stripe

from domain.risk import RiskAlertKind
from providers.base import OutcomeUnknown, ProviderRejected, ProviderRiskAlert
from providers.stripe.errors import NOT_FOUND
from providers.stripe.objects import JsonObject, reference, text
from providers.stripe.search import StripeSearch

_REVIEW = "prv_"


class StripeRisk:
    """Look-ups on one account. `call` sends a request and turns failures into ProviderError."""

    def __init__(self, client: stripe.StripeClient, call: Callable[[Awaitable[Any]], Awaitable[JsonObject]]) -> None:
        self._v1 = client.v1
        self._call = call
        self._search = StripeSearch(client, call)

    async def alerts_of(self, transaction_id: str, named: Sequence[str]) -> list[ProviderRiskAlert]:
        """The warnings about a payment, which are listed by it, and the reviews that events have named."""
        warnings = await self._search.fraud_warnings(transaction_id)
        reviews = [await self._review(name) for name in named if name.startswith(_REVIEW)]
        of_payment = [one for one in reviews if transaction_id in (reference(one), reference(one, "charge"))]
        return [*map(alert_of_warning, warnings), *map(alert_of_review, of_payment)]

    async def _review(self, review_id: str) -> JsonObject:
        try:
            return await self._call(self._v1.reviews.retrieve_async(review_id))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return {}
            raise


def alert_of_warning(warning: JsonObject) -> ProviderRiskAlert:
    """A bank's report of fraud; it is never closed."""
    actionable = warning.get("actionable")
    return ProviderRiskAlert(
        _id_of(warning),
        RiskAlertKind.EARLY_FRAUD_WARNING,
        text(warning, "fraud_type"),
        actionable=actionable if isinstance(actionable, bool) else None,
        raised_at=_moment(warning),
    )


def alert_of_review(review: JsonObject) -> ProviderRiskAlert:
    """A review, and how it ended once it has."""
    return ProviderRiskAlert(
        _id_of(review),
        RiskAlertKind.REVIEW,
        text(review, "opened_reason"),
        is_open=review.get("open") is not False,
        closed_reason=text(review, "closed_reason"),
        raised_at=_moment(review),
    )


def _id_of(thing: JsonObject) -> str:
    found = text(thing, "id")
    if found is None:
        raise OutcomeUnknown("unreadable_answer", "warning or review without id")
    return found


def _moment(thing: JsonObject) -> datetime | None:
    created = thing.get("created")
    return datetime.fromtimestamp(created, UTC) if type(created) is int and created > 0 else None
