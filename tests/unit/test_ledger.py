"""Every kind of movement: which accounts it touches and which way, that it balances, and that nothing is no entry."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import ledger
from domain.ledger import LedgerEntry
from domain.money import Money


def ils(minor: int) -> Money:
    return Money(minor, "ILS")


A, R, P, PAY, D, C = "acc", "ref", "batch", "pay", "disp", "cust"
PARTS = {"net": ils(850), "vat": ils(150), "provider_account": A}
REFERRED = {"commission": ils(100), "referrer": R}
ALONE: dict[str, Any] = {"commission": None, "referrer": None}

TABLE: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    (
        "capture_entries",
        {**PARTS, **REFERRED, "fee": ils(30)},
        {
            "provider:acc": 970,
            "provider_fees": 30,
            "sales": -850,
            "vat_payable": -150,
            "commission_expense": 100,
            "commission_payable:ref": -100,
        },
    ),
    ("capture_entries", {**PARTS, **ALONE}, {"provider:acc": 1000, "sales": -850, "vat_payable": -150}),
    # a share needs both: what nobody earned, and what nobody is named for, is not booked
    (
        "capture_entries",
        {**PARTS, "commission": None, "referrer": R},
        {"provider:acc": 1000, "sales": -850, "vat_payable": -150},
    ),
    (
        "capture_entries",
        {**PARTS, "commission": ils(100), "referrer": None},
        {"provider:acc": 1000, "sales": -850, "vat_payable": -150},
    ),
    ("surplus_entries", {"provider_account": A, "payment_id": PAY}, {"provider:acc": 1000, "payer_credit:pay": -1000}),
    (
        "surplus_refund_entries",
        {"provider_account": A, "payment_id": PAY},
        {"payer_credit:pay": 1000, "provider:acc": -1000},
    ),
    ("settled_outside_entries", {"payment_id": PAY}, {"payer_credit:pay": 1000, "refunds_paid_outside": -1000}),
    ("payout_entries", {"referrer": R}, {"commission_payable:ref": 1000, "commission_paid_out": -1000}),
    (
        "refund_entries",
        {**PARTS, **REFERRED, "fee": ils(30)},
        {
            "sales": 850,
            "vat_payable": 150,
            "provider:acc": -970,
            "provider_fees": -30,
            "commission_payable:ref": 100,
            "commission_expense": -100,
        },
    ),
    (
        "refund_entries",
        {**PARTS, "commission": ils(100), "referrer": None},
        {"sales": 850, "vat_payable": 150, "provider:acc": -1000},
    ),
    (
        "payout_sent_entries",
        {"referrer": R, "payout_id": P},
        {"commission_payable:ref": 1000, "payouts_in_transit:batch": -1000},
    ),
    ("payout_paid_entries", {"payout_id": P}, {"payouts_in_transit:batch": 1000, "commission_paid_out": -1000}),
    (
        "payout_returned_entries",
        {"referrer": R, "payout_id": P},
        {"payouts_in_transit:batch": 1000, "commission_payable:ref": -1000},
    ),
    ("payout_bounced_entries", {"referrer": R}, {"commission_paid_out": 1000, "commission_payable:ref": -1000}),
    ("commission_rejected_entries", {"referrer": R}, {"commission_payable:ref": 1000, "commission_expense": -1000}),
    (
        "dispute_opened_entries",
        {"provider_account": A, "dispute_id": D},
        {"disputed:disp": 1000, "provider:acc": -1000},
    ),
    ("dispute_won_entries", {"provider_account": A, "dispute_id": D}, {"provider:acc": 1000, "disputed:disp": -1000}),
    (
        "dispute_lost_entries",
        {"dispute_id": D, **REFERRED},
        {
            "dispute_losses": 1000,
            "disputed:disp": -1000,
            "commission_payable:ref": 100,
            "commission_expense": -100,
        },
    ),
    ("dispute_lost_entries", {"dispute_id": D, **ALONE}, {"dispute_losses": 1000, "disputed:disp": -1000}),
    (
        "dispute_lost_entries",
        {"dispute_id": D, "commission": None, "referrer": R},
        {"dispute_losses": 1000, "disputed:disp": -1000},
    ),
    (
        "dispute_lost_entries",
        {"dispute_id": D, "commission": ils(100), "referrer": None},
        {"dispute_losses": 1000, "disputed:disp": -1000},
    ),
    ("credit_entries", {"customer": C}, {"credit_adjustments": 1000, "customer_credit:cust": -1000}),
]
"""A movement, what it is of (10.00 where it takes one amount), and the entries: debits positive, minor units."""


def movement(name: str, values: dict[str, Any], amount: Money | None = None) -> list[LedgerEntry]:
    made: Callable[..., list[LedgerEntry]] = getattr(ledger, name)
    if "net" in values:
        return made(**values)
    parameters = inspect.signature(made).parameters
    return made(**({"amount": amount or ils(1000)} | values)) if "amount" in parameters else made(**values)


@pytest.mark.parametrize(("name", "values", "entries"), TABLE)
def test_each_movement_by_hand(name: str, values: dict[str, Any], entries: dict[str, int]) -> None:
    made = movement(name, values)
    assert {one.account: one.amount for one in made} == {account: ils(minor) for account, minor in entries.items()}
    assert len(made) == len(entries)


def test_no_movement_is_left_out() -> None:
    written = {name for name, made in vars(ledger).items() if name.endswith("_entries") and inspect.isfunction(made)}
    assert {name for name, _, _ in TABLE} == written


@given(
    st.sampled_from(TABLE),
    st.sampled_from(["JPY", "ILS", "KWD"]),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**8),
    st.integers(0, 10**8),
)
def test_each_movement_balances_without_empty_entries(
    row: tuple[str, dict[str, Any], dict[str, int]], currency: str, amount: int, vat: int, commission: int, fee: int
) -> None:
    name, values, _ = row
    drawn = {"net": amount, "vat": vat, "commission": commission, "fee": fee}
    values = {key: Money(drawn[key], currency) if isinstance(value, Money) else value for key, value in values.items()}
    entries = movement(name, values, Money(amount, currency))
    sums: Counter[str] = Counter()
    for entry in entries:
        sums[entry.amount.currency] += entry.amount.minor
    assert set(sums.values()) <= {0}
    assert set(sums) <= {currency}
    if amount:
        assert all(entry.amount.minor for entry in entries)


@pytest.mark.parametrize(
    "name",
    [
        "capture_entries",
        "refund_entries",
        "payout_entries",
        "commission_rejected_entries",
        "dispute_lost_entries",
        "credit_entries",
    ],
)
def test_nothing_is_no_movement(name: str) -> None:
    """Of the kinds that may come to nothing; the others are made of money that came or went."""
    values = next(values for known, values, _ in TABLE if known == name)
    nothing = {key: ils(0) if isinstance(value, Money) else value for key, value in values.items()}
    assert movement(name, nothing, ils(0)) == []


@given(st.integers(1, 10**9), st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**8))
def test_what_was_booked_and_wholly_taken_back_leaves_every_account_at_zero(
    net: int, vat: int, commission: int, fee: int
) -> None:
    """A capture and its refund, a batch that fails or bounces, a dispute that is won, credit that is used."""
    parts: dict[str, Any] = {
        "net": ils(net), "vat": ils(vat), "commission": ils(commission), "fee": ils(fee), "provider_account": A,
        "referrer": R,
    }  # fmt: skip
    amount = ils(net)
    rounds = (
        [ledger.capture_entries(**parts), ledger.refund_entries(**parts)],
        [
            ledger.surplus_entries(amount, provider_account=A, payment_id=PAY),
            ledger.surplus_refund_entries(amount, provider_account=A, payment_id=PAY),
        ],
        [
            ledger.payout_sent_entries(amount, referrer=R, payout_id=P),
            ledger.payout_returned_entries(amount, referrer=R, payout_id=P),
        ],
        [
            ledger.payout_sent_entries(amount, referrer=R, payout_id=P),
            ledger.payout_paid_entries(amount, payout_id=P),
            ledger.payout_bounced_entries(amount, referrer=R),
        ],
        [
            ledger.dispute_opened_entries(amount, provider_account=A, dispute_id=D),
            ledger.dispute_won_entries(amount, provider_account=A, dispute_id=D),
        ],
        [ledger.credit_entries(amount, customer=C), ledger.credit_entries(-amount, customer=C)],
    )
    for movements in rounds:
        left: Counter[str] = Counter()
        for entry in (entry for entries in movements for entry in entries):
            left[entry.account] += entry.amount.minor
        assert not any(left.values()), movements


def test_an_account_is_each_referrers_own() -> None:
    assert ledger.owed_to("r-1") == "commission_payable:r-1" != ledger.owed_to("r-2")
