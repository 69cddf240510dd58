"""What PayU's pages mark as mandatory is sent: tokens, PSE, cash codes and the payment form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.money import Money
from providers.base import ChargeRequest, CheckoutRequest, Payer, ProviderRejected, SavedMethod
from providers.payu import PayuProvider
from providers.payu.signatures import NAME_IN_FORM, Algorithm, algorithm_of
from providers.payu.tokens import imported
from tests.providers.conftest import PAYER
from tests.providers.payers.payu import Payer as PayuPayer
from tests.providers.recorded import recording, same_shape
from tests.providers.test_payu_calls import (
    BY_REFERENCE,
    NOTHING,
    NOW,
    REFERENCE,
    Wire,
    provider_on,
    request_by,
    submitted,
)
from tests.providers.test_payu_sandbox import by

ONLY = ("payu",)
ADDRESS = {"address": "Calle 1", "city": "Bogota", "state": "Bogota D.C.", "postal_code": "110111"}
BROWSER = {"device_session_id": "d", "cookie": "c", "user_agent": "u"}
PSE = {"financial_institution_code": "1007", "user_type": "N"}
RequestFor = Callable[..., CheckoutRequest]


def charge_of(token: str, **changes: Any) -> ChargeRequest:
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "workspace_id": UUID(int=7),
        "order_id": "order-7",
        "amount": Money.parse("25000", "COP"),
        "description": "Renewal",
        "token": token,
        "customer": None,
        "created_at": NOW,
        "expires_at": NOW + timedelta(days=3),
        "callback_url": "https://pay.example/callback",
        "payer": PAYER,
    }
    return ChargeRequest(**(values | changes))


async def sent_for(request: ChargeRequest | CheckoutRequest, options: dict[str, object] | None = None) -> Any:
    extra = {"BANK_URL": "https://bank.example/1"}
    wire = Wire(**{BY_REFERENCE: NOTHING}, SUBMIT_TRANSACTION=submitted("PENDING", extraParameters=extra))
    provider = provider_on(wire, options)
    await (provider.charge(request) if isinstance(request, ChargeRequest) else provider.open_checkout(request))
    return json.loads(wire.requests[-1].content)["transaction"]


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("pse_request", request_by("pse", method_fields=PSE | ADDRESS | BROWSER)),
        ("cash_request", request_by("efecty", method_fields=ADDRESS)),
        ("token_request", charge_of("VISA:0123456789abcdef", exp_month=6, exp_year=2035)),
    ],
)
async def test_what_is_sent_has_every_field_that_is_marked_as_mandatory(
    name: str, request_: ChargeRequest | CheckoutRequest
) -> None:
    sent = await sent_for(request_)
    assert same_shape(recording("payu", name), sent) == []
    assert sent["order"]["buyer"]["merchantBuyerId"] == sent["payer"]["merchantPayerId"] == "cust-7"
    assert "merchantPayerId" not in sent["order"]["buyer"]


async def test_a_token_is_charged_without_a_code_and_with_the_cards_last_month() -> None:
    """With the defaults PayU refused every charge of a token."""
    token = "VISA:0123456789abcdef"
    sent = await sent_for(charge_of(token, exp_month=6, exp_year=2035))
    assert sent["creditCard"] == {"expirationDate": "2035/06", "processWithoutCvv2": True}
    assert (sent["creditCardTokenId"], sent["paymentMethod"]) == ("0123456789abcdef", "VISA")
    assert (await sent_for(charge_of(token)))["creditCard"] == {"processWithoutCvv2": True}
    assert "creditCard" not in await sent_for(charge_of(token), {"charges_without_cvv": False})


def test_the_same_token_is_the_same_method_whatever_is_told_of_its_card() -> None:
    one = SavedMethod("0123456789abcdef", brand="VISA")
    assert imported(one).token == imported(replace(one, exp_month=6, exp_year=2035)).token


async def test_where_the_payer_lives_and_what_browser_it_is_may_be_told() -> None:
    sent = await sent_for(request_by("pse", method_fields=PSE | ADDRESS | BROWSER))
    assert sent["payer"]["billingAddress"]["street1"] == sent["order"]["shippingAddress"]["street1"] == "Calle 1"
    assert (sent["deviceSessionId"], sent["cookie"], sent["userAgent"]) == ("d", "c", "u")
    less = await sent_for(request_by("pse", method_fields=PSE))
    assert less["payer"]["billingAddress"] == {"country": "CO", "phone": "0541234567"}
    assert (less["deviceSessionId"], less["cookie"], less["userAgent"]) == (REFERENCE.hex, "n/a", "n/a")


@pytest.mark.parametrize(
    ("method", "absent"), [("pse", "phone"), ("efecty", "phone"), ("efecty", "document"), ("efecty", "ip")]
)
async def test_pse_and_cash_want_phone_document_and_address_of_the_device(method: str, absent: str) -> None:
    request = request_by(method, payer=replace(PAYER, **{absent: None}), method_fields=PSE)
    with pytest.raises(ProviderRejected, match=f"payer_field_missing: {absent}"):
        await provider_on(Wire()).open_checkout(request)
    assert await sent_for(request, {"payer_optional": True})  # as long as PayU takes it so


async def test_the_form_has_the_fields_and_lengths_of_payus_page() -> None:
    request = request_by("card", vat=Money.parse("3992", "COP"), language="es-CO", method_fields={})
    opened = await provider_on(Wire()).open_checkout(request)
    assert opened.form is not None
    assert same_shape(recording("payu", "payment_form"), dict(opened.form.fields)) == []
    assert opened.form.fields["lng"] == "es"
    assert opened.form.fields["expirationDate"] == "2026-11-20 09:00:00"  # PayU's clock
    long = replace(request, payer=replace(PAYER, name="Ana " * 40, phone="+57 " + "3" * 28))
    opened = await provider_on(Wire()).open_checkout(long)
    assert opened.form is not None
    lengths = {
        name: len(opened.form.fields[name]) for name in ("payerFullName", "buyerFullName", "telephone", "payerPhone")
    }
    assert lengths == {"payerFullName": 50, "buyerFullName": 150, "telephone": 20, "payerPhone": 20}


@pytest.mark.parametrize("field", ["success_url", "callback_url"])
async def test_addresses_in_the_form_have_255_characters_at_most(field: str) -> None:
    for length, fits in ((255, True), (256, False)):
        url = "https://a.example/".ljust(length, "x")
        request = request_by("card", method_fields={}, **{field: url})
        if fits:
            assert (await provider_on(Wire()).open_checkout(request)).form is not None
            continue
        with pytest.raises(ProviderRejected, match="url_too_long"):
            await provider_on(Wire()).open_checkout(request)
        assert await sent_for(request_by("efecty", **{field: url}))  # the interface takes longer ones


def test_every_algorithm_has_its_name_in_the_form() -> None:
    assert {one.value: NAME_IN_FORM[one] for one in Algorithm} == {
        "md5": "MD5",
        "sha1": "SHA",
        "sha256": "SHA256",
        "hmac-sha256": "HMAC-SHA256",
    }
    assert {algorithm_of(NAME_IN_FORM[one]) for one in Algorithm} == set(Algorithm)


async def test_payus_side_refuses_a_token_without_code_and_without_the_word_for_it(payer: PayuPayer) -> None:
    token = (await payer.tokenises()).token
    refusing = PayuProvider(payer.account_with(charges_without_cvv=False))
    with pytest.raises(ProviderRejected):
        await refusing.charge(charge_of(token, reference=UUID(int=1)))
    await refusing.aclose()
    provider = PayuProvider(payer.account())
    assert (await provider.charge(charge_of(token, reference=UUID(int=2)))).transaction_id
    await payer.behaves("mandatory_fields")
    with pytest.raises(ProviderRejected):
        await provider.charge(charge_of(token, reference=UUID(int=3)))
    assert await provider.charge(charge_of(token, reference=UUID(int=4), exp_month=6, exp_year=2035))
    await provider.aclose()


@pytest.mark.parametrize("method", ["pse", "efecty", "bank_referenced"])
async def test_where_payu_insists_on_them_pse_and_cash_have_them_all(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor, method: str
) -> None:
    await payer.behaves("mandatory_fields")
    assert (await provider.open_checkout(by(method, request_for))).session_id
    optional = PayuProvider(payer.account_with(payer_optional=True))
    known = Payer(name="Dana", email="dana@example.com", document_type="CC", document="1", ip="127.0.0.1")
    with pytest.raises(ProviderRejected, match="rejected"):
        await optional.open_checkout(by(method, request_for, payer=known))
    await optional.aclose()


async def test_payus_page_refuses_what_is_too_long(
    provider: PayuProvider, payer: PayuPayer, request_for: RequestFor
) -> None:
    opened = await provider.open_checkout(request_for())
    assert opened.form is not None
    for name in ("payerFullName", "responseUrl", "telephone"):
        answer = await payer.http.post(opened.form.action, data={**opened.form.fields, name: "x" * 300})
        assert answer.status_code == 400
    await payer.pays(opened)
