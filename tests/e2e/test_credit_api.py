"""A customer's credit over HTTP: shown, paid out to the payer, withdrawn, written off."""

from __future__ import annotations

from typing import Any

from domain.dispute import DisputeState
from domain.subscription import ChangeKind
from tests.e2e.test_payment_methods import CUSTOMER, saved
from tests.e2e.test_subscriptions_api import plan, read, subscribe, until
from tests.support.credit_lab import CreditLab
from tests.support.service import Shop, eventually


async def with_credit(shop: Shop) -> dict[str, Any]:
    """A year for 1,200.00, changed at once to 100.00 a month."""
    method, monthly = await saved(shop), await plan(shop, "100.00")
    made = await subscribe(shop, await plan(shop, "1200.00", interval="year"), payment_method_id=method["id"])
    await until(shop, made, "active")
    changed = await shop.api.post(f"/subscriptions/{made['id']}/change-plan", json={"plan": monthly["code"]})
    assert changed.status_code == 200, changed.text
    assert changed.json()["effects"]["carried_forward"] == "1100.00"
    return made


async def credit_of(shop: Shop) -> dict[str, Any]:
    (found,) = (await shop.api.get("/credits", params={"customer_id": CUSTOMER["id"]})).json()["data"]
    return dict(found)


async def test_credit_is_paid_out_as_refunds_of_the_payments_that_it_comes_from(shop: Shop) -> None:
    made = await with_credit(shop)
    shown = await credit_of(shop)
    (source,) = shown["sources"]
    assert (shown["balance"], source["unused"], source["used"]) == ("1100.00", "1100.00", "0.00")
    body = {"customer_id": CUSTOMER["id"], "amount": "700.00"}
    would = (await shop.api.post("/credits/payout", json=body, params={"dry_run": True})).json()
    assert (would["amount"], would["not_paid_out"]) == ("700.00", [])
    assert {one["movement"] for one in would["ledger"]} == {"refund", "credit_taken_back"}
    assert (await credit_of(shop))["balance"] == "1100.00"

    key = {"Idempotency-Key": "pay-out"}
    first, again = [await shop.api.post("/credits/payout", json=body, headers=key) for _ in range(2)]
    assert (first.status_code, first.json()["amount"]) == (201, "700.00"), first.text
    (refund,) = first.json()["refunds"]
    assert refund["credit_taken_back"] == "700.00"
    assert [one["id"] for one in again.json()["refunds"]] == [refund["id"]]
    assert (await credit_of(shop))["balance"] == "400.00"

    async def succeeded() -> bool:
        return bool((await shop.api.get(f"/refunds/{refund['id']}")).json()["status"] == "succeeded")

    await eventually(succeeded)
    preview = await shop.api.post("/refunds/preview", json={"payment_id": source["payment_id"], "amount": "450.00"})
    assert (preview.json()["credit_taken_back"], preview.json()["left_to_refund"]) == ("400.00", "50.00")
    too_much = await shop.api.post("/credits/payout", json=body)
    assert (too_much.status_code, too_much.json()["code"]) == (422, "credit_exceeded")
    rest = await shop.api.post("/refunds", json={"payment_id": source["payment_id"]})
    assert (rest.status_code, rest.json()["amount"]) == (201, "500.00"), rest.text
    ended = await until(shop, made, "cancelled")
    assert (ended["end_reason"], ended["credit_balance"]) == ("its payment was refunded in full", "0.00")
    nothing = await shop.api.post("/credits/payout", json={"customer_id": CUSTOMER["id"]})
    assert (nothing.status_code, nothing.json()["code"]) == (422, "credit_exceeded")


async def test_credit_is_withdrawn_with_a_reason(shop: Shop) -> None:
    made = await with_credit(shop)
    body = {"customer_id": CUSTOMER["id"], "amount": "100.00", "reason": "granted by mistake"}
    would = (await shop.api.post("/credits/withdraw", json=body, params={"dry_run": True})).json()
    assert (would["notices"], would["audit"]) == (["credit.withdrawn"], ["credit.withdrawn"])
    done = await shop.api.post("/credits/withdraw", json=body)
    assert (done.status_code, done.json()["balance"]) == (200, "1000.00")
    assert done.json()["entries"][0] | {"created_at": ""} == {
        "kind": "withdrawn",
        "payment_id": done.json()["sources"][0]["payment_id"],
        "invoice_id": None,
        "unused": "-100.00",
        "used": "0.00",
        "reason": "granted by mistake",
        "created_at": "",
    }
    assert (await read(shop, made))["credit_balance"] == "1000.00"
    for wrong, status in (({"amount": "1000.01"}, 422), ({"amount": "0.00"}, 422), ({"reason": ""}, 422)):
        assert (await shop.api.post("/credits/withdraw", json=body | wrong)).status_code == status


async def test_overdrawn_credit_is_written_off_and_what_was_used_is_not_refunded(shop: Shop) -> None:
    lab = CreditLab(shop)
    subscription = await lab.subscribe(await lab.plan("1200.00", "year"), CUSTOMER["id"])
    await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=(await lab.plan("100.00")).id)
    (payment,) = await lab.paid(subscription)
    await lab.live(subscription, days=32)
    refused = await shop.api.post("/refunds", json={"payment_id": str(payment.id), "amount": "1200.00"})
    assert (refused.status_code, refused.json()["code"]) == (409, "credit_already_used")
    assert (refused.json()["refundable"], refused.json()["credit_used"]) == ("1100.00", "100.00")
    body = {"payment_id": str(payment.id), "reason": "the customer has left"}
    none = await shop.api.post("/credits/write-off", json=body)
    assert (none.status_code, none.json()["code"]) == (409, "credit_not_overdrawn")
    await lab.dispute(payment.id, DisputeState.LOST, lab.money("1200.00"))
    assert (await shop.read(str(payment.id)))["flag"] == "credit_overdrawn"
    would = (await shop.api.post("/credits/write-off", json=body, params={"dry_run": True})).json()
    assert would["notices"] == ["credit.written_off"]
    done = await shop.api.post("/credits/write-off", json=body)
    assert done.status_code == 200, done.text
    assert (await shop.read(str(payment.id)))["flag"] is None
    await lab.dispute(payment.id, DisputeState.WON, lab.money("1200.00"))  # after all: no more than there was
    assert (await credit_of(shop))["balance"] == "1000.00"
