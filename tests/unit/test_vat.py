"""The tax inside a price."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from domain.money import Money, MoneyError
from domain.vat import BEGINNING, DatedRate, VatSplit, rate_on, split_gross, with_rate_from


def ils(text: str) -> Money:
    return Money.parse(text, "ILS")


@pytest.mark.parametrize(
    ("gross", "rate", "net", "vat"),
    [
        ("118.00", "0.18", "100.00", "18.00"),
        ("117.00", "0.17", "100.00", "17.00"),
        ("100.00", "0", "100.00", "0.00"),
        ("0.00", "0.18", "0.00", "0.00"),
        ("1.99", "0.99", "1.00", "0.99"),
        ("0.03", "0.20", "0.02", "0.01"),  # half a minor unit is rounded up
    ],
)
def test_by_hand(gross: str, rate: str, net: str, vat: str) -> None:
    split = split_gross(ils(gross), Decimal(rate))
    assert split == VatSplit(ils(net), ils(vat), Decimal(rate))
    assert split.total == ils(gross)


@pytest.mark.parametrize("rate", ["-0.0001", "1", "1.0001", "18"])
def test_a_rate_that_is_none(rate: str) -> None:
    with pytest.raises(MoneyError) as refused:
        split_gross(ils("1.00"), Decimal(rate))
    assert str(refused.value) == "a VAT rate is a fraction from 0 up to, but not including, 1"


def test_a_day_has_the_rate_that_held_then() -> None:
    rates = [DatedRate(date(2025, 1, 1), Decimal("0.18")), DatedRate(date(2015, 10, 1), Decimal("0.17"))]
    days = {
        date(2000, 1, 1): "0.17",  # before the first one that is known
        date(2015, 10, 1): "0.17",
        date(2024, 12, 31): "0.17",
        date(2025, 1, 1): "0.18",
        date(2030, 1, 1): "0.18",
    }
    assert {day: str(rate_on(day, rates, Decimal("0.5"))) for day in days} == days
    assert rate_on(date(2025, 1, 1), [], Decimal("0.19")) == Decimal("0.19")


def test_another_rate_from_a_day_on_leaves_the_days_before() -> None:
    day, old, new = date(2025, 1, 1), Decimal("0.17"), Decimal("0.18")
    assert with_rate_from(day, new, [], old) == [DatedRate(BEGINNING, old), DatedRate(day, new)]
    later = [DatedRate(BEGINNING, old), DatedRate(date(2026, 1, 1), Decimal("0.2"))]
    assert with_rate_from(day, new, later, old) == [later[0], DatedRate(day, new), later[1]]
    assert with_rate_from(day, new, [DatedRate(day, old)], old) == [DatedRate(BEGINNING, old), DatedRate(day, new)]
    assert [DatedRate.from_json(one.to_json()) for one in later] == later
