"""On which days a subscription is charged, whatever was paused and changed in between: on the day that was agreed.

A boundary may lie in a short month, or in an hour that the clock skips. Nothing that is counted from it later may.
"""

from __future__ import annotations

import asyncio
from calendar import monthrange
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.subscription import ChangeKind
from storage import subscriptions
from storage.models import Plan
from tests.support.billing_desk import Desk, plan_of
from tests.support.service import Shop

JERUSALEM, BOGOTA, NEW_YORK = "Asia/Jerusalem", "America/Bogota", "America/New_York"
K = ChangeKind


def moment(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


async def begun(shop: Shop, at: str, zone: str, plan: Plan, *, trial_days: int = 0) -> Desk:
    return await Desk(shop, moment(at, zone), plan).begin(zone, trial_days=trial_days)


async def blink(desk: Desk) -> None:
    """A pause that is over in the same second."""
    await desk.done(K.PAUSE)
    await desk.done(K.RESUME)


@pytest.mark.parametrize(
    ("begins", "zone", "unit", "pauses_on", "charges"),
    [
        ("2055-01-31 09:00", JERUSALEM, "month", ["02-10"], ["2055-02-28", "2055-03-31", "2055-04-30"]),
        ("2055-01-30 09:00", BOGOTA, "month", ["02-10"], ["2055-02-28", "2055-03-30", "2055-04-30"]),
        ("2055-01-29 09:00", NEW_YORK, "month", ["02-10"], ["2055-02-28", "2055-03-29", "2055-04-29"]),
        ("2055-01-31 09:00", BOGOTA, "month", ["02-10", "02-28", "03-30"], ["2055-02-28", "2055-03-31", "2055-04-30"]),
        ("2055-03-31 09:00", JERUSALEM, "month", ["04-29", "05-01"], ["2055-04-30", "2055-05-31", "2055-06-30"]),
        ("2056-02-29 12:00", NEW_YORK, "year", ["12-01"], ["2057-02-28", "2058-02-28", "2059-02-28", "2060-02-29"]),
        ("2055-01-27 09:00", JERUSALEM, "week", ["01-28"], ["2055-02-03", "2055-02-10", "2055-02-17"]),
    ],
)
async def test_a_pause_that_is_over_at_once_moves_no_day(
    shop: Shop, begins: str, zone: str, unit: str, pauses_on: list[str], charges: list[str]
) -> None:
    desk = await begun(shop, begins, zone, await plan_of(shop, "100.00", unit))
    for day in pauses_on:
        await desk.live_to(moment(f"{begins[:4]}-{day} 12:00", zone))
        await blink(desk)
    await desk.live_to(moment(f"{charges[-1]} 23:00", zone))
    assert await desk.days() == [f"{day} {begins[-5:]}:00" for day in [begins[:10], *charges]]


async def test_a_pause_of_days_moves_the_charges_by_as_much(shop: Shop) -> None:
    desk = await begun(shop, "2055-01-31 09:00", BOGOTA, await plan_of(shop, "100.00"))
    await desk.live_to(moment("2055-02-10 12:00", BOGOTA))
    await desk.done(K.PAUSE)
    await desk.live_to(moment("2055-02-13 12:00", BOGOTA))
    await desk.done(K.RESUME)
    await desk.live_to(moment("2055-04-10 00:00", BOGOTA))
    assert [day[:10] for day in await desk.days()] == ["2055-01-31", "2055-03-03", "2055-04-03"]


@pytest.mark.parametrize("trial_days", [0, 13])
async def test_an_hour_that_the_clock_skips_once_is_kept_on_every_other_day(shop: Shop, trial_days: int) -> None:
    """14 March 2055 has no 02:30 in New York: that period ends at 03:30, and the next ones at 02:30 again."""
    begins = "2055-03-01 02:30" if trial_days else "2055-02-14 02:30"
    plan = await plan_of(shop, "100.00")
    desk = await begun(shop, begins, NEW_YORK, plan, trial_days=trial_days)
    await desk.live_to(moment("2055-03-10 12:00", NEW_YORK))
    if not trial_days:
        await blink(desk)
    await desk.live_to(moment("2055-05-15 00:00", NEW_YORK))
    after = ["2055-03-14 03:30:00", "2055-04-14 02:30:00", "2055-05-14 02:30:00"]
    assert (await desk.days())[-3:] == after


async def test_an_hour_that_comes_twice_takes_no_paid_time(shop: Shop) -> None:
    """Paused at 01:50, resumed twenty minutes later at 01:10: the clock was put back in between."""
    desk = await begun(shop, "2055-11-01 09:00", NEW_YORK, await plan_of(shop, "100.00"))
    await desk.live_to(moment("2055-11-07 01:50", NEW_YORK))
    await desk.done(K.PAUSE)
    await desk.live_to(moment("2055-11-07 01:10", NEW_YORK).replace(fold=1))
    await desk.done(K.RESUME)
    await desk.live_to(moment("2056-01-02 00:00", NEW_YORK))
    assert (await desk.days())[1:] == ["2055-12-01 09:00:00", "2056-01-01 09:00:00"]


@pytest.mark.parametrize(
    ("steps", "charges"),
    [
        (["year", "month"], ["2055-02-28", "2056-02-29", "2056-03-31", "2056-04-30"]),
        (["3 month", "month"], ["2055-02-28", "2055-05-31", "2055-06-30"]),
        (["week", "month"], ["2055-02-28", "2055-03-07", "2055-04-07", "2055-05-07"]),
    ],
)
async def test_another_interval_from_a_short_month_on_keeps_the_day(
    shop: Shop, steps: list[str], charges: list[str]
) -> None:
    desk = await begun(shop, "2055-01-31 09:00", BOGOTA, await plan_of(shop, "100.00"))
    for step in steps:
        count, _, unit = step.rpartition(" ")
        plan = await plan_of(shop, "50.00", unit, int(count or 1))
        await desk.done(K.CHANGE_PLAN_AT_PERIOD_END, plan_id=plan.id)
        row = await desk.row()
        await desk.live_to(row.current_period_end)
    await desk.live_to(moment(f"{charges[-1]} 23:00", BOGOTA))
    assert [day[:10] for day in await desk.days()] == ["2055-01-31", *charges]


async def test_a_change_of_interval_now_begins_a_period_on_that_day(shop: Shop) -> None:
    desk = await begun(shop, "2055-01-31 09:00", BOGOTA, await plan_of(shop, "100.00"))
    await desk.live_to(moment("2055-02-10 12:00", BOGOTA))
    await desk.done(K.CHANGE_PLAN, plan_id=(await plan_of(shop, "900.00", "year")).id)
    await desk.live_to(moment("2056-03-01 12:00", BOGOTA))
    assert [day[:10] for day in await desk.days()] == ["2055-01-31", "2055-02-10", "2056-02-10"]


OPERATIONS = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.sampled_from(["blink", "quantity", "quantity later", "quarterly later", "monthly later", "cancel, resume"]),
    ),
    min_size=1,
    max_size=12,
)


async def test_charges_come_on_the_agreed_day_or_on_the_last_of_a_shorter_month(shop: Shop) -> None:
    monthly, quarterly = await plan_of(shop, "100.00"), await plan_of(shop, "250.00", "month", 3)
    loop = asyncio.get_running_loop()

    async def lives(day: int, zone: str, operations: list[tuple[int, str]]) -> None:
        desk = await begun(shop, f"2055-01-{day} 10:00", zone, monthly)
        for days, operation in operations:
            await desk.live_to(desk.now + timedelta(days=days))
            quantity = (await desk.row()).quantity % 3 + 1
            if operation == "blink":
                await blink(desk)
            elif operation.startswith("quantity"):
                kind = K.CHANGE_PLAN_AT_PERIOD_END if operation.endswith("later") else K.CHANGE_PLAN
                await desk.done(kind, quantity=quantity)
            elif operation == "cancel, resume":
                await desk.done(K.CANCEL_AT_PERIOD_END)
                await desk.done(K.RESUME)
            else:
                plan = quarterly if operation.startswith("quarterly") else monthly
                await desk.done(K.CHANGE_PLAN_AT_PERIOD_END, plan_id=plan.id)
        await desk.live_to(desk.now + timedelta(days=130))
        async with desk.database.transaction() as session:
            invoices = [one for one in await subscriptions.invoices_of(session, desk.id) if one.sequence == 0]
        for one in invoices:
            at = one.created_at.astimezone(ZoneInfo(zone))
            assert at.day == min(day, monthrange(at.year, at.month)[1]), (operations, at)
            assert f"{at:%H:%M:%S}" == "10:00:00"

    @given(st.integers(28, 31), st.sampled_from([JERUSALEM, BOGOTA, NEW_YORK]), OPERATIONS)
    @settings(max_examples=25, deadline=None)
    def holds(day: int, zone: str, operations: list[tuple[int, str]]) -> None:
        asyncio.run_coroutine_threadsafe(lives(day, zone, operations), loop).result()

    await asyncio.to_thread(holds)
