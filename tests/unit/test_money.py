"""Money is exact in every currency."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

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


@pytest.mark.parametrize(
    "combine",
    [operator.add, operator.sub, operator.lt, operator.le, operator.gt, operator.ge, min, max],
    ids=lambda combine: str(combine.__name__),
)
@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 2), (2, 1), (0, 0), (-1, 1)])
def test_two_currencies_are_never_put_together_or_compared(
    combine: Callable[[Any, Any], object], one: int, other: int
) -> None:
    with pytest.raises(MoneyError, match=r"^cannot combine (ILS with USD|USD with ILS)$"):
        combine(Money(one, "ILS"), Money(other, "USD"))
    assert Money(one, "ILS") != Money(one, "USD")


@given(minors, minors, currencies)
def test_order_is_that_of_minor_units(one: int, other: int, currency: str) -> None:
    left, right = Money(one, currency), Money(other, currency)
    assert (left < right, left <= right, left > right, left >= right) == (
        one < other,
        one <= other,
        one > other,
        one >= other,
    )
    assert (left + right).minor == one + other
    assert (left - right).minor == one - other
    assert (-left).minor == -one


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("0", "ILS", 0),
        ("-0.01", "ILS", -1),
        ("129.9", "ILS", 12990),
        ("129.90", "ILS", 12990),
        ("5", "JPY", 5),
        ("1.234", "KWD", 1234),
        ("1.2", "CLF", 12000),
        ("9" * 15, "ILS", int("9" * 15 + "00")),
        ("-" + "9" * 15 + ".99", "ILS", -int("9" * 17)),
    ],
)
def test_amounts_are_read(text: str, currency: str, minor: int) -> None:
    assert Money.parse(text, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (0, "ILS", "0.00"),
        (1, "ILS", "0.01"),
        (-1, "ILS", "-0.01"),
        (99, "ILS", "0.99"),
        (100, "ILS", "1.00"),
        (-12345, "ILS", "-123.45"),
        (7, "JPY", "7"),
        (-7, "JPY", "-7"),
        (7, "KWD", "0.007"),
        (1, "CLF", "0.0001"),
    ],
)
def test_amounts_are_written(minor: int, currency: str, text: str) -> None:
    assert str(Money(minor, currency)) == text


@pytest.mark.parametrize(
    ("text", "currency", "says"),
    [
        ("1,00", "ILS", 'an amount is a decimal string in major units, such as "129.90"'),
        ("0" * 41, "ILS", 'an amount is a decimal string in major units, such as "129.90"'),
        ("1.001", "ILS", "ILS has 2 decimal digits; the amount has 3"),
        ("1.0", "JPY", "JPY has 0 decimal digits; the amount has 1"),
        ("1" * 16, "ILS", "an amount has at most 15 digits before the decimal point"),
        ("-" + "1" * 16, "ILS", "an amount has at most 15 digits before the decimal point"),
        ("1", "ILSILSILS", "'ILSILSIL' is not an ISO 4217 currency code; use three capital letters such as ILS"),
    ],
)
def test_a_refusal_says_why(text: str, currency: str, says: str) -> None:
    with pytest.raises(MoneyError) as refused:
        Money.parse(text, currency)
    assert str(refused.value) == says


def test_other_refusals_say_why() -> None:
    for wrong, says in (
        (lambda: Money.from_decimal(Decimal("1.001"), "ILS"), "1.001 has more digits than ILS has"),
        (lambda: Money(minor=True, currency="ILS"), "minor units are an int, not bool"),
        (lambda: Money(1, "ILS").split([]), "weights are non-negative and not all zero"),
        (lambda: Money(1, "ILS").split([2, -1]), "weights are non-negative and not all zero"),
    ):
        with pytest.raises(MoneyError) as refused:
            wrong()
        assert str(refused.value) == says


@pytest.mark.parametrize(
    ("minor", "fits"), [(10**17 - 1, True), (10**17, False), (1 - 10**17, True), (-(10**17), False)]
)
def test_what_storage_has_room_for(minor: int, *, fits: bool) -> None:
    assert Money(minor, "ILS").is_storable is fits


@pytest.mark.parametrize(
    ("minor", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (-100, [1, 1, 1], [-34, -33, -33]),
        (101, [1, 1, 1], [34, 34, 33]),
        (10, [1, 2], [3, 7]),
        (10, [0, 3], [0, 10]),
        (5, [1, 1], [3, 2]),
        (0, [1, 5], [0, 0]),
        (7, [3], [7]),
        (7, [1], [7]),
        (7, [0, 1], [0, 7]),
        (2, [1, 1, 4], [1, 0, 1]),
    ],
)
def test_the_largest_remainder_gets_the_odd_unit_and_the_earlier_of_two(
    minor: int, weights: list[int], parts: list[int]
) -> None:
    assert Money(minor, "ILS").split(weights) == [Money(part, "ILS") for part in parts]


@pytest.mark.parametrize(
    ("minor", "factor", "product"),
    [
        (5, "0.1", 1),
        (4, "0.1", 0),
        (-5, "0.1", -1),
        (-4, "0.1", 0),
        (15, "0.1", 2),
        (0, "7", 0),
        (3, "2", 6),
        (3, "-2", -6),
    ],
)
def test_halves_are_rounded_away_from_zero(minor: int, factor: str, product: int) -> None:
    assert Money(minor, "ILS").times(Decimal(factor)) == Money(product, "ILS")


def test_decimals_of_the_currency() -> None:
    assert str(Money(5, "ILS").to_decimal()) == "0.05"
    assert str(Money(5, "JPY").to_decimal()) == "5"
    assert Money.zero("KWD") == Money(0, "KWD")
