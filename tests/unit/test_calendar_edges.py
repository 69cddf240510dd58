"""The ends of the calendar, and what a boundary is told in."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from domain.billing_calendar import Interval, Unit, boundary, resolve

ZONE, BOGOTA = ZoneInfo("UTC"), ZoneInfo("America/Bogota")
YEAR, MONTH = Interval(Unit.YEAR), Interval(Unit.MONTH)


def test_an_anchor_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^an anchor has a time zone$"):
        boundary(datetime(2027, 1, 31, 9), BOGOTA, MONTH, 1)  # noqa: DTZ001  (that is the point)


def test_moments_are_told_in_utc() -> None:
    anchor = datetime(2027, 1, 31, 9, tzinfo=BOGOTA)
    for number in (0, 1, -1):
        assert boundary(anchor, BOGOTA, MONTH, number).tzinfo is UTC
    assert resolve(datetime(2027, 1, 31, 9), BOGOTA).tzinfo is UTC  # noqa: DTZ001  (a wall clock's time)
    assert boundary(anchor, BOGOTA, MONTH, 0) == datetime(2027, 1, 31, 14, tzinfo=UTC)


def test_the_first_and_the_last_year_are_in_the_calendar() -> None:
    assert boundary(datetime(2, 6, 1, tzinfo=UTC), ZONE, YEAR, -1).year == 1
    assert boundary(datetime(9998, 6, 1, tzinfo=UTC), ZONE, YEAR, 1).year == 9999


@pytest.mark.parametrize(("anchor", "number"), [(1, -1), (9999, 1), (2027, 10_000), (2027, -10_000)])
def test_beyond_it_is_nothing(anchor: int, number: int) -> None:
    with pytest.raises(OverflowError, match=r"^beyond the calendar$"):
        boundary(datetime(anchor, 6, 1, tzinfo=UTC), ZONE, YEAR, number)


def test_an_interval_counts_at_least_one() -> None:
    for count in (0, -1):
        with pytest.raises(ValueError, match=r"^an interval counts at least one$"):
            Interval(Unit.DAY, count)
    assert Interval(Unit.DAY).count == 1
