"""Chargebacks at PayU: read from the order, due in working days; the unsigned webhook is a reason to query, no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.dispute import DisputeState
from providers.base import (
    AccountConfig,
    Callback,
    CheckoutRequest,
    EventKind,
    OutcomeUnknown,
    ProviderDispute,
    Rejection,
    ShowsDisputes,
    WebhookRejected,
)
from providers.payu import PayuProvider
from providers.payu.chargebacks import HINTS, STANDS_FOR_GOOD, working_days_after
from tests.providers.payers.payu import Payer as PayuPayer
from tests.providers.recorded import recording, same_shape
from tests.providers.test_payu_calls import (
    BY_REFERENCE,
    COP,
    FORM,
    KEY,
    NOTHING,
    REFERENCE,
    Wire,
    attempt,
    order,
    success,
)
from tests.providers.test_payu_sandbox import ref_to
from tests.support.mailbox import Mailbox

ONLY = ("payu",)
BEGAN = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""Of the recorded chargeback: a Friday."""
DUE = datetime(2026, 11, 25, 12, tzinfo=UTC)
"""Three working days later: the Wednesday."""
NAME = "chargeback:t1"


def provider_at(now: datetime, query: Any) -> PayuProvider:
    credentials = {"api_key": KEY, "api_login": "login", "merchant_id": "508029", "account_id": "512321"}
    config = AccountConfig(REFERENCE, credentials, {"test": True})
    return PayuProvider(config, transport=httpx.MockTransport(Wire(**{BY_REFERENCE: query})), clock=lambda: now)


async def disputes(now: datetime, query: Any, *known: str) -> list[ProviderDispute]:
    return list(await provider_at(now, query).disputes_by_reference(REFERENCE, "t1", known))


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (BEGAN + timedelta(hours=1), DisputeState.NEEDS_RESPONSE),
        (DUE - timedelta(seconds=1), DisputeState.NEEDS_RESPONSE),
        (DUE, DisputeState.UNDER_REVIEW),
        (BEGAN + STANDS_FOR_GOOD - timedelta(days=1), DisputeState.UNDER_REVIEW),
        (BEGAN + STANDS_FOR_GOOD, DisputeState.LOST),
    ],
)
async def test_a_chargeback_is_a_dispute_whose_evidence_is_due_in_three_working_days(
    now: datetime, state: DisputeState
) -> None:
    found = await disputes(now, recording("payu", "order_charged_back"))
    assert found == [ProviderDispute(NAME, state, COP, evidence_due_at=DUE)]
    assert isinstance(provider_at(now, NOTHING), ShowsDisputes)
    assert (await provider_at(now, recording("payu", "order_charged_back")).look(FORM)).disputed is True


async def test_a_status_alone_is_a_chargeback_of_which_no_date_is_told() -> None:
    query = success([order(attempt("APPROVED"), status="CHARGEBACK")])
    for now in (BEGAN, BEGAN + timedelta(days=400)):
        assert await disputes(now, query) == [ProviderDispute(NAME, DisputeState.NEEDS_RESPONSE, COP)]


async def test_a_chargeback_that_does_not_stand_any_more_is_won() -> None:
    clean = success([order(attempt("APPROVED"), status="CAPTURED")])
    refused = {"id": "c1", "type": "CHARGEBACK", "transactionResponse": {"state": "DECLINED"}}
    won = [ProviderDispute(NAME, DisputeState.WON, COP)]
    assert await disputes(BEGAN, clean) == []
    assert await disputes(BEGAN, clean, NAME) == won
    assert await disputes(BEGAN, success([order(refused, attempt("APPROVED"), status="CAPTURED")])) == won


async def test_a_payment_that_the_queries_do_not_show_is_not_won() -> None:
    for query in (NOTHING, success([order(attempt("APPROVED", "t2"))])):
        with pytest.raises(OutcomeUnknown, match="order_not_visible"):
            await disputes(BEGAN, query, NAME)


async def test_another_captures_chargeback_is_not_this_ones() -> None:
    response = {"state": "APPROVED"}
    other = {"id": "c1", "type": "CHARGEBACK", "parentTransactionId": "t2", "transactionResponse": response}
    query = success([order(other, attempt("APPROVED"), attempt("APPROVED", "t2"), status="CAPTURED")])
    assert await disputes(BEGAN, query) == []


@given(st.integers(0, 700 * 24 * 60), st.integers(1, 30))
def test_working_days_end_on_one_and_skip_the_weekends_between(minutes: int, days: int) -> None:
    start = BEGAN + timedelta(minutes=minutes)
    end = working_days_after(start, days)
    there = [(start + timedelta(days=n) - timedelta(hours=5)).weekday() < 5 for n in range(1, (end - start).days + 1)]
    assert (sum(there), there[-1]) == (days, True)


def received(body: Any) -> Any:
    provider = provider_at(BEGAN, NOTHING)
    return provider.verify_webhook(Callback({}, json.dumps(body).encode(), BEGAN))


@pytest.mark.parametrize("state", sorted(HINTS))
def test_the_disputes_webhook_is_a_hint_and_nothing_in_it_is_believed(state: str) -> None:
    body = recording("payu", "dispute_notified") | {"state": state}
    event = received(body)
    assert (event.kind, event.reference, event.unsigned) == (EventKind.DISPUTE, REFERENCE, True)
    assert (event.amount, event.transaction_id, event.session_id, event.ids) == (None, None, None, ())
    forged = received(body | {"id": "other", "transactionId": "t9", "orderId": 5, "value": 1})
    assert forged == event  # one event a payment and state, whatever else is written


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": "order-1"},
        {"reference": None},
        {"reference": {}},
        {"state": "APPROVED"},
        {"state": ["WON"]},
        {"sign": "0"},
    ],
)
def test_what_is_no_hint_about_a_payment_of_ours_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(WebhookRejected) as refused:
        received(recording("payu", "dispute_lost") | changes)
    assert refused.value.reason in (Rejection.BAD_SIGNATURE, Rejection.MALFORMED)


async def test_payus_side_charges_back_and_tells_of_it_in_the_recorded_shapes(
    provider: PayuProvider,
    payer: PayuPayer,
    request_for: Callable[..., CheckoutRequest],
    mailbox: tuple[Mailbox, str],
) -> None:
    box, address = mailbox
    request = request_for(callback_url=address)
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    seen = await provider.look(ref_to(request, opened))
    assert (seen.disputed, seen.transaction_id is None) == (False, False)
    await payer.sandbox("payu/chargebacks", reference=str(request.reference))
    [found] = await provider.disputes_by_reference(request.reference, seen.transaction_id or "", ())
    assert (found.state, found.amount) == (DisputeState.NEEDS_RESPONSE, request.amount)
    await payer.sandbox("payu/chargebacks/decide", reference=str(request.reference), state="WON")
    [found] = await provider.disputes_by_reference(request.reference, seen.transaction_id or "", ())
    assert found.state is DisputeState.WON
    events = await box.events(provider, 3)
    assert sorted(event.kind for event in events) == ["captured", "dispute", "dispute"]
    bodies = [json.loads(one.body) for one in box.received if one.body.startswith(b"{")]
    for body in bodies:
        assert same_shape(recording("payu", "dispute_notified"), body) == []
