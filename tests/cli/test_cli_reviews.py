"""`review`: what waits, what each act does, and the decision."""

from __future__ import annotations

from uuid import uuid4

from tests.cli.running import Operator
from tests.support.reviews import amount_mismatch
from tests.support.service import Shop


async def test_a_decision_is_explained_tried_and_made(operator: Operator, shop: Shop) -> None:
    payment = await amount_mismatch(shop)
    listed = (await operator("review", "--json")).json
    assert (payment, "amount_mismatch") in [(one["payment"], one["review_reason"]) for one in listed]
    assert payment in (await operator("review")).stdout.replace("\n", "")
    told = await operator("review", payment)
    assert "another amount was captured" in told.stdout
    assert {"accept", "refund", "close"} <= (await operator("review", payment, "--json")).json.keys()

    said = (await operator("review", payment, "accept", "--dry-run", "--json")).json
    assert (said["payment_status"], said["review_reason"]) == ("paid", None)
    assert [one["total"] for one in said["documents"]] == ["40.00"]
    assert "Would be decided" in (await operator("review", payment, "refund", "--dry-run")).stdout
    assert (await shop.read(payment))["status"] == "unknown"

    refused = await operator("review", payment, "close", code=1)
    assert "The provider holds 40.00 of it" in refused.stderr
    done = (await operator("review", payment, "accept", "--note", "agreed", "--json")).json
    assert (done["decided"], done["status"], done["waits_for"]) == ("amount_mismatch: accept", "paid", None)
    assert (await shop.read(payment))["amount"] == "40.00"
    again = await operator("review", payment, "accept", code=1)
    assert "waits for a decision" in again.stderr
    assert "waits for a decision" in (await operator("review", payment, code=1)).stderr


async def test_money_is_sent_back_by_the_tool(operator: Operator, shop: Shop) -> None:
    payment = await amount_mismatch(shop)
    done = await operator("review", payment, "refund")
    assert "amount_mismatch: refund" in done.stdout
    assert (await shop.until(payment, "refunded"))["review_reason"] is None


async def test_what_cannot_be_decided_is_said_in_one_line(operator: Operator, shop: Shop) -> None:
    assert "There is no payment" in await operator.says("review", str(uuid4()), "accept")
    payment = await amount_mismatch(shop)
    assert "amount" in await operator.says("review", payment, "accept", "--amount", "lots")
    assert "40.00 ILS was captured" in await operator.says("review", payment, "accept", "--amount", "50.00")
