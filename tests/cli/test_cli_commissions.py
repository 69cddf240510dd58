"""`commissions`: reports, and a payout that is booked once, by whoever books it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from activities.settlement import settle
from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import ProviderPayment
from storage import commissions, ledger
from storage.models import AuditEntry, Commission, LedgerEntry, Payment
from tests.cli.running import Operator
from tests.support.service import Service, Shop


async def earned(
    shop: Shop, amount: str = "129.90", *, referrer_id: str = "partner-5", order_id: str | None = None
) -> str:
    """The id of the commission on a payment just settled."""
    money, payment_id, at = Money.parse(amount, "ILS"), uuid4(), datetime.now(UTC)
    async with shop.service.database.transaction() as session:
        payment = Payment(
            id=payment_id,
            workspace_id=shop.workspace.id,
            provider_account_id=shop.account.id,
            provider="stripe",
            order_id=order_id or f"o-{payment_id}",
            referrer_id=referrer_id,
            amount=money.to_decimal(),
            currency="ILS",
            status="pending",
            description="x",
            expires_at=at + timedelta(hours=1),
        )
        session.add(payment)
        await session.flush()
        await session.refresh(payment)
        observed = ProviderPayment(PaymentStatus.PAID, transaction_id=f"pi_{payment_id.hex}", captured=money)
        await settle(session, payment, shop.workspace, observed, at=at)
    async with shop.service.database.transaction() as session:
        found = await session.scalar(select(Commission.id).where(Commission.payment_id == payment_id))
    return str(found)


async def payouts(service: Service, commission_id: str) -> list[tuple[str, str]]:
    """Account and amount of every payout entry about the commission's payment."""
    query = (
        select(LedgerEntry.account, LedgerEntry.amount)
        .join(Commission, Commission.payment_id == LedgerEntry.payment_id)
        .where(Commission.id == UUID(commission_id), LedgerEntry.kind == "commission_payout")
        .order_by(LedgerEntry.account)
    )
    async with service.database.transaction() as session:
        return [(account, str(amount)) for account, amount in await session.execute(query)]


async def audited(service: Service, commission_id: str) -> list[tuple[str, dict[str, Any]]]:
    query = select(AuditEntry.actor, AuditEntry.details).where(
        AuditEntry.subject_id == commission_id, AuditEntry.action == "commission.paid"
    )
    async with service.database.transaction() as session:
        return [(actor, details) for actor, details in await session.execute(query)]


BOOKED = [("commission_paid_out", "-12.9900"), ("commission_payable:partner-5", "12.9900")]


async def test_the_report_sums_by_status_and_referrer(operator: Operator, shop: Shop) -> None:
    ours = ["commissions", "report", "--workspace", shop.workspace.slug]
    assert (await operator(*ours, "--json")).json == []
    assert (await operator(*ours)).stdout == "Commissions: none\n"
    paid, *_ = [await earned(shop), await earned(shop, "50.00"), await earned(shop, referrer_id="partner-6")]
    await operator("commissions", "pay", paid, "--workspace", shop.workspace.slug)
    line = {"currency": "ILS", "clawed_back": "0.00"}
    assert (await operator(*ours, "--json")).json == [
        line | {"status": "accrued", "count": 2, "amount": "17.99", "orders": "179.90"},
        line | {"status": "paid", "count": 1, "amount": "12.99", "orders": "129.90"},
    ]
    assert (await operator(*ours, "--referrer", "partner-6", "--json")).json == [
        line | {"status": "accrued", "count": 1, "amount": "12.99", "orders": "129.90"}
    ]
    assert (await operator(*ours, "--referrer", "nobody", "--json")).json == []
    assert "17.99" in (await operator(*ours)).stdout


async def test_the_list_shows_the_newest_first(operator: Operator, shop: Shop) -> None:
    ours = ["commissions", "list", "--workspace", shop.workspace.slug, "--json"]
    first, second = await earned(shop, order_id="first"), await earned(shop, order_id="second")
    rows = (await operator(*ours)).json
    assert [(row["id"], row["order"], row["amount"], row["status"]) for row in rows] == [
        (second, "second", "12.99", "accrued"),
        (first, "first", "12.99", "accrued"),
    ]
    await operator("commissions", "pay", first, "--workspace", shop.workspace.slug, "--reference", " bank-7 ")
    (paid,) = (await operator(*ours, "--status", "paid")).json
    assert (paid["id"], paid["reference"]) == (first, "bank-7")
    assert len((await operator(*ours, "--limit", 1)).json) == 1
    assert (await operator(*ours, "--referrer", "partner-6")).json == []
    assert first in (await operator(*ours[:-1])).stdout


async def test_a_payout_balances_the_books_and_is_audited_in_the_same_moment(operator: Operator, shop: Shop) -> None:
    commission = await earned(shop)
    async with shop.service.database.transaction() as session:
        owed = await ledger.balances(session, shop.workspace.id)
    assert owed["commission_payable:partner-5"] == Money.parse("-12.99", "ILS")
    pay = ["commissions", "pay", commission, "--workspace", shop.workspace.slug, "--reference", "bank-7"]
    shown = (await operator(*pay)).stdout
    assert "12.99" in shown
    assert "bank-7" in shown
    async with shop.service.database.transaction() as session:
        left = await ledger.balances(session, shop.workspace.id)
    assert left["commission_payable:partner-5"] == Money.zero("ILS")
    assert left["commission_paid_out"] == Money.parse("-12.99", "ILS")
    assert sum(balance.minor for balance in left.values()) == 0
    assert await payouts(shop.service, commission) == BOOKED
    once = [("payment-cli", {"amount": "12.99", "reference": "bank-7"})]
    assert await audited(shop.service, commission) == once
    assert (await operator(*pay)).stdout == shown  # a repeat
    assert await payouts(shop.service, commission) == BOOKED
    assert await audited(shop.service, commission) == once


async def test_another_reference_is_refused_and_changes_nothing(operator: Operator, shop: Shop) -> None:
    commission = await earned(shop)
    pay = ["commissions", "pay", commission, "--workspace", shop.workspace.slug]
    await operator(*pay, "--reference", "bank-7")
    for other in (["--reference", "bank-8"], []):
        assert "paid before, under another reference" in await operator.says(*pay, *other)
    assert await payouts(shop.service, commission) == BOOKED
    (row,) = (await operator(*["commissions", "list", "--workspace", shop.workspace.slug, "--json"])).json
    assert row["reference"] == "bank-7"


@pytest.mark.parametrize("reference", ["bank-7", "", None])
async def test_the_api_and_the_command_line_book_the_same_payout(
    operator: Operator, shop: Shop, reference: str | None
) -> None:
    commission = await earned(shop)
    for _ in range(2):
        answer = await shop.api.post(f"/commissions/{commission}/paid", json={"reference": reference})
        assert (answer.status_code, answer.json()["status"]) == (200, "paid")
    assert await payouts(shop.service, commission) == BOOKED
    named = ["--reference", reference] if reference else []
    await operator("commissions", "pay", commission, "--workspace", shop.workspace.slug, *named)
    assert await payouts(shop.service, commission) == BOOKED
    ((actor, details),) = await audited(shop.service, commission)
    assert actor.startswith("api-key:")
    assert details == {"amount": "12.99", "reference": reference or None}
    refused = await shop.api.post(f"/commissions/{commission}/paid", json={"reference": "another"})
    assert (refused.status_code, refused.json()["code"]) == (409, "commission_already_paid")


async def test_many_payouts_at_once_book_one(shop: Shop) -> None:
    commission = await earned(shop)

    async def mark() -> None:
        async with shop.service.database.transaction() as session:
            at = datetime.now(UTC)
            await commissions.mark_paid(
                session, shop.workspace.id, UUID(commission), reference="bank-7", actor="test", at=at
            )

    await asyncio.gather(*(mark() for _ in range(10)))
    assert await payouts(shop.service, commission) == BOOKED
    assert len(await audited(shop.service, commission)) == 1


async def test_the_ledger_takes_no_second_payout_even_if_the_commission_forgot_the_first(
    operator: Operator, shop: Shop
) -> None:
    commission = await earned(shop)
    pay = ["commissions", "pay", commission, "--workspace", shop.workspace.slug]
    await operator(*pay)
    async with shop.service.database.transaction() as session:
        await session.execute(update(Commission).where(Commission.id == UUID(commission)).values(status="accrued"))
    message = await operator.says(*pay)
    assert message.startswith("PostgreSQL refuses: duplicate key value violates unique constraint")
    assert await payouts(shop.service, commission) == BOOKED
    assert len(await audited(shop.service, commission)) == 1


async def test_a_payout_that_does_not_commit_leaves_no_trace(shop: Shop) -> None:
    commission = await earned(shop)
    with pytest.raises(RuntimeError, match="the crash"):
        async with shop.service.database.transaction() as session:
            at = datetime.now(UTC)
            paid = await commissions.mark_paid(
                session, shop.workspace.id, UUID(commission), reference=None, actor="test", at=at
            )
            await session.flush()
            assert paid.status == "paid"
            raise RuntimeError("the crash")
    assert await payouts(shop.service, commission) == []
    assert await audited(shop.service, commission) == []
    assert (await shop.api.get("/commissions")).json()["data"][0]["status"] == "accrued"


async def test_the_payout_is_part_of_the_payments_story(operator: Operator, shop: Shop) -> None:
    commission = await earned(shop)
    await operator("commissions", "pay", commission, "--workspace", shop.workspace.slug)
    (row,) = (await shop.api.get("/commissions")).json()["data"]
    found = (await operator("payment-info", row["payment_id"], "--json")).json
    assert [entry["account"] for entry in found["ledger"] if entry["movement"] == "commission_payout"] == [
        "commission_payable:partner-5",
        "commission_paid_out",
    ]
    assert found["commissions"][0]["status"] == "paid"


async def test_another_workspaces_commission_is_not_found(operator: Operator, service: Service, shop: Shop) -> None:
    other = await service.shop()
    commission, unknown = await earned(shop), uuid4()
    for asked in (commission, unknown):
        message = await operator.says("commissions", "pay", asked, "--workspace", other.workspace.slug)
        assert message.startswith(f"{other.workspace.slug} has no commission {asked}")
    assert await payouts(service, commission) == []
    await other.api.aclose()


async def test_wrong_use(operator: Operator, shop: Shop) -> None:
    ours = ["--workspace", shop.workspace.slug]
    pay = ["commissions", "pay", uuid4(), *ours]
    assert "'x' is not an id" in await operator.says("commissions", "pay", "x", *ours, code=2)
    assert "1 to 200 characters" in await operator.says(*pay, "--reference", "r" * 201, code=2)
    assert "1 to 200 characters" in await operator.says(*pay, "--reference", " ", code=2)
    assert "Missing option '--workspace'" in await operator.says("commissions", "report", code=2)
    assert "no workspace nowhere" in await operator.says("commissions", "report", "--workspace", "nowhere")
    assert "no workspace nowhere" in await operator.says("commissions", "list", "--workspace", "nowhere")
    assert "no workspace nowhere" in await operator.says(*pay[:3], "--workspace", "nowhere")
    assert "'--status'" in await operator.says("commissions", "list", *ours, "--status", "lost", code=2)
    assert "'--limit'" in await operator.says("commissions", "list", *ours, "--limit", 0, code=2)
