"""Amounts on Stripe's wire: nothing is lost, nothing is rounded, nothing is guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.currencies import MINOR_DIGITS
from domain.money import Money, MoneyError
from providers.base import ProviderRejected
from providers.stripe.amounts import SUPPORTED_CURRENCIES, from_wire, to_wire


@pytest.mark.parametrize(
    ("amount", "currency", "wire"),
    [
        ("129.90", "ILS", 12990),
        ("2500", "COP", 250000),
        ("10.00", "USD", 1000),
        ("500", "JPY", 500),
        ("500", "ISK", 50000),
        ("500", "UGX", 50000),
        ("5.120", "KWD", 5120),
        ("300.00", "MGA", 300),
        ("175.00", "HUF", 17500),
        ("0", "ILS", 0),
    ],
)
def test_amounts_are_sent_in_stripes_own_units(amount: str, currency: str, wire: int) -> None:
    money = Money.parse(amount, currency)
    assert to_wire(money) == wire
    assert from_wire(wire, currency.lower()) == money


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("5.124", "KWD", "amount_not_representable"),
        ("300.50", "MGA", "amount_not_representable"),
        ("1.000", "IQD", "currency_not_supported"),
        ("1.0000", "CLF", "currency_not_supported"),
        ("1", "UYI", "currency_not_supported"),
    ],
)
def test_what_stripe_cannot_express_is_refused_before_it_is_sent(amount: str, currency: str, code: str) -> None:
    with pytest.raises(ProviderRejected) as refused:
        to_wire(Money.parse(amount, currency))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        (150, "isk"),
        (1.0, "ils"),
        (True, "ils"),
        ("100", "ils"),
        (None, "ils"),
        (100, None),
        (100, "xxx"),
        (1, ""),
        (10**15, "ils"),
    ],
)
def test_what_is_not_an_amount_is_an_error_and_never_a_guess(amount: object, currency: object) -> None:
    with pytest.raises(MoneyError):
        from_wire(amount, currency)


def refusal(money: Money) -> str | None:
    try:
        to_wire(money)
    except ProviderRejected as refused:
        return refused.code
    return None


@given(currency=st.sampled_from(sorted(MINOR_DIGITS)), minor=st.integers(0, 10**12))
def test_every_currency_comes_back_as_it_was_sent_or_is_refused(currency: str, minor: int) -> None:
    money = Money(minor, currency)
    refused = refusal(money)
    if refused is None:
        assert type(to_wire(money)) is int
        assert from_wire(to_wire(money), currency.lower()) == money
    else:
        known = currency in SUPPORTED_CURRENCIES
        assert refused == ("amount_not_representable" if known else "currency_not_supported")


@given(currency=st.sampled_from(sorted(SUPPORTED_CURRENCIES)), wire=st.integers(0, 10**12))
def test_what_stripe_reports_is_sent_back_unchanged_in_a_refund(currency: str, wire: int) -> None:
    try:
        money = from_wire(wire, currency.lower())
    except MoneyError:
        return
    assert refusal(money) == "amount_not_representable" or to_wire(money) == wire
