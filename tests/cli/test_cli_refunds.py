"""`process-refund`: what it would do, what it did, and once."""

from __future__ import annotations

import json
from uuid import uuid4

from tests.cli.running import Operator
from tests.support.service import Shop, eventually


async def paid(shop: Shop) -> str:
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    return str(payment["id"])


async def test_a_dry_run_tells_and_does_nothing_then_it_is_done_once(operator: Operator, shop: Shop) -> None:
    payment = await paid(shop)
    said = (await operator("process-refund", payment, "--amount", "29.90", "--dry-run", "--json")).json
    assert (said["vat"], said["commission_clawed_back"], said["left_to_refund"]) == ("4.56", "2.99", "100.00")
    assert (await shop.read(payment))["refunded"] == "0.00"
    for _ in range(2):
        done = await operator("process-refund", payment, "--amount", "29.90", "--key", "ticket-7", "--json")
        assert done.json["status"] == "succeeded"
    assert (await shop.read(payment))["refunded"] == "29.90"
    rest = await operator("process-refund", payment, "--reason", "closed the account")
    assert "succeeded" in rest.stdout
    assert (await shop.read(payment))["status"] == "refunded"


async def test_what_cannot_be_done_is_said_in_one_line(operator: Operator, shop: Shop) -> None:
    unknown = await operator("process-refund", str(uuid4()), code=1)
    assert "There is no payment" in unknown.stderr
    payment = await paid(shop)
    too_much = await operator("process-refund", payment, "--amount", "999.00", code=1)
    assert "Only 129.90 ILS is left" in too_much.stderr
    assert (await operator("process-refund", payment, "--amount", "lots", code=1)).stderr.count("\n") == 1


async def test_what_the_provider_refuses_is_a_failure_of_the_command(operator: Operator, shop: Shop) -> None:
    payment = await paid(shop)
    charges = await shop.sandbox("GET", "/objects?type=charge")
    charge = next(one for one in charges if one["metadata"]["payment_id"] == payment)
    await shop.sandbox("POST", f"/charges/{charge['id']}/dispute", {"amount": 100})
    refused = await operator("process-refund", payment, "--amount", "5.00", "--json", code=1)
    assert json.loads(refused.stdout)["status"] == "failed"
    assert "The provider refused it" in refused.stderr


async def test_a_refund_that_came_back_is_settled_by_its_reference(operator: Operator, shop: Shop) -> None:
    payment = await paid(shop)
    made = (await shop.api.post("/refunds", json={"payment_id": payment})).json()
    too_early = await operator("settle-refund", made["id"], "--reference", "wire 4711", code=1)
    assert "The refund is succeeded" in too_early.stderr
    await shop.sandbox("POST", f"/refunds/{made['provider_refund_id']}/return")

    async def returned() -> bool:
        return bool((await shop.api.get(f"/refunds/{made['id']}")).json()["status"] == "returned")

    await eventually(returned)
    said = await operator("settle-refund", made["id"], "--reference", "wire 4711", "--dry-run")
    assert "refunds_paid_outside" in said.stdout
    assert await returned()
    for _ in range(2):
        done = await operator("settle-refund", made["id"], "--reference", "wire 4711", "--json")
        assert (done.json["status"], done.json["reference"]) == ("settled_outside", "wire 4711")
    assert (await shop.read(payment))["flag"] is None
    assert "There is no refund" in (await operator("settle-refund", str(uuid4()), "--reference", "x", code=1)).stderr
