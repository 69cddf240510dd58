"""`risk-alerts`, `account payouts` and the policy of `workspace update`."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.running import Operator
from tests.e2e.test_risk_alerts import alerts, paid, warned
from tests.support.service import Shop, eventually


async def test_warnings_are_listed_and_the_policy_is_set(operator: Operator, shop: Shop) -> None:
    await operator("workspace", "update", shop.workspace.slug, "--fraud-warning-action", "refund")
    payment, charge = await paid(shop)
    await warned(shop, charge)
    (alert,) = await alerts(shop, payment)
    await shop.until(payment["id"], "refunded")
    listing = ("risk-alerts", "--workspace", shop.workspace.slug)
    (row,) = json.loads((await operator(*listing, "--payment", payment["id"], "--json")).stdout)
    assert row == alert
    assert row["decision"] == "refund_requested"
    assert "early_fraud_warning" in (await operator(*listing)).stdout
    assert json.loads((await operator(*listing, "--kind", "review", "--json")).stdout) == []


async def test_payouts_of_an_account_are_listed(operator: Operator, shop: Shop) -> None:
    made = await shop.sandbox("POST", "/payouts", {"account_key": shop.provider_key})

    async def listed() -> Any:
        return json.loads((await operator("account", "payouts", shop.account.id, "--json")).stdout)

    (row,) = await eventually(listed, 30)
    assert (row["provider_payout_id"], row["amount_minor"], row["status"]) == (made["id"], 1204450, "pending")
    failed = await operator("account", "payouts", shop.account.id, "--status", "failed", "--json")
    assert json.loads(failed.stdout) == []
