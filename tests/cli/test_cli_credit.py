"""`credit-info`, `credit-payout`, `credit-withdraw` and `credit-write-off`."""

from __future__ import annotations

from domain.dispute import DisputeState
from domain.subscription import ChangeKind
from tests.cli.running import Operator
from tests.support.credit_lab import CUSTOMER, CreditLab
from tests.support.service import Shop


async def test_credit_is_shown_withdrawn_paid_out_and_written_off(operator: Operator, shop: Shop) -> None:
    lab = CreditLab(shop)
    subscription = await lab.subscribe(await lab.plan("1200.00", "year"))
    await lab.change(subscription, ChangeKind.CHANGE_PLAN, plan_id=(await lab.plan("100.00")).id)
    (payment,) = await lab.paid(subscription)
    named = (CUSTOMER, "--workspace", shop.workspace.slug)
    (shown,) = (await operator("credit-info", *named, "--json")).json["data"]
    assert (shown["balance"], shown["sources"][0]["payment_id"]) == ("1100.00", str(payment.id))
    assert "1100.00" in (await operator("credit-info", *named)).stdout
    would = await operator("credit-payout", *named, "--amount", "50.00", "--dry-run")
    assert "credit_taken_back" in would.stdout
    assert "greater than zero" in await operator.says("credit-payout", *named, "--amount", "0.00")
    await operator("credit-withdraw", *named, "--reason", "mistake", "--amount", "100.00", "--dry-run")
    done = await operator("credit-withdraw", *named, "--amount", "100.00", "--reason", "mistake", "--json")
    assert done.json["data"][0]["balance"] == "1000.00"
    paid = (await operator("credit-payout", *named, "--amount", "50.00", "--json")).json
    assert (paid["amount"], paid["not_paid_out"], len(paid["refunds"])) == ("50.00", [], 1)

    assert "overdrawn" in await operator.says("credit-write-off", payment.id, "--reason", "x")
    await lab.live(subscription, days=32)
    await lab.dispute(payment.id, DisputeState.LOST, lab.money("1200.00"))
    would = await operator("credit-write-off", payment.id, "--reason", "gone", "--dry-run")
    assert "credit.written_off" in would.stdout
    await operator("credit-write-off", payment.id, "--reason", "gone")
    assert "No credit" in await operator.says("credit-info", "nobody", "--workspace", shop.workspace.slug)
