"""Money is exact in every currency."""

from __future__ import annotations

from decimal import Decimal

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.currencies import MINOR_DIGITS
from domain.money import Money, MoneyError, UnknownCurrency
from domain.vat import split_gross

currencies = st.sampled_from(sorted(MINOR_DIGITS))
minors = st.integers(1 - 10**15, 10**15 - 1)


@given(minors, currencies)
def test_text_and_decimal_round_trip_in_every_currency(minor: int, currency: str) -> None:
    money = Money(minor, currency)
    assert Money.parse(str(money), currency) == money
    assert Money.from_decimal(money.to_decimal(), currency) == money


@given(minors, currencies, st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any))
def test_parts_always_sum_to_the_whole(minor: int, currency: str, weights: list[int]) -> None:
    whole = Money(minor, currency)
    parts = whole.split(weights)
    assert sum(part.minor for part in parts) == minor
    total = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part.minor * total - minor * weight) < total


@given(st.integers(1, 10**12), currencies, st.decimals(0, Decimal("0.99"), places=4))
def test_net_and_vat_always_add_up(minor: int, currency: str, rate: Decimal) -> None:
    split = split_gross(Money(minor, currency), rate)
    assert split.total == Money(minor, currency)
    exact = Decimal(minor) * rate / (1 + rate)
    assert abs(split.vat.minor - exact) <= Decimal("0.5000001")


@pytest.mark.parametrize(
    ("gross", "vat"), [("118.00", "18.00"), ("129.90", "19.82"), ("0.01", "0.00"), ("1.00", "0.15")]
)
def test_israeli_vat_of_known_amounts(gross: str, vat: str) -> None:
    assert str(split_gross(Money.parse(gross, "ILS"), Decimal("0.18")).vat) == vat


@pytest.mark.parametrize("rate", ["-0.01", "1", "18"])
def test_a_rate_is_a_fraction(rate: str) -> None:
    with pytest.raises(MoneyError):
        split_gross(Money(100, "ILS"), Decimal(rate))


def test_the_currency_table_is_iso_4217() -> None:
    published = {currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None}
    assert dict(MINOR_DIGITS) == published


@pytest.mark.parametrize(
    "text", ["", "1,00", "1.", ".5", "01.00", "+1.00", " 1.00", "1e3", "NaN", "١٢", "1.000", "--1", "1" * 16, "9" * 60]
)
def test_what_is_not_an_amount(text: str) -> None:
    with pytest.raises(MoneyError):
        Money.parse(text, "ILS")


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(UnknownCurrency, match="three capital letters"):
        Money.parse("1.00", "ils")
    with pytest.raises(MoneyError, match="JPY has 0 decimal digits"):
        Money.parse("1.5", "JPY")
    with pytest.raises(MoneyError, match="cannot combine"):
        Money(1, "ILS") + Money(1, "USD")
    with pytest.raises(MoneyError, match="int"):
        Money(1.5, "ILS")  # type: ignore[arg-type]
    with pytest.raises(MoneyError, match="weights"):
        Money(1, "ILS").split([0, 0])
    with pytest.raises(MoneyError, match="more digits"):
        Money.from_decimal(Decimal("1.001"), "ILS")


def test_arithmetic() -> None:
    assert Money(5, "ILS") - Money(7, "ILS") == Money(-2, "ILS")
    assert -Money(5, "ILS") < Money.zero("ILS") <= Money(0, "ILS")
    assert Money(25, "USD").times(Decimal("0.5")) == Money(13, "USD")
    assert Money(-25, "USD").times(Decimal("0.5")) == Money(-13, "USD")
