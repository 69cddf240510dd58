"""Payouts that a provider tells of: kept for reconciliation, in whatever order they are told."""

from __future__ import annotations

import itertools
import random
from typing import Any

from tests.e2e.test_early_events import event_of, sent, stored
from tests.providers.recorded import recording
from tests.support.service import Shop, eventually


async def listed(shop: Shop, **query: Any) -> list[dict[str, Any]]:
    answer = await shop.api.get(f"/provider-accounts/{shop.account.id}/payouts", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_a_payout_is_listed_as_the_provider_told_it(shop: Shop) -> None:
    made = await shop.sandbox("POST", "/payouts", {"account_key": shop.provider_key, "amount": -5000})

    async def kept() -> Any:
        rows = await listed(shop)
        return rows[0] if rows else None

    row = await eventually(kept, 30)
    assert (row["provider_payout_id"], row["amount_minor"], row["currency"]) == (made["id"], -5000, "ILS")
    assert (row["status"], row["failure_code"]) == ("pending", None)
    assert row["arrival_date"]
    await shop.sandbox("POST", f"/payouts/{made['id']}/failed", {"failure_code": "account_closed"})

    async def failed() -> Any:
        rows = await listed(shop, status="failed")
        return rows[0] if rows else None

    assert (await eventually(failed, 30))["failure_code"] == "account_closed"
    other = await shop.service.shop()
    path = f"/provider-accounts/{shop.account.id}/payouts"
    assert (await other.api.get(path)).status_code == 404
    assert (await shop.api.get(path, params={"status": "lost"})).status_code == 422
    await other.api.aclose()


async def test_events_in_any_order_and_doubled_end_the_same(shop: Shop) -> None:
    """Paid, and sent back by the bank days later; what was told last is not what holds."""
    told = recording("stripe", "payout_failed_event")["data"]["object"]
    steps: list[tuple[str, dict[str, Any], int]] = [
        ("payout.created", {"status": "pending", "failure_code": None}, 1),
        ("payout.updated", {"status": "in_transit", "failure_code": None}, 2),
        ("payout.paid", {"status": "paid", "failure_code": None}, 3),
        ("payout.failed", {"status": "failed", "failure_code": "account_closed"}, 4),
    ]
    orders = random.sample(list(itertools.permutations(steps)), 6)
    for number, order in enumerate(orders):
        for kind, changes, at in (*order, order[0]):
            thing = told | changes | {"id": f"po_{number}"}
            event_id = await sent(shop, event_of(kind, thing, created=1795992352 + at))
            kept = await stored(shop, event_id)
            assert (kept.status, kept.outcome) == ("handled", f"payout {changes['status']}")
    rows = await listed(shop, limit=100)
    assert len(rows) == len(orders)
    assert {(row["status"], row["failure_code"], row["amount_minor"]) for row in rows} == {
        ("failed", "account_closed", 1204450)
    }
    assert {row["arrival_date"] for row in rows} == {"2026-12-01"}


async def test_a_payout_that_says_no_amount_is_unreadable(shop: Shop) -> None:
    thing = recording("stripe", "payout_paid_event")["data"]["object"]
    for changes in ({"amount": None}, {"currency": "xyz"}, {"status": "of_tomorrow"}, {"id": None}):
        event_id = await sent(shop, event_of("payout.paid", thing | changes))
        assert (await stored(shop, event_id)).status == "unreadable"
    assert await listed(shop) == []
