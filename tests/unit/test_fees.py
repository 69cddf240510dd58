"""What a provider keeps of a capture."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.fees import FeeSchedule
from domain.money import Money, MoneyError

CURRENCIES = st.sampled_from(["JPY", "ILS", "KWD"])


@pytest.mark.parametrize(
    ("rate", "fixed", "captured", "fee"),
    [
        ("0.029", "0.30", "100.00", "3.20"),
        ("0.029", "0.30", "10.00", "0.59"),
        ("0.025", "0", "0.20", "0.01"),  # half a minor unit is rounded up
        ("0.0249", "0", "0.20", "0.00"),
        ("0", "1.20", "50.00", "1.20"),
        ("0.03", "0", "50.00", "1.50"),
        ("0.03", "5.00", "4.00", "4.00"),  # never more than there is
        ("1", "0", "4.00", "4.00"),
        ("0", "0", "4.00", "0.00"),
    ],
)
def test_by_hand(rate: str, fixed: str, captured: str, fee: str) -> None:
    schedule = FeeSchedule(Decimal(rate), Decimal(fixed))
    assert str(schedule.of(Money.parse(captured, "ILS"))) == fee


def test_an_account_without_a_schedule_keeps_nothing_and_gives_nothing_back() -> None:
    schedule = FeeSchedule()
    assert schedule.of(Money(12345, "ILS")) == Money.zero("ILS")
    assert (schedule.rate, schedule.fixed, schedule.returned) == (Decimal(0), Decimal(0), False)


def test_the_fixed_part_is_of_the_captures_currency() -> None:
    assert FeeSchedule(fixed=Decimal("0.125")).of(Money(1000, "KWD")) == Money(125, "KWD")
    with pytest.raises(MoneyError):
        FeeSchedule(fixed=Decimal("0.125")).of(Money(1000, "ILS"))


@given(st.integers(0, 10**9), CURRENCIES, st.decimals(0, 1, places=4), st.integers(0, 1000))
def test_the_fee_is_the_share_and_the_fixed_part_up_to_the_capture(
    minor: int, currency: str, rate: Decimal, fixed: int
) -> None:
    captured = Money(minor, currency)
    fee = FeeSchedule(rate, Money(fixed, currency).to_decimal()).of(captured)
    assert fee.currency == currency
    assert 0 <= fee.minor <= minor
    exact = Fraction(minor) * Fraction(rate) + fixed
    assert fee == captured if exact >= minor else abs(fee.minor - exact) <= Fraction(1, 2)
