"""Years of subscriptions in seconds: every charge's amount and moment against a table written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from activities import billing
from activities.subscription_changes import apply
from domain.payment import PaymentStatus
from domain.subscription import ChangeKind, SubscriptionChange
from storage import audit
from storage.models import Plan, Workspace
from storage.rehearsal import rehearsal
from tests.providers.payers import payer_class
from tests.support import billing_lab
from tests.support.billing_lab import Lab, lab_of
from tests.support.service import Service
from tests.support.time_skipping import ended

JERUSALEM, BOGOTA, NEW_YORK = "Asia/Jerusalem", "America/Bogota", "America/New_York"
DAY = timedelta(days=1)


@pytest_asyncio.fixture
async def lab(service: Service, skipping: WorkflowEnvironment) -> AsyncIterator[Lab]:
    shop = await service.shop(callbacks=False)
    async with lab_of(shop, skipping) as made:
        yield made
    await shop.aclose()


@pytest_asyncio.fixture
async def dinars(service: Service, skipping: WorkflowEnvironment) -> AsyncIterator[Lab]:
    """The same in a currency of which Stripe takes no single minor units."""
    shop = await service.shop(callbacks=False, currency="KWD", country="KW")
    async with lab_of(shop, skipping) as made:
        yield made
    await shop.aclose()


def moment(text: str, zone: str = JERUSALEM) -> datetime:
    return billing_lab.moment(text, zone)


async def begun(
    lab: Lab, at: str, zone: str = JERUSALEM, *, amount: str = "100.00", unit: str = "month", trial_days: int = 0
) -> tuple[UUID, Plan]:
    """A subscription of a customer with a saved card, begun at a moment of the zone's clock."""
    await lab.live_to(moment(at, zone))
    customer = f"cust-{uuid4().hex[:6]}"
    plan = await lab.plan(amount, unit, trial_days=trial_days)
    return await lab.subscribe(plan, zone=zone, method=await lab.card(customer), customer_id=customer), plan


async def set_rules(lab: Lab, **changes: object) -> None:
    async with lab.database.transaction() as session:
        row = await session.get(Workspace, lab.shop.workspace.id)
        assert row is not None
        for name, value in changes.items():
            setattr(row, name, value)


def days_of(charges: list[tuple[str, str, str]]) -> list[str]:
    return [when for when, _, _ in charges]


async def test_two_years_from_the_31st_of_january(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-31 09:00")
    await lab.live_to(moment("2029-02-01 00:00"))
    charges = await lab.charges(subscription, JERUSALEM)
    assert days_of(charges) == [
        f"{day} 09:00"
        for day in (
            "2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30",
            "2027-07-31", "2027-08-31", "2027-09-30", "2027-10-31", "2027-11-30", "2027-12-31",
            "2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31", "2028-06-30",
            "2028-07-31", "2028-08-31", "2028-09-30", "2028-10-31", "2028-11-30", "2028-12-31",
            "2029-01-31",
        )
    ]  # fmt: skip
    assert {(amount, status) for _, amount, status in charges} == {("100.00", "paid")}
    assert await lab.told(subscription) == ["activated", *["renewed"] * 24]
    history = await lab.handle(subscription).fetch_history()
    assert history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    assert len(history.events) < 200
    await lab.replay(subscription)


async def test_the_hour_of_charging_stays_through_daylight_saving(lab: Lab) -> None:
    found = {zone: (await begun(lab, "2027-01-31 09:00", zone))[0] for zone in (NEW_YORK, BOGOTA)}
    await lab.live_to(moment("2027-12-01 00:00", BOGOTA))
    for zone, subscription in found.items():
        await _is_charged_at_nine(lab, zone, subscription)


async def _is_charged_at_nine(lab: Lab, zone: str, subscription: UUID) -> None:
    assert days_of(await lab.charges(subscription, zone)) == [
        f"{day} 09:00"
        for day in (
            "2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31", "2027-06-30",
            "2027-07-31", "2027-08-31", "2027-09-30", "2027-10-31", "2027-11-30",
        )
    ]  # fmt: skip
    utc = [payment.created_at.hour for payment in await lab.payments(subscription)]
    assert utc == ([14] * 11 if zone == BOGOTA else [14, 14, 13, 13, 13, 13, 13, 13, 13, 13, 14])


async def test_the_29th_of_february_every_year(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2028-02-29 12:00", NEW_YORK, amount="999.90", unit="year")
    await lab.live_to(moment("2032-03-01 00:00", NEW_YORK))
    assert await lab.charges(subscription, NEW_YORK) == [
        ("2028-02-29 12:00", "999.90", "paid"),
        ("2029-02-28 12:00", "999.90", "paid"),
        ("2030-02-28 12:00", "999.90", "paid"),
        ("2031-02-28 12:00", "999.90", "paid"),
        ("2032-02-29 12:00", "999.90", "paid"),
    ]


async def test_a_renewal_recovers_on_the_third_retry(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds", "do_not_honor", "some_new_code", "paid"]
    await lab.live_to(moment("2027-03-11 00:00"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-01-10 09:00", "100.00", "paid"),
        ("2027-02-10 09:00", "100.00", "failed"),
        ("2027-02-12 09:00", "100.00", "failed"),
        ("2027-02-17 09:00", "100.00", "failed"),
        ("2027-02-24 09:00", "100.00", "paid"),
        ("2027-03-10 09:00", "100.00", "paid"),
    ]
    assert await lab.told(subscription) == ["activated", *["payment_failed"] * 3, "recovered", "renewed"]
    assert (await lab.row(subscription)).status == "active"
    first, second, third = await lab.reasons(subscription, "payment_failed")
    assert "insufficient_funds is a soft decline: retry 1 of 4" in first
    assert "do_not_honor is a soft decline: retry 2 of 4" in second
    assert "some_new_code is not known" in third
    await lab.replay(subscription)


@pytest.mark.parametrize(
    ("action", "status", "last", "invoice"),
    [
        ("cancel", "cancelled", "cancelled", "uncollectible"),
        ("expire", "expired", "expired", "uncollectible"),
        ("keep", "active", "renewed", "uncollectible"),
    ],
)
async def test_the_end_of_the_grace(lab: Lab, action: str, status: str, last: str, invoice: str) -> None:
    await set_rules(lab, dunning_final_action=action)
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds"] * 5
    await lab.live_to(moment("2027-03-11 00:00"))
    charges = await lab.charges(subscription, JERUSALEM)
    assert days_of(charges)[1:6] == [f"{day} 09:00" for day in (
        "2027-02-10", "2027-02-12", "2027-02-17", "2027-02-24", "2027-03-03",
    )]  # fmt: skip
    assert (await lab.row(subscription)).status == status
    assert (await lab.invoices(subscription))[1].status == invoice
    told = await lab.told(subscription)
    assert told[:5] == ["activated", *["payment_failed"] * 4]  # the last failure's message is the end's
    assert told[-1] == last
    assert len(charges) == (7 if action == "keep" else 6)


async def test_a_hard_decline_asks_the_payer_by_link_and_another_card_is_charged_at_once(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["stolen_card", *["link"] * 3]
    await lab.live_to(moment("2027-02-20 15:30"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-01-10 09:00", "100.00", "paid"),
        ("2027-02-10 09:00", "100.00", "failed"),
        ("2027-02-10 09:00", "100.00", "expired"),
        ("2027-02-12 09:00", "100.00", "expired"),
        ("2027-02-17 09:00", "100.00", "expired"),
    ]
    assert [one.payment_method_id is None for one in await lab.payments(subscription)][1:] == [False, True, True, True]
    row = await lab.row(subscription)
    assert row.status == "past_due"
    done = await lab.change(subscription, ChangeKind.PAYMENT_METHOD, payment_method_id=await lab.card(row.customer_id))
    assert done.effects["retried_now"] == "100.00"
    await lab.live_to(moment("2027-03-11 00:00"))
    assert (await lab.charges(subscription, JERUSALEM))[5:] == [
        ("2027-02-20 15:30", "100.00", "paid"),
        ("2027-03-10 09:00", "100.00", "paid"),
    ]
    assert await lab.told(subscription) == [
        "activated", "payment_failed", *["action_required", "payment_failed"] * 3, "recovered", "renewed",
    ]  # fmt: skip


async def test_a_link_that_another_card_takes_the_place_of_is_closed_and_is_no_failure(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["stolen_card", "link"]
    await lab.live_to(moment("2027-02-10 15:30"))
    row = await lab.row(subscription)
    await lab.change(subscription, ChangeKind.PAYMENT_METHOD, payment_method_id=await lab.card(row.customer_id))
    await lab.live_to(moment("2027-02-11 15:30"))
    assert [status for _, _, status in await lab.charges(subscription, JERUSALEM)] == [
        "paid", "failed", "canceled", "paid",
    ]  # fmt: skip
    assert await lab.told(subscription) == ["activated", "payment_failed", "action_required", "recovered"]
    assert (await lab.invoices(subscription))[1].decline_code == "stolen_card"


async def test_a_bank_that_asks_for_the_payer_is_waited_for(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["action"]
    await lab.live_to(moment("2027-02-10 20:00"))
    row, payment = await lab.row(subscription), (await lab.payments(subscription))[1]
    assert (row.status, payment.status) == ("past_due", "requires_action")
    assert await lab.told(subscription) == ["activated", "action_required"]
    await lab.bank.pay(payment.id, await lab.now())  # the payer has confirmed
    await lab.live_to(moment("2027-02-10 23:00"))
    assert (await lab.row(subscription)).status == "active"
    assert await lab.told(subscription) == ["activated", "action_required", "recovered"]


async def test_cancelling_in_the_middle_of_a_retry_stops_dunning_and_the_money_goes_back(lab: Lab) -> None:
    """The retry is on its way to the bank when the customer cancels: it is paid all the same, and refunded."""
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds", "paid"]

    async def cancel() -> None:
        if len(lab.bank.asked) == 3:
            answer = await lab.carried_out(subscription, ChangeKind.CANCEL, uuid4())
            assert answer.status == "cancelled"

    lab.bank.before_charge = cancel
    await lab.live_to(moment("2027-06-01 00:00"))
    assert [status for _, _, status in await lab.charges(subscription, JERUSALEM)] == ["paid", "failed", "refunded"]
    row = await lab.row(subscription)
    assert (row.status, row.end_reason) == ("cancelled", "cancelled by the merchant")
    assert await lab.told(subscription) == ["activated", "payment_failed", "cancelled"]
    refund = (await lab.refunds(subscription))[0]
    assert (str(refund.money), refund.status) == ("100.00", "succeeded")
    assert refund.reason == "the subscription had ended before the payment arrived"


async def test_cancelling_closes_a_charge_that_waits_for_the_payer(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["action"]
    await lab.live_to(moment("2027-02-11 00:00"))
    done = await lab.change(subscription, ChangeKind.CANCEL)
    assert done.effects["payments_closed"] == str((await lab.payments(subscription))[1].id)
    await lab.live_to(moment("2027-02-11 01:00"))
    assert [payment.status for payment in await lab.payments(subscription)] == ["paid", "canceled"]
    assert await lab.told(subscription) == ["activated", "action_required", "cancelled"]


async def test_cancelling_between_retries_leaves_nothing_to_come(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.always = "insufficient_funds"
    await lab.live_to(moment("2027-02-13 00:00"))
    assert (await lab.change(subscription, ChangeKind.CANCEL_AT_PERIOD_END)).status == "cancelled"
    await lab.live_to(moment("2027-06-01 00:00"))
    assert len(await lab.payments(subscription)) == 3
    assert [invoice.status for invoice in await lab.invoices(subscription)] == ["paid", "void"]
    assert await lab.told(subscription) == ["activated", "payment_failed", "payment_failed", "cancelled"]


async def test_a_cancel_to_the_periods_end_keeps_the_paid_time_and_can_be_withdrawn(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    await lab.change(subscription, ChangeKind.CANCEL_AT_PERIOD_END)
    await lab.change(subscription, ChangeKind.RESUME)
    await lab.live_to(moment("2027-02-20 00:00"))
    await lab.change(subscription, ChangeKind.CANCEL_AT_PERIOD_END)
    assert (await lab.row(subscription)).status == "active"
    await lab.live_to(moment("2027-06-01 00:00"))
    assert days_of(await lab.charges(subscription, JERUSALEM)) == ["2027-01-10 09:00", "2027-02-10 09:00"]
    row = await lab.row(subscription)
    assert row.ended_at is not None
    assert (row.status, billing_lab.as_written(row.ended_at, JERUSALEM)) == (
        "cancelled",
        "2027-03-10 09:00",
    )
    told = ["activated", "cancel_scheduled", "resumed", "renewed", "cancel_scheduled", "cancelled"]
    assert await lab.told(subscription) == told
    assert (await ended(lab.handle(subscription))).status == "cancelled"


async def test_an_upgrade_and_a_downgrade_in_the_middle_of_a_period(lab: Lab) -> None:
    """April has 30 days. After 10: 2/3 of 30.00 back, 2/3 of 100.00 charged. After 20: 1/3 of each, carried forward."""
    subscription, small = await begun(lab, "2027-04-01 00:00", amount="30.00")
    large = await lab.plan("100.00")
    await lab.live_to(moment("2027-04-11 00:00"))
    up = await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=large.id)
    assert (up.effects["credit"], up.effects["charge"], up.effects["due_now"]) == ("20.00", "66.67", "46.67")
    await lab.live_to(moment("2027-04-21 00:00"))
    down = await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=small.id)
    assert (down.effects["credit"], down.effects["charge"]) == ("33.33", "10.00")
    assert (down.effects["due_now"], down.effects["carried_forward"]) == ("0.00", "23.33")
    assert await lab.credit(subscription) == "23.33"
    await lab.live_to(moment("2027-06-02 00:00"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-04-01 00:00", "30.00", "paid"),
        ("2027-04-11 00:00", "46.67", "paid"),
        ("2027-05-01 00:00", "6.67", "paid"),  # 30.00 less 23.33
        ("2027-06-01 00:00", "30.00", "paid"),
    ]
    may = (await lab.invoices(subscription))[2]
    assert (str(may.subtotal.normalize()), str(may.credit_applied)) == ("3E+1", "23.3300")
    balances = await lab.balances()
    assert not any(name.startswith("customer_credit:") and amount != "0.00" for name, amount in balances.items())
    assert balances["credit_adjustments"] == "0.00"


async def test_credit_pays_whole_invoices_and_nothing_is_charged(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-04-01 00:00", amount="100.00")
    small = await lab.plan("20.00")
    await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=small.id)
    assert await lab.credit(subscription) == "80.00"
    await lab.live_to(moment("2027-09-02 00:00"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-04-01 00:00", "100.00", "paid"),
        ("2027-09-01 00:00", "20.00", "paid"),
    ]
    assert await lab.told(subscription) == ["activated", "plan_changed", *["renewed"] * 5]


async def test_another_interval_begins_a_new_period_now(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-04-01 00:00", amount="30.00")
    yearly = await lab.plan("300.00", "year")
    await lab.live_to(moment("2027-04-21 12:00"))
    done = await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=yearly.id)
    assert (done.effects["credit"], done.effects["due_now"]) == ("9.50", "290.50")  # 9.5 of 30 days
    await lab.live_to(moment("2028-04-22 00:00"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-04-01 00:00", "30.00", "paid"),
        ("2027-04-21 12:00", "290.50", "paid"),
        ("2028-04-21 12:00", "300.00", "paid"),
    ]


async def test_a_change_at_the_periods_end_costs_nothing_before(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-04-01 00:00", amount="30.00")
    large = await lab.plan("100.00")
    await lab.change(subscription, ChangeKind.CHANGE_PLAN_AT_PERIOD_END, plan_id=large.id, quantity=2)
    await lab.live_to(moment("2027-05-02 00:00"))
    assert [amount for _, amount, _ in await lab.charges(subscription, JERUSALEM)] == ["30.00", "200.00"]


async def test_a_wish_is_carried_out_once(lab: Lab) -> None:
    """The answer was lost: the same wish again grants no second credit."""
    subscription, _ = await begun(lab, "2027-04-01 00:00", amount="100.00")
    small, wish = await lab.plan("20.00"), uuid4()
    first = await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=small.id, change_id=wish)
    again = await lab.carried_out(subscription, ChangeKind.CHANGE_PLAN, plan_id=small.id, change_id=wish)
    assert first == again
    assert await lab.credit(subscription) == "80.00"


async def test_a_pause_keeps_the_paid_time_and_moves_the_billing_day(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-04-01 09:00")
    await lab.live_to(moment("2027-04-11 09:00"))  # 20 days are left
    await lab.change(subscription, ChangeKind.PAUSE)
    await lab.live_to(moment("2027-07-05 15:00"))
    await lab.change(subscription, ChangeKind.RESUME)
    await lab.live_to(moment("2027-08-26 00:00"))
    await lab.change(subscription, ChangeKind.PAUSE, resume_at=moment("2027-10-01 00:00"))
    await lab.live_to(moment("2027-12-01 00:00"))
    assert days_of(await lab.charges(subscription, JERUSALEM)) == [
        "2027-04-01 09:00",
        "2027-07-25 15:00",
        "2027-08-25 15:00",
        "2027-10-31 15:00",  # 30 days and 15 hours after 1 October, 00:00
        "2027-11-30 15:00",
    ]
    assert "resumption" in (await lab.reasons(subscription, "active"))[-1]


async def test_a_trial_is_announced_charged_at_its_end_and_anchors_the_periods(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-03-20 09:00", trial_days=14)  # summer time begins on 26 March
    assert (await lab.row(subscription)).status == "trialing"
    await lab.live_to(moment("2027-03-31 10:00"))
    assert await lab.told(subscription) == ["trial_ending"]
    await lab.live_to(moment("2027-05-04 00:00"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-04-03 09:00", "100.00", "paid"),
        ("2027-05-03 09:00", "100.00", "paid"),
    ]
    assert await lab.told(subscription) == ["trial_ending", "renewed", "renewed"]


async def test_a_trial_without_a_card_ends_with_a_link(lab: Lab) -> None:
    await lab.live_to(moment("2027-03-01 09:00"))
    plan = await lab.plan("50.00", trial_days=7)
    subscription = await lab.subscribe(plan, zone=JERUSALEM, method=None, customer_id="cust-none")
    lab.bank.answers = ["link"]
    await lab.live_to(moment("2027-03-08 10:00"))
    assert (await lab.row(subscription)).status == "past_due"
    assert await lab.told(subscription) == ["trial_ending", "action_required"]
    await lab.bank.pay((await lab.payments(subscription))[0].id, await lab.now())
    await lab.live_to(moment("2027-03-08 12:00"))
    assert (await lab.row(subscription)).status == "active"


async def test_a_first_payment_that_is_never_made_expires_and_one_that_is_begins_it(lab: Lab) -> None:
    await lab.live_to(moment("2027-03-01 09:00"))
    plan = await lab.plan("50.00")
    lab.bank.always = "link"
    never, made = [
        await lab.subscribe(plan, zone=JERUSALEM, method=None, customer_id=f"cust-{name}") for name in ("a", "b")
    ]
    await lab.bank.pay((await lab.payments(made))[0].id, await lab.now())
    await lab.live_to(moment("2027-03-03 09:00"))
    assert ((await lab.row(never)).status, (await lab.row(made)).status) == ("expired", "active")
    assert (await lab.payments(never))[0].status in ("expired", "canceled")
    assert (await lab.told(never), await lab.told(made)) == (["expired"], ["activated"])


async def test_money_that_comes_late_brings_an_expired_subscription_back(lab: Lab) -> None:
    await set_rules(lab, dunning_final_action="expire", dunning_retry_days=[2], dunning_grace_days=5)
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds", "insufficient_funds"]
    await lab.live_to(moment("2027-02-20 00:00"))
    assert (await lab.row(subscription)).status == "expired"
    failed = (await lab.payments(subscription))[2]
    await lab.bank.pay(failed.id, await lab.now())
    row = await lab.row(subscription)
    assert (row.status, row.wake_wanted_at is not None) == ("active", True)
    await lab.wake(subscription)
    await lab.live_to(moment("2027-03-11 00:00"))
    assert (await lab.charges(subscription, JERUSALEM))[-1] == ("2027-03-10 09:00", "100.00", "paid")
    told = await lab.told(subscription)
    assert told == ["activated", *["payment_failed"] * 2, "expired", "recovered", "renewed"]
    assert await lab.refunds(subscription) == []


async def test_money_that_comes_after_its_period_goes_back_and_revives_nothing(lab: Lab) -> None:
    await set_rules(lab, dunning_final_action="expire", dunning_retry_days=[2], dunning_grace_days=5)
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds", "insufficient_funds"]
    await lab.live_to(moment("2027-03-10 09:01"))  # the period that was not paid for is over
    late = (await lab.payments(subscription))[2]
    await lab.bank.pay(late.id, await lab.now())
    row = await lab.row(subscription)
    assert (row.status, row.end_reason is not None) == ("expired", True)
    assert [(one.payment_id, str(one.money)) for one in await lab.refunds(subscription)] == [(late.id, "100.00")]


@pytest.mark.parametrize(
    ("price", "then", "credit", "taken"),
    [("100.00", "90.00", "10.00", "10.00"), ("1000.00", "900.00", "100.00", "30.00")],
)
async def test_credit_comes_back_at_the_end_and_late_money_takes_again_what_its_invoice_had_used(
    lab: Lab, price: str, then: str, credit: str, taken: str
) -> None:
    """No more than that, and no more than there is by then."""
    await set_rules(lab, dunning_final_action="expire", dunning_retry_days=[2], dunning_grace_days=5)
    subscription, _ = await begun(lab, "2027-04-01 00:00")
    smaller = await lab.plan("70.00")
    await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=smaller.id)
    assert await lab.credit(subscription) == "30.00"
    lab.bank.answers = ["insufficient_funds", "insufficient_funds"]
    await lab.live_to(moment("2027-05-02 00:00"))
    assert await lab.credit(subscription) == "0.00"  # the invoice of May has it, and asks for 40.00
    await lab.live_to(moment("2027-05-09 00:00"))
    assert ((await lab.row(subscription)).status, await lab.credit(subscription)) == ("expired", "30.00")
    customer = (await lab.row(subscription)).customer_id
    method = await lab.card(customer)
    other = await lab.subscribe(await lab.plan(price), zone=JERUSALEM, method=method, customer_id=customer)
    await lab.change(other, ChangeKind.CHANGE_PLAN, plan_id=(await lab.plan(then)).id)
    assert await lab.credit(subscription) == credit  # what came back has paid for the other one
    late = next(one for one in reversed(await lab.payments(subscription)) if one.status == "failed")
    await lab.bank.pay(late.id, await lab.now())
    assert (await lab.row(subscription)).status == "active"
    assert Decimal(credit) - Decimal(await lab.credit(subscription)) == Decimal(taken)


async def test_two_attempts_of_one_invoice_that_both_bring_money_are_one_payment(lab: Lab) -> None:
    await set_rules(lab, one_capture_per_order=False)
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds", "paid"]
    await lab.live_to(moment("2027-02-13 00:00"))
    late = await lab.bank.pay((await lab.payments(subscription))[1].id, await lab.now())
    assert late.flag == "order_paid_twice"
    assert [invoice.status for invoice in await lab.invoices(subscription)] == ["paid", "paid"]


async def test_a_full_refund_of_the_current_period_cancels_it(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    await lab.live_to(moment("2027-02-13 00:00"))
    first, second = await lab.payments(subscription)
    await lab.refund(first.id)
    assert (await lab.row(subscription)).status == "active"
    await lab.refund(second.id)
    row = await lab.row(subscription)
    assert (row.status, row.end_reason) == ("cancelled", "its payment was refunded in full")
    await lab.wake(subscription)
    await lab.live_to(moment("2027-04-13 00:00"))
    assert len(await lab.payments(subscription)) == 2


async def test_a_full_refund_of_a_change_within_the_period_does_not_cancel_it(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    await lab.live_to(moment("2027-01-20 00:00"))
    larger = await lab.plan("300.00")
    await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=larger.id)
    await lab.live_to(moment("2027-01-21 00:00"))
    first, change = await lab.payments(subscription)
    assert (change.status, change.amount < first.amount * 2) == ("paid", True)
    await lab.refund(change.id)
    assert (await lab.row(subscription)).status == "active"
    await lab.refund(first.id)
    assert (await lab.row(subscription)).status == "cancelled"


async def test_what_is_too_small_to_be_charged_is_forgiven_and_ends_nothing(lab: Lab) -> None:
    """A change in the last minute left less than the provider's minimum, and dunning cancelled the subscription."""
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    await lab.live_to(moment("2027-02-10 06:50"))
    larger = await lab.plan("300.00")
    lab.bank.answers = ["amount_too_small"]
    changed = await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=larger.id)
    assert changed.effects["due_now"] == "0.58"
    await lab.live_to(moment("2027-02-11 00:00"))
    assert [(one.kind, one.status) for one in await lab.invoices(subscription)] == [
        ("first", "paid"),
        ("change", "uncollectible"),
        ("renewal", "paid"),
    ]
    assert (await lab.row(subscription)).status == "active"
    assert await lab.told(subscription) == ["activated", "plan_changed", "unpaid", "renewed"]


async def test_what_is_below_a_providers_step_goes_with_the_next_invoice(dinars: Lab) -> None:
    """Stripe takes dinars in steps of ten fils: 4.667 was refused, and dunning followed. No fils is lost."""
    lab = dinars
    subscription, small = await begun(lab, "2027-04-01 00:00", amount="3.000")
    large, odd = await lab.plan("10.000"), await lab.plan("10.005")
    await lab.live_to(moment("2027-04-11 00:00"))
    refused = await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=odd.id)
    assert (refused.refusal, refused.detail) == (
        "amount_not_representable",
        "stripe takes KWD in steps of 0.010: 10.000 or 10.010, not 10.005.",
    )
    wish = SubscriptionChange(subscription, uuid4(), ChangeKind.CHANGE_PLAN, "test", plan_id=large.id)
    async with rehearsal(lab.database) as (session, _):
        held = await billing.hold(session, subscription, at=moment("2027-04-11 00:00"), actor="test")
        assert held is not None
        shown = (await apply(held, wish)).effects
    up = (await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=large.id)).effects
    assert [shown[name] for name in ("credit", "charge", "due_now", "deferred")] == ["2.000", "6.667", "4.660", "0.007"]
    assert [up[name] for name in ("credit", "charge", "due_now", "deferred")] == ["2.000", "6.667", "4.660", "0.007"]
    await lab.live_to(moment("2027-04-21 00:00"))
    down = (await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=small.id)).effects
    assert (down["due_now"], down["carried_forward"], down["deferred"]) == ("0.000", "2.333", "0.007")
    await lab.live_to(moment("2027-06-02 00:00"))
    assert await lab.charges(subscription, JERUSALEM) == [
        ("2027-04-01 00:00", "3.000", "paid"),
        ("2027-04-11 00:00", "4.660", "paid"),
        ("2027-05-01 00:00", "0.670", "paid"),  # 3.000 and 0.007, less 2.333; 0.004 stays
        ("2027-06-01 00:00", "3.000", "paid"),  # 3.004
    ]
    may = (await lab.invoices(subscription))[2]
    assert [(line["kind"], line["amount"]) for line in may.lines] == [
        ("plan", "3.000"),
        ("deferred", "0.007"),
        ("rounding", "-0.004"),
    ]
    assert (may.subtotal, may.credit_applied) == (Decimal("3.003"), Decimal("2.333"))
    assert (await lab.row(subscription)).deferred == Decimal("0.004")
    assert await lab.credit(subscription) == "0.000"
    assert await lab.told(subscription) == [
        "activated", "plan_changed", "change_paid", "plan_changed", "renewed", "renewed"
    ]  # fmt: skip
    await lab.change(subscription, ChangeKind.CANCEL)
    async with lab.database.transaction() as session:
        entries = await audit.entries_about(session, lab.shop.workspace.id, "subscription", subscription)
    (end,) = [entry.details for entry in entries if entry.action == "subscription.cancelled"]
    assert end["deferred_and_forgiven"] == "0.004"


async def test_another_method_with_larger_steps_is_charged_what_it_can_be(dinars: Lab) -> None:
    """And the money of an earlier try, which was not cut, makes nobody pay twice."""
    lab, shop = dinars, dinars.shop
    finer = (await shop.service.connect(shop.workspace, payer_class("payplus")(shop.service.sandbox_url))).account
    await lab.live_to(moment("2027-04-01 00:00"))
    plan = await lab.plan("5.125")
    card = await lab.card("cust-fils", finer)
    subscription = await lab.subscribe(plan, zone=JERUSALEM, method=card, customer_id="cust-fils")
    lab.bank.answers = ["insufficient_funds"]
    await lab.live_to(moment("2027-05-01 01:00"))
    coarser = await lab.card("cust-fils")
    await lab.change(subscription, ChangeKind.PAYMENT_METHOD, payment_method_id=coarser)
    await lab.live_to(moment("2027-06-01 01:00"))
    assert [amount for _, amount, _ in await lab.charges(subscription, JERUSALEM)] == [
        "5.125", "5.125", "5.120", "5.130"
    ]  # fmt: skip
    assert (await lab.row(subscription)).deferred == 0

    lab.bank.answers = ["insufficient_funds", "action"]
    await lab.change(subscription, ChangeKind.PAYMENT_METHOD, payment_method_id=card)
    await lab.live_to(moment("2027-07-01 01:00"))
    await lab.change(subscription, ChangeKind.PAYMENT_METHOD, payment_method_id=coarser)
    await lab.live_to(moment("2027-07-01 02:00"))
    declined, asked = (await lab.payments(subscription))[-2:]
    assert (str(declined.money), str(asked.money), asked.status) == ("5.125", "5.120", "requires_action")
    await lab.bank.pay(declined.id, await lab.now())
    assert (await lab.row(subscription)).deferred == Decimal("0.005")
    assert await lab.credit(subscription) == "0.005"


async def test_what_cannot_be_done_is_refused_and_nothing_changes(lab: Lab) -> None:
    subscription, plan = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["insufficient_funds"]
    await lab.live_to(moment("2027-02-11 00:00"))
    other = await lab.plan("5.00")
    for kind, more in (
        (ChangeKind.PAUSE, {}),
        (ChangeKind.RESUME, {}),
        (ChangeKind.CHANGE_PLAN, {"plan_id": other.id}),
    ):
        answer = await lab.change(subscription, kind, **more)
        assert (answer.refusal, answer.status) == ("subscription_not_changeable", "past_due")
    stranger = await lab.card("somebody-else")
    answer = await lab.change(subscription, ChangeKind.PAYMENT_METHOD, payment_method_id=stranger)
    assert answer.refusal == "payment_method_not_active"
    row = await lab.row(subscription)
    assert (row.plan_id, row.paused_at) == (plan.id, None)
    await lab.change(subscription, ChangeKind.CANCEL)
    assert (await lab.change(subscription, ChangeKind.CANCEL)).refusal is None
    assert (await lab.change(subscription, ChangeKind.PAUSE)).refusal == "subscription_not_changeable"


async def test_an_attempt_whose_outcome_is_not_known_is_resolved_before_anything_else(lab: Lab) -> None:
    subscription, _ = await begun(lab, "2027-01-10 09:00")
    lab.bank.answers = ["unknown"]
    await lab.live_to(moment("2027-02-10 20:00"))
    payments = await lab.payments(subscription)
    assert [payment.status for payment in payments] == [PaymentStatus.PAID, PaymentStatus.UNKNOWN]
    assert (await lab.row(subscription)).status == "active"
    assert await lab.told(subscription) == ["activated"]
