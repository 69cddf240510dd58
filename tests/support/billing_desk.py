"""Subscriptions by the rules alone, on real PostgreSQL: no workflow and no clock, so that years cost milliseconds.

Whoever holds the desk says what time it is: years ahead, so that the service's own dispatcher finds nothing overdue.
Each charge that falls due is paid at once, or declined, as a bank would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from activities import billing
from activities.settlement import settle
from activities.subscriptions import SubscriptionActivities
from domain.payment import PaymentStatus
from domain.subscription import (
    AdvanceSubscription,
    ChangeKind,
    NextCharge,
    NoCharge,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStep,
)
from providers.base import ProviderPayment
from storage import audit, payments, plans, subscriptions
from storage.models import AuditEntry, Payment, PaymentMethod, Plan, Subscription
from storage.session import Database
from tests.support.service import Shop


@dataclass
class Desk:
    """One subscription and the moment at which it stands."""

    shop: Shop
    now: datetime
    plan: Plan
    id: UUID = field(default_factory=uuid4)
    declines: list[str] = field(default_factory=list)
    """Codes with which the next charges are declined, before they are paid again."""
    customer_id: str = field(default_factory=lambda: f"cust-{uuid4().hex[:8]}")

    @property
    def database(self) -> Database:
        return self.shop.service.database

    @property
    def _billing(self) -> SubscriptionActivities:
        return SubscriptionActivities(self.database, lambda: self.now)

    async def begin(self, zone: str, *, trial_days: int = 0, quantity: int = 1) -> Desk:
        """Subscribe with a saved card, now."""
        values = subscriptions.first_values(
            plan=self.plan, zone=ZoneInfo(zone), at=self.now, trial_days=trial_days, quantity=quantity
        ) | {
            "id": self.id,
            "workspace_id": self.shop.workspace.id,
            "customer_id": self.customer_id,
            "provider_account_id": self.shop.account.id,
            "payment_method_id": await self.card(),
        }
        async with self.database.transaction() as session:
            assert await subscriptions.insert_new(session, values)
        await self.settle_down()
        return self

    async def card(self) -> UUID:
        """A saved method of the customer."""
        method = uuid4()
        async with self.database.transaction() as session:
            session.add(
                PaymentMethod(
                    id=method,
                    workspace_id=self.shop.workspace.id,
                    provider_account_id=self.shop.account.id,
                    provider=self.shop.account.provider,
                    customer_id=self.customer_id,
                    token=self.shop.service.sealer.seal(str(method)),
                    token_hash=method.bytes,
                    status="active",
                )
            )
        return method

    async def settle_down(self) -> SubscriptionStep:
        """Do what is due at this moment; charges are answered."""
        while True:
            step = await self._billing.advance_subscription(AdvanceSubscription(self.id, self.now))
            if step.start is None:
                return step
            async with self.database.transaction() as session:
                payment, workspace = await payments.lock(session, step.start.payment_id)
                if self.declines:
                    payments.change_status(
                        session,
                        workspace,
                        payment,
                        PaymentStatus.FAILED,
                        at=self.now,
                        actor="bank",
                        reason=self.declines.pop(0),
                    )
                    continue
                seen = ProviderPayment(PaymentStatus.PAID, transaction_id=f"pi_{payment.id}", captured=payment.money)
                await settle(session, payment, workspace, seen, at=self.now)

    async def live_to(self, moment: datetime) -> None:
        """Let time pass, waking whenever something is due."""
        step = await self.settle_down()
        while step.wake_at is not None and step.wake_at <= moment:
            self.now = max(self.now, step.wake_at)
            step = await self.settle_down()
        self.now = max(self.now, moment)

    async def change(self, kind: ChangeKind, **more: Any) -> SubscriptionChanged:
        """Ask for a change now, and do what it makes due."""
        wish = SubscriptionChange(self.id, uuid4(), kind, "test", **more, at=self.now)
        answer = await self._billing.change_subscription(wish)
        await self.settle_down()
        return answer

    async def done(self, kind: ChangeKind, **more: Any) -> dict[str, str | None]:
        """The effects of a change that is taken."""
        answer = await self.change(kind, **more)
        assert answer.refusal is None, answer
        return answer.effects

    async def row(self) -> Subscription:
        async with self.database.transaction() as session:
            found = await subscriptions.get(session, self.id)
        assert found is not None
        return found

    async def promise(self) -> NextCharge | NoCharge:
        """The next charge, as every answer tells it."""
        async with self.database.transaction() as session:
            held = await billing.hold(session, self.id, at=self.now, actor="test")
            assert held is not None
            return await billing.next_charge(held)

    async def charges(self) -> list[Payment]:
        async with self.database.transaction() as session:
            return list(await subscriptions.payments_of(session, self.id))

    async def days(self) -> list[str]:
        """When each charge was made, on the wall clock, to the second."""
        zone = ZoneInfo((await self.row()).timezone)
        return [f"{one.created_at.astimezone(zone):%Y-%m-%d %H:%M:%S}" for one in await self.charges()]

    async def actions(self) -> list[str]:
        """What the audit log has, in order."""
        return [entry.action.removeprefix("subscription.") for entry in await self._entries()]

    async def dropped(self) -> list[str]:
        """What the audit log says was dropped of planned changes."""
        return [entry.details["dropped"] for entry in await self._entries() if "dropped" in entry.details]

    async def _entries(self) -> Sequence[AuditEntry]:
        async with self.database.transaction() as session:
            return await audit.entries_about(session, self.shop.workspace.id, "subscription", self.id)


async def plan_of(shop: Shop, amount: str, unit: str = "month", count: int = 1) -> Plan:
    """A plan of the shop."""
    async with shop.service.database.transaction() as session:
        values = {
            "id": uuid4(),
            "code": f"plan-{uuid4().hex[:8]}",
            "name": "Plan",
            "amount": Decimal(amount),
            "currency": shop.workspace.currency,
            "interval_unit": unit,
            "interval_count": count,
            "trial_days": 0,
        }
        return await plans.create(session, shop.workspace.id, values, at=datetime.now().astimezone(), actor="test")
