"""Subscriptions over time without a workflow: real billing, refunds and disputes on real PostgreSQL, one call a step.

The clock is a variable, and the bank says yes. What a test does not do does not happen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy import select

from activities import dispute_money
from activities.disputes import DisputeActivities
from activities.refunds import fail_refund, settle_refund
from activities.settlement import settle
from activities.subscriptions import SubscriptionActivities
from domain.credit import Source
from domain.dispute import DisputeState, ReconcileDisputes
from domain.money import Money
from domain.payment import OPEN, PaymentStatus
from domain.refund import FINAL_REFUND, RefundState
from domain.subscription import (
    AdvanceSubscription,
    ChangeKind,
    SubscriptionChange,
    SubscriptionChanged,
)
from providers.base import ProviderDispute, ProviderPayment
from storage import credit, ledger, payments, plans, refunds, subscriptions
from storage.credit import Owner
from storage.models import CustomerCredit, Invoice, OrderNotice, Payment, PaymentMethod, Plan, Refund, Subscription
from storage.session import Database
from tests.support.service import Shop

ZONE = ZoneInfo("Asia/Jerusalem")
BEGIN = datetime(2091, 1, 10, 7, tzinfo=UTC)
"""So far ahead that the dispatcher of a running service finds nothing of it overdue."""
CUSTOMER = "cust-credit"


class BanksOfPayers:
    """What a provider would say of disputes; stands where the guarded provider is."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, ProviderDispute]] = {}

    def provider(self, _: object) -> BanksOfPayers:
        return self

    async def call(self, _account: object, _health: object, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        return await ask(self)

    async def disputes_of(self, transaction_id: str) -> Sequence[ProviderDispute]:
        return list(self.known.get(transaction_id, {}).values())


@dataclass
class CreditLab:
    """A shop and the clock of its subscriptions."""

    shop: Shop
    now: datetime = BEGIN
    declines: str | None = None
    """With which code the bank says no to the next charges."""
    stride: timedelta = timedelta(days=1)
    banks: BanksOfPayers = field(default_factory=BanksOfPayers)

    def __post_init__(self) -> None:
        self.billed = SubscriptionActivities(self.database, lambda: self.now)
        self.disputes = DisputeActivities(self.database, self.banks, lambda: self.now)  # type: ignore[arg-type]

    @property
    def database(self) -> Database:
        return self.shop.service.database

    @property
    def currency(self) -> str:
        return self.shop.workspace.currency

    def money(self, text: str) -> Money:
        return Money.parse(text, self.currency)

    async def plan(self, amount: str, unit: str = "month", trial_days: int = 0) -> Plan:
        values = {
            "id": uuid4(),
            "code": f"plan-{uuid4().hex[:8]}",
            "name": "Plan",
            "amount": Decimal(amount),
            "currency": self.currency,
            "interval_unit": unit,
            "interval_count": 1,
            "trial_days": trial_days,
        }
        async with self.database.transaction() as session:
            return await plans.create(session, self.shop.workspace.id, values, at=self.now, actor="test")

    async def subscribe(self, plan: Plan, customer_id: str = CUSTOMER, quantity: int = 1) -> UUID:
        """A subscription by a saved card, and its first charge."""
        values = subscriptions.first_values(
            plan=plan, zone=ZONE, at=self.now, trial_days=plan.trial_days, quantity=quantity
        ) | {
            "id": uuid4(),
            "workspace_id": self.shop.workspace.id,
            "customer_id": customer_id,
            "payment_method_id": await self._card(customer_id),
            "provider_account_id": self.shop.account.id,
        }
        async with self.database.transaction() as session:
            assert await subscriptions.insert_new(session, values)
        await self.advance(values["id"])
        return UUID(str(values["id"]))

    async def _card(self, customer_id: str) -> UUID:
        method = uuid4()
        async with self.database.transaction() as session:
            session.add(
                PaymentMethod(
                    id=method,
                    workspace_id=self.shop.workspace.id,
                    provider_account_id=self.shop.account.id,
                    provider=self.shop.account.provider,
                    customer_id=customer_id,
                    token=self.shop.service.sealer.seal(str(method)),
                    token_hash=method.bytes,
                    status="active",
                )
            )
        return method

    async def advance(self, subscription_id: UUID) -> None:
        """Do what is due by now, and let the bank answer each charge."""
        for _ in range(60):
            step = await self.billed.advance_subscription(AdvanceSubscription(subscription_id, self.now))
            for payment_id in step.close:
                await self._close(payment_id)
            for refund in step.refunds:
                await self.make(refund.refund_id)
            if step.start is not None:
                await self._answer(step.start.payment_id)
            elif not step.close and not step.refunds:
                return
        raise AssertionError("it does not come to rest")

    async def live(self, subscription_id: UUID, **time: int) -> None:
        """Let time pass, a stride at a time, where timers would be to the second."""
        end = self.now + timedelta(**time)
        while self.now < end:
            self.now = min(self.now + self.stride, end)
            await self.advance(subscription_id)

    async def pay(self, payment_id: UUID) -> None:
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            seen = ProviderPayment(
                PaymentStatus.PAID,
                session_id=f"s-{payment_id}",
                transaction_id=f"t-{payment_id}",
                captured=payment.money,
            )
            await settle(session, payment, workspace, seen, at=self.now)

    async def _answer(self, payment_id: UUID) -> None:
        if self.declines is None:
            await self.pay(payment_id)
        else:
            await self._set(payment_id, PaymentStatus.FAILED, self.declines)

    async def _close(self, payment_id: UUID) -> None:
        await self._set(payment_id, PaymentStatus.CANCELED, "closed")

    async def _set(self, payment_id: UUID, status: PaymentStatus, reason: str) -> None:
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            if PaymentStatus(payment.status) in OPEN:
                payments.change_status(
                    session, workspace, payment, status, at=self.now, actor="provider", reason=reason
                )

    async def change(self, subscription_id: UUID, kind: ChangeKind, **more: Any) -> SubscriptionChanged:
        """A change, and what it makes due."""
        wish = SubscriptionChange(subscription_id, uuid4(), kind, "test", at=self.now, **more)
        done = await self.billed.change_subscription(wish)
        await self.advance(subscription_id)
        return done

    async def request(self, payment_id: UUID, amount: Money) -> UUID:
        """Ask for a refund. Raises OverRefund."""
        async with self.database.transaction() as session:
            payment, _ = await payments.lock(session, payment_id)
            values = {"id": uuid4(), "amount": amount.to_decimal(), "origin": "merchant"}
            return (await refunds.request(session, payment, values, actor="test")).id

    async def make(self, refund_id: UUID) -> None:
        """The provider has made it."""
        async with self.database.transaction() as session:
            found = await refunds.get(session, refund_id)
            assert found is not None
            payment, workspace = await payments.lock(session, found.payment_id)
            row = await refunds.lock(session, refund_id)
            if RefundState(row.status) not in FINAL_REFUND:
                await settle_refund(session, payment, workspace, row, at=self.now)

    async def refuse(self, refund_id: UUID) -> None:
        """The provider does not make it."""
        async with self.database.transaction() as session:
            found = await refunds.get(session, refund_id)
            assert found is not None
            payment, workspace = await payments.lock(session, found.payment_id)
            row = await refunds.lock(session, refund_id)
            if RefundState(row.status) not in FINAL_REFUND:
                await fail_refund(session, payment, workspace, row, code="refused", at=self.now)

    async def refund(self, payment_id: UUID, amount: Money | None = None) -> None:
        """All of a payment, or a part of it, goes back."""
        await self.make(await self.request(payment_id, amount or (await self.payment(payment_id)).money))

    async def refund_at_the_provider(self, payment_id: UUID, amount: Money) -> None:
        """In the provider's own dashboard, as reconciliation books it."""
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            await dispute_money.give_way(session, payment, amount - refunds.left_of(payment))
            values = {"id": uuid4(), "amount": amount.to_decimal(), "origin": "provider"}
            row = await refunds.record_foreign(session, payment, values)
            await settle_refund(session, payment, workspace, row, at=self.now)

    async def dispute(self, payment_id: UUID, state: DisputeState, amount: Money, name: str = "dp-1") -> None:
        """The bank's word on a dispute of a payment."""
        seen = ProviderDispute(f"{name}-{payment_id}", state, amount)
        self.banks.known.setdefault(f"t-{payment_id}", {})[name] = seen
        await self.disputes.reconcile_disputes(ReconcileDisputes(payment_id))

    async def row(self, subscription_id: UUID) -> Subscription:
        async with self.database.transaction() as session:
            found = await subscriptions.get(session, subscription_id)
        assert found is not None
        return found

    async def payment(self, payment_id: UUID) -> Payment:
        async with self.database.transaction() as session:
            return await session.get_one(Payment, payment_id)

    async def paid(self, subscription_id: UUID) -> list[Payment]:
        """Its captured payments, oldest first."""
        async with self.database.transaction() as session:
            rows = await subscriptions.payments_of(session, subscription_id)
        return [row for row in rows if row.paid_at is not None]

    async def tried(self, subscription_id: UUID) -> list[Payment]:
        """All its attempts, oldest first."""
        async with self.database.transaction() as session:
            return list(await subscriptions.payments_of(session, subscription_id))

    async def invoices(self, subscription_id: UUID) -> list[Invoice]:
        async with self.database.transaction() as session:
            return list(await subscriptions.invoices_of(session, subscription_id))

    async def credit(self, customer_id: str = CUSTOMER) -> str:
        async with self.database.transaction() as session:
            return str(await credit.balance(session, self.owner(customer_id)))

    async def sources(self, customer_id: str = CUSTOMER) -> dict[UUID | None, Source]:
        async with self.database.transaction() as session:
            return await credit.sources(session, self.owner(customer_id))

    def owner(self, customer_id: str = CUSTOMER) -> Owner:
        return Owner(self.shop.workspace.id, customer_id, self.currency)

    async def balances(self) -> dict[str, Money]:
        async with self.database.transaction() as session:
            return await ledger.balances(session, self.shop.workspace.id)

    async def told(self, kind: str) -> list[dict[str, Any]]:
        """The data of the notifications of one type."""
        async with self.database.transaction() as session:
            query = select(OrderNotice).where(
                OrderNotice.workspace_id == self.shop.workspace.id, OrderNotice.type == kind
            )
            return [row.payload["data"] for row in await session.scalars(query.order_by(OrderNotice.created_at))]

    async def books(self) -> SimpleNamespace:
        """Everything that the rule about credit is about."""
        mine = self.shop.workspace.id
        async with self.database.transaction() as session:
            rows = list(await session.scalars(select(Payment).where(Payment.workspace_id == mine)))
            given = list(await session.scalars(select(Refund).where(Refund.workspace_id == mine)))
            carried = list(await session.scalars(select(CustomerCredit).where(CustomerCredit.workspace_id == mine)))
            booked = await ledger.balances(session, mine)
        return SimpleNamespace(payments=rows, refunds=given, credits=carried, ledger=booked)
