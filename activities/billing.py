"""What happens to a locked subscription: invoices, charges, their outcomes, and its end. One transaction each.

Locks are taken in this order, everywhere: a payment, the workspace's receipt counter, the subscription, the
customer's credit. Invoices and payments are inserted at once, by statements; audit entries wait for the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from domain.billing_calendar import boundary
from domain.dunning import Decision, Next, at_the_end, decide, on_new_method
from domain.declines import DeclineClass, decline_class
from domain.money import Money
from domain.payment import PaymentStatus
from domain.subscription import (
    ENDED,
    InvoiceStatus,
    SubscriptionStatus,
    attempt_payment_id,
    change,
    invoice_id_for,
)
from storage import audit, outbox, payments, plans, refunds, subscriptions, workspaces
from storage.models import Invoice, Payment, Plan, Subscription, Workspace

LINK_LIFE = timedelta(hours=23)
"""How long a link to pay by lives; less than the shortest limit of a provider (Stripe: 24 hours)."""
LINK_NOT_USED = "link_not_used"


@dataclass(slots=True)
class Held:
    """A subscription under its lock, and the moment at which things happen to it."""

    session: AsyncSession
    workspace: Workspace
    row: Subscription
    at: datetime
    actor: str

    @property
    def status(self) -> SubscriptionStatus:
        """Where it stands."""
        return SubscriptionStatus(self.row.status)

    @property
    def zone(self) -> ZoneInfo:
        """Whose wall clock its periods follow."""
        return ZoneInfo(self.row.timezone)

    async def plan(self, plan_id: UUID | None = None) -> Plan:
        """Its plan, or the named one of the same workspace."""
        found = await plans.get(self.session, self.row.workspace_id, plan_id or _must(self.row.plan_id))
        assert found is not None  # noqa: S101  (a foreign key)
        return found


def _must(plan_id: UUID | None) -> UUID:
    assert plan_id is not None  # noqa: S101  (a constraint: what we manage has a plan)
    return plan_id


async def hold(session: AsyncSession, subscription_id: UUID, *, at: datetime, actor: str) -> Held | None:
    """Lock a subscription; None when there is no such."""
    found = await subscriptions.lock(session, subscription_id)
    return None if found is None else Held(session, found[1], found[0], at, actor)


def price_of(plan: Plan, quantity: int) -> Money:
    """What a whole period costs."""
    return Money(plan.price.minor * quantity, plan.currency)


def set_status(held: Held, wanted: SubscriptionStatus, *, reason: str, **details: Any) -> None:
    """Change the status by the table and write down why. Staying leaves no trace. Raises IllegalTransition."""
    before = held.status
    if change(before, wanted) is before:
        return
    held.row.status, held.row.updated_at = wanted.value, held.at
    note(held, wanted.value, reason=reason, **{"from": before.value, "to": wanted.value}, **details)


def note(held: Held, what: str, *, reason: str | None = None, **details: Any) -> None:
    """An audit entry about the subscription."""
    facts = {name: value for name, value in details.items() if value is not None}
    audit.record(
        held.session,
        held.row.workspace_id,
        actor=held.actor,
        action=f"subscription.{what}",
        subject=("subscription", held.row.id),
        details=facts | ({} if reason is None else {"reason": reason}),
    )


async def tell(held: Held, what: str, *, key: str, invoice: Invoice | None = None, **more: Any) -> None:
    """One message to the order service; `key` names the intent, and there is never a second one about it."""
    row = held.row
    data: dict[str, Any] = {
        "subscription_id": str(row.id),
        "customer_id": row.customer_id,
        "status": row.status,
        "period": row.period,
        "current_period_start": row.current_period_start.isoformat(),
        "current_period_end": row.current_period_end.isoformat(),
        "cancel_at_period_end": row.cancel_at_period_end,
        "payment_id": None,
        "invoice_id": None if invoice is None else str(invoice.id),
    }
    if invoice is not None:
        data |= {
            "invoice_status": invoice.status,
            "amount": str(invoice.money),
            "credit_applied": str(Money.from_decimal(invoice.credit_applied, invoice.currency)),
            "currency": invoice.currency,
        }
    shown = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in more.items()}
    await outbox.add_subscription_notice(
        held.session,
        held.workspace,
        row,
        notice_type=f"subscription.{what}",
        key=key,
        at=held.at,
        data=data | shown,
    )


async def begin_period(held: Held, plan: Plan, *, kind: str) -> Invoice:
    """Move to the next period, which begins where the last one ended, and issue its invoice."""
    row = held.row
    row.period += 1
    row.current_period_start = row.current_period_end
    row.current_period_end = period_end(held, plan)
    row.updated_at = held.at
    return await issue(held, plan, kind=kind)


def period_end(held: Held, plan: Plan) -> datetime:
    """Where the current period ends, counted from the anchor."""
    row = held.row
    return boundary(row.anchor, held.zone, plans.interval_of(plan), row.period - row.anchor_period + 1)


def plan_line(plan: Plan, quantity: int, amount: Money, *, kind: str = "plan") -> dict[str, Any]:
    """A line of an invoice; a credit's amount is negative."""
    return {
        "kind": kind,
        "plan": plan.code,
        "plan_version": plan.version,
        "description": plan.name,
        "quantity": quantity,
        "amount": str(amount),
    }


async def issue(
    held: Held, plan: Plan, *, kind: str, sequence: int = 0, lines: list[tuple[dict[str, Any], Money]] | None = None
) -> Invoice:
    """Put an invoice of the current period on record; the customer's credit pays first, and all of it if it can.

    Without `lines` it is the plan's price. The lines' sum must not be negative.
    """
    row = held.row
    if lines is None:
        whole = price_of(plan, row.quantity)
        lines = [(plan_line(plan, row.quantity, whole), whole)]
    subtotal = Money.zero(plan.currency)
    for _, amount in lines:
        subtotal = subtotal + amount
    credit = min(await subscriptions.lock_credit(held.session, row, plan.currency), subtotal)
    total, invoice_id = subtotal - credit, invoice_id_for(row.id, row.period, sequence)
    invoice = await subscriptions.add_invoice(
        held.session,
        {
            "id": invoice_id,
            "workspace_id": row.workspace_id,
            "subscription_id": row.id,
            "period": row.period,
            "sequence": sequence,
            "kind": kind,
            "period_start": row.current_period_start,
            "period_end": row.current_period_end,
            "lines": [line for line, _ in lines],
            "subtotal": subtotal.to_decimal(),
            "credit_applied": credit.to_decimal(),
            "total": total.to_decimal(),
            "currency": plan.currency,
            "status": InvoiceStatus.OPEN.value,
            "due_at": held.at,
            "created_at": held.at,
            "updated_at": held.at,
        },
    )
    if credit.minor:
        await subscriptions.apply_credit(held.session, row, credit, cause=invoice_id)
    note(
        held,
        "invoice_issued",
        invoice_id=str(invoice_id),
        period=row.period,
        total=str(total),
        credit_applied=str(credit),
        currency=plan.currency,
    )
    if total.minor == 0:
        await paid(held, invoice, None)
    return invoice


async def charge(held: Held, invoice: Invoice, *, retry: bool, reason: str) -> Payment | None:
    """Make the next attempt: a payment of its own, by the saved method or, without one, by a link for the payer.

    Its id follows from invoice and attempt. None when the workspace has no account to charge by any more: then the
    attempt has failed, visibly.
    """
    row, session = held.row, held.session
    method = await usable_method(held)
    account_id = row.provider_account_id if method is None else method.provider_account_id
    account = None if account_id is None else await workspaces.account(session, account_id)
    if account is None:
        return None
    plan = await held.plan()
    invoice.attempts += 1
    invoice.retries += int(retry)
    invoice.next_attempt_at, invoice.updated_at = None, held.at
    payment_id = attempt_payment_id(invoice.id, invoice.attempts)
    values: dict[str, Any] = {
        "id": payment_id,
        "workspace_id": row.workspace_id,
        "provider_account_id": account.id,
        "provider": account.provider,
        "order_id": f"invoice-{invoice.id}",
        "amount": invoice.total,
        "currency": invoice.currency,
        "checkout_mode": "hosted" if method is None else "saved",
        "description": f"{plan.name} {invoice.period_start:%Y-%m-%d}",
        "customer_id": row.customer_id,
        "customer_name": row.customer_name,
        "customer_email": row.customer_email,
        "customer_tax_id": row.customer_tax_id,
        "customer_phone": row.customer_phone,
        "referrer_id": row.referrer_id,
        "language": row.language,
        "success_url": row.success_url,
        "cancel_url": row.cancel_url,
        "metadata": row.extra,
        "subscription_id": row.id,
        "invoice_id": invoice.id,
        "payment_method_id": None if method is None else method.id,
        "save_method": method is None,
        "off_session": method is not None,
        "expires_at": held.at + LINK_LIFE if method is None else _patience(held, invoice),
        "created_at": held.at,
        "updated_at": held.at,
    }
    if await payments.insert_new(session, values):
        note(
            held,
            "charged",
            reason=reason,
            invoice_id=str(invoice.id),
            payment_id=str(payment_id),
            attempt=invoice.attempts,
            amount=str(invoice.money),
        )
    return await session.get(Payment, payment_id)
