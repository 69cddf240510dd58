"""Disputes: what the provider says of them, and what follows in our books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from uuid import uuid5

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.refunds import paid_way
from domain.dispute import (
    FINAL_DISPUTE,
    HOLDS_MONEY,
    DisputeState,
    DisputeView,
    ReconcileDisputes,
    Reminder,
)
from domain.ledger import LedgerEntry, dispute_lost_entries, dispute_opened_entries, dispute_won_entries
from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import KnowsDisputes, Provider, ProviderDispute
from storage import attempts, audit, commissions, disputes, inbox, ledger, outbox, payments
from storage.models import Commission, Dispute, Payment, Workspace
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
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, command.payment_id)
        if loaded is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        way, transaction = paid_way(loaded), loaded.payment.provider_transaction_id
        found: list[ProviderDispute] = []
        if transaction is not None and isinstance(self._guard.provider(way.account), KnowsDisputes):
            with as_application_error():
                found = list(await self._guard.call(way.account, way.health, _asking(transaction)))
        async with self._database.transaction() as session:
            payment, workspace = await payments.lock(session, command.payment_id)
            known = {row.provider_dispute_id: row for row in await disputes.of_payment(session, payment.id)}
            for one in found:
                await self._apply(session, payment, workspace, known.get(one.provider_dispute_id), one)
            await inbox.mark_handled(session, command.inbox_ids, outcome=f"{len(found)} disputes")
            rows = await disputes.of_payment(session, payment.id)
            payment.disputed = any(row.status in HOLDS_MONEY or row.status == DisputeState.LOST for row in rows)
            return [DisputeView(row.id, payment.id, DisputeState(row.status), row.evidence_due_at) for row in rows]

    @activity.defn
    async def remind_of_dispute(self, command: Reminder) -> bool:
        """Tell the order service that evidence is due, if it still is. Returns whether the dispute waits for it."""
        async with self._database.transaction() as session:
            payment, workspace = await payments.lock(session, command.payment_id)
            row = await disputes.get(session, command.dispute_id)
            if row is None or row.status != DisputeState.NEEDS_RESPONSE:
                return False
            self._tell(session, payment, workspace, row, "dispute.evidence_due")
            return True

    async def _apply(
        self,
        session: AsyncSession,
        payment: Payment,
        workspace: Workspace,
        row: Dispute | None,
        seen: ProviderDispute,
    ) -> None:
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
                reason=seen.reason,
            )
            session.add(row)
        row.evidence_due_at = seen.evidence_due_at
        if previous is seen.state or (previous in FINAL_DISPUTE and seen.state not in FINAL_DISPUTE):
            await session.flush()
            return
        row.status, row.updated_at = seen.state.value, self._now()
        await session.flush()
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

    async def _move_money(
        self, session: AsyncSession, payment: Payment, row: Dispute, previous: DisputeState | None
    ) -> None:
        """Hold, lose or give back what the new status says. A bank may still turn a decision round."""
        state = DisputeState(row.status)
        if previous is DisputeState.LOST:
            await self._win_back(session, payment, row)
        if state in HOLDS_MONEY or state is DisputeState.LOST:
            await self._hold(session, payment, row)
        if state is DisputeState.LOST:
            await self._lose(session, payment, row)
        elif state in FINAL_DISPUTE:
            await self._release(session, payment, row)

    async def _hold(self, session: AsyncSession, payment: Payment, row: Dispute) -> None:
        """Take from the payment what the bank took, at most what is left of it: it is never given back twice."""
        if row.held:
            return
        left = payment.amount - payment.refunded - payment.refund_reserved - payment.dispute_held
        wanted = row.amount if row.currency == payment.currency else payment.amount
        row.held = max(min(wanted, left), Decimal(0))
        payment.dispute_held = payment.dispute_held + row.held
        await self._book(
            session, payment, row, "opened", dispute_opened_entries(_held(payment, row), **_sides(row, payment))
        )

    async def _release(self, session: AsyncSession, payment: Payment, row: Dispute) -> None:
        await self._book(session, payment, row, "won", dispute_won_entries(_held(payment, row), **_sides(row, payment)))
        payment.dispute_held = payment.dispute_held - row.held
        row.held = Decimal(0)

    async def _lose(self, session: AsyncSession, payment: Payment, row: Dispute) -> None:
        """The money is gone for good, and the referrer gives back a share of it in proportion."""
        commission = await commissions.lock_of_payment(session, payment.id)
        payment.dispute_lost = payment.dispute_lost + row.held
        back = None if commission is None else commissions.take_back(commission, payment)
        await self._book(session, payment, row, "lost", self._loss(payment, row, commission, back))

    async def _win_back(self, session: AsyncSession, payment: Payment, row: Dispute) -> None:
        """A lost dispute was not lost after all: the loss and the claw-back are undone; the bank holds the money."""
        commission = await commissions.lock_of_payment(session, payment.id)
        payment.dispute_lost = payment.dispute_lost - row.held
        back = None if commission is None else -commissions.take_back(commission, payment)
        undone = [replace(entry, amount=-entry.amount) for entry in self._loss(payment, row, commission, back)]
        await self._book(session, payment, row, "loss_undone", undone)

    def _loss(
        self, payment: Payment, row: Dispute, commission: Commission | None, back: Money | None
    ) -> list[LedgerEntry]:
        return dispute_lost_entries(
            _held(payment, row),
            dispute_id=str(row.id),
            commission=back,
            referrer=None if commission is None else commission.referrer_id,
        )

    async def _book(
        self, session: AsyncSession, payment: Payment, row: Dispute, what: str, entries: list[LedgerEntry]
    ) -> None:
        """Book one turn of a dispute; it may take the same turn again, so turns are counted (under the lock)."""
        if not row.held:
            return
        turn = await ledger.count_movements(session, payment.id, kind=f"dispute_{what}")
        ledger.book(
            session,
            workspace_id=payment.workspace_id,
            payment_id=payment.id,
            movement_id=uuid5(row.id, what if turn == 0 else f"{what}-{turn}"),
            kind=f"dispute_{what}",
            entries=entries,
        )

    def _tell(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, row: Dispute, notice_type: str
    ) -> None:
        outbox.add_notice(
            session,
            workspace,
            payment,
            notice_type=notice_type,
            at=self._now(),
            data=payments.notice_data(payment, PaymentStatus(payment.status))
            | {
                "dispute_id": str(row.id),
                "dispute_status": row.status,
                "disputed_amount": str(row.money),
                "disputed_currency": row.currency,
                "reason": row.reason,
                "evidence_due_at": None if row.evidence_due_at is None else row.evidence_due_at.isoformat(),
            },
        )


def _held(payment: Payment, row: Dispute) -> Money:
    return Money.from_decimal(row.held, payment.currency)


def _sides(row: Dispute, payment: Payment) -> dict[str, str]:
    return {"provider_account": str(payment.provider_account_id), "dispute_id": str(row.id)}


def _asking(transaction: str) -> Callable[[Provider], Awaitable[list[ProviderDispute]]]:
    async def ask(provider: Provider) -> list[ProviderDispute]:
        assert isinstance(provider, KnowsDisputes)  # noqa: S101  (checked by the caller)
        return list(await provider.disputes_of(transaction))

    return ask
