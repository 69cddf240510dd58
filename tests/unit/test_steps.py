"""Amounts in a provider's steps: all that is computed is conserved, and what is charged can be charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money, MoneyError
from domain.steps import Cut, advice, cut, invoice_parts
from providers.base import ProviderRejected
from providers.payu.amounts import whole_pesos
from providers.registry import capabilities_of
from providers.stripe.amounts import SUPPORTED_CURRENCIES, to_wire

THREE_DIGITS = ("BHD", "JOD", "KWD", "OMR", "TND")
amounts = st.integers(0, 10**9).map(lambda minor: Money(minor, "KWD"))
steps = st.sampled_from((1, 10, 100))


def kwd(text: str) -> Money:
    return Money.parse(text, "KWD")


def test_by_hand() -> None:
    assert cut(kwd("5.124"), 10) == Cut(kwd("5.120"), kwd("0.004"))
    parts = invoice_parts(kwd("5.000"), credit=kwd("1.234"), step=10)
    assert (str(parts.total), str(parts.credit), str(parts.deferred)) == ("3.760", "1.234", "0.006")
    assert invoice_parts(kwd("1.000"), credit=kwd("3.005"), step=10).total == kwd("0.000")
    assert advice("stripe", kwd("5.124"), 10) == "stripe takes KWD in steps of 0.010: 5.120 or 5.130, not 5.124."
    assert "0.010, not 0.004" in advice("stripe", kwd("0.004"), 10)
    with pytest.raises(MoneyError):
        cut(kwd("-0.010"), 10)


@given(amounts, steps)
def test_both_parts_make_up_the_amount(amount: Money, step: int) -> None:
    parts = cut(amount, step)
    assert parts.whole + parts.rest == amount
    assert parts.whole.minor % step == 0
    assert 0 <= parts.rest.minor < step


@given(amounts, amounts, steps)
def test_an_invoice_is_met_exactly_and_nobody_is_charged_more_than_is_due(
    subtotal: Money, credit: Money, step: int
) -> None:
    parts = invoice_parts(subtotal, credit=credit, step=step)
    assert parts.total + parts.credit + parts.deferred == subtotal
    assert parts.credit == min(credit, subtotal)
    assert parts.total.minor % step == 0
    assert 0 <= parts.deferred.minor < step


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5), steps), max_size=30))
def test_over_any_number_of_invoices_nothing_is_lost_and_nothing_charged_twice(
    invoices: list[tuple[int, int, int]],
) -> None:
    """Also where the steps change on the way, as with another method at another provider."""
    zero = Money.zero("KWD")
    owed = charged = credited = deferred = zero
    for price, credit, step in invoices:
        owed = owed + Money(price, "KWD")
        parts = invoice_parts(Money(price, "KWD") + deferred, credit=Money(credit, "KWD"), step=step)
        charged, credited, deferred = charged + parts.total, credited + parts.credit, parts.deferred
        assert charged + credited + deferred == owed
        assert deferred.minor < step


@pytest.mark.parametrize("currency", sorted(SUPPORTED_CURRENCIES))
def test_stripe_takes_the_multiples_of_its_step_and_nothing_else(currency: str) -> None:
    step = capabilities_of("stripe").step(currency)
    for minor in (*range(1, 205), 99_999, 100_000):
        try:
            to_wire(Money(minor, currency))
        except ProviderRejected:
            assert minor % step
        else:
            assert minor % step == 0
    assert step == (10 if currency in THREE_DIGITS else 100 if currency == "MGA" else 1)


@given(st.integers(1, 10**8))
def test_payu_takes_the_multiples_of_its_step_and_nothing_else(minor: int) -> None:
    amount, taken = Money(minor, "COP"), True
    try:
        whole_pesos(amount)
    except ProviderRejected:
        taken = False
    assert taken == (minor % capabilities_of("payu").step("COP") == 0)


@pytest.mark.parametrize(("minor", "step"), [(-1, 10), (1, 0), (1, -1)])
def test_what_cannot_be_cut(minor: int, step: int) -> None:
    with pytest.raises(MoneyError) as refused:
        cut(Money(minor, "KWD"), step)
    assert str(refused.value) == "an amount that is not negative is cut at a step of at least one minor unit"


@pytest.mark.parametrize(
    ("minor", "step", "whole", "rest"),
    [(0, 1, 0, 0), (0, 10, 0, 0), (9, 10, 0, 9), (10, 10, 10, 0), (11, 10, 10, 1), (7, 1, 7, 0), (199, 100, 100, 99)],
)
def test_cuts_by_hand(minor: int, step: int, whole: int, rest: int) -> None:
    assert cut(Money(minor, "KWD"), step) == Cut(Money(whole, "KWD"), Money(rest, "KWD"))


@pytest.mark.parametrize(
    ("subtotal", "credit", "total", "used", "deferred"),
    [
        ("5.000", "0.000", "5.000", "0.000", "0.000"),
        ("5.000", "5.000", "0.000", "5.000", "0.000"),
        ("5.000", "9.000", "0.000", "5.000", "0.000"),
        ("5.005", "1.000", "4.000", "1.000", "0.005"),
        ("0.009", "0.000", "0.000", "0.000", "0.009"),
        ("5.000", "4.995", "0.000", "4.995", "0.005"),
    ],
)
def test_credit_pays_first_and_what_is_below_a_step_waits(
    subtotal: str, credit: str, total: str, used: str, deferred: str
) -> None:
    parts = invoice_parts(kwd(subtotal), credit=kwd(credit), step=10)
    assert (str(parts.total), str(parts.credit), str(parts.deferred)) == (total, used, deferred)


@pytest.mark.parametrize(
    ("amount", "step", "says"),
    [
        ("5.124", 10, "payu takes KWD in steps of 0.010: 5.120 or 5.130, not 5.124."),
        ("0.004", 10, "payu takes KWD in steps of 0.010: 0.010, not 0.004."),
        ("0.010", 10, "payu takes KWD in steps of 0.010: 0.010 or 0.020, not 0.010."),
        ("1.950", 100, "payu takes KWD in steps of 0.100: 1.900 or 2.000, not 1.950."),
    ],
)
def test_what_to_send_in_place_of_it(amount: str, step: int, says: str) -> None:
    assert advice("payu", kwd(amount), step) == says
