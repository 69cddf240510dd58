"""What is planned for a period's end, and every request that may come before it: only what is named is replaced.

The right charge of each pair was written by hand. Monthly 100.00 (`high`), planned 30.00 (`low`), a third one 200.00
(`top`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.subscription import ChangeKind, NoCharge, SubscriptionStatus
from storage.models import Plan
from tests.support.billing_desk import Desk, plan_of
from tests.support.service import Shop

K = ChangeKind
NOW, LATER = K.CHANGE_PLAN, K.CHANGE_PLAN_AT_PERIOD_END
ZONE = "Asia/Jerusalem"
PLANNED: dict[str, dict[str, Any]] = {
    "a plan": {"plan": "low"},
    "a quantity": {"quantity": 5},
    "both": {"plan": "low", "quantity": 5},
}


@dataclass
class Counter:
    """A subscription with a change that is planned, and the three plans."""

    desk: Desk
    plans: dict[str, Plan]

    async def ask(self, kind: ChangeKind, *, plan: str | None = None, **more: Any) -> dict[str, str | None]:
        chosen: dict[str, Any] = {} if plan is None else {"plan_id": self.plans[plan].id}
        return await self.desk.done(kind, **chosen, **more)

    def named(self, text: str | None) -> str | None:
        """Codes of plans as the names of this module."""
        for name, plan in self.plans.items():
            text = None if text is None else text.replace(plan.code, name)
        return text

    async def renewal(self) -> str:
        """What the next period is charged, when it comes; as was promised."""
        promise, row, before = await self.desk.promise(), await self.desk.row(), len(await self.desk.charges())
        assert not isinstance(promise, NoCharge)
        assert promise.at == row.current_period_end
        await self.desk.live_to(promise.at)
        charged = (await self.desk.charges())[before:]
        assert [one.money for one in charged] == ([promise.amount] if promise.amount.minor else [])
        after = await self.desk.row()
        name, plan = next((name, plan) for name, plan in self.plans.items() if plan.id == after.plan_id)
        price = plan.price.minor * after.quantity // 100  # of which credit may have paid
        return f"{name} × {after.quantity} = {price}"


async def counter(shop: Shop, planned: str) -> Counter:
    plans = {name: await plan_of(shop, price) for name, price in (("high", "100"), ("low", "30"), ("top", "200"))}
    begins = datetime(2055, 1, 10, 9, tzinfo=UTC)
    desk = await Desk(shop, begins, plans["high"]).begin(ZONE)
    made = Counter(desk, plans)
    await desk.live_to(begins + timedelta(days=10))
    await made.ask(LATER, **PLANNED[planned])
    return made


Asked = list[tuple[ChangeKind, dict[str, Any]]]
CANCEL_RESUME: Asked = [(K.CANCEL_AT_PERIOD_END, {}), (K.RESUME, {})]
PAUSE_RESUME: Asked = [(K.PAUSE, {}), (K.RESUME, {})]


@pytest.mark.parametrize(
    ("asked", "with_plan", "with_quantity", "with_both"),
    [
        pytest.param([], "low × 1 = 30", "high × 5 = 500", "low × 5 = 150", id="nothing"),
        pytest.param(CANCEL_RESUME, "low × 1 = 30", "high × 5 = 500", "low × 5 = 150", id="cancel, resume"),
        pytest.param(PAUSE_RESUME, "low × 1 = 30", "high × 5 = 500", "low × 5 = 150", id="pause, resume"),
        pytest.param(
            [(K.PAYMENT_METHOD, {})], "low × 1 = 30", "high × 5 = 500", "low × 5 = 150", id="another payment method"
        ),
        pytest.param(
            [(NOW, {"quantity": 2})], "low × 2 = 60", "high × 2 = 200", "low × 2 = 60", id="another quantity now"
        ),
        pytest.param(
            [(NOW, {"quantity": 1})], "low × 1 = 30", "high × 1 = 100", "low × 1 = 30", id="the present quantity now"
        ),
        pytest.param([(NOW, {"plan": "top"})], "top × 1 = 200", "top × 5 = 1000", "top × 5 = 1000", id="a plan now"),
        pytest.param(
            [(NOW, {"plan": "high"})], "high × 1 = 100", "high × 5 = 500", "high × 5 = 500", id="the present plan now"
        ),
        pytest.param(
            [(NOW, {"plan": "top", "quantity": 2})], *["top × 2 = 400"] * 3, id="another plan and quantity now"
        ),
        pytest.param([(NOW, {})], "low × 1 = 30", "high × 5 = 500", "low × 5 = 150", id="nothing named now"),
        pytest.param(
            [(LATER, {"quantity": 2})], "low × 2 = 60", "high × 2 = 200", "low × 2 = 60", id="another quantity later"
        ),
        pytest.param(
            [(LATER, {"quantity": 1})], "low × 1 = 30", "high × 1 = 100", "low × 1 = 30", id="the present one later"
        ),
        pytest.param(
            [(LATER, {"plan": "top"})], "top × 1 = 200", "top × 5 = 1000", "top × 5 = 1000", id="another plan later"
        ),
        pytest.param(
            [(LATER, {"plan": "high"})],
            "high × 1 = 100",
            "high × 5 = 500",
            "high × 5 = 500",
            id="the present plan later",
        ),
        pytest.param(
            [(NOW, {"quantity": 2}), *CANCEL_RESUME, *PAUSE_RESUME, (NOW, {"quantity": 3})],
            *["low × 3 = 90", "high × 3 = 300", "low × 3 = 90"],
            id="several",
        ),
    ],
)
async def test_only_what_is_named_replaces_what_was_planned(
    shop: Shop, asked: Asked, with_plan: str, with_quantity: str, with_both: str
) -> None:
    for planned, right in zip(PLANNED, (with_plan, with_quantity, with_both), strict=True):
        made = await counter(shop, planned)
        for kind, named in asked:
            more: dict[str, Any] = {"payment_method_id": await made.desk.card()} if kind is K.PAYMENT_METHOD else {}
            await made.ask(kind, **named, **more)
        assert await made.renewal() == right, planned


@pytest.mark.parametrize(
    ("kind", "named", "dropped", "stays"),
    [
        (NOW, {"quantity": 2}, "quantity 5", ("low", None)),
        (NOW, {"plan": "top"}, "plan low", (None, "5")),
        (NOW, {"plan": "top", "quantity": 2}, "plan low, quantity 5", (None, None)),
        (NOW, {"plan": "high"}, "plan low", (None, "5")),
        (LATER, {"quantity": 2}, "quantity 5", ("low", "2")),
        (LATER, {"quantity": 5}, None, ("low", "5")),
        (LATER, {"plan": "high"}, "plan low", (None, "5")),
        (LATER, {"plan": "top"}, "plan low", ("top", "5")),
        (K.CANCEL_AT_PERIOD_END, {}, None, ("low", "5")),
        (K.CANCEL, {}, "plan low, quantity 5", (None, None)),
        (K.PAUSE, {}, None, ("low", "5")),
    ],
)
async def test_what_a_request_drops_stands_in_its_answer_and_in_the_audit_log(
    shop: Shop, kind: ChangeKind, named: dict[str, Any], dropped: str | None, stays: tuple[str | None, str | None]
) -> None:
    made = await counter(shop, "both")
    effects = await made.ask(kind, **named)
    assert made.named(effects.get("dropped")) == dropped
    assert (made.named(effects["pending_plan"]), effects["pending_quantity"]) == stays
    if dropped is not None and kind is not K.CANCEL:
        assert dropped in [made.named(one) for one in await made.desk.dropped()]


async def test_a_date_of_resumption_that_is_dropped_is_told_too(shop: Shop) -> None:
    made = await counter(shop, "a plan")
    until = made.desk.now + timedelta(days=5)
    await made.ask(K.PAUSE, resume_at=until)
    effects = await made.ask(K.PAUSE)
    assert (effects["resume_at"], effects["dropped"]) == (None, f"resume_at {until.isoformat()}")
    assert "pause_changed" in await made.desk.actions()


@pytest.mark.parametrize("named", [{"quantity": 2}, {"plan": "top"}, {"plan": "top", "quantity": 2}, {"plan": "high"}])
@pytest.mark.parametrize("kind", [NOW, LATER])
async def test_what_ends_with_the_period_is_not_changed_before_the_cancel_is_withdrawn(
    shop: Shop, kind: ChangeKind, named: dict[str, Any]
) -> None:
    made = await counter(shop, "a plan")
    effects = await made.ask(K.CANCEL_AT_PERIOD_END)
    assert (effects["next_charge"], effects["no_charge_because"]) == (None, "cancel_scheduled")
    chosen: dict[str, Any] = {"plan_id": made.plans[named["plan"]].id} if "plan" in named else {}
    refused = await made.desk.change(kind, quantity=named.get("quantity"), **chosen)
    assert refused.refusal == "subscription_cancel_scheduled"
    assert len(await made.desk.charges()) == 1, "it was charged for what ends"
    await made.desk.live_to(made.desk.now + timedelta(days=40))
    assert (await made.desk.row()).status == SubscriptionStatus.CANCELLED
    assert len(await made.desk.charges()) == 1


async def test_a_refused_change_leaves_what_was_planned(shop: Shop) -> None:
    made = await counter(shop, "both")
    refused = await made.desk.change(NOW, quantity=10**15)
    assert refused.refusal == "validation_failed"
    assert await made.renewal() == "low × 5 = 150"
