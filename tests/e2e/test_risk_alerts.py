"""What the payer's bank and the provider warn of: told, and by the policy refunded before a dispute, once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from storage.models import OrderNotice, Refund, RiskAlert, WebhookEvent
from tests.e2e.test_early_events import event_of, heard, paid_unheard, sent, until
from tests.support.service import Shop, eventually


async def policy(shop: Shop, action: str) -> None:
    path = f"/workspaces/{shop.workspace.id}"
    answer = await shop.api.patch(path, json={"fraud_warning_action": action})
    assert answer.status_code == 200, answer.text
    assert answer.json()["fraud_warning_action"] == action


async def paid(shop: Shop, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A payment, and its charge at the provider."""
    payment = await shop.pays(**changes)
    await shop.pay(payment)
    payment = await shop.until(payment["id"], "paid")
    charges = await shop.sandbox("GET", "/objects?type=charge")
    return payment, next(one for one in charges if one["metadata"]["payment_id"] == payment["id"])


async def warned(shop: Shop, charge: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return dict(await shop.sandbox("POST", f"/charges/{charge['id']}/fraud-warning", changes))


async def alerts(shop: Shop, payment: dict[str, Any], number: int = 1, **wanted: Any) -> list[dict[str, Any]]:
    async def so_far() -> Any:
        rows = (await shop.api.get("/risk-alerts", params={"payment_id": payment["id"]})).json()["data"]
        fitting = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
        return fitting if len(fitting) == number else None

    return list(await eventually(so_far, 30))


async def refunds_of(shop: Shop, payment: dict[str, Any]) -> list[Refund]:
    async with shop.service.database.transaction() as session:
        query = select(Refund).where(Refund.payment_id == payment["id"]).order_by(Refund.created_at)
        return list(await session.scalars(query))


async def told(shop: Shop, payment: dict[str, Any]) -> list[str]:
    async with shop.service.database.transaction() as session:
        query = select(OrderNotice.type).where(OrderNotice.payment_id == payment["id"]).order_by(OrderNotice.seq)
        return list(await session.scalars(query))


async def quiet(shop: Shop) -> None:
    """Every event of the account has its outcome."""

    async def done() -> bool:
        async with shop.service.database.transaction() as session:
            query = select(WebhookEvent.id).where(
                WebhookEvent.provider_account_id == shop.account.id,
                WebhookEvent.status.in_(["received", "dispatched"]),
            )
            return not (await session.scalars(query)).all()

    await eventually(done, 30)


async def test_a_warning_is_told_and_moves_nothing_unless_the_workspace_wants_more(shop: Shop) -> None:
    payment, charge = await paid(shop)
    warning = await warned(shop, charge)
    (alert,) = await alerts(shop, payment)
    assert (alert["kind"], alert["reason"], alert["decision"]) == (
        "early_fraud_warning",
        "made_with_stolen_card",
        "told",
    )
    assert (alert["provider_alert_id"], alert["actionable"], alert["refund_id"]) == (warning["id"], True, None)
    timeline = (await shop.api.get(f"/payments/{payment['id']}/timeline")).json()
    assert "risk_alert.raised" in [entry["what"] for entry in timeline if entry["source"] == "provider"]
    assert (await told(shop, payment)).count("risk_alert.raised") == 1
    assert (await refunds_of(shop, payment), (await shop.read(payment["id"]))["status"]) == ([], "paid")
    await policy(shop, "refund")  # holds for warnings that come from now on
    events = await shop.events("radar.early_fraud_warning.created")
    await shop.sandbox("POST", f"/events/{events[0]['id']}/resend", {"times": 2})
    await sent(shop, event_of("radar.early_fraud_warning.updated", warning))
    await quiet(shop)
    assert await refunds_of(shop, payment) == []
    other = await shop.service.shop()
    assert (await other.api.get("/risk-alerts", params={"payment_id": payment["id"]})).json()["data"] == []
    await other.api.aclose()


async def test_by_the_policy_all_that_is_left_goes_back_once(shop: Shop) -> None:
    await policy(shop, "refund")
    payment, charge = await paid(shop)
    part = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "29.90"})
    assert part.json()["status"] == "succeeded"
    warning = await warned(shop, charge)
    more = [sent(shop, event_of("radar.early_fraud_warning.created", warning)) for _ in range(4)]
    await asyncio.gather(*more, warned(shop, charge))
    assert (await shop.until(payment["id"], "refunded"))["refunded"] == "129.90"
    await quiet(shop)
    rows = await alerts(shop, payment, 2)
    assert sorted(row["decision"] for row in rows) in (
        ["nothing_left", "refund_requested"],
        ["not_actionable", "refund_requested"],
    )
    made = await refunds_of(shop, payment)
    assert [(str(row.money), row.status) for row in made] == [("29.90", "succeeded"), ("100.00", "succeeded")]
    assert made[1].requested_by == "policy:fraud_warning"
    assert next(row["refund_id"] for row in rows if row["refund_id"]) == str(made[1].id)
    totals = await shop.totals(payment["id"])
    assert (totals["charged"], totals["refunded"]) == (12990, 12990)


@pytest.mark.parametrize("done", ["refunded", "part", "disputed", "inquiry"])
async def test_what_happened_at_the_provider_unheard_is_seen_before_anything_goes_back(shop: Shop, done: str) -> None:
    """The events of the refund or dispute were lost: a refund of all would be the second of the same money."""
    await policy(shop, "refund")
    payment, charge = await paid(shop)
    await quiet(shop)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    if done in ("refunded", "part"):
        amount = 12990 if done == "refunded" else 5000
        await shop.sandbox("POST", f"/charges/{charge['id']}/refund", {"amount": amount})
    else:
        changes = {"status": "warning_needs_response"} if done == "inquiry" else {}
        await shop.sandbox("POST", f"/charges/{charge['id']}/dispute", changes)
    await shop.sandbox("DELETE", "/faults")
    await warned(shop, charge)
    (alert,) = await alerts(shop, payment)
    await quiet(shop)
    if done == "part":
        assert alert["decision"] == "refund_requested"
        await shop.until(payment["id"], "refunded")
    else:
        assert alert["decision"] in ("not_actionable", "disputed", "nothing_left")
    totals = await shop.totals(payment["id"])
    assert totals["refunded"] == {"refunded": 12990, "part": 12990}.get(done, 0)
    made = [(row.origin, str(row.money)) for row in await refunds_of(shop, payment)]
    expected = {
        "refunded": [("provider", "129.90")],
        "part": [("provider", "50.00"), ("merchant", "79.90")],
    }
    assert made == expected.get(done, [])


async def test_a_warning_before_its_payment_is_known_is_found(shop: Shop) -> None:
    await policy(shop, "refund")
    payment, charge = await paid_unheard(shop)
    warning = await warned(shop, charge)
    early = await sent(shop, event_of("radar.early_fraud_warning.created", warning | {"payment_intent": None}))
    await heard(shop, payment)
    await until(shop, early, "handled")
    await shop.until(payment["id"], "refunded")
    assert [str(row.money) for row in await refunds_of(shop, payment)] == ["100.00"]


async def test_a_review_is_visible_and_one_that_is_closed_as_refunded_follows(shop: Shop) -> None:
    payment, charge = await paid(shop)
    review = await shop.sandbox("POST", f"/charges/{charge['id']}/review")
    (alert,) = await alerts(shop, payment, is_open=True)
    assert (alert["kind"], alert["reason"], alert["decision"]) == ("review", "rule", "told")
    await quiet(shop)
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 100})
    await shop.sandbox("POST", f"/reviews/{review['id']}/close", {"reason": "refunded_as_fraud"})
    await shop.sandbox("DELETE", "/faults")
    (closed,) = [one for one in await shop.events("review.closed") if one["data"]["object"]["id"] == review["id"]]
    await sent(shop, closed)
    assert (await shop.until(payment["id"], "refunded"))["refunded"] == "129.90"
    (alert,) = await alerts(shop, payment, is_open=False)
    assert alert["closed_reason"] == "refunded_as_fraud"
    assert [(row.origin, row.status) for row in await refunds_of(shop, payment)] == [("provider", "succeeded")]
    await sent(shop, event_of("review.opened", review))  # late: it is closed
    await quiet(shop)
    assert [kind for kind in await told(shop, payment) if "risk" in kind] == ["risk_alert.raised", "risk_alert.closed"]


async def test_one_alert_is_on_record_once(shop: Shop) -> None:
    payment, charge = await paid(shop)
    warning = await warned(shop, charge)
    await asyncio.gather(*(sent(shop, event_of("radar.early_fraud_warning.created", warning)) for _ in range(5)))
    await quiet(shop)
    async with shop.service.database.transaction() as session:
        rows = (await session.scalars(select(RiskAlert).where(RiskAlert.payment_id == payment["id"]))).all()
    assert len(rows) == 1
