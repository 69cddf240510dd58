"""Billing periods by hand: month ends, leap days, daylight saving in the three zones."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.billing_calendar import Anchor, Interval, Unit, add_days, boundary, length_of_pause, resolve

JERUSALEM, BOGOTA, NEW_YORK = (ZoneInfo(name) for name in ("Asia/Jerusalem", "America/Bogota", "America/New_York"))
MONTH, YEAR, WEEK, DAY = (Interval(unit) for unit in (Unit.MONTH, Unit.YEAR, Unit.WEEK, Unit.DAY))


def walls(anchor: datetime, zone: ZoneInfo, interval: Interval, numbers: range) -> list[str]:
    return [f"{boundary(anchor, zone, interval, n).astimezone(zone):%Y-%m-%d %H:%M%z}" for n in numbers]


def test_the_31st_goes_to_the_last_of_short_months_and_back() -> None:
    anchor = datetime(2027, 1, 31, 9, tzinfo=BOGOTA)
    days = [wall[:10] for wall in walls(anchor, BOGOTA, MONTH, range(14))]
    assert days == [
        "2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30", "2027-07-31",
        "2027-08-31", "2027-09-30", "2027-10-31", "2027-11-30", "2027-12-31", "2028-01-31", "2028-02-29",
    ]  # fmt: skip


def test_the_29th_of_february_of_common_years_is_the_28th() -> None:
    anchor = datetime(2028, 2, 29, 12, tzinfo=JERUSALEM)
    days = [wall[:10] for wall in walls(anchor, JERUSALEM, YEAR, range(6))]
    assert days == ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29", "2033-02-28"]


@pytest.mark.parametrize(
    ("zone", "offsets"),
    [
        (JERUSALEM, ["+0200", "+0200", "+0300", "+0300"]),  # from Friday 26 March 2027
        (BOGOTA, ["-0500"] * 4),
        (NEW_YORK, ["-0500", "-0500", "-0400", "-0400"]),  # from Sunday 14 March 2027
    ],
    ids=["Jerusalem", "Bogota", "New York"],
)
def test_the_hour_of_the_wall_clock_stays_through_daylight_saving(zone: ZoneInfo, offsets: list[str]) -> None:
    found = walls(datetime(2027, 1, 31, 9, tzinfo=zone), zone, MONTH, range(4))
    assert [wall[11:16] for wall in found] == ["09:00"] * 4
    assert [wall[16:] for wall in found] == offsets


def test_a_skipped_hour_moves_forward_and_comes_back() -> None:
    anchor = datetime(2027, 3, 13, 2, 30, tzinfo=NEW_YORK)
    assert walls(anchor, NEW_YORK, DAY, range(3)) == [
        "2027-03-13 02:30-0500",
        "2027-03-14 03:30-0400",
        "2027-03-15 02:30-0400",
    ]
    friday = datetime(2027, 3, 25, 2, 15, tzinfo=JERUSALEM)
    assert walls(friday, JERUSALEM, DAY, range(2))[1] == "2027-03-26 03:15+0300"


def test_an_hour_that_comes_twice_is_the_first_one() -> None:
    anchor = datetime(2027, 10, 31, 1, 30, tzinfo=NEW_YORK)
    assert walls(anchor, NEW_YORK, WEEK, range(2))[1] == "2027-11-07 01:30-0400"
    wall = datetime(2027, 10, 31, 1, 30, tzinfo=JERUSALEM, fold=1).replace(tzinfo=None)
    assert resolve(wall, JERUSALEM) == datetime(2027, 10, 30, 22, 30, tzinfo=UTC)


def test_counts_and_weeks() -> None:
    anchor = datetime(2027, 11, 30, 8, tzinfo=BOGOTA)
    assert [wall[:10] for wall in walls(anchor, BOGOTA, Interval(Unit.MONTH, 3), range(4))] == [
        "2027-11-30", "2028-02-29", "2028-05-30", "2028-08-30",
    ]  # fmt: skip
    assert [wall[:10] for wall in walls(anchor, BOGOTA, Interval(Unit.WEEK, 2), range(3))] == [
        "2027-11-30", "2027-12-14", "2027-12-28",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="at least one"):
        Interval(Unit.MONTH, 0)


def test_a_pause_moves_the_end_by_what_was_left_on_the_wall_clock() -> None:
    end = Anchor.at(datetime(2027, 3, 31, 9, tzinfo=NEW_YORK), NEW_YORK)
    length = length_of_pause(
        NEW_YORK,
        paused_at=datetime(2027, 3, 10, 9, tzinfo=NEW_YORK),
        resumed_at=datetime(2027, 4, 10, 12, tzinfo=NEW_YORK),
    )
    assert end.later(length).moment(NEW_YORK) == datetime(2027, 5, 1, 12, tzinfo=NEW_YORK)


@given(
    st.integers(1_577_836_800, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.sampled_from([JERUSALEM, BOGOTA, NEW_YORK]),
    st.lists(st.tuples(st.sampled_from([MONTH, YEAR, Interval(Unit.MONTH, 5)]), st.integers(1, 12)), max_size=12),
)
def test_counting_on_from_a_boundary_loses_neither_the_day_nor_the_hour(
    begins: datetime, zone: ZoneInfo, steps: list[tuple[Interval, int]]
) -> None:
    first = anchor = Anchor.at(begins, zone)
    for interval, number in steps:
        anchor = anchor.after(interval, number).later(timedelta(0))
        assert anchor.wall.day == min(first.day, monthrange(anchor.wall.year, anchor.wall.month)[1])
        assert anchor.wall.time() == first.wall.time()


def test_days_are_days_of_the_wall_clock() -> None:
    assert add_days(datetime(2027, 3, 20, 9, tzinfo=JERUSALEM), JERUSALEM, 14) == datetime(
        2027, 4, 3, 9, tzinfo=JERUSALEM
    )


@given(
    st.integers(1_577_836_800, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.sampled_from([JERUSALEM, BOGOTA, NEW_YORK]),
    st.sampled_from(list(Unit)),
    st.integers(1, 5),
    st.integers(0, 60),
)
def test_boundaries_only_go_forward_and_keep_the_anchors_day(
    anchor: datetime, zone: ZoneInfo, unit: Unit, count: int, number: int
) -> None:
    interval = Interval(unit, count)
    here, there = (boundary(anchor, zone, interval, n) for n in (number, number + 1))
    assert here < there
    local, found = anchor.astimezone(zone), here.astimezone(zone)
    assert abs((found.hour * 60 + found.minute) - (local.hour * 60 + local.minute)) in (0, 60, 1380)
    if unit in (Unit.MONTH, Unit.YEAR):
        assert found.day == local.day or (found + timedelta(days=1)).day == 1 or found.day < local.day
