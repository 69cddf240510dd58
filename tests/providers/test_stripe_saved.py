"""Stripe's own: banks that want to see the payer, keys that are too old, customers, and what its events say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from domain.declines import DeclineClass
from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    ChargeRequest,
    CheckoutMode,
    CheckoutRef,
    EventKind,
    OutcomeUnknown,
    ProviderDeclined,
    ProviderPayment,
    ProviderRejected,
    SavedMethod,
    SetupRequest,
)
from providers.base import Payer as Person
from providers.stripe import StripeProvider
from providers.stripe.methods import charge_params
from providers.stripe.webhooks import read_event
from tests.providers.payers.stripe import Payer
from tests.providers.recorded import recording, same_shape

ONLY = ["stripe"]
ALWAYS = "4000002760003184"


@pytest_asyncio.fixture
async def stripe_account(payer: Payer) -> AsyncIterator[StripeProvider]:
    provider = StripeProvider(payer.account())
    yield provider
    await provider.aclose()


async def saved(provider: StripeProvider, payer: Payer, card: str = "4242424242424242") -> SavedMethod:
    customer = await provider.create_customer(uuid4(), Person(email="dana@example.com"))
    now = datetime.now(UTC)
    opened = await provider.open_setup(
        SetupRequest(uuid4(), uuid4(), "ILS", now, now + timedelta(hours=2), "Save a card", customer)
    )
    body: dict[str, Any] = {"card": card}
    outcome = await payer.sandbox(f"sessions/{opened.session_id}/pay", **body)
    if outcome["outcome"] == "challenge":
        await payer.sandbox(f"sessions/{opened.session_id}/pay", **body, approved=True)
    methods = (await payer.http.get("/sandbox/objects", params={"type": "payment_method"})).json()
    token = next(one["id"] for one in methods if one["customer"] == customer)
    return SavedMethod(token, customer=customer)


def request_for(method: SavedMethod, **changes: Any) -> ChargeRequest:
    now = datetime.now(UTC)
    request = ChargeRequest(
        reference=uuid4(),
        workspace_id=uuid4(),
        order_id="order-7",
        amount=Money.parse("129.90", "ILS"),
        description="Renewal",
        token=method.token,
        customer=method.customer,
        created_at=now,
        expires_at=now + timedelta(days=3),
        return_url="https://shop.example/thanks",
    )
    return replace(request, **changes)


async def look(provider: StripeProvider, request: ChargeRequest, intent: str | None) -> ProviderPayment:
    return await provider.look(CheckoutRef(request.reference, intent, CheckoutMode.SAVED, request.created_at))


async def intents_of(payer: Payer, reference: UUID) -> int:
    return len(await payer.checkouts_of(reference))


@pytest.mark.asyncio
@pytest.mark.parametrize("off_session", [True, False])
async def test_a_payer_who_confirms_at_the_bank_pays_once(
    stripe_account: StripeProvider, payer: Payer, *, off_session: bool
) -> None:
    request = request_for(await saved(stripe_account, payer, ALWAYS), off_session=off_session)
    charged = await stripe_account.charge(request)
    assert charged.status is PaymentStatus.REQUIRES_ACTION
    assert charged.action_url is not None
    assert (await look(stripe_account, request, charged.session_id)).status is PaymentStatus.REQUIRES_ACTION
    page = await payer.http.get(charged.action_url)
    assert page.status_code == 200
    answer = {"approve": "yes", "client_secret": str(charged.client_secret)}
    back = await payer.http.post(charged.action_url.partition("?")[0], data=answer)
    assert (back.status_code, back.headers["location"]) == (303, "https://shop.example/thanks")
    seen = await look(stripe_account, request, charged.session_id)
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, request.amount)
    assert (await intents_of(payer, request.reference), await payer.charges_of(request.reference)) == (1, 1)


@pytest.mark.asyncio
async def test_a_payer_who_refuses_ends_the_charge(stripe_account: StripeProvider, payer: Payer) -> None:
    request = request_for(await saved(stripe_account, payer, ALWAYS))
    charged = await stripe_account.charge(request)
    await payer.sandbox(f"payment_intents/{charged.session_id}/authenticate", approved=False)
    seen = await look(stripe_account, request, charged.session_id)
    assert (seen.status, seen.failure_code) == (PaymentStatus.FAILED, "payment_intent_authentication_failure")


@pytest.mark.asyncio
async def test_a_closed_charge_cannot_be_confirmed_any_more(stripe_account: StripeProvider, payer: Payer) -> None:
    request = request_for(await saved(stripe_account, payer, ALWAYS))
    charged = await stripe_account.charge(request)
    ref = CheckoutRef(request.reference, charged.session_id, CheckoutMode.SAVED, request.created_at)
    assert (await stripe_account.close_checkout(ref)).status is PaymentStatus.CANCELED
    await payer.sandbox(f"payment_intents/{charged.session_id}/authenticate", approved=True)
    assert await payer.charges_of(request.reference) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("when", ["before", "after"])
async def test_silence_while_the_payer_is_asked_for_makes_no_second_intent(payer: Payer, when: str) -> None:
    impatient = StripeProvider(payer.account(timeout_seconds=0.5))
    request = request_for(await saved(impatient, payer, ALWAYS))
    await payer.http.post("/sandbox/faults", json={"operation": "confirm_intent", "fault": f"timeout_{when}:1.5"})
    with pytest.raises(OutcomeUnknown):
        await impatient.charge(request)
    charged = await impatient.charge(request)
    assert (charged.status, charged.action_url is not None) == (PaymentStatus.REQUIRES_ACTION, True)
    assert await intents_of(payer, request.reference) == 1
    await impatient.aclose()


@pytest.mark.asyncio
async def test_a_key_that_is_too_old_is_not_trusted(stripe_account: StripeProvider, payer: Payer) -> None:
    later = StripeProvider(payer.account(), clock=lambda: datetime.now(UTC) + timedelta(hours=30))
    method = await saved(stripe_account, payer)
    paid = request_for(method)
    first = await stripe_account.charge(paid)
    assert await later.charge(paid) == first
    await payer.will(method.token, "hard")
    declined = request_for(method)
    for provider in (stripe_account, later, later):
        with pytest.raises(ProviderDeclined, match="stolen_card") as refused:
            await provider.charge(declined)
        assert refused.value.decline_class is DeclineClass.HARD
        assert refused.value.session_id is not None
    assert [await intents_of(payer, one.reference) for one in (paid, declined)] == [1, 1]
    assert await payer.charges_of(declined.reference) == 0
    await later.aclose()


@pytest.mark.asyncio
async def test_a_quick_repeat_makes_one_customer_and_another_spelling_is_no_error(
    stripe_account: StripeProvider, payer: Payer
) -> None:
    reference, person = uuid4(), Person(name="Dana Levi", email="dana@example.com")
    first = await stripe_account.create_customer(reference, person)
    assert await stripe_account.create_customer(reference, person) == first
    assert await stripe_account.create_customer(reference, replace(person, email="d@example.com")) != first


@pytest.mark.asyncio
async def test_a_method_that_was_detached_is_gone(stripe_account: StripeProvider, payer: Payer) -> None:
    method = await saved(stripe_account, payer)
    known = await stripe_account.look_method(method.token)
    assert known is not None
    assert (known.last4, known.customer) == ("4242", method.customer)
    await stripe_account.detach(method.token)
    assert await stripe_account.look_method(method.token) is None
    assert await stripe_account.look_method("pm_unknown") is None
    with pytest.raises((ProviderDeclined, ProviderRejected)):
        await stripe_account.charge(request_for(method))


@pytest.mark.asyncio
async def test_a_charge_of_a_saved_card_needs_no_address_to_come_back_to(
    stripe_account: StripeProvider, payer: Payer
) -> None:
    await payer.behaves("return_url_always")
    method = await saved(stripe_account, payer)
    for off_session in (True, False):
        charged = await stripe_account.charge(request_for(method, off_session=off_session, return_url=None))
        assert charged.status is PaymentStatus.PAID
    asked = request_for(await saved(stripe_account, payer, ALWAYS), return_url=None)
    charged = await stripe_account.charge(asked)
    assert (charged.status, charged.action_url) == (PaymentStatus.REQUIRES_ACTION, None)
    assert charged.client_secret  # for the merchant's own page


def test_a_method_that_may_redirect_names_where_to_come_back_to() -> None:
    request = request_for(SavedMethod("pm_1", customer="cus_1"), kind="paypal")
    params = charge_params(request)
    assert params["return_url"] == request.return_url
    assert params["automatic_payment_methods"] == {"enabled": True}
    card = charge_params(replace(request, kind="card"))
    assert card["automatic_payment_methods"] == {"enabled": True, "allow_redirects": "never"}
    assert "return_url" not in card


@pytest.mark.asyncio
async def test_a_refusal_without_an_address_has_the_recorded_shape(
    payer: Payer, stripe_account: StripeProvider
) -> None:
    await payer.behaves("return_url_always")
    method = await saved(stripe_account, payer)
    form = {
        "amount": "100",
        "currency": "ils",
        "automatic_payment_methods[enabled]": "true",
        "payment_method": method.token,
        "customer": method.customer or "",
        "confirm": "true",
        "off_session": "true",
    }
    answer = await payer.http.post("/v1/payment_intents", data=form, headers={"authorization": f"Bearer {payer.key}"})
    assert answer.status_code == 400
    assert same_shape(recording("stripe", "confirm_without_return_url"), answer.json()) == []


@pytest.mark.asyncio
async def test_a_mandate_for_repeated_use_that_is_inactive_is_revoked(
    stripe_account: StripeProvider, payer: Payer
) -> None:
    method, other = await saved(stripe_account, payer), await saved(stripe_account, payer)
    mandate = await payer.sandbox(f"payment_methods/{method.token}/mandate", status="active")
    assert same_shape(recording("stripe", "mandate_inactive") | {"payment_method_details": {}}, mandate) == []
    assert await stripe_account.is_revoked(method.token, mandate["id"]) is False
    for changes, revoked in (
        ({"status": "pending"}, False),
        ({"status": "inactive", "type": "single_use"}, False),
        ({"status": "inactive", "type": "multi_use"}, True),
    ):
        await payer.sandbox(f"payment_methods/{method.token}/mandate", **changes)
        assert await stripe_account.is_revoked(method.token, mandate["id"]) is revoked
    assert await stripe_account.is_revoked(other.token, mandate["id"]) is False
    assert await stripe_account.is_revoked(method.token, "mandate_unknown") is False


def event(event_type: str, **source: Any) -> bytes:
    body = {"id": "evt_1", "object": "event", "type": event_type, "created": 1700000000, "data": {"object": source}}
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("event_type", "source", "kind"),
    [
        ("checkout.session.completed", {"object": "checkout.session", "mode": "setup"}, EventKind.SETUP),
        ("checkout.session.expired", {"object": "checkout.session", "mode": "setup"}, EventKind.SETUP),
        ("setup_intent.succeeded", {"object": "setup_intent"}, EventKind.SETUP),
        ("setup_intent.setup_failed", {"object": "setup_intent"}, EventKind.SETUP),
        ("setup_intent.created", {"object": "setup_intent"}, EventKind.OTHER),
        ("payment_method.detached", {"object": "payment_method"}, EventKind.METHOD),
        ("payment_method.automatically_updated", {"object": "payment_method"}, EventKind.METHOD),
        ("payment_method.attached", {"object": "payment_method"}, EventKind.OTHER),
        ("customer.deleted", {"object": "customer"}, EventKind.METHOD),
        ("customer.created", {"object": "customer"}, EventKind.OTHER),
    ],
)
def test_what_an_event_about_methods_claims(event_type: str, source: dict[str, Any], kind: EventKind) -> None:
    setup_id = str(uuid4())
    thing = source | {"id": "obj_1", "customer": "cus_1", "metadata": {"setup_id": setup_id}}
    told = read_event(event(event_type, **thing))
    assert told.kind is kind
    if kind is EventKind.SETUP:
        assert str(told.reference) == setup_id
    if source["object"] == "payment_method":
        assert (told.method_token, told.customer) == ("obj_1", "cus_1")
    if source["object"] == "customer":
        assert (told.method_token, told.customer) == (None, "obj_1")
    assert "obj_1" not in repr(told) or source["object"] == "checkout.session"
