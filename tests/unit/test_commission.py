"""Who earns what on an order, and why not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commission import CommissionDecision, CommissionRefusal, claw_back, decide_commission
from domain.ledger import LedgerEntry, capture_entries, payout_entries
from domain.money import Money, MoneyError
from domain.vat import split_gross


def decide(
    paid: str = "100.00", rate: str = "0.10", referrer: str | None = "r-1", customer: str | None = "c-1"
) -> CommissionDecision:
    return decide_commission(
        paid=Money.parse(paid, "ILS"),
        rate=Decimal(rate),
        minimum=Money.parse("1.00", "ILS"),
        referrer_id=referrer,
        customer_id=customer,
    )


def test_the_rate_of_the_paid_amount_rounded_half_up() -> None:
    assert decide("129.90").amount == Money.parse("12.99", "ILS")
    assert decide("100.05").amount == Money.parse("10.01", "ILS")
    assert decide("10.00").amount == Money.parse("1.00", "ILS")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"referrer": None}, CommissionRefusal.NO_REFERRER),
        ({"referrer": "C-1 "}, CommissionRefusal.SELF_REFERRAL),
        ({"paid": "9.94"}, CommissionRefusal.BELOW_MINIMUM),
        ({"rate": "0"}, CommissionRefusal.NO_RATE),
    ],
)
def test_refusals_have_reasons(changes: dict[str, str | None], refusal: CommissionRefusal) -> None:
    assert decide(**changes) == CommissionDecision(None, refusal)  # type: ignore[arg-type]


@given(st.integers(1, 10**9), st.sampled_from(["ILS", "JPY", "KWD"]), st.decimals(0, Decimal("0.5"), places=3))
def test_a_capture_always_balances(minor: int, currency: str, rate: Decimal) -> None:
    paid = Money(minor, currency)
    split = split_gross(paid, Decimal("0.18"))
    commission = decide_commission(
        paid=paid, rate=rate, minimum=Money.zero(currency), referrer_id="r", customer_id="c"
    ).amount
    entries = capture_entries(net=split.net, vat=split.vat, commission=commission, provider_account="a", referrer="r")
    assert sum(entry.amount.minor for entry in entries) == 0
    assert all(entry.amount.minor for entry in entries)


@given(st.integers(1, 10**9), st.sampled_from(["ILS", "JPY", "KWD"]))
def test_a_payout_balances_and_leaves_nothing_owed(minor: int, currency: str) -> None:
    amount = Money(minor, currency)
    earned = capture_entries(
        net=amount, vat=Money.zero(currency), commission=amount, provider_account="a", referrer="r"
    )
    paid = payout_entries(amount=amount, referrer="r")
    assert sum(entry.amount.minor for entry in paid) == 0
    owed = [entry.amount.minor for entry in [*earned, *paid] if entry.account == "commission_payable:r"]
    assert sum(owed) == 0
    assert LedgerEntry("commission_paid_out", -amount) in paid


def test_nothing_paid_out_is_no_movement() -> None:
    assert payout_entries(amount=Money.zero("ILS"), referrer="r") == []


@pytest.mark.parametrize(
    ("paid", "minimum", "amount"),
    [("10.00", "1.00", "1.00"), ("9.94", "1.00", None), ("0.10", "0.00", "0.01"), ("0.04", "0.00", None)],
)
def test_the_minimum_is_enough_and_nothing_is_no_commission(paid: str, minimum: str, amount: str | None) -> None:
    found = decide_commission(
        paid=Money.parse(paid, "ILS"),
        rate=Decimal("0.1"),
        minimum=Money.parse(minimum, "ILS"),
        referrer_id="r",
        customer_id=None,
    )
    assert found == (
        CommissionDecision(None, CommissionRefusal.BELOW_MINIMUM)
        if amount is None
        else CommissionDecision(Money.parse(amount, "ILS"), None)
    )


def test_nothing_gone_takes_nothing_and_more_than_all_cannot_be_gone() -> None:
    whole, of, zero = Money(100, "ILS"), Money(1000, "ILS"), Money.zero("ILS")
    assert claw_back(whole, gone=zero, of=of, taken=zero) == zero
    assert claw_back(whole, gone=zero, of=of, taken=Money(40, "ILS")) == Money(-40, "ILS")
    assert claw_back(whole, gone=of, of=of, taken=Money(40, "ILS")) == Money(60, "ILS")
    for gone in (-1, 1001):
        with pytest.raises(MoneyError, match=r"^at most what was captured can be gone$"):
            claw_back(whole, gone=Money(gone, "ILS"), of=of, taken=zero)
