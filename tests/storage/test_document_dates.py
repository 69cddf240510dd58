"""A document's number and date are one decision, and its rate of VAT is that of the day on which the money came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from activities.refunds import settle_refund
from activities.settlement import settle
from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import ProviderPayment
from storage import payments, receipts, refunds
from storage.models import Payment, Receipt, Refund, Workspace
from storage.session import Database
from tests.support.service import Service, Shop

ISRAEL = ZoneInfo("Asia/Jerusalem")
CHANGE = date(2025, 1, 1)
RATES = {"rates": [{"from": "1970-01-01", "rate": "0.17"}, {"from": "2025-01-01", "rate": "0.18"}]}


def at(*parts: int) -> datetime:
    """A moment of Israel's clock."""
    return datetime(*parts, tzinfo=ISRAEL)  # type: ignore[misc,arg-type]


@pytest_asyncio.fixture
async def patient(service: Service) -> AsyncIterator[Database]:
    database = Database(service.stack.database_url, pool_size=10, pool_timeout_seconds=120)
    yield database
    await database.close()


async def pending(shop: Shop, amount: str = "117.00") -> UUID:
    payment_id = uuid4()
    async with shop.service.database.transaction() as session:
        session.add(
            Payment(
                id=payment_id,
                workspace_id=shop.workspace.id,
                provider_account_id=shop.account.id,
                provider="stripe",
                order_id=f"o-{payment_id}",
                amount=Money.parse(amount, "ILS").to_decimal(),
                currency="ILS",
                status="pending",
                description="x",
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            )
        )
    return payment_id


async def posted(
    database: Database,
    payment_id: UUID,
    now: datetime,
    captured_at: datetime | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Receipt:
    async with database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        seen = ProviderPayment(
            PaymentStatus.PAID,
            transaction_id=f"pi_{payment_id.hex}",
            captured=payment.money,
            captured_at=captured_at,
        )
        await settle(session, payment, workspace, seen, at=now, clock=clock)
        await session.flush()
        found = await receipts.of_payment(session, payment_id)
    assert found is not None
    return found


async def given_back(database: Database, payment_id: UUID, amount: str, now: datetime) -> Receipt:
    async with database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        money = Money.parse(amount, payment.currency)
        refund = Refund(
            id=uuid4(),
            workspace_id=payment.workspace_id,
            payment_id=payment.id,
            provider=payment.provider,
            amount=money.to_decimal(),
            currency=money.currency,
            status="pending",
            requested_by="test",
        )
        session.add(refund)
        payment.refund_reserved = payment.refund_reserved + refund.amount
        await session.flush()
        note = await settle_refund(session, payment, workspace, await refunds.lock(session, refund.id), at=now)
        await session.flush()
    assert note is not None
    return note


async def series(shop: Shop, kind: str) -> list[tuple[int, int, date]]:
    query = select(Receipt.fiscal_year, Receipt.number, Receipt.issued_on).where(
        Receipt.workspace_id == shop.workspace.id, Receipt.kind == kind
    )
    async with shop.service.database.transaction() as session:
        return [tuple(row) for row in await session.execute(query.order_by(Receipt.fiscal_year, Receipt.number))]  # type: ignore[misc]


def in_order(documents: list[tuple[int, int, date]]) -> bool:
    """No later number has an earlier date, each year is that of the date, and no number is left out."""
    days = [day for _, _, day in documents]
    numbers = {year: [number for of, number, _ in documents if of == year] for year, _, _ in documents}
    gapless = all(found == list(range(1, len(found) + 1)) for found in numbers.values())
    return days == sorted(days) and gapless and all(year == day.year for year, _, day in documents)


async def test_clocks_that_disagree_never_date_a_later_number_before_an_earlier_one(
    shop: Shop, patient: Database
) -> None:
    """Forty captures and their refunds at once, on processes whose clocks are up to two days apart, at a year's end."""
    ids = [await pending(shop) for _ in range(40)]
    clocks = [at(2026, 12, 31, 12) + timedelta(hours=12 * (index * 7 % 5 - 2)) for index in range(40)]
    await asyncio.gather(*(posted(patient, one, clock) for one, clock in zip(ids, clocks, strict=True)))
    documents = await series(shop, "tax_invoice_receipt")
    assert len(documents) == 40
    assert in_order(documents), documents
    await asyncio.gather(*(given_back(patient, one, "17.00", clock) for one, clock in zip(ids, clocks, strict=True)))
    notes = await series(shop, "credit_note")
    assert len(notes) == 40
    assert in_order(notes), notes


async def test_a_clock_that_steps_back_does_not_date_back(shop: Shop, patient: Database) -> None:
    first = await posted(patient, await pending(shop), at(2027, 1, 1, 0, 10))
    second = await posted(patient, await pending(shop), at(2026, 12, 31, 23, 50))
    later = await posted(patient, await pending(shop), at(2027, 1, 3, 9))
    assert [(one.fiscal_year, one.number, one.issued_on) for one in (first, second, later)] == [
        (2027, 1, date(2027, 1, 1)),
        (2027, 2, date(2027, 1, 1)),
        (2027, 3, date(2027, 1, 3)),
    ]


async def test_the_clock_is_read_when_the_number_is_held(shop: Shop, patient: Database) -> None:
    """Who waits for the number over midnight gets the date of the day on which it is given."""
    waiting, hours = await pending(shop), iter([at(2026, 12, 31, 23, 59), at(2027, 1, 1, 0, 1)])
    clock = lambda: next(hours)  # noqa: E731
    async with patient.transaction() as holder:
        workspace = await holder.get_one(Workspace, shop.workspace.id)
        held = await receipts.next_place(holder, workspace, "tax_invoice_receipt", clock)
        after = asyncio.create_task(posted(patient, waiting, at(2026, 12, 31, 23, 58), clock=clock))
        await asyncio.sleep(0.3)
        assert not after.done()
        assert held.issued_on == date(2026, 12, 31)
    assert (await after).issued_on == date(2027, 1, 1)


@pytest.mark.parametrize(
    ("captured_at", "now", "rate", "vat", "paid_on"),
    [
        (at(2024, 12, 31, 23, 59), at(2025, 1, 1, 0, 1), "0.17", "17.00", "2024-12-31"),
        (at(2024, 12, 31, 23, 59), at(2025, 3, 1, 9), "0.17", "17.00", "2024-12-31"),
        (at(2025, 1, 1, 0, 0), at(2025, 1, 1, 0, 1), "0.18", "17.85", None),
        (datetime(2024, 12, 31, 22, 30, tzinfo=UTC), at(2025, 1, 2, 9), "0.18", "17.85", "2025-01-01"),
        (None, at(2024, 12, 31, 23, 59), "0.17", "17.00", None),
        (None, at(2025, 1, 1, 0, 1), "0.18", "17.85", None),
        (at(2025, 1, 1, 9), at(2024, 12, 31, 23, 59), "0.17", "17.00", None),  # the provider's clock is ahead
    ],
)
async def test_a_document_carries_the_rate_of_the_day_on_which_the_money_came(
    shop: Shop,
    patient: Database,
    captured_at: datetime | None,
    now: datetime,
    rate: str,
    vat: str,
    paid_on: str | None,
) -> None:
    assert (await shop.api.put(f"/workspaces/{shop.workspace.id}/vat-rates", json=RATES)).status_code == 200
    receipt = await posted(patient, await pending(shop), now, captured_at)
    assert (receipt.vat_rate, str(receipt.vat.quantize(Decimal("0.01")))) == (Decimal(rate), vat)
    assert receipt.issued_on == now.date()
    assert receipt.document["paid_on"] == paid_on


async def test_a_credit_note_carries_the_rate_of_what_it_credits(shop: Shop, patient: Database) -> None:
    await shop.api.put(f"/workspaces/{shop.workspace.id}/vat-rates", json=RATES)
    payment_id = await pending(shop)
    await posted(patient, payment_id, at(2024, 12, 31, 12))
    note = await given_back(patient, payment_id, "11.70", at(2025, 2, 1, 9))
    assert (note.vat_rate, note.vat, note.issued_on) == (Decimal("0.17"), Decimal("1.70"), date(2025, 2, 1))


async def rates_of(shop: Shop) -> list[dict[str, Any]]:
    answer = await shop.api.get(f"/workspaces/{shop.workspace.id}/vat-rates")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["rates"])


async def test_todays_rate_holds_for_all_days_until_another_one_is_set(shop: Shop) -> None:
    assert await rates_of(shop) == [{"from": "1970-01-01", "rate": "0.18"}]
    path = f"/workspaces/{shop.workspace.id}"
    assert (await shop.api.patch(path, json={"vat_rate": "0.18"})).json()["vat_rate"] == "0.18"
    assert await rates_of(shop) == [{"from": "1970-01-01", "rate": "0.18"}]
    today = datetime.now(ISRAEL).date().isoformat()
    for rate in ("0.19", "0.20"):
        assert (await shop.api.patch(path, json={"vat_rate": rate})).json()["vat_rate"] == rate.rstrip("0")
        assert await rates_of(shop) == [
            {"from": "1970-01-01", "rate": "0.18"},
            {"from": today, "rate": rate.rstrip("0")},
        ]


async def test_a_change_that_is_announced_holds_from_its_day(shop: Shop) -> None:
    tomorrow = (datetime.now(ISRAEL).date() + timedelta(days=2)).isoformat()
    wanted = {"rates": [{"from": tomorrow, "rate": "0.19"}, {"from": "2025-01-01", "rate": "0.18"}]}
    path = f"/workspaces/{shop.workspace.id}"
    assert (await shop.api.put(f"{path}/vat-rates", json=wanted)).json()["rates"] == wanted["rates"][::-1]
    assert (await shop.api.patch(path, json={"name": "Clinic"})).json()["vat_rate"] == "0.18"
    async with shop.service.database.transaction() as session:  # as a release before this one would have left it
        await session.execute(update(Workspace).where(Workspace.id == shop.workspace.id).values(vat_rates=[]))
    assert await rates_of(shop) == [{"from": "1970-01-01", "rate": "0.18"}]


@pytest.mark.parametrize(
    "rates",
    [
        [],
        [{"from": "2025-01-01", "rate": "18"}],
        [{"from": "2025-01-01", "rate": 0.18}],
        [{"from": "2025-13-01", "rate": "0.18"}],
        [{"from": "0001-01-01", "rate": "0.18"}],
        [{"from": "2025-01-01", "rate": "0.18"}, {"from": "2025-01-01", "rate": "0.17"}],
    ],
)
async def test_rates_that_cannot_be(shop: Shop, rates: list[dict[str, Any]]) -> None:
    answer = await shop.api.put(f"/workspaces/{shop.workspace.id}/vat-rates", json={"rates": rates})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    other = await shop.api.put(f"/workspaces/{uuid4()}/vat-rates", json=RATES)
    assert other.status_code in (403, 404)
