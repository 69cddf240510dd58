"""`payment-info`: everything on record, and nothing secret or personal."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import select

from storage.models import Payment
from tests.cli.running import Operator
from tests.support.service import Shop


async def test_a_paid_payments_whole_story(operator: Operator, sold: tuple[Shop, dict[str, Any]]) -> None:
    shop, paid = sold
    found = (await operator("payment-info", paid["id"], "--json")).json
    payment = found["payment"]
    for mine, theirs in (("order", "order_id"), ("provider", "provider"), ("account", "provider_account_id")):
        assert payment[mine] == paid[theirs]
    assert (payment["id"], payment["status"], payment["reason"]) == (paid["id"], "paid", None)
    assert (payment["amount"], payment["currency"]) == ("129.90", "ILS")
    assert (payment["needs_a_look"], payment["disputed"]) == (None, False)
    assert payment["provider_transaction"] == paid["provider_transaction_id"]
    assert payment["workflow"] == f"payment-{paid['id']}"
    assert datetime.fromisoformat(payment["paid"]) == datetime.fromisoformat(paid["paid_at"])
    (attempt,) = found["attempts"]
    assert (attempt["number"], attempt["status"], attempt["session"]) == (1, "paid", payment["provider_session"])
    events = {row["type"]: row for row in found["callbacks"]}
    assert events["checkout.session.completed"]["status"] == "handled"
    assert {row["deliveries"] for row in found["callbacks"]} == {1}
    assert [(row["seq"], row["type"], row["status"]) for row in found["order_notifications"]] == [
        (1, "payment.pending", "delivered"),
        (2, "payment.paid", "delivered"),
    ]
    (document,) = found["documents"]
    assert document["id"] == paid["receipt_id"]
    assert (document["kind"], document["total"], document["rendered"]) == ("tax_invoice_receipt", "129.90", True)
    assert document["number"] == f"{datetime.fromisoformat(payment['paid']).year}-000001"
    (commission,) = found["commissions"]
    assert (commission["referrer"], commission["amount"], commission["status"]) == ("partner-5", "12.99", "accrued")
    assert {row["account"]: row["amount"] for row in found["ledger"]} == {
        f"provider:{shop.account.id}": "129.90",
        "sales": "-110.08",
        "vat_payable": "-19.82",
        "commission_expense": "12.99",
        "commission_payable:partner-5": "-12.99",
    }
    history = [row["what"] for row in found["history"]]
    assert history[0] == "payment.created"
    assert history[-1] == "payment.paid"
    assert "commission.accrued" in history


async def test_people_read_tables_whose_ids_are_never_broken(
    operator: Operator, sold: tuple[Shop, dict[str, Any]]
) -> None:
    shop, paid = sold
    shown = (await operator("payment-info", paid["id"])).stdout
    for title in ("Payment", "Attempts", "Callbacks", "Order notifications", "Documents", "Commissions", "Ledger"):
        assert f"\n{title}" in f"\n{shown}"
    lines = shown.splitlines()
    assert any(paid["receipt_id"] in line and "tax_invoice_receipt" in line for line in lines)
    assert any(f"provider:{shop.account.id}" in line and "129.90" in line for line in lines)
    assert any("needs a look:" in line for line in lines)


async def test_nothing_secret_or_personal_is_shown(operator: Operator, shop: Shop) -> None:
    payment = await shop.pays(checkout_mode=False)
    operator.hidden |= {payment["client_secret"], "Dana Levi", "dana@example.com", shop.api_key, shop.provider_key}
    for how in ([], ["--json"]):
        assert "pending" in (await operator("payment-info", payment["id"], *how)).stdout


async def test_a_payment_that_needs_a_person_says_why(operator: Operator, shop: Shop) -> None:
    answer = await shop.api.post("/payments", json=shop.order(amount="0.10"))
    failed = (await operator("payment-info", answer.json()["payment_id"], "--json")).json
    assert (failed["payment"]["status"], failed["payment"]["reason"]) == ("failed", "amount_too_small")
    assert failed["documents"] == failed["commissions"] == failed["ledger"] == []
    async with shop.service.database.transaction() as session:
        row = await session.scalar(select(Payment).where(Payment.id == answer.json()["payment_id"]))
        assert row is not None
        row.flag = "second_capture"
    shown = (await operator("payment-info", answer.json()["payment_id"])).stdout
    assert "second_capture" in shown
    assert "Documents: none" in shown


async def test_an_unknown_payment_and_a_word_that_is_no_id(operator: Operator) -> None:
    unknown = uuid4()
    assert await operator.says("payment-info", unknown) == f"There is no payment {unknown}."
    assert "'order-1' is not an id such as" in await operator.says("payment-info", "order-1", code=2)
    assert "Missing argument" in await operator.says("payment-info", code=2)
