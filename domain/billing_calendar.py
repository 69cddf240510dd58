"""When billing periods begin and end: by the anchor's day and wall-clock time in one time zone, never by adding up.

Every boundary is computed from the anchor, so nothing drifts: an anchor of 31 January gives 28 (or 29) February and
then 31 March. A boundary keeps the anchor's time of day on the zone's own clock, through daylight saving:

* a wall-clock time that the clock skips (a gap) moves forward by the length of the gap: 02:30 becomes 03:30;
* one that comes twice (a fold) is the first of the two.

An anchor that is set anew at a boundary takes over what was agreed, not what a short month or a gap made of it.
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


@dataclass(frozen=True, slots=True)
class Anchor:
    """What periods are counted from, as it was agreed.

    `wall` is a time of the zone's clock, without a zone; it may be one that the clock skips on that day. `day` (1 to
    31) is the day of the month on which periods begin; where the month of `wall` is shorter, `wall` is on its last day.
    """

    wall: datetime
    day: int

    @classmethod
    def at(cls, moment: datetime, zone: ZoneInfo) -> Anchor:
        """Agreed at a moment: its own day and time. Raises ValueError for a moment without a zone."""
        if moment.tzinfo is None:
            raise ValueError("an anchor has a time zone")
        wall = _wall(moment, zone)
        return cls(wall, wall.day)

    def after(self, interval: Interval, number: int) -> Anchor:
        """The boundary `number` intervals later, to count on from; by days and weeks its own day is the new one.

        Raises OverflowError beyond the calendar.
        """
        if number == 0:
            return self
        steps = number * interval.count
        if interval.unit in (Unit.DAY, Unit.WEEK):
            wall = self.wall + timedelta(days=steps * (7 if interval.unit is Unit.WEEK else 1))
            return Anchor(wall, wall.day)
        months = steps * (MONTHS_A_YEAR if interval.unit is Unit.YEAR else 1)
        return Anchor(_add_months(self.wall, months, day=self.day), self.day)

    def later(self, by: timedelta) -> Anchor:
        """Put off on the wall clock. Within the same date the agreed day stays; a new date is a new agreement."""
        wall = self.wall + by
        return Anchor(wall, self.day if wall.date() == self.wall.date() else wall.day)

    def moment(self, zone: ZoneInfo) -> datetime:
        """When that is, UTC."""
        return resolve(self.wall, zone)


def boundary(anchor: datetime, zone: ZoneInfo, interval: Interval, number: int) -> datetime:
    """The moment `number` intervals after the anchor (0 is the anchor itself; negative ones lie before it), UTC.

    Raises ValueError for an anchor without a zone, OverflowError beyond the calendar.
    """
    agreed = Anchor.at(anchor, zone)
    return anchor.astimezone(UTC) if number == 0 else agreed.after(interval, number).moment(zone)


def add_days(moment: datetime, zone: ZoneInfo, days: int) -> datetime:
    """The same time of day so many days later on the zone's clock, UTC."""
    return boundary(moment, zone, Interval(Unit.DAY), days)


def length_of_pause(zone: ZoneInfo, *, paused_at: datetime, resumed_at: datetime) -> timedelta:
    """How far a pause moves the end of the period in which it was: as long as it was on the wall clock.

    So a change of daylight saving during the pause moves no billing hour. Never negative: where the clock was put back
    in between nothing that was paid for is taken.
    """
    return max(_wall(resumed_at, zone) - _wall(paused_at, zone), timedelta(0))


def resolve(wall: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the zone's clock shows this time; the module says what becomes of gaps and folds. UTC."""
    # fold 0 reads a skipped time by the offset before the gap, which moves it forward by the gap's length
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _add_months(local: datetime, months: int, *, day: int) -> datetime:
    year, month_index = divmod(local.year * MONTHS_A_YEAR + local.month - 1 + months, MONTHS_A_YEAR)
    if not MINYEAR <= year <= MAXYEAR:
        raise OverflowError("beyond the calendar")
    month = month_index + 1
    return local.replace(year=year, month=month, day=min(day, monthrange(year, month)[1]))
