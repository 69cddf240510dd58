"""Warnings and reviews as Stripe has them, and that the sandbox tells them in the recorded shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.risk import RiskAlertKind
from providers.base import CheckoutRequest, OutcomeUnknown, Provider, ProviderRiskAlert
from providers.stripe import StripeProvider
from providers.stripe.risk import alert_of_review, alert_of_warning
from tests.providers.payers.stripe import Payer
from tests.providers.recorded import recording, same_shape

ONLY = ["stripe"]
RequestFor = Callable[..., CheckoutRequest]


def thing(name: str) -> Any:
    return recording("stripe", name)["data"]["object"]


def test_what_was_recorded_is_read_whole() -> None:
    at = datetime.fromtimestamp(1795992352, UTC)
    assert alert_of_warning(thing("early_fraud_warning_event")) == ProviderRiskAlert(
        "issfr_1Qsample",
        RiskAlertKind.EARLY_FRAUD_WARNING,
        "made_with_stolen_card",
        actionable=True,
        raised_at=at,
    )
    closed = alert_of_review(thing("review_closed_as_refunded_event"))
    assert (closed.kind, closed.is_open, closed.closed_reason) == (RiskAlertKind.REVIEW, False, "refunded_as_fraud")
    opened = alert_of_review(thing("review_opened_event"))
    assert (opened.is_open, opened.reason, opened.actionable) == (True, "rule", None)
    for read in (alert_of_warning, alert_of_review):
        with pytest.raises(OutcomeUnknown):
            read({})


@pytest.mark.asyncio
async def test_warnings_are_found_by_the_payment_and_reviews_by_their_name(
    provider: Provider, payer: Payer, request_for: RequestFor
) -> None:
    assert isinstance(provider, StripeProvider)
    charges: list[dict[str, Any]] = []
    for _ in range(2):
        opened = await provider.open_checkout(request_for())
        await payer.pays(opened)
        known = {one["id"] for one in charges}
        found = (await payer.http.get("/sandbox/objects", params={"type": "charge"})).json()
        charges.append(next(one for one in found if one["id"] not in known))
    warning = await payer.sandbox(f"charges/{charges[0]['id']}/fraud-warning")
    review = await payer.sandbox(f"charges/{charges[0]['id']}/review")
    assert same_shape(thing("early_fraud_warning_event"), warning) == []
    assert same_shape(thing("review_opened_event"), review) == []
    payout = await payer.sandbox("payouts", account_key=payer.account_key)
    assert same_shape(thing("payout_paid_event"), payout) == []
    named = [review["id"], "prv_unknown", "ch_other"]
    alerts = await provider.risk_alerts_of(charges[0]["payment_intent"], named)
    assert [one.alert_id for one in alerts] == [warning["id"], review["id"]]
    assert await provider.risk_alerts_of(charges[1]["payment_intent"], named) == []
    await payer.sandbox(f"charges/{charges[0]['id']}/dispute")
    (again, _) = await provider.risk_alerts_of(charges[0]["payment_intent"], named)
    assert again.actionable is False


def test_no_recording_of_a_warning_holds_a_secret() -> None:
    for name in ("early_fraud_warning_event", "review_opened_event", "payout_paid_event"):
        assert "secret" not in json.dumps(recording("stripe", name))
