"""Referred orders and what becomes of them, straight on the books."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select

from activities.disputes import DisputeActivities
from activities.fraud import FraudGuards
from activities.refunds import settle_refund
from activities.settlement import settle
from domain.dispute import DisputeState
from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import ProviderDispute, ProviderPayment
from storage import commissions, disputes, ledger, payments, refunds
from storage.models import Commission, Payment
from tests.support.service import Shop

LONG_AGO = timedelta(days=60)


def now() -> datetime:
    return datetime.now(UTC)


async def sold(
    shop: Shop,
    amount: Money,
    *,
    referrer: str | None = "partner-5",
    ago: timedelta = LONG_AGO,
    card: str | None = None,
    guarded: bool = True,
    **changes: Any,
) -> UUID:
    """A captured payment, so long ago."""
    payment_id, at = uuid4(), now() - ago
    values: dict[str, Any] = {
        "id": payment_id,
        "workspace_id": shop.workspace.id,
        "provider_account_id": shop.account.id,
        "provider": "stripe",
        "order_id": f"o-{payment_id}",
        "amount": amount.to_decimal(),
        "currency": amount.currency,
        "status": "pending",
        "description": "x",
        "referrer_id": referrer,
        "expires_at": at + timedelta(hours=1),
    }
    guards = FraudGuards(shop.service.sealer) if guarded else None
    async with shop.service.database.transaction() as session:
        session.add(Payment(**(values | changes)))
    async with shop.service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        if guards is not None:
            await guards.make_ready(shop.service.database, payment)
            await session.refresh(workspace)
        observed = ProviderPayment(
            PaymentStatus.PAID, transaction_id=f"pi_{payment_id.hex}", captured=amount, card_fingerprint=card
        )
        confirmed = await settle(session, payment, workspace, observed, at=at, guards=guards)
        assert confirmed.status is PaymentStatus.PAID
    return payment_id


async def refunded(shop: Shop, payment_id: UUID, amount: Money) -> None:
    """So much goes back."""
    async with shop.service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        refund = await refunds.request(
            session, payment, {"id": uuid4(), "amount": amount.to_decimal(), "origin": "merchant"}, actor="test"
        )
        await settle_refund(session, payment, workspace, refund, at=now())


async def disputed(shop: Shop, payment_id: UUID, state: DisputeState, amount: Money) -> None:
    """The payment's one dispute is in this state."""
    bank = DisputeActivities(shop.service.database, None, now)  # type: ignore[arg-type]  # no provider is asked
    seen = ProviderDispute(f"dp_{payment_id.hex}", state, amount)
    async with shop.service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        known = {row.provider_dispute_id: row for row in await disputes.of_payment(session, payment_id)}
        await bank._apply(session, payment, workspace, known.get(seen.provider_dispute_id), seen)


async def commission_of(shop: Shop, payment_id: UUID) -> Commission | None:
    async with shop.service.database.transaction() as session:
        return await commissions.of_payment(session, payment_id)


async def state_of(shop: Shop, payment_id: UUID) -> str | None:
    """Where the payment's commission stands now."""
    async with shop.service.database.transaction() as session:
        query = select(commissions.state_at(now())).where(Commission.payment_id == payment_id)
        return await session.scalar(query)


async def owed(shop: Shop, referrer: str = "partner-5") -> Money:
    """What the ledger says that the shop owes a referrer."""
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    return -found.get(f"commission_payable:{referrer}", Money.zero(shop.workspace.currency))


async def balances(shop: Shop) -> dict[str, Money]:
    async with shop.service.database.transaction() as session:
        return await ledger.balances(session, shop.workspace.id)


def money(shop: Shop) -> Callable[[str], Money]:
    """Amounts of the shop's currency."""
    return lambda text: Money.parse(text, shop.workspace.currency)
