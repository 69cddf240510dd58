"""The tax inside a price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from domain.money import Money, MoneyError
from domain.vat import VatSplit, split_gross


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
