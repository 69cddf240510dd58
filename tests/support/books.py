"""A workspace's books without a service around them: rows on PostgreSQL, and captures posted by direct calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from cryptography.fernet import Fernet
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from activities.fraud import FraudGuards
from activities.settlement import settle
from domain.fraud import Judgement, Verdict
from domain.money import Money
from domain.payment import Confirmation, PaymentStatus
from providers.base import ProviderPayment
from storage import administration, attempts, audit, payments
from storage.models import (
    Attempt,
    Commission,
    LedgerEntry,
    Payment,
    ProviderAccount,
    Receipt,
    SurplusCapture,
    Workspace,
)
from storage.sealing import Sealer
from storage.session import Database

AT = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)  # the 22nd in Jerusalem
SEALER = Sealer([Fernet.generate_key().decode()])


def ils(text: str) -> Money:
    return Money.parse(text, "ILS")


@dataclass
class Decided(FraudGuards):
    """Guards that have made up their mind; what they were asked is kept."""

    first: Judgement = field(default_factory=lambda: Judgement(Verdict.ACCEPT))
    then: Judgement | None = None
    cards: list[str | None] = field(default_factory=list)

    async def look(self, session: AsyncSession, payment: Payment, workspace: Workspace, card: str | None) -> Judgement:
        self.cards.append(card)
        return self.first

    async def look_at_velocity(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, judgement: Judgement, *, at: datetime
    ) -> Judgement:
        assert (judgement, at) == (self.first, AT)
        return self.then or judgement


@dataclass
class Books:
    """A workspace with an account that keeps 2.9 % and 0.30, and payments of 118.00 in it."""

    database: Database
    workspace: Workspace
    account: ProviderAccount

    async def payment(self, **values: Any) -> UUID:
        payment_id: UUID = values.pop("id", None) or uuid4()
        defaults: dict[str, Any] = {
            "id": payment_id,
            "workspace_id": self.workspace.id,
            "provider_account_id": self.account.id,
            "provider": "stripe",
            "order_id": f"o-{payment_id}",
            "amount": Decimal("118.00"),
            "currency": "ILS",
            "status": "pending",
            "description": "Consultation",
            "customer_id": "c-1",
            "customer_name": "Dana Levi",
            "customer_email": "dana@example.com",
            "customer_tax_id": "012345678",
            "referrer_id": "ann",
            "language": "he",
            "expires_at": AT + timedelta(hours=1),
        }
        async with self.database.transaction() as session:
            session.add(Payment(**(defaults | values)))
        return payment_id

    async def attempt(self, payment_id: UUID, number: int, **values: Any) -> Attempt:
        """A way to pay it, on record."""
        row = {"provider": "stripe", "provider_account_id": self.account.id, "status": "pending"} | values
        async with self.database.transaction() as session:
            await attempts.record(session, payment_id, number, row)
            return next(one for one in await attempts.of_payment(session, payment_id) if one.number == number)

    async def settle(
        self, payment_id: UUID, observed: ProviderPayment, attempt: Attempt | None = None, **values: Any
    ) -> Confirmation:
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            return await settle(session, payment, workspace, observed, attempt, at=AT, **values)

    async def read(self, payment_id: UUID) -> Payment:
        async with self.database.transaction() as session:
            return (await session.scalars(select(Payment).where(Payment.id == payment_id))).one()

    async def rows(self, model: Any, payment_id: UUID) -> list[Any]:
        async with self.database.transaction() as session:
            return list(await session.scalars(select(model).where(model.payment_id == payment_id)))

    async def movements(self, payment_id: UUID) -> dict[tuple[str, str], str]:
        """Kind and account to what was booked."""
        rows: list[LedgerEntry] = await self.rows(LedgerEntry, payment_id)
        made = {(row.kind, row.account): str(Money.from_decimal(row.amount, row.currency)) for row in rows}
        assert len(made) == len(rows)
        return made

    async def told(self, payment_id: UUID) -> list[tuple[str, str, dict[str, Any]]]:
        """The audit log of a payment: who, what, and details."""
        async with self.database.transaction() as session:
            entries = await audit.entries_about(session, self.workspace.id, "payment", payment_id)
        return [(entry.actor, entry.action, entry.details) for entry in entries]

    async def is_untouched(self, payment_id: UUID) -> bool:
        """Nothing was posted: no document, no share, no movement, no fee."""
        kept = [await self.rows(model, payment_id) for model in (Receipt, Commission, LedgerEntry, SurplusCapture)]
        payment = await self.read(payment_id)
        return not any(kept) and payment.paid_at is None and payment.fee == 0


async def new_books(database: Database, **changes: Any) -> Books:
    values: dict[str, Any] = {
        "slug": f"books-{uuid4().hex[:12]}",
        "name": "Books",
        "language": "en",
        "legal_name": "Clinic North Ltd",
        "legal_name_he": "מרפאת צפון בע״מ",
        "address": "12 Herzl St, Haifa",
        "business_number": "514000009",
        "country": "IL",
        "currency": "ILS",
        "timezone": "Asia/Jerusalem",
        "dealer": "company",
        "vat_rate": Decimal("0.18"),
        "commission_rate": Decimal("0.10"),
        "commission_minimum": Decimal("1.00"),
        "commission_holding_days": 14,
        "order_webhook_url": "https://merchant.example/hook",
        "order_webhook_secret": SEALER.seal("whsec_x"),
    }
    async with database.transaction() as session:
        workspace = await administration.create_workspace(session, values | changes, actor="test")
        account = await administration.create_account(
            session,
            SEALER,
            workspace_id=workspace.id,
            provider="stripe",
            name="test",
            credentials={"secret_key": "sk_test_x"},
            options={},
            receives_default_webhook=False,
            actor="test",
            hint_of="secret_key",
        )
        account.fee_rate, account.fee_fixed = Decimal("0.029"), Decimal("0.30")
    return Books(database, workspace, account)


def captured(amount: str = "118.00", currency: str = "ILS", **values: Any) -> ProviderPayment:
    known: dict[str, Any] = {
        "transaction_id": f"pi_{uuid4().hex}",
        "session_id": f"cs_{uuid4().hex}",
        "card_brand": "visa",
        "card_last4": "4242",
        "card_fingerprint": "fp_1",
    }
    return ProviderPayment(status=PaymentStatus.PAID, captured=Money.parse(amount, currency), **(known | values))
