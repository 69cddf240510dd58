"""However a payment is given back in parts, its parts add up."""

from __future__ import annotations

from fractions import Fraction
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commission import claw_back
from domain.money import Money, MoneyError
from domain.refund import ReconcileRefunds, RefundProgress, RefundSplit, RefundState, share, split_refund


def ils(minor: int) -> Money:
    return Money(minor, "ILS")


CURRENCIES = st.sampled_from(["JPY", "ILS", "KWD", "COP"])


@st.composite
def cuts(draw: st.DrawFn) -> tuple[str, int, list[int]]:
    """A currency, a total in minor units, and parts that add up to it."""
    parts = draw(st.lists(st.integers(1, 10**9), min_size=1, max_size=12))
    return draw(CURRENCIES), sum(parts), parts


@given(cuts(), st.fractions(0, 1), st.fractions(0, 1), st.fractions(0, 1))
def test_any_sequence_of_refunds_conserves_tax_net_fee_and_commission(
    cut: tuple[str, int, list[int]], tax_share: Fraction, commission_share: Fraction, fee_share: Fraction
) -> None:
    currency, total_minor, parts = cut
    total = Money(total_minor, currency)
    vat, commission, fee = total.times(tax_share), total.times(commission_share), total.times(fee_share)
    before = Money.zero(currency)
    sums = dict.fromkeys(("net", "vat", "commission", "fee"), Money.zero(currency))
    for minor in parts:
        amount = Money(minor, currency)
        back = claw_back(commission, gone=before + amount, of=total, taken=sums["commission"])
        split = split_refund(amount=amount, before=before, total=total, vat=vat, commission=back, fee=fee)
        assert split.total == amount
        assert 0 <= split.vat.minor <= amount.minor + 1
        assert split.commission.minor >= 0
        sums = {name: whole + getattr(split, name) for name, whole in sums.items()}
        before = before + amount
    assert list(sums.values()) == [total - vat, vat, commission, fee]


@given(cuts())
def test_the_shares_do_not_depend_on_the_number_of_cuts(cut: tuple[str, int, list[int]]) -> None:
    currency, total_minor, parts = cut
    total, whole = Money(total_minor, currency), Money(total_minor // 7, currency)
    first = Money(parts[0], currency)
    one = share(whole, part=first, of=total, before=Money.zero(currency))
    halves = [Money(parts[0] // 2, currency), Money(parts[0] - parts[0] // 2, currency)]
    if halves[0].minor:
        two = share(whole, part=halves[0], of=total, before=Money.zero(currency)) + share(
            whole, part=halves[1], of=total, before=halves[0]
        )
        assert one == two


@pytest.mark.parametrize(("part", "before"), [(101, 0), (1, 100), (0, 0), (-1, 50), (50, -1)])
def test_more_than_is_left_is_no_refund(part: int, before: int) -> None:
    total = Money(100, "ILS")
    with pytest.raises(MoneyError):
        share(total, part=Money(part, "ILS"), of=total, before=Money(before, "ILS"))


@pytest.mark.parametrize(("part", "before"), [(101, 0), (1, 100), (0, 0), (-1, 50), (50, -1)])
def test_a_refusal_says_why(part: int, before: int) -> None:
    with pytest.raises(MoneyError) as refused:
        share(ils(100), part=ils(part), of=ils(100), before=ils(before))
    assert str(refused.value) == "a refund is positive and at most what is left"


@pytest.mark.parametrize(
    ("part", "before", "back"),
    [(100, 0, 18), (1, 0, 0), (3, 0, 1), (50, 50, 9), (1, 99, 0), (3, 97, 1), (25, 25, 4), (25, 0, 5)],
)
def test_shares_by_hand(part: int, before: int, back: int) -> None:
    """Of 18 in 100: rounded on the running total."""
    assert share(ils(18), part=ils(part), of=ils(100), before=ils(before)) == ils(back)


def test_the_parts_of_one_refund_by_hand() -> None:
    split = split_refund(
        amount=ils(5900), before=ils(2950), total=ils(11800), vat=ils(1800), commission=ils(590), fee=ils(372)
    )
    assert split == RefundSplit(net=ils(5000), vat=ils(900), commission=ils(590), fee=ils(186))
    assert split.total == ils(5900)
    kept = split_refund(amount=ils(5900), before=ils(0), total=ils(11800), vat=ils(1800), commission=ils(0))
    assert kept == RefundSplit(net=ils(5000), vat=ils(900), commission=ils(0), fee=ils(0))


def test_what_a_command_says_when_nothing_else_is_said() -> None:
    one = uuid4()
    progress = RefundProgress(one, RefundState.PENDING)
    assert (progress.receipt_id, progress.failure_code) == (None, None)
    assert ReconcileRefunds(one).inbox_ids == ()
