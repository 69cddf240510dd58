"""When billing periods begin and end: by the anchor's day and wall-clock time in one time zone, never by adding up.

Every boundary is computed from the anchor, so nothing drifts: an anchor of 31 January gives 28 (or 29) February and
then 31 March. A boundary keeps the anchor's time of day on the zone's own clock, through daylight saving:

* a wall-clock time that the clock skips (a gap) moves forward by the length of the gap: 02:30 becomes 03:30;
* one that comes twice (a fold) is the first of the two.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

MONTHS_A_YEAR = 12


class Unit(StrEnum):
    """What a plan's interval counts."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Interval:
    """How long a billing period is: `count` units. Raises ValueError when the count is not positive."""

    unit: Unit
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError("an interval counts at least one")

    def __str__(self) -> str:
        """For people: `month`, `3 months`."""
        return self.unit.value if self.count == 1 else f"{self.count} {self.unit.value}s"


def boundary(anchor: datetime, zone: ZoneInfo, interval: Interval, number: int) -> datetime:
    """The moment `number` intervals after the anchor (0 is the anchor itself; negative ones lie before it), UTC.

    Raises ValueError for an anchor without a zone, OverflowError beyond the calendar.
    """
    if anchor.tzinfo is None:
        raise ValueError("an anchor has a time zone")
    if number == 0:
        return anchor.astimezone(UTC)
    local = anchor.astimezone(zone).replace(tzinfo=None)
    steps = number * interval.count
    if interval.unit in (Unit.DAY, Unit.WEEK):
        moved = local + timedelta(days=steps * (7 if interval.unit is Unit.WEEK else 1))
    else:
        moved = _add_months(local, steps * (MONTHS_A_YEAR if interval.unit is Unit.YEAR else 1))
    return resolve(moved, zone)


def add_days(moment: datetime, zone: ZoneInfo, days: int) -> datetime:
    """The same time of day so many days later on the zone's clock, UTC."""
    return boundary(moment, zone, Interval(Unit.DAY), days)


def moved_by_pause(end: datetime, zone: ZoneInfo, *, paused_at: datetime, resumed_at: datetime) -> datetime:
    """Where a period's end goes when it was paused: as far from the resumption as it was from the pause.

    Counted on the wall clock, so a change of daylight saving during the pause moves no billing hour. UTC.
    """
    left = _wall(end, zone) - _wall(paused_at, zone)
    return resolve(_wall(resumed_at, zone) + left, zone)


def resolve(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the zone's clock shows this time; the module says what becomes of gaps and folds. UTC."""
    # fold 0 reads a skipped time by the offset before the gap, which moves it forward by the gap's length
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _add_months(local: datetime, months: int) -> datetime:
    year, month_index = divmod(local.year * MONTHS_A_YEAR + local.month - 1 + months, MONTHS_A_YEAR)
    if not MINYEAR <= year <= MAXYEAR:
        raise OverflowError("beyond the calendar")
    month = month_index + 1
    return local.replace(year=year, month=month, day=min(local.day, monthrange(year, month)[1]))
