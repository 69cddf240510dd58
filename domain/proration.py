"""A change of plan in the middle of a period: what is given back of the old plan and what is charged for the new one.

The price of a period is split over its elapsed and its remaining time by largest remainder, exactly (integers, no
floats): the two parts always make up the price. The remaining part of the old price is the credit, the remaining part
of the new price is the charge. So a change to the same price is zero, and so is a change there and back at the same
moment; a credit is never more than the price it is of, and shrinks as the period goes by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.money import Money, MoneyError

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Proration:
    """Both sides of a change. `credit` and `charge` are not negative."""

    credit: Money
    """Of the old plan's price: the part that was paid for and is not used."""
    charge: Money
    """Of the new plan's price: the part from now to the end of the period."""

    @property
    def due(self) -> Money:
        """What is to be charged now; negative when something is left over, which is carried forward."""
        return self.charge - self.credit


def unused(price: Money, *, start: datetime, end: datetime, at: datetime) -> Money:
    """The part of a period's price that belongs to the time from `at` to its end; nothing after the end.

    Ties go to the used part. Raises MoneyError for a negative price or a period that does not end after its start.
    """
    if price.minor < 0:
        raise MoneyError("a price is not negative")
    if end <= start:
        raise MoneyError("a period ends after it starts")
    elapsed = min(max(at, start), end) - start
    return price.split([elapsed // _TICK, (end - start - elapsed) // _TICK])[1]


def prorate(old: Money, new: Money, *, start: datetime, end: datetime, at: datetime) -> Proration:
    """Change from one price to another at `at`, within the period; both prices are of a whole period.

    Raises MoneyError for different currencies and as `unused` does.
    """
    if old.currency != new.currency:
        raise MoneyError(f"cannot change from {old.currency} to {new.currency}")
    return Proration(
        credit=unused(old, start=start, end=end, at=at),
        charge=unused(new, start=start, end=end, at=at),
    )


def restart(old: Money, new: Money, *, start: datetime, end: datetime, at: datetime) -> Proration:
    """Change to a plan of another interval: a whole new period begins now, the rest of the old one is given back."""
    if old.currency != new.currency:
        raise MoneyError(f"cannot change from {old.currency} to {new.currency}")
    return Proration(credit=unused(old, start=start, end=end, at=at), charge=new)
