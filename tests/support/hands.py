"""The activities themselves, called without a workflow: as impatient and as forgetful as a test wants them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import wiring
from activities.checkout import CheckoutActivities
from activities.confirmation import ConfirmationActivities
from activities.guard import ProviderGuard
from activities.surplus import SurplusActivities
from dispatch.inbox import start_command
from domain.money import Money
from domain.payment import Checkout, Confirm, Confirmation, OpenWay, PaymentStatus, PollPlan, attempt_reference
from providers.pool import ProviderPool
from storage import attempts, payments
from storage.models import Payment, ProviderAccount
from storage.session import Database
from tests.support.market import AMOUNT, Kind, Market
from tests.support.service import CUSTOMERS


@dataclass
class Hands:
    """Activities on a market's accounts, with adapters of their own."""

    market: Market
    database: Database
    pool: ProviderPool
    guard: ProviderGuard
    checkout: CheckoutActivities
    confirmation: ConfirmationActivities
    surplus: SurplusActivities

    async def accept(self, *accounts: ProviderAccount, method: str | None = None, **changes: Any) -> Payment:
        """A payment on record, to be opened at the first of these accounts, or else at the next ones."""
        now, currency = datetime.now(UTC), self.market.currency
        customer = CUSTOMERS[currency]
        first, *rest = accounts
        sheet = self.pool.of(first).capabilities
        values: dict[str, Any] = {
            "id": uuid4(),
            "workspace_id": self.market.shop.workspace.id,
            "provider_account_id": first.id,
            "provider": first.provider,
            "fallback_accounts": [account.id for account in rest],
            "method": method or sheet.methods[0].name,
            "order_id": f"order-{uuid4().hex[:8]}",
            "amount": Money.parse(AMOUNT[currency], currency).to_decimal(),
            "currency": currency,
            "status": "created",
            "description": "x",
            "success_url": "http://127.0.0.1:9/thanks",
            "checkout_mode": "hosted",
            "language": "en",
            "customer_id": customer["id"],
            "customer_name": customer["name"],
            "customer_email": customer["email"],
            "customer_phone": customer["phone"],
            "customer_document_type": customer.get("document_type"),
            "customer_document": customer.get("document"),
            "customer_ip": customer.get("ip", "127.0.0.1"),
            "referrer_id": "partner-5",
            "expires_at": now + timedelta(hours=2),
            "created_at": now,
            "updated_at": now,
        }
        async with self.database.transaction() as session:
            payment = Payment(**(values | changes))
            session.add(payment)
        return payment

    async def open(self, payment: Payment) -> Checkout:
        return await self.checkout.open_checkout(start_command(payment, PollPlan()))

    async def add_way(self, payment_id: UUID, kind: Kind) -> OpenWay:
        """A further way on record, not opened yet."""
        account = self.market.tills[kind.provider].account
        async with self.database.transaction() as session:
            await payments.lock(session, payment_id)
            number = len(await attempts.of_payment(session, payment_id)) + 1
            await attempts.record(
                session,
                payment_id,
                number,
                {
                    "provider": kind.provider,
                    "provider_account_id": account.id,
                    "method": kind.method,
                    "status": PaymentStatus.CREATED.value,
                },
            )
        return OpenWay(payment_id, attempt_reference(payment_id, number))

    async def looks(self, payment_id: UUID, *inbox_ids: int, close_as: PaymentStatus | None = None) -> Confirmation:
        return await self.confirmation.confirm(Confirm(payment_id, inbox_ids, close_as))


@asynccontextmanager
async def hands(
    market: Market, now: Callable[[], datetime] = lambda: datetime.now(UTC), *, timeout_seconds: float = 3.0
) -> AsyncIterator[Hands]:
    """Activities that wait so long for a provider's answer."""
    service = market.service
    settings = service.settings.model_copy(update={"provider_timeout_seconds": timeout_seconds})
    pool = wiring.provider_pool(settings, service.sealer)
    guard = ProviderGuard(service.database, pool, now)
    parts: tuple[Any, ...] = (service.database, guard, service.sealer, now)
    try:
        yield Hands(
            market,
            service.database,
            pool,
            guard,
            CheckoutActivities(*parts, public_base_url=service.api_url),
            ConfirmationActivities(*parts),
            SurplusActivities(*parts),
        )
    finally:
        await pool.close()
