"""Disputes: what the provider says of them, and what follows in our books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import dispute_money
from activities.credit import show_overdrawn
from activities.disputed_subscriptions import dispute_changed
from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.parking import parked_if_it_fails
from activities.refunds import paid_way
from domain.dispute import (
    FINAL_DISPUTE,
    HOLDS_MONEY,
    DisputeState,
    DisputeView,
    ReconcileDisputes,
    Reminder,
)
from domain.money import Money
from domain.payment import CAPTURED, PaymentStatus
from providers.base import KnowsDisputes, Provider, ProviderDispute, ShowsDisputes
from storage import attempts, audit, disputes, inbox, outbox, payments, subscriptions
from storage.models import Dispute, Payment, Workspace
from storage.session import Database

log = structlog.get_logger()


class DisputeActivities:
    """Follows disputes. The provider's own word decides, asked for anew, so the order of its events does not matter."""

    def __init__(self, database: Database, guard: ProviderGuard, now: Callable[[], datetime]) -> None:
        self._database = database
        self._guard = guard
        self._now = now

    @activity.defn
    async def reconcile_disputes(self, command: ReconcileDisputes) -> list[DisputeView]:
        """Ask the provider for all disputes of the payment and record how they stand. Safe to repeat.

        Raises ApplicationError typed as in providers/base.py.
        """
        async with parked_if_it_fails(self._database, command.inbox_ids):
            return await self._reconcile(command)

    async def _reconcile(self, command: ReconcileDisputes) -> list[DisputeView]:
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, command.payment_id)
        if loaded is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        if loaded.payment.status not in CAPTURED:  # the events stay in the inbox, and come again
            return []
        way, transaction = paid_way(loaded), loaded.payment.provider_transaction_id
        found: list[ProviderDispute] = []
        provider = self._guard.provider(way.account)
        if transaction is not None and isinstance(provider, KnowsDisputes | ShowsDisputes):
            async with self._database.transaction() as session:
                on_record = await disputes.of_payment(session, command.payment_id)
            reference = loaded.payment.id if way.attempt is None else way.attempt.reference
            asking = _asking(transaction, reference, [row.provider_dispute_id for row in on_record])
            with as_application_error():
                found = list(await self._guard.call(way.account, way.health, asking))
        async with self._database.transaction() as session:
            payment, workspace = await payments.lock(session, command.payment_id)
            if payment.subscription_id is not None:  # may end with a loss; its lock comes before the credit's
                await subscriptions.lock(session, payment.subscription_id)
            known = {row.provider_dispute_id: row for row in await disputes.of_payment(session, payment.id)}
            before = {row.id: row.status for row in known.values()}
            for one in found:
                row = known.get(one.provider_dispute_id)
                known[one.provider_dispute_id] = await self._apply(session, payment, workspace, row, one)
            rows = list(known.values())  # nothing was written yet: the audit log's lock must come last
            await dispute_money.take_what_is_free(session, payment, rows)
            changed = [row for row in rows if before.get(row.id) != row.status]
            await dispute_changed(session, payment, changed, at=self._now())
            await show_overdrawn(session, workspace, payment, at=self._now())
            await inbox.mark_handled(session, command.inbox_ids, outcome=f"{len(found)} disputes")
            payment.disputed = any(row.status in HOLDS_MONEY or row.status == DisputeState.LOST for row in rows)
            return [DisputeView(row.id, payment.id, DisputeState(row.status), row.evidence_due_at) for row in rows]

    @activity.defn
    async def remind_of_dispute(self, command: Reminder) -> bool:
        """Tell the order service that evidence is due, if it still is. Returns whether the dispute waits for it.

        Safe to repeat: the reminder's number and date name the message, and a second one about it is not queued.
        """
        async with self._database.transaction() as session:
            payment, workspace = await payments.lock(session, command.payment_id)
            row = await disputes.get(session, command.dispute_id)
            if row is None or row.status != DisputeState.NEEDS_RESPONSE:
                return False
            await outbox.add_notice_once(
                session,
                workspace,
                payment,
                notice_type="dispute.evidence_due",
                key=f"{row.id}:{command.due_at.astimezone(UTC).isoformat()}:{command.number}",
                at=self._now(),
                data=_notice_data(payment, row),
            )
            return True

    async def _apply(
        self,
        session: AsyncSession,
        payment: Payment,
        workspace: Workspace,
        row: Dispute | None,
        seen: ProviderDispute,
    ) -> Dispute:
        """Move one dispute to what the provider says. A decision is final with us as with the bank."""
        previous = None if row is None else DisputeState(row.status)
        if row is None:
            row = Dispute(
                id=uuid5(payment.id, f"dispute:{seen.provider_dispute_id}"),
                workspace_id=workspace.id,
                payment_id=payment.id,
                provider=payment.provider,
                provider_dispute_id=seen.provider_dispute_id,
                status=seen.state.value,
                amount=seen.amount.to_decimal(),
                currency=seen.amount.currency,
                held=Decimal(0),
                credit_taken=Decimal(0),
                reason=seen.reason,
            )
            session.add(row)
        row.evidence_due_at = seen.evidence_due_at
        if previous is seen.state or (previous in FINAL_DISPUTE and seen.state not in FINAL_DISPUTE):
            return row
        row.status, row.updated_at = seen.state.value, self._now()
        await self._move_money(session, payment, row, previous)
        audit.record(
            session,
            workspace.id,
            actor="provider",
            action=f"dispute.{seen.state.value}",
            subject=("payment", payment.id),
            details={"dispute_id": str(row.id), "amount": str(row.money), "held": str(row.held), "reason": row.reason},
        )
        self._tell(session, payment, workspace, row, f"dispute.{seen.state.value}")
        log.info("dispute", dispute_id=str(row.id), payment_id=str(payment.id), status=row.status)
        return row

    async def _move_money(
        self, session: AsyncSession, payment: Payment, row: Dispute, previous: DisputeState | None
    ) -> None:
        """Hold, lose or give back what the new status says. A bank may still turn a decision round."""
        state = DisputeState(row.status)
        if previous is DisputeState.LOST:
            await dispute_money.win_back(session, payment, row)
        if state in HOLDS_MONEY or state is DisputeState.LOST:
            await dispute_money.hold(session, payment, row)
        if state is DisputeState.LOST:
            await dispute_money.lose(session, payment, row, Money.from_decimal(row.held, payment.currency))
        elif state not in HOLDS_MONEY:  # decided for us, or an inquiry again, which moves no money
            await dispute_money.release(session, payment, row)

    def _tell(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, row: Dispute, notice_type: str
    ) -> None:
        outbox.add_notice(
            session,
            workspace,
            payment,
            notice_type=notice_type,
            at=self._now(),
            data=_notice_data(payment, row),
        )


def _notice_data(payment: Payment, row: Dispute) -> dict[str, Any]:
    return payments.notice_data(payment, PaymentStatus(payment.status)) | {
        "amount": str(row.money),
        "currency": row.currency,
        "dispute_id": str(row.id),
        "dispute_status": row.status,
        "disputed_amount": str(row.money),
        "disputed_currency": row.currency,
        "reason": row.reason,
        "credit_taken_back": str(Money.from_decimal(row.credit_taken, payment.currency)),
        "evidence_due_at": None if row.evidence_due_at is None else row.evidence_due_at.isoformat(),
    }


def _asking(
    transaction: str, reference: UUID, known: Sequence[str]
) -> Callable[[Provider], Awaitable[list[ProviderDispute]]]:
    async def ask(provider: Provider) -> list[ProviderDispute]:
        if isinstance(provider, KnowsDisputes):
            return list(await provider.disputes_of(transaction))
        assert isinstance(provider, ShowsDisputes)  # noqa: S101  (checked by the caller)
        return list(await provider.disputes_by_reference(reference, transaction, known))

    return ask
