"""Cash: nobody can be asked what became of a code, so callbacks and files are all there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from storage.models import AuditEntry, Payment, Receipt, WebhookEvent
from tests.support.service import Service, Shop, eventually

HEADER = "agreement;reference;amount;paid_at;transaction_id"


@pytest_asyncio.fixture
async def counter(service: Service) -> AsyncIterator[Shop]:
    """A shop with an agreement of its own."""
    shop = await service.shop("efecty")
    yield shop
    await shop.aclose()


async def vouches_for_no_amount(shop: Shop) -> None:
    """From now on the network's callbacks are of the kind whose checksum leaves the amount out."""
    options = {"live": False, "callback_scheme": "payvalida"}
    changed = await shop.api.patch(f"/provider-accounts/{shop.account.id}", json={"options": options})
    assert changed.status_code == 200, changed.text


async def pays_silently_covered(shop: Shop, payment: dict[str, Any], amount: str | None = None) -> None:
    """Cash at the counter; the confirmation says that money came, and not how much."""
    opened = await shop.checkout(payment)
    assert opened.cash is not None
    secret = shop.till.credentials["callback_secret"]
    await shop.sandbox(
        "POST",
        "/efecty/codes",
        {"code": opened.cash.code, "url": shop.hook_url, "secret": secret, "scheme": "payvalida"},
    )
    await shop.till.payer.pays_cash(opened, amount)  # type: ignore[attr-defined]


async def uploads(shop: Shop, *lines: str) -> dict[str, Any]:
    content = "\r\n".join((HEADER, *lines)).encode()
    answer = await shop.api.post(f"/provider-accounts/{shop.account.id}/settlement-file", content=content)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def row(shop: Shop, payment: dict[str, Any], amount: str = "25000.00", number: str = "77") -> str:
    agreement, code = shop.till.credentials["agreement"], payment["instructions"]["code"]
    return f"{agreement};{code};{amount};2026-09-21 08:12;{number}"


async def actions(shop: Shop, payment_id: str) -> list[str]:
    async with shop.service.database.transaction() as session:
        query = select(AuditEntry.action).where(AuditEntry.subject_id == payment_id).order_by(AuditEntry.id)
        return list(await session.scalars(query))


async def receipts_of(shop: Shop, *payment_ids: str) -> int:
    async with shop.service.database.transaction() as session:
        query = select(func.count()).where(Receipt.payment_id.in_([UUID(one) for one in payment_ids]))
        return int(await session.scalar(query) or 0)


async def flagged(shop: Shop, payment_id: str, flag: str) -> dict[str, Any]:
    async def seen() -> dict[str, Any] | None:
        payment = await shop.read(payment_id)
        return payment if payment["flag"] == flag else None

    return dict(await eventually(seen))


async def test_money_of_an_unknown_amount_waits_visibly_for_the_amount(counter: Shop) -> None:
    await vouches_for_no_amount(counter)
    payment = await counter.pays()
    await pays_silently_covered(counter, payment)
    waiting = await flagged(counter, payment["id"], "amount_unconfirmed")
    assert (waiting["status"], waiting["status_reason"]) == ("unknown", "amount_unconfirmed")
    canceled = await counter.api.post(f"/payments/{payment['id']}/cancel")
    assert canceled.json()["status"] == "unknown"  # money is there, so there is nothing to be cancelled
    assert await receipts_of(counter, payment["id"]) == 0
    report = await uploads(counter, row(counter, payment))
    assert (report["taken"], report["rows"][0]["payment_id"]) == (1, payment["id"])
    paid = await counter.until(payment["id"], "paid")
    assert (paid["flag"], bool(paid["receipt_id"])) == (None, True)
    assert (await uploads(counter, row(counter, payment)))["repeated"] == 1
    assert await receipts_of(counter, payment["id"]) == 1
    seen = await actions(counter, payment["id"])
    assert seen.count("payment.flagged") == seen.count("payment.unflagged") == 1


@pytest.mark.parametrize("posted", [False, True], ids=["before the amount is known", "after it was posted"])
async def test_money_that_the_aggregator_takes_back_is_on_the_timeline(counter: Shop, *, posted: bool) -> None:
    """It says `cancelled` of an order that nobody paid, and of one whose payer has claimed the money back."""
    await vouches_for_no_amount(counter)
    unpaid, payment = await counter.pays(), await counter.pays()
    await pays_silently_covered(counter, payment)
    await flagged(counter, payment["id"], "amount_unconfirmed")
    if posted:
        await uploads(counter, row(counter, payment))
        await counter.until(payment["id"], "paid")
    secret, agreement = (counter.till.credentials[name] for name in ("callback_secret", "agreement"))
    for one in (unpaid, payment):
        code = one["instructions"]["code"]
        where = {"code": code, "url": counter.hook_url, "secret": secret, "scheme": "payvalida"}
        await counter.sandbox("POST", "/efecty/codes", where)
        await counter.sandbox("POST", "/efecty/tell", {"agreement": agreement, "code": code, "status": "reversed"})

    async def both_came() -> bool:
        told = select(func.count()).where(
            WebhookEvent.provider_account_id == counter.account.id, WebhookEvent.kind == "canceled"
        )
        async with counter.service.database.transaction() as session:
            return await session.scalar(told) == 2

    await eventually(both_came)
    assert "payment.dispute_reported" in await actions(counter, payment["id"])
    assert "payment.dispute_reported" not in await actions(counter, unpaid["id"])


async def test_another_amount_than_was_owed_is_flagged_and_not_settled(counter: Shop) -> None:
    await vouches_for_no_amount(counter)
    payment = await counter.pays()
    await pays_silently_covered(counter, payment)
    await flagged(counter, payment["id"], "amount_unconfirmed")
    await uploads(counter, row(counter, payment, amount="24999.00"))
    await flagged(counter, payment["id"], "amount_mismatch")
    assert (await counter.read(payment["id"]))["status"] == "unknown"
    assert await receipts_of(counter, payment["id"]) == 0


async def expired(shop: Shop) -> str:
    """A payment whose code has been open for a second and was never paid."""
    now = datetime.now(UTC)
    payment = Payment(
        id=uuid4(),
        workspace_id=shop.workspace.id,
        provider_account_id=shop.account.id,
        provider="efecty",
        order_id=f"order-{uuid4().hex[:6]}",
        amount=Decimal(25_000),
        currency="COP",
        status="created",
        description="x",
        method="efecty",
        checkout_mode="hosted",
        created_at=now - timedelta(minutes=1),  # the dispatcher starts what was accepted so long ago
        expires_at=now + timedelta(seconds=2),
        updated_at=now,
    )
    async with shop.service.database.transaction() as session:
        session.add(payment)
    await shop.until(str(payment.id), "expired")
    return str(payment.id)


async def test_cash_that_is_paid_after_the_end_is_settled_as_late_truth(counter: Shop) -> None:
    payment_id = await expired(counter)
    opened = await counter.checkout({"id": payment_id})
    await counter.till.payer.pays(opened)
    paid = await counter.until(payment_id, "paid")
    assert (bool(paid["receipt_id"]), paid["flag"]) == (True, None)
    async with counter.service.database.transaction() as session:
        query = select(AuditEntry.details).where(AuditEntry.subject_id == payment_id)
        late = await session.scalar(query.where(AuditEntry.action == "payment.paid"))
    assert late is not None
    assert (late["from"], late["late"]) == ("expired", True)


async def test_late_money_of_an_unknown_amount_is_flagged_and_settled_once_it_is_known(counter: Shop) -> None:
    await vouches_for_no_amount(counter)
    payment_id = await expired(counter)
    await pays_silently_covered(counter, {"id": payment_id})
    waiting = await flagged(counter, payment_id, "amount_unconfirmed")
    assert waiting["status"] == "expired"
    opened = await counter.checkout({"id": payment_id})
    assert opened.cash is not None
    await uploads(counter, row(counter, {"instructions": {"code": opened.cash.code}}))
    assert (await counter.until(payment_id, "paid"))["flag"] is None


@pytest.mark.parametrize("same_agreement", [True, False])
async def test_the_same_number_at_two_tills_settles_two_payments(
    service: Service, counter: Shop, *, same_agreement: bool
) -> None:
    """Tills and agreements count for themselves; a number of the network's is not one of a kind."""
    other = counter if same_agreement else await service.shop("efecty")
    first, second = await counter.pays(), await other.pays()
    await uploads(counter, row(counter, first, number="0000000001"))
    await uploads(other, row(other, second, number="0000000001"))
    paid = [await counter.until(first["id"], "paid"), await other.until(second["id"], "paid")]
    assert [payment["flag"] for payment in paid] == [None, None]
    assert len({payment["provider_transaction_id"] for payment in paid}) == 2
    assert await receipts_of(counter, first["id"], second["id"]) == 2
    if not same_agreement:
        await other.aclose()
