"""Subscriptions on the time-skipping server: real workflows, real billing on real PostgreSQL, a bank that is a script.

The bank stands where the provider is: it says what becomes of each charge, and settlement is the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

import worker
from activities.refunds import settle_refund
from activities.settlement import settle
from activities.subscriptions import SubscriptionActivities
from dispatch.inbox import subscription_command
from domain.payment import (
    Checkout,
    Confirm,
    Confirmation,
    PaymentStatus,
    PollPlan,
    RecordStatus,
    RenderReceipt,
    StartPayment,
)
from domain.refund import AdvanceRefund, RefundProgress, RefundState
from domain.subscription import (
    ChangeKind,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionView,
    subscription_workflow_id,
)
from engine.subscriptions import SubscriptionEngine
from providers.base import ProviderPayment
from storage import audit, credit, ledger, outbox, payments, plans, refunds, subscriptions
from storage.models import Invoice, Payment, PaymentMethod, Plan, ProviderAccount, Refund, Subscription
from storage.session import Database
from tests.support.replays import replay
from tests.support.service import Shop
from tests.support.time_skipping import WAIT, Stranded, at_work, patient, patiently
from workflows.afterlife import AfterlifeWorkflow
from workflows.payment import PaymentWorkflow
from workflows.refund import RefundWorkflow
from workflows.subscription import SubscriptionWorkflow

STRIDE = timedelta(days=5)
"""Short strides: the server loses its way when much happens within one."""
REAL_TIME = timedelta(minutes=2)
"""More than a call to the server may take: what passes beyond it was skipped."""
CYCLE = 28
"""Years after which every date has its day of the week, and its place among leap years and summer times, again."""
WRITTEN_FOR = 2026
"""The tests' tables are of the years after this one, and time does not go back."""
AHEAD = -(-max(0, datetime.now(UTC).year - WRITTEN_FOR) // CYCLE) * CYCLE
"""Years by which their dates are moved, so that the tables are as true in any later year."""
FEW = 2
"""How often a stride may take longer than a call to the server may, half a minute, before the server is given up."""


def moment(text: str, zone: str) -> datetime:
    """What a zone's clock shows, as the tables write it."""
    written = datetime.fromisoformat(text)
    return written.replace(year=written.year + AHEAD, tzinfo=_zone(zone))


def as_written(moment: datetime, zone: str) -> str:
    """The way back, to the nearest minute: what is asked for at a moment happens a little later."""
    at = (moment + timedelta(seconds=30)).astimezone(_zone(zone))
    return f"{at.year - AHEAD}-{at:%m-%d %H:%M}"


def virtual_now() -> datetime:
    """The server's clock, as the activity that asks was scheduled by it."""
    return activity.info().current_attempt_scheduled_time


@dataclass
class Bank:
    """Answers charges in turn, and with `always` when the list is empty.

    An answer is `paid`, `link` (a page that the payer has), `action`, or the code of a decline.
    """

    database: Database
    answers: list[str] = field(default_factory=list)
    always: str = "paid"
    asked: list[UUID] = field(default_factory=list)
    before_charge: Callable[[], Any] | None = None

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        self.asked.append(command.payment_id)
        answer = self.answers.pop(0) if self.answers else self.always
        if self.before_charge is not None:
            await self.before_charge()
        if answer == "paid":
            return Checkout((await self.pay(command.payment_id, virtual_now())).status)
        if answer == "unknown":
            status = await self._set(command.payment_id, PaymentStatus.UNKNOWN, virtual_now())
            return Checkout(status)
        if answer in ("link", "action"):
            status = PaymentStatus.PENDING if answer == "link" else PaymentStatus.REQUIRES_ACTION
            url = f"http://pay.example/{command.payment_id}"
            await self._set(command.payment_id, status, virtual_now(), url)
            return Checkout(status, url)
        raise ApplicationError("declined", answer, None, type="ProviderDeclined")

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, command.payment_id)
            if command.close_as is not None:
                payments.change_status(
                    session, workspace, payment, command.close_as, at=virtual_now(), actor="provider"
                )
            return Confirmation(PaymentStatus(payment.status), subscription_id=payment.subscription_id)

    @activity.defn
    async def record_status(self, command: RecordStatus) -> Confirmation:
        return Confirmation(await self._set(command.payment_id, command.status, virtual_now(), reason=command.reason))

    @activity.defn
    async def advance_refund(self, command: AdvanceRefund) -> RefundProgress:
        async with self.database.transaction() as session:
            found = await refunds.get(session, command.refund_id)
            assert found is not None
            payment, workspace = await payments.lock(session, found.payment_id)
            if found.status != RefundState.SUCCEEDED:
                await settle_refund(session, payment, workspace, found, at=virtual_now())
        return RefundProgress(command.refund_id, RefundState.SUCCEEDED)

    @activity.defn
    async def render_receipt(self, command: RenderReceipt) -> None:
        pass

    async def pay(self, payment_id: UUID, at: datetime) -> Confirmation:
        """Money arrives: the real settlement."""
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            seen = ProviderPayment(
                PaymentStatus.PAID,
                session_id=f"s-{payment_id}",
                transaction_id=f"t-{payment_id}",
                captured=payment.money,
            )
            return await settle(session, payment, workspace, seen, at=at)

    async def _set(
        self,
        payment_id: UUID,
        status: PaymentStatus,
        at: datetime,
        url: str | None = None,
        reason: str | None = None,
    ) -> PaymentStatus:
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            payments.change_status(session, workspace, payment, status, at=at, actor="provider", reason=reason)
            payment.checkout_url = url or payment.checkout_url
            return PaymentStatus(payment.status)


@dataclass
class Lab:
    """A shop, its bank, and a clock that jumps."""

    shop: Shop
    environment: WorkflowEnvironment
    engine: SubscriptionEngine
    bank: Bank
    late: int = 0
    """Strides that took too long so far."""
    let_go: list[AbstractAsyncContextManager[None]] = field(default_factory=list)
    """Kept, since one that is forgotten holds the clock again."""

    @property
    def database(self) -> Database:
        return self.shop.service.database

    async def now(self) -> datetime:
        return await self.environment.get_current_time()

    async def live_to(self, moment: datetime) -> None:
        """Let time pass; what is due on the way happens."""
        while (left := moment - (before := await self.now())) > timedelta(0):
            try:
                await patiently(self.environment.sleep(min(left, STRIDE)))
            except RPCError as error:
                self.late += 1
                if self.late > FEW:
                    raise Stranded from error
                if await self.now() - before <= REAL_TIME:  # it was not slow: it has lost count of who holds its clock
                    self.let_go.append(self.environment.time_skipping_unlocked())  # type: ignore[attr-defined]
                    await self.let_go[-1].__aenter__()

    async def plan(self, amount: str, unit: str = "month", count: int = 1, trial_days: int = 0) -> Plan:
        async with self.database.transaction() as session:
            return await plans.create(
                session,
                self.shop.workspace.id,
                {
                    "id": uuid4(),
                    "code": f"plan-{uuid4().hex[:6]}",
                    "name": "Plan",
                    "amount": Decimal(amount),
                    "currency": self.shop.workspace.currency,
                    "interval_unit": unit,
                    "interval_count": count,
                    "trial_days": trial_days,
                },
                at=datetime.now(UTC),
                actor="test",
            )

    async def card(self, customer_id: str, account: ProviderAccount | None = None) -> UUID:
        """A saved method of a customer, at the shop's account if no other is named."""
        method, account = uuid4(), account or self.shop.account
        async with self.database.transaction() as session:
            session.add(
                PaymentMethod(
                    id=method,
                    workspace_id=self.shop.workspace.id,
                    provider_account_id=account.id,
                    provider=account.provider,
                    customer_id=customer_id,
                    token=self.shop.service.sealer.seal(str(method)),
                    token_hash=method.bytes,
                    status="active",
                )
            )
        return method

    async def subscribe(
        self, plan: Plan, *, zone: str, method: UUID | None, customer_id: str, at: datetime | None = None
    ) -> UUID:
        """A subscription on record, as the API writes it, and its workflow begun."""
        at = at or await self.now()
        values = subscriptions.first_values(
            plan=plan, zone=_zone(zone), at=at, trial_days=plan.trial_days, quantity=1
        ) | {
            "id": uuid4(),
            "workspace_id": self.shop.workspace.id,
            "customer_id": customer_id,
            "payment_method_id": method,
            "provider_account_id": self.shop.account.id,
        }
        async with self.database.transaction() as session:
            assert await subscriptions.insert_new(session, values)
        row = await self.row(values["id"])
        assert await self.engine.start(subscription_command(row, PollPlan()), wait=WAIT) is not None
        return row.id

    async def row(self, subscription_id: UUID) -> Subscription:
        async with self.database.transaction() as session:
            found = await subscriptions.get(session, subscription_id)
        assert found is not None
        return found

    async def change(
        self, subscription_id: UUID, kind: ChangeKind, change_id: UUID | None = None, **more: Any
    ) -> SubscriptionChanged:
        """A wish, by way of the workflow; what it makes due is done as well."""
        wish = SubscriptionChange(subscription_id, change_id or uuid4(), kind, "test", **more)
        row = await self.row(subscription_id)
        answer = await self.engine.change(subscription_command(row, PollPlan()), wish, wait=WAIT)
        assert answer is not None
        return answer

    async def carried_out(
        self, subscription_id: UUID, kind: ChangeKind, change_id: UUID, **more: Any
    ) -> SubscriptionChanged:
        """The same by the activity alone, as after a crash."""
        wish = SubscriptionChange(subscription_id, change_id, kind, "test", **more)
        return await SubscriptionActivities(self.database, lambda: datetime.now(UTC)).change_subscription(wish)

    async def wake(self, subscription_id: UUID) -> None:
        """What the dispatcher does with a change that was not seen."""
        await self.engine.wake(subscription_command(await self.row(subscription_id), PollPlan()))

    async def refunds(self, subscription_id: UUID) -> list[Refund]:
        async with self.database.transaction() as session:
            query = select(Refund).join(Payment, Payment.id == Refund.payment_id)
            return list(await session.scalars(query.where(Payment.subscription_id == subscription_id)))

    async def refund(self, payment_id: UUID) -> None:
        """All of a payment goes back: the real booking."""
        async with self.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            refund = await refunds.request(
                session,
                payment,
                {"id": uuid4(), "amount": payment.amount, "origin": "merchant"},
                actor="test",
            )
            await settle_refund(session, payment, workspace, refund, at=await self.now())

    async def charges(self, subscription_id: UUID, zone: str) -> list[tuple[str, str, str]]:
        """Every attempt: when (on the wall clock of the zone, as written), how much, and how it ended."""
        async with self.database.transaction() as session:
            rows = await subscriptions.payments_of(session, subscription_id)
        return [(as_written(row.created_at, zone), str(row.money), row.status) for row in rows]

    async def payments(self, subscription_id: UUID) -> list[Payment]:
        async with self.database.transaction() as session:
            return list(await subscriptions.payments_of(session, subscription_id))

    async def invoices(self, subscription_id: UUID) -> list[Invoice]:
        async with self.database.transaction() as session:
            return list(await subscriptions.invoices_of(session, subscription_id))

    async def told(self, subscription_id: UUID) -> list[str]:
        """Types of the messages about it, in order."""
        async with self.database.transaction() as session:
            rows = await outbox.notices_of_subscription(session, subscription_id)
        return [row.type.removeprefix("subscription.") for row in rows]

    async def reasons(self, subscription_id: UUID, action: str) -> list[str]:
        """What the audit log gives as reasons of an action."""
        async with self.database.transaction() as session:
            entries = await audit.entries_about(session, self.shop.workspace.id, "subscription", subscription_id)
        return [str(entry.details.get("reason")) for entry in entries if entry.action == f"subscription.{action}"]

    async def balances(self) -> dict[str, str]:
        async with self.database.transaction() as session:
            found = await ledger.balances(session, self.shop.workspace.id)
        return {name: str(amount) for name, amount in found.items()}

    async def credit(self, subscription_id: UUID) -> str:
        row = await self.row(subscription_id)
        async with self.database.transaction() as session:
            return str(await credit.balance(session, credit.owner_of(row, self.shop.workspace.currency)))

    def handle(self, subscription_id: UUID) -> WorkflowHandle[SubscriptionWorkflow, SubscriptionView]:
        return self.environment.client.get_workflow_handle_for(
            SubscriptionWorkflow.run, subscription_workflow_id(subscription_id)
        )

    async def replay(self, subscription_id: UUID) -> None:
        """The code of now over the history of now; also of the payments."""
        ids = [f"payment-{payment.id}" for payment in (await self.payments(subscription_id))[:3]]
        handles = [self.handle(subscription_id), *map(self.environment.client.get_workflow_handle, ids)]
        await replay(*[await handle.fetch_history() for handle in handles])


def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


@asynccontextmanager
async def lab_of(shop: Shop, environment: WorkflowEnvironment) -> AsyncIterator[Lab]:
    """A worker with the real billing and a bank of the test's own."""
    bank, queue = Bank(shop.service.database), f"billing-{uuid4().hex[:6]}"
    if AHEAD:
        eve = datetime(WRITTEN_FOR + AHEAD, 12, 31, tzinfo=UTC)
        await environment.sleep(eve - datetime.now(UTC))  # at once, as nothing is to be done on the way
    billed = SubscriptionActivities(shop.service.database, virtual_now)
    async with at_work(
        Worker(
            environment.client,
            task_queue=queue,
            workflows=[PaymentWorkflow, AfterlifeWorkflow, SubscriptionWorkflow, RefundWorkflow],
            activities=[
                bank.open_checkout,
                bank.confirm,
                bank.record_status,
                bank.render_receipt,
                bank.advance_refund,
                billed.advance_subscription,
                billed.change_subscription,
            ],
            workflow_runner=worker.workflow_runner(),
        )
    ):
        yield Lab(shop, environment, patient(SubscriptionEngine(environment.client, queue)), bank)
