"""`subscription-info`: a customer's whole story."""

from __future__ import annotations

from tests.cli.running import Operator
from tests.e2e.test_payment_methods import CUSTOMER, saved
from tests.e2e.test_subscriptions_api import plan, subscribe, until
from tests.support.service import Shop


async def test_a_customers_subscription_with_its_invoice_attempt_and_messages(operator: Operator, shop: Shop) -> None:
    method = await saved(shop)
    made = await subscribe(shop, await plan(shop), payment_method_id=method["id"])
    await until(shop, made, "active")
    found = (await operator("subscription-info", CUSTOMER["id"], "--workspace", shop.workspace.slug, "--json")).json
    assert found["customer"] == CUSTOMER["id"]
    (one,) = found["subscriptions"]
    assert (one["subscription"]["id"], one["subscription"]["status"]) == (made["id"], "active")
    assert one["subscription"]["workflow"] == f"subscription-{made['id']}"
    (invoice,), (attempt,) = one["invoices"], one["attempts"]
    assert (invoice["status"], invoice["total"], invoice["kind"]) == ("paid", "100.00", "first")
    assert (attempt["status"], attempt["by"]) == ("paid", "saved method")
    assert one["payment_methods"][0]["charged_by_this"] is True
    assert [row["type"] for row in one["order_notifications"]] == ["subscription.activated"]
    assert "subscription.active" in [row["what"] for row in one["history"]]
    shown = (await operator("subscription-info", CUSTOMER["id"], "--workspace", shop.workspace.slug)).stdout
    assert made["id"] in shown


async def test_a_customer_without_one_is_told_so(operator: Operator) -> None:
    failed = await operator("subscription-info", "nobody-at-all", code=1)
    assert "No subscription" in failed.stderr
