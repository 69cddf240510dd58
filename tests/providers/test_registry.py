"""The registry: every provider is whole before an account exists."""

from __future__ import annotations

import inspect
from dataclasses import replace
from uuid import uuid4

import pytest

from domain.currencies import MINOR_DIGITS
from providers.base import (
    AccountConfig,
    ChargesSaved,
    KeepsCustomers,
    Provider,
    ProviderMisconfigured,
    SavesMethods,
)
from providers.registry import (
    PROVIDERS,
    UnknownProvider,
    build_provider,
    capabilities_of,
    required_credentials,
    webhook_tools,
)

CALLS = [name for name, _ in inspect.getmembers(Provider, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_an_adapter_answers_the_whole_contract(name: str) -> None:
    credentials = dict.fromkeys(required_credentials(name), "test_value")
    provider = build_provider(name, AccountConfig(account_id=uuid4(), credentials=credentials))
    assert provider.name == name
    sheet, own = capabilities_of(name), provider.capabilities
    narrowed = replace(
        own,
        methods=sheet.methods,
        max_checkout_lifetime=sheet.max_checkout_lifetime,
        saves_methods=sheet.saves_methods,
        sets_up_methods=sheet.sets_up_methods,
        off_session=sheet.off_session,
    )
    assert narrowed == sheet  # an account has its own methods, limits and lifetimes, and nothing else of its own
    assert isinstance(provider, SavesMethods) or not sheet.sets_up_methods
    assert isinstance(provider, ChargesSaved) or not sheet.off_session
    assert isinstance(provider, KeepsCustomers) or not sheet.customers
    for narrower, wider in (("sets_up_methods", "off_session"), ("saves_methods", "off_session")):
        assert getattr(sheet, wider) or not getattr(sheet, narrower)  # what is saved can be charged
    assert {method.name for method in own.methods} <= {method.name for method in sheet.methods}
    for call in CALLS:
        promised = inspect.signature(getattr(Provider, call)).parameters
        assert list(inspect.signature(getattr(provider, call)).parameters) == list(promised)[1:]


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_required_credential_is_missed_by_name_and_none_is_shown(name: str) -> None:
    for missing in required_credentials(name):
        credentials = {key: "test_value" for key in required_credentials(name) if key != missing}
        config = AccountConfig(account_id=uuid4(), credentials=credentials)
        with pytest.raises(ProviderMisconfigured, match=missing) as refused:
            build_provider(name, config)
        assert "test_value" not in str(refused.value)
        assert "test_value" not in repr(config)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_a_capability_sheet_makes_sense(name: str) -> None:
    sheet = capabilities_of(name)
    assert sheet.redirect_checkout or sheet.direct_payment
    assert sheet.max_checkout_lifetime is None or sheet.min_checkout_lifetime < sheet.max_checkout_lifetime
    assert sheet.currencies is None or sheet.currencies <= MINOR_DIGITS.keys()
    # promise 2: something must tell a repeat from a second payment; a code of our own is made from the reference
    never_asked = not sheet.status_call and sheet.one_checkout_per_reference
    # where each creation makes another page, the pages whose address nobody has must lapse
    lapses = not sheet.one_checkout_per_reference and sheet.max_checkout_lifetime is not None
    known_again = sheet.idempotency_key_lifetime is not None or sheet.looks_up_by_reference
    assert known_again or never_asked or lapses


@pytest.mark.parametrize("call", [capabilities_of, required_credentials, webhook_tools])
def test_an_unknown_provider_is_its_own_error(call: object) -> None:
    assert callable(call)
    with pytest.raises(UnknownProvider, match="known: "):
        call("paypal")
