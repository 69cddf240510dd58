"""What commands say when nothing else is said: histories of earlier releases are read with these defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from domain import dispute, payout
from domain.billing_calendar import Interval, Unit
from domain.dispute import DisputeState, DisputeView, ReconcileDisputes, Reminder
from domain.money import Money, MoneyError
from domain.payment import PollPlan
from domain.payout import Decided, Due, PayoutProgress, PayoutStatus, due, reminder_after
from domain.refund import Reconciled
from domain.setup import LookAtSetup, OpenedSetup, RefreshMethods, SetupProgress, SetupStatus, StartSetup

ONE, AT = uuid4(), datetime(2027, 1, 1, tzinfo=UTC)


def test_of_set_ups() -> None:
    assert StartSetup(ONE, ONE, "stripe", AT).poll == PollPlan()
    opened = OpenedSetup(SetupStatus.PENDING)
    assert (opened.url, opened.error_code, opened.error_detail, opened.error_type) == (None, None, None, None)
    assert (LookAtSetup(ONE).inbox_ids, LookAtSetup(ONE).close) == ((), False)
    progress = SetupProgress(ONE, SetupStatus.PENDING)
    assert (progress.payment_method_id, progress.error_code) == (None, None)
    assert RefreshMethods(ONE).inbox_ids == ()


def test_of_disputes_and_refunds() -> None:
    assert ReconcileDisputes(ONE).inbox_ids == ()
    assert Reminder(ONE, ONE, AT).number == 0
    assert DisputeView(ONE, ONE, DisputeState.WON, None).state is DisputeState.WON
    assert (Reconciled().receipt_ids, Reconciled().open_refunds) == ((), ())
    assert (timedelta(days=3), timedelta(days=1)) == dispute.REMINDERS


def test_of_payouts() -> None:
    progress = PayoutProgress(ONE, PayoutStatus.PREPARED)
    assert (progress.lines, progress.open_lines, progress.total_minor, progress.currency) == (0, 0, 0, "")
    assert (Decided(progress).changed, Decided(progress).refused) == (False, None)
    assert (timedelta(days=1), timedelta(days=2), timedelta(days=4)) == payout.REMINDERS
    assert [reminder_after(number) // timedelta(days=1) for number in range(5)] == [1, 2, 4, 7, 7]


def test_a_payout_of_a_debt() -> None:
    zero, owed = Money(0, "ILS"), Money(600, "ILS")
    assert due(payable=owed, balance=owed, unpaid=owed, underpaid=zero) == Due(owed, zero)
    assert due(payable=zero, balance=-owed, unpaid=zero, underpaid=zero).amount == -owed
    with pytest.raises(MoneyError) as refused:
        due(payable=owed, balance=Money(1, "ILS"), unpaid=zero, underpaid=zero)
    assert str(refused.value) == "the ledger owes more than the commissions say"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(Unit.MONTH), "month"),
        (Interval(Unit.MONTH, 2), "2 months"),
        (Interval(Unit.DAY, 30), "30 days"),
        (Interval(Unit.YEAR), "year"),
    ],
)
def test_an_interval_for_people(interval: Interval, words: str) -> None:
    assert str(interval) == words
