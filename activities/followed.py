"""Subscriptions that a provider manages: its word is fetched and believed, and what was paid is booked once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import billing
from activities.billing import Held
from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.settlement import settle
from domain.payment import CAPTURED, PaymentStatus
from domain.subscription import (
    ENDED,
    InvoiceStatus,
    SyncSubscription,
    attempt_payment_id,
)
from providers.base import FollowsSubscriptions, Provider, ProviderInvoice, ProviderPayment, ProviderSubscription
from storage import inbox, payments, provider_health, subscriptions, workspaces
from storage.models import Invoice, ProviderAccount, Subscription
from storage.session import Database

log = structlog.get_logger()

BEFORE_US = timedelta(days=1)
"""Invoices that were paid longer than this before a subscription was followed had their documents elsewhere."""


class FollowedSubscriptions:
    """Keeps rows in step with what a provider says. The provider is asked between transactions, never inside one."""

    def __init__(self, database: Database, guard: ProviderGuard, now: Callable[[], datetime]) -> None:
        self._database = database
        self._guard = guard
        self._now = now

    @activity.defn
    async def sync_subscription(self, command: SyncSubscription) -> bool:
        """Ask the provider how a subscription that it manages stands, and record that. Safe to repeat.

        Events are triggers only: whatever their order, the state that was fetched last is on record. An answer that
        was asked for before the one on record is dropped. Returns whether the provider knows it. Raises
        ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            row = await subscriptions.get(session, command.subscription_id)
            account = None
            if row is not None and row.provider_account_id is not None:
                account = await workspaces.account(session, row.provider_account_id)
            health = None if account is None else await provider_health.of_account(session, account.id)
        if row is None or account is None or row.provider_subscription_id is None:
            raise ApplicationError("no such subscription", type="PaymentNotFound")
        asked_at, wanted = self._now(), row.provider_subscription_id

        async def ask(provider: Provider) -> ProviderSubscription | None:
            return await provider.look_subscription(wanted) if isinstance(provider, FollowsSubscriptions) else None

        with as_application_error():
            found = await self._guard.call(account, health, ask)
        if found is not None:
            await self._follow(row.id, found, asked_at)
            for one in found.invoices:
                if _was_paid_to(one, row):
                    await self._book(row, account, one)
        async with self._database.transaction() as session:
            outcome = "unknown at the provider" if found is None else found.status.value
            await inbox.mark_handled(session, command.inbox_ids, outcome=outcome)
        log.info("subscription followed", subscription_id=str(row.id), status=outcome)
        return found is not None

    async def _follow(self, subscription_id: UUID, found: ProviderSubscription, asked_at: datetime) -> None:
        """Bring the row and its invoices in step."""
        async with self._database.transaction() as session:
            held = await billing.hold(session, subscription_id, at=asked_at, actor="provider")
            assert held is not None  # noqa: S101  (read a moment ago)
            if held.row.synced_at is not None and held.row.synced_at > asked_at:
                return
            row = held.row
            row.synced_at = row.updated_at = asked_at
            row.customer_id, row.quantity = found.customer_id, found.quantity
            row.current_period_start = found.current_period_start
            row.current_period_end = max(found.current_period_end, found.current_period_start + timedelta(seconds=1))
            row.trial_end, row.cancel_at_period_end = found.trial_end, found.cancel_at_period_end
            row.cancelled_at = found.cancelled_at
            known = {one.provider_invoice_id: one for one in await subscriptions.invoices_of(session, row.id)}
            for one in found.invoices:
                invoice = known.get(one.invoice_id) or await _add(held, one, len(known) + 1)
                known[one.invoice_id] = invoice
                await _mark(held, invoice, one)
            await _take_status(held, found, asked_at)

    async def _book(self, row: Subscription, account: ProviderAccount, one: ProviderInvoice) -> None:
        """Book a capture of the provider's: receipt, commission, ledger, messages, as for any payment, once."""
        invoice_id = _invoice_id(row.id, one)
        payment_id = attempt_payment_id(invoice_id, 1)
        async with self._database.transaction() as session:
            known = await payments.get(session, row.workspace_id, payment_id)
            workspace = await workspaces.get(session, row.workspace_id)
            assert workspace is not None  # noqa: S101  (a foreign key)
            if (known is not None and known.status in CAPTURED) or one.total.currency != workspace.currency:
                return
            await payments.insert_new(session, _payment_values(row, account, one, payment_id, self._now()))
            payment, workspace = await payments.lock(session, payment_id)
            seen = ProviderPayment(
                PaymentStatus.PAID,
                transaction_id=one.transaction_id,
                captured=one.total,
                captured_at=one.paid_at,
            )
            await settle(session, payment, workspace, seen, at=self._now(), clock=self._now)


def _invoice_id(subscription_id: UUID, one: ProviderInvoice) -> UUID:
    return uuid5(subscription_id, f"provider-invoice:{one.invoice_id}")


def _was_paid_to(one: ProviderInvoice, row: Subscription) -> bool:
    """Whether an invoice brought money to the provider's account since we follow the subscription."""
    if one.status is not InvoiceStatus.PAID or one.transaction_id is None or one.total.minor <= 0:
        return False
    return one.paid_at is None or one.paid_at >= row.created_at - BEFORE_US


def _payment_values(
    row: Subscription, account: ProviderAccount, one: ProviderInvoice, payment_id: UUID, now: datetime
) -> dict[str, Any]:
    invoice_id = _invoice_id(row.id, one)
    return {
        "id": payment_id,
        "workspace_id": row.workspace_id,
        "provider_account_id": account.id,
        "provider": account.provider,
        "order_id": f"invoice-{invoice_id}",
        "amount": one.total.to_decimal(),
        "currency": one.total.currency,
        "status": PaymentStatus.PENDING.value,
        "checkout_mode": "saved",
        "description": f"{one.period_start:%Y-%m-%d} – {one.period_end:%Y-%m-%d}",
        "customer_id": row.customer_id,
        "referrer_id": row.referrer_id,
        "language": row.language,
        "subscription_id": row.id,
        "invoice_id": invoice_id,
        "off_session": True,
        "metadata": row.extra,
        "expires_at": now,
        "created_at": now,
        "updated_at": now,
    }


async def _add(held: Held, one: ProviderInvoice, number: int) -> Invoice:
    """Put an invoice of the provider's on record, as an open one."""
    session: AsyncSession = held.session
    return await subscriptions.add_invoice(
        session,
        {
            "id": _invoice_id(held.row.id, one),
            "workspace_id": held.row.workspace_id,
            "subscription_id": held.row.id,
            "period": number,
            "sequence": 0,
            "kind": "first" if number == 1 else "renewal",
            "period_start": one.period_start,
            "period_end": one.period_end,
            "lines": [],
            "subtotal": one.total.to_decimal(),
            "total": one.total.to_decimal(),
            "currency": one.total.currency,
            "status": InvoiceStatus.OPEN.value,
            "due_at": one.created_at,
            "provider_invoice_id": one.invoice_id,
            "created_at": one.created_at,
            "updated_at": held.at,
        },
    )


async def _mark(held: Held, invoice: Invoice, one: ProviderInvoice) -> None:
    """How an invoice stands. One whose capture is to be booked is marked paid with that, in settlement."""
    held.row.period = max(held.row.period, invoice.period)
    if invoice.status == InvoiceStatus.PAID:
        return
    invoice.total = invoice.subtotal = one.total.to_decimal()
    if one.status is InvoiceStatus.PAID:
        if not _was_paid_to(one, held.row) or one.total.currency != held.workspace.currency:
            await billing.paid(held, invoice, None)
        return
    invoice.status, invoice.next_attempt_at = one.status.value, one.next_attempt_at
    if one.status is InvoiceStatus.OPEN and one.attempts > invoice.attempts:
        invoice.attempts = invoice.failed_attempt = one.attempts
        invoice.first_failed_at = invoice.first_failed_at or held.at
        await billing.tell(
            held,
            "payment_failed",
            key=f"{invoice.id}:{one.attempts}",
            invoice=invoice,
            next_retry_at=one.next_attempt_at,
            needs="nothing" if one.next_attempt_at is not None else "another payment method",
        )


async def _take_status(held: Held, found: ProviderSubscription, at: datetime) -> None:
    before, row = held.status, held.row
    if found.status is before:
        return
    row.status = found.status.value
    billing.note(held, found.status.value, reason="as the provider has it", **{"from": before.value})
    if found.status in ENDED:
        row.ended_at, row.end_reason = found.ended_at or at, "ended at the provider"
        await billing.tell(held, found.status.value, key=f"period-{row.period}", reason=row.end_reason, why="provider")
    else:
        row.ended_at = row.end_reason = None
