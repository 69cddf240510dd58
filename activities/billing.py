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

from activities.next_method import NextMethod, next_method
from domain.billing_calendar import Anchor, length_of_pause
from domain.credit import Part
from domain.declines import DeclineClass, decline_class
from domain.dunning import Decision, FinalAction, Next, ask_by_link, at_the_end, decide, on_fault, on_new_method
from domain.money import Money
from domain.payment import PaymentStatus
from domain.steps import InvoiceParts, cut, invoice_parts
from domain.subscription import (
    ENDED,
    InvoiceStatus,
    NextCharge,
    NoCharge,
    SubscriptionStatus,
    attempt_payment_id,
    change,
    invoice_id_for,
)
from providers.registry import capabilities_of
from storage import (
    audit,
    charged_methods,
    credit,
    outbox,
    payment_methods,
    payments,
    plans,
    refunds,
    subscriptions,
    workspaces,
)
from storage.models import Invoice, Payment, Plan, ProviderAccount, Subscription, Workspace

LINK_LIFE = timedelta(hours=23)
"""How long a link to pay by lives; less than the shortest limit of a provider (a day)."""
LINK_NOT_USED = "link_not_used"
TOO_SMALL = "amount_too_small"
"""The provider's code for less than it charges at all."""
ROUNDING, DEFERRED = "rounding", "deferred"
"""Kinds of lines: what is below the provider's step and was taken off, and what was taken off before and comes on."""


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
    data["next_charge"] = _told_of(await next_charge(held))
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


def _told_of(charge: NextCharge | NoCharge) -> dict[str, Any] | None:
    if isinstance(charge, NoCharge):
        return None
    method = charge.payment_method_id
    return {
        "at": charge.at.isoformat(),
        "amount": str(charge.amount),
        "currency": charge.amount.currency,
        "payment_method_id": None if method is None else str(method),
    }


async def next_charge(held: Held) -> NextCharge | NoCharge:
    """What is charged next and when, as things stand, or why nothing is: for every answer and every notification.

    What is under way at this moment is not meant: the charge after it is.
    """
    row = held.row
    if held.status not in ENDED and row.managed_by != "provider" and row.charging_paused_at is None:
        invoice = await subscriptions.open_invoice(held.session, row.id)
        if invoice is not None and invoice.first_failed_at is not None and not await _under_way(held, invoice):
            return await _next_retry(held, invoice)
    why = _no_renewal(held)
    if why is not None:
        return why
    at = row.current_period_end
    if row.resume_at is not None:
        at = end_after_pause(held, await held.plan(), max(row.resume_at, held.at)).moment(held.zone)
    plan, quantity = await coming(held)
    left_over = await credit.balance(held.session, credit.owner_of(row, plan.currency))
    parts = await _parts_of(held, price_of(plan, quantity), left_over=left_over)
    method = (await charged_next(held)).method
    return NextCharge(
        at=at,
        amount=parts.total,
        credit_applied=parts.credit,
        deferred=parts.deferred,
        plan=plan.code,
        quantity=quantity,
        payment_method_id=None if method is None else method.id,
    )


def _no_renewal(held: Held) -> NoCharge | None:
    row, status = held.row, held.status
    reasons = {
        NoCharge.ENDED: status in ENDED,
        NoCharge.MANAGED_BY_PROVIDER: row.managed_by == "provider",
        NoCharge.FIRST_PAYMENT: status is SubscriptionStatus.INCOMPLETE,
        NoCharge.CANCEL_SCHEDULED: row.cancel_at_period_end,
        NoCharge.PAYMENT_DISPUTED: row.charging_paused_at is not None,
        NoCharge.PAUSED: status is SubscriptionStatus.PAUSED and row.resume_at is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


async def _under_way(held: Held, invoice: Invoice) -> bool:
    """Whether an overdue invoice is being tried by a saved method now, or is about to be charged to another one."""
    last = await held.session.get(Payment, attempt_payment_id(invoice.id, invoice.attempts))
    if last is None:
        return False
    if (await charged_next(held, invoice)).at_once:
        return True
    asks = last.payment_method_id is None or last.status == PaymentStatus.REQUIRES_ACTION
    return invoice.failed_attempt < invoice.attempts and not asks


async def _next_retry(held: Held, invoice: Invoice) -> NextCharge | NoCharge:
    """The next try of an overdue invoice."""
    at, end = invoice.next_attempt_at, invoice.grace_until
    if at is None or (end is not None and at > end):
        return NoCharge.PAYER_HAS_TO_ACT
    chosen, account = await payer_of(held, invoice)
    parts = cut(invoice.money, step_at(account, invoice.currency))
    return NextCharge(
        at=at,
        amount=parts.whole,
        credit_applied=Money.from_decimal(invoice.credit_applied, invoice.currency),
        deferred=Money.from_decimal(held.row.deferred, invoice.currency) + parts.rest,
        plan=(await held.plan()).code,
        quantity=held.row.quantity,
        payment_method_id=None if chosen.method is None else chosen.method.id,
    )


async def coming(held: Held) -> tuple[Plan, int]:
    """Plan and quantity of the next period: the present ones, but for what a change to the period's end says."""
    row = held.row
    return await held.plan(row.pending_plan_id), row.pending_quantity or row.quantity


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
    return _end_of(held.row, plan).moment(held.zone)


def agreed_end(held: Held, plan: Plan) -> Anchor:
    """The end of the current period as later periods may be counted from: with the agreed day, not a short month's."""
    row = held.row
    end = _end_of(row, plan)
    return end if end.moment(held.zone) == row.current_period_end else Anchor.at(row.current_period_end, held.zone)


def end_after_pause(held: Held, plan: Plan, at: datetime) -> Anchor:
    """Where the current period would end if the pause ended at `at`: the paid time that was left is left again."""
    paused_at = held.row.paused_at
    assert paused_at is not None  # noqa: S101  (set with the status)
    return agreed_end(held, plan).later(length_of_pause(held.zone, paused_at=paused_at, resumed_at=at))


def _end_of(row: Subscription, plan: Plan) -> Anchor:
    return subscriptions.anchor_of(row).after(plans.interval_of(plan), row.period - row.anchor_period + 1)


def set_anchor(held: Held, anchor: Anchor, *, period: int, moment: datetime | None = None) -> datetime:
    """Count the periods from `period` on from this anchor. Returns when it is: `moment`, if that is known better."""
    row, moment = held.row, moment or anchor.moment(held.zone)
    for name, value in subscriptions.anchor_columns(anchor, moment).items():
        setattr(row, name, value)
    row.anchor_period = period
    return moment


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

    Without `lines` it is the plan's price. The lines' sum must not be negative. What earlier invoices deferred comes on
    top; what is below the step of the provider that will charge it is deferred in turn.
    """
    row, before = held.row, Money.from_decimal(held.row.deferred, plan.currency)
    if lines is None:
        whole = price_of(plan, row.quantity)
        lines = [(plan_line(plan, row.quantity, whole), whole)]
    parts = await _parts_of(
        held,
        sum((amount for _, amount in lines), Money.zero(plan.currency)),
        left_over=await credit.lock(held.session, credit.owner_of(row, plan.currency)),
    )
    if before.minor:
        lines = [*lines, (plan_line(plan, 1, before, kind=DEFERRED), before)]
    if parts.deferred.minor:
        lines = [*lines, (plan_line(plan, 1, -parts.deferred, kind=ROUNDING), -parts.deferred)]
    row.deferred = parts.deferred.to_decimal()
    total, used, invoice_id = parts.total, parts.credit, invoice_id_for(row.id, row.period, sequence)
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
            "subtotal": (total + used).to_decimal(),
            "credit_applied": used.to_decimal(),
            "total": total.to_decimal(),
            "currency": plan.currency,
            "status": InvoiceStatus.OPEN.value,
            "due_at": held.at,
            "created_at": held.at,
            "updated_at": held.at,
        },
    )
    if used.minor:
        owner = credit.owner_of(row, plan.currency)
        await credit.apply(held.session, owner, used, invoice_id=invoice_id, cause=invoice_id)
    note(
        held,
        "invoice_issued",
        invoice_id=str(invoice_id),
        period=row.period,
        total=str(total),
        credit_applied=str(used),
        deferred=str(parts.deferred) if parts.deferred.minor else None,
        currency=plan.currency,
    )
    if total.minor == 0:
        await paid(held, invoice, None)
    return invoice


async def _parts_of(held: Held, amount: Money, *, left_over: Money) -> InvoiceParts:
    """How an invoice of this amount, and of what earlier ones deferred, is met by who would be charged now."""
    before = Money.from_decimal(held.row.deferred, amount.currency)
    return invoice_parts(amount + before, credit=left_over, step=await step_of(held, amount.currency))


async def charged_next(held: Held, invoice: Invoice | None = None) -> NextMethod:
    """What is charged next, a saved method or a link: for a new invoice, or for one after its attempts."""
    return await next_method(held.session, held.row, invoice)


async def payer_of(held: Held, invoice: Invoice | None = None) -> tuple[NextMethod, ProviderAccount]:
    """The same with the account that charges it."""
    chosen = await charged_next(held, invoice)
    account_id = held.row.provider_account_id if chosen.method is None else chosen.method.provider_account_id
    account = None if account_id is None else await workspaces.account(held.session, account_id)
    assert account is not None  # noqa: S101  (one is chosen with the subscription)
    return chosen, account


def step_at(account: ProviderAccount, currency: str) -> int:
    """Minor units that a charge at this account must be a multiple of.

    By the provider's own sheet, which needs no credentials: an agreement that takes smaller steps loses nothing by it.
    """
    return capabilities_of(account.provider).step(currency)


async def step_of(held: Held, currency: str, invoice: Invoice | None = None) -> int:
    """The same at the account that would charge now."""
    _, account = await payer_of(held, invoice)
    return step_at(account, currency)


async def fit_to_step(held: Held, invoice: Invoice) -> bool:
    """Cut an open invoice to what can be charged now. False when nothing of it is left: then it is paid.

    For a method that was given since at a provider with larger steps; else the invoice was issued in steps already.
    """
    parts = cut(invoice.money, await step_of(held, invoice.currency, invoice))
    if not parts.rest.minor:
        return True
    plan, rest = await held.plan(), parts.rest.to_decimal()
    invoice.lines = [*invoice.lines, plan_line(plan, 1, -parts.rest, kind=ROUNDING)]
    invoice.subtotal, invoice.total, invoice.updated_at = invoice.subtotal - rest, parts.whole.to_decimal(), held.at
    held.row.deferred += rest
    note(held, "invoice_rounded", invoice_id=str(invoice.id), total=str(parts.whole), deferred=str(parts.rest))
    if parts.whole.minor:
        return True
    await paid(held, invoice, None)
    return False


async def charge(held: Held, invoice: Invoice, *, retry: bool, reason: str) -> Payment:
    """Make the next attempt: a payment of its own, by the saved method or, without one, by a link for the payer.

    Its id follows from invoice and attempt, so that a repeat finds the first one.
    """
    row, session = held.row, held.session
    chosen, account = await payer_of(held, invoice)
    method = chosen.method
    charged_methods.record_preferred(invoice, chosen.preferred)
    invoice.attempts += 1
    invoice.retries += int(retry)
    invoice.next_attempt_at, invoice.updated_at = None, held.at
    payment_id = attempt_payment_id(invoice.id, invoice.attempts)
    values = _of_customer(row) | {
        "id": payment_id,
        "provider_account_id": account.id,
        "provider": account.provider,
        "order_id": order_of(invoice),
        "amount": invoice.total,
        "currency": invoice.currency,
        "checkout_mode": "hosted" if method is None else "saved",
        "description": await _words(held, invoice),
        "invoice_id": invoice.id,
        "payment_method_id": None if method is None else method.id,
        "save_method": method is None,
        "off_session": method is not None,
        "expires_at": held.at + LINK_LIFE if method is None else _patience(held, invoice),
        "created_at": held.at,
        "updated_at": held.at,
    }
    if await payments.insert_new(session, values):
        told = {"invoice_id": str(invoice.id), "payment_id": str(payment_id), "amount": str(invoice.money)}
        note(held, "charged", reason=reason, attempt=invoice.attempts, **told)
    return await session.get_one(Payment, payment_id)


def order_of(invoice: Invoice) -> str:
    """All attempts of an invoice are one order: one capture, one commission."""
    return f"invoice-{invoice.id}"


def _of_customer(row: Subscription) -> dict[str, Any]:
    return {
        "workspace_id": row.workspace_id,
        "subscription_id": row.id,
        "customer_id": row.customer_id,
        "customer_name": row.customer_name,
        "customer_email": row.customer_email,
        "customer_tax_id": row.customer_tax_id,
        "customer_phone": row.customer_phone,
        "customer_document_type": row.customer_document_type,
        "customer_document": row.customer_document,
        "referrer_id": row.referrer_id,
        "language": row.language,
        "success_url": row.success_url,
        "cancel_url": row.cancel_url,
        "metadata": row.extra,
    }


async def _words(held: Held, invoice: Invoice) -> str:
    """What the receipt says: the plan and the period, in the days of the subscription's zone."""
    plan = await held.plan()
    start, end = (moment.astimezone(held.zone) for moment in (invoice.period_start, invoice.period_end))
    return f"{plan.name}, {start:%Y-%m-%d} – {end:%Y-%m-%d}"


def _patience(held: Held, invoice: Invoice) -> datetime:
    """How long a bank's question to the payer may stay unanswered: to the end of the grace."""
    return max(invoice.grace_until or subscriptions.policy_of(held.workspace).grace_until(held.at), held.at + LINK_LIFE)


async def prefer_method(held: Held, method_id: UUID | None, *, reason: str | None) -> None:
    """Make a method the subscription's own: it is charged from now on, also where it has failed softly before."""
    held.row.payment_method_id, held.row.updated_at = method_id, held.at
    note(held, "payment_method_changed", reason=reason, payment_method_id=None if method_id is None else str(method_id))
    invoice = await subscriptions.open_invoice(held.session, held.row.id)
    if invoice is not None and invoice.attempts:
        default = await payment_methods.default_of(held.session, held.row.workspace_id, held.row.customer_id)
        known = invoice.preferred_methods or {"default": None if default is None else str(default.id)}
        invoice.preferred_methods = known | {"own": None}


async def paid(held: Held, invoice: Invoice, payment: Payment | None) -> None:
    """An invoice has its money, from `payment` or from the customer's credit: the subscription goes on.

    Late truth wins: the money of a void or given-up invoice makes it paid too. What then comes too late to be of use
    goes back. A repeat changes nothing.
    """
    if invoice.status == InvoiceStatus.PAID:
        return
    failed_before = invoice.first_failed_at is not None
    invoice.status, invoice.paid_at, invoice.updated_at = InvoiceStatus.PAID.value, held.at, held.at
    invoice.payment_id = None if payment is None else payment.id
    invoice.next_attempt_at = None
    held.row.wake_wanted_at = held.row.updated_at = held.at
    details: dict[str, Any] = {"payment_id": None if payment is None else str(payment.id)}
    note(held, "invoice_paid", invoice_id=str(invoice.id), total=str(invoice.money), **details)
    if held.row.managed_by == "provider":  # whose word the status follows
        what = "recovered" if failed_before else "activated" if invoice.kind == "first" else "renewed"
        await tell(held, what, key=str(invoice.id), invoice=invoice, **details)
        return
    if held.status in ENDED:
        if not await _back_from_the_end(held, invoice, payment):
            return
        failed_before = True
    first, changed = held.status is SubscriptionStatus.INCOMPLETE, invoice.kind == "change"
    if payment is not None:
        await _keep_what_paid(held, invoice, payment)
    if payment is not None and invoice.money < payment.money:  # by an attempt from before it was cut to a step
        await _credit_what_was_deferred(held, invoice, payment)
    if await subscriptions.open_invoice(held.session, held.row.id) is None:
        set_status(held, SubscriptionStatus.ACTIVE, reason="recovered" if failed_before else "paid")
    what = "activated" if first else "recovered" if failed_before else "change_paid" if changed else "renewed"
    await tell(held, what, key=str(invoice.id), invoice=invoice, **details)


async def _credit_what_was_deferred(held: Held, invoice: Invoice, payment: Payment) -> None:
    """The payment was of the whole amount: what was cut off it comes with the next invoice, so it is credit now."""
    owner = credit.owner_of(held.row, invoice.currency)
    room = (await credit.sources(held.session, owner, [payment.id]))[payment.id].room
    twice = Part(payment.id, min(payment.money - invoice.money, room))
    await credit.grant(held.session, owner, [twice], cause=uuid5(invoice.id, "deferred-and-paid"))


async def _keep_what_paid(held: Held, invoice: Invoice, payment: Payment) -> None:
    """What paid in place of the method that is preferred is the subscription's own from now on.

    Not where another was preferred while the charge was under way.
    """
    row, preferred = held.row, invoice.preferred_methods
    method = None if payment.payment_method_id is None else str(payment.payment_method_id)
    if method is None or preferred is None or payment.id != attempt_payment_id(invoice.id, invoice.attempts):
        return
    own = None if row.payment_method_id is None else str(row.payment_method_id)
    if own == preferred["own"] and method != (own or preferred["default"]):
        row.payment_method_id = payment.payment_method_id
        reason = "it paid in place of the one before"
        note(held, "payment_method_changed", reason=reason, payment_method_id=method)


async def method_saved(session: AsyncSession, payment: Payment, method_id: UUID) -> None:
    """What a page has saved while it was paid at is charged from now on. Called in settlement's transaction.

    Money that came beside what had paid the invoice changes nothing.
    """
    if payment.subscription_id is None or payment.invoice_id is None:
        return
    row = await session.get(Subscription, payment.subscription_id)
    invoice = await subscriptions.invoice(session, payment.invoice_id)
    if row is None or invoice is None:
        return
    if row.payment_method_id is None or invoice.payment_id == payment.id:
        row.payment_method_id = method_id


async def method_set_up(session: AsyncSession, subscription_id: UUID, method_id: UUID, *, at: datetime) -> None:
    """What a set-up for this subscription has saved is charged for it from now on. The caller wakes it.

    Take the customer's lock on methods before this.
    """
    held = await hold(session, subscription_id, at=at, actor="provider")
    if held is not None and held.status not in ENDED:
        await prefer_method(held, method_id, reason="it was saved for this subscription")
        held.row.wake_wanted_at = at


async def _back_from_the_end(held: Held, invoice: Invoice, payment: Payment | None) -> bool:
    """Money for a subscription that has ended. True when it lives again: it had expired, and its period still runs.

    Else the money goes back in full: the customer has cancelled, or would pay for a time that is over.
    """
    if held.status is SubscriptionStatus.EXPIRED and held.at < invoice.period_end:
        held.row.ended_at = held.row.end_reason = None
        if not held.row.cancel_at_period_end:
            held.row.cancelled_at = None
        used = Money.from_decimal(invoice.credit_applied, invoice.currency)  # was given back at the end
        owner, cause = credit.owner_of(held.row, invoice.currency), uuid5(invoice.id, "taken-again")
        await credit.apply(held.session, owner, used, invoice_id=invoice.id, cause=cause)  # as far as it is there
        return True
    if payment is not None:
        left = refunds.left_of(payment)
        left = cut(max(left, Money.zero(left.currency)), capabilities_of(payment.provider).step(left.currency)).whole
        if left.minor > 0:
            values = {
                "id": uuid5(payment.id, "subscription-has-ended"),
                "amount": left.to_decimal(),
                "origin": "merchant",
                "reason": "the subscription had ended before the payment arrived",
            }
            await refunds.request(held.session, payment, values, actor="subscription")
            note(held, "late_payment_returned", payment_id=str(payment.id), amount=str(left))
    return False


async def payment_settled(session: AsyncSession, payment: Payment, *, at: datetime) -> None:
    """Called by settlement, in its transaction, with a locked payment that has just become paid."""
    held, invoice = await _of_payment(session, payment, at)
    if held is not None and invoice is not None:
        await paid(held, invoice, payment)


async def payment_refunded(session: AsyncSession, payment: Payment, *, at: datetime) -> None:
    """Called by the booking of refunds, with a locked payment that was refunded in full.

    Where the workspace wants it so the subscription ends with it, if it was the payment of the current period.
    """
    held, invoice = await _of_payment(session, payment, at)
    if held is None or invoice is None or held.status in ENDED or not held.workspace.cancel_on_full_refund:
        return
    if held.row.managed_by == "provider":  # it can be cancelled there only
        return
    if await _runs_on(held, payment):
        await end(held, SubscriptionStatus.CANCELLED, reason="its payment was refunded in full", why="refunded")
        held.row.wake_wanted_at = at


async def _runs_on(held: Held, payment: Payment) -> bool:
    """Whether the current period runs on this payment's money: not on that of a change of plan within the period.

    A change that left nothing to charge may have begun the period: then it runs on the money of the one before. What
    credit alone has paid runs on the payment that all of this credit comes from.
    """
    for invoice in await credit.behind_period(held.session, held.row):
        if invoice.sequence:
            continue
        if invoice.payment_id is not None:
            return invoice.payment_id == payment.id
        return set(await credit.used_on(held.session, credit.owner_of(held.row, invoice.currency), invoice)) == {
            payment.id
        }
    return False


async def _of_payment(session: AsyncSession, payment: Payment, at: datetime) -> tuple[Held | None, Invoice | None]:
    if payment.subscription_id is None or payment.invoice_id is None:
        return None, None
    held = await hold(session, payment.subscription_id, at=at, actor="settlement")
    return held, await subscriptions.invoice(session, payment.invoice_id)


async def is_still_wanted(session: AsyncSession, payment: Payment) -> bool:
    """Whether a charge that is about to be made should be: not for an invoice that nobody collects any more."""
    if payment.invoice_id is None:
        return True
    invoice = await subscriptions.invoice(session, payment.invoice_id)
    return invoice is not None and invoice.status == InvoiceStatus.OPEN


async def failed(held: Held, invoice: Invoice, payment: Payment) -> Decision:
    """An attempt has certainly failed, or was closed: decide what comes next, once, and tell of a failure."""
    code, closed = _code_of(payment), payment.status == PaymentStatus.CANCELED
    if is_fault(held, payment) and (invoice.grace_until is None or held.at < invoice.grace_until):
        return _wait_for_mending(held, invoice, payment, code)
    chosen = await charged_next(held, invoice)
    invoice.first_failed_at = invoice.first_failed_at or held.at
    policy = subscriptions.policy_of(held.workspace)
    invoice.grace_until = policy.grace_until(invoice.first_failed_at)
    if chosen.at_once and held.at < invoice.grace_until:
        decision = ask_by_link(held.at, code) if chosen.method is None else on_new_method(held.at)
    else:
        decision = decide(
            policy,
            decline=DeclineClass.SOFT if code == LINK_NOT_USED else decline_class(code),
            code=code,
            failed_at=held.at,
            first_failed_at=invoice.first_failed_at,
            retries_made=invoice.retries,
        )
    invoice.failed_attempt, invoice.updated_at = invoice.attempts, held.at
    invoice.decline_code = invoice.decline_code if closed else code
    invoice.next_attempt_at = decision.at if decision.next is Next.RETRY else None
    details = {"invoice_id": str(invoice.id), "payment_id": str(payment.id), "code": code, "next": decision.next.value}
    what = "attempt_closed" if closed else "payment_failed"
    note(held, what, reason=decision.reason, attempt=invoice.attempts, **details)
    fall_behind(held, reason=code)
    unused = held.status is SubscriptionStatus.INCOMPLETE and payment.payment_method_id is None
    if decision.next is not Next.GIVE_UP and not unused and not closed:  # the end has a message of its own
        await tell(
            held,
            "payment_failed",
            key=f"{invoice.id}:{invoice.attempts}",
            invoice=invoice,
            payment_id=str(payment.id),
            code=code,
            next_retry_at=invoice.next_attempt_at,
            grace_until=invoice.grace_until,
            needs="nothing" if decision.next is Next.RETRY else "another payment method",
        )
    return decision


def is_fault(held: Held, payment: Payment) -> bool:
    """Whether a charge of a subscription that runs was refused for what the merchant has to mend."""
    failed_so = payment.status == PaymentStatus.FAILED and decline_class(payment.status_reason) is DeclineClass.FAULT
    return failed_so and held.status is not SubscriptionStatus.INCOMPLETE


def _wait_for_mending(held: Held, invoice: Invoice, payment: Payment, code: str) -> Decision:
    """No dunning follows from such a failure: no grace begins, no retry is used up, and nobody asks the customer.

    The order service hears of each failed payment, so that the fault is seen.
    """
    decision = on_fault(held.at, code)
    invoice.failed_attempt, invoice.updated_at = invoice.attempts, held.at
    invoice.decline_code, invoice.next_attempt_at = code, decision.at
    details = {"invoice_id": str(invoice.id), "payment_id": str(payment.id), "code": code, "next": decision.next.value}
    note(held, "charge_refused", reason=decision.reason, attempt=invoice.attempts, **details)
    return decision


def fall_behind(held: Held, *, reason: str) -> None:
    """A subscription that runs is past due; one that never began stays incomplete."""
    if held.status is not SubscriptionStatus.INCOMPLETE:
        set_status(held, SubscriptionStatus.PAST_DUE, reason=reason)


def _code_of(payment: Payment) -> str:
    if payment.status == PaymentStatus.FAILED:
        return payment.status_reason or "failed"
    return LINK_NOT_USED if payment.payment_method_id is None else payment.status


async def wait_for_payer(held: Held, invoice: Invoice, payment: Payment) -> None:
    """The payer has to act: confirm to the bank, or pay by the link. Told once for each attempt."""
    held_before = invoice.first_failed_at is not None
    invoice.first_failed_at = invoice.first_failed_at or held.at
    invoice.grace_until = subscriptions.policy_of(held.workspace).grace_until(invoice.first_failed_at)
    if not held_before:
        invoice.updated_at = held.at
    fall_behind(held, reason="the payer has to confirm it" if payment.payment_method_id else "the payer has a link")
    await tell(
        held,
        "action_required",
        key=f"{invoice.id}:{invoice.attempts}",
        invoice=invoice,
        payment_id=str(payment.id),
        url=payment.checkout_url,
        grace_until=invoice.grace_until,
    )


async def give_up(held: Held, invoice: Invoice) -> None:
    """The grace is over: the workspace's final action."""
    policy = subscriptions.policy_of(held.workspace)
    reason = at_the_end(policy)
    if policy.final_action is FinalAction.KEEP:
        invoice.status, invoice.updated_at = InvoiceStatus.UNCOLLECTIBLE.value, held.at
        note(held, "invoice_given_up", reason=reason, invoice_id=str(invoice.id))
        await tell(held, "unpaid", key=str(invoice.id), invoice=invoice, code=invoice.decline_code)
        return
    cancel = policy.final_action is FinalAction.CANCEL
    wanted = SubscriptionStatus.CANCELLED if cancel else SubscriptionStatus.EXPIRED
    await end(held, wanted, reason=reason, why="unpaid", code=invoice.decline_code)


def is_too_small(invoice: Invoice, payment: Payment) -> bool:
    """Whether a charge has failed because what a change or the customer's credit left over is less than any charge.

    No other method and no later day would help. A price that is too small by itself is not meant: that is a fault of
    the plan.
    """
    left_over = invoice.kind == "change" or invoice.credit_applied > 0
    return left_over and payment.status == PaymentStatus.FAILED and payment.status_reason == TOO_SMALL


async def forgive(held: Held, invoice: Invoice) -> None:
    """Give up what is left of an invoice because the provider charges nothing so small; the subscription goes on."""
    invoice.status, invoice.updated_at = InvoiceStatus.UNCOLLECTIBLE.value, held.at
    invoice.failed_attempt, invoice.decline_code, invoice.next_attempt_at = invoice.attempts, TOO_SMALL, None
    note(held, "invoice_forgiven", reason=TOO_SMALL, invoice_id=str(invoice.id), total=str(invoice.money))
    if held.status is SubscriptionStatus.PAST_DUE:
        set_status(held, SubscriptionStatus.ACTIVE, reason="nothing is owed any more")
    await tell(held, "unpaid", key=str(invoice.id), invoice=invoice, code=TOO_SMALL)


async def end(held: Held, wanted: SubscriptionStatus, *, reason: str, why: str, code: str | None = None) -> None:
    """End it now: what is open is not collected any more, and the credit that it had used is given back.

    A running attempt is closed by the workflow; money that was faster all the same goes back (see `paid`).
    """
    row = held.row
    for invoice in await subscriptions.invoices_of(held.session, row.id):
        if invoice.status != InvoiceStatus.OPEN:
            continue
        lost = why == "unpaid"
        invoice.status = (InvoiceStatus.UNCOLLECTIBLE if lost else InvoiceStatus.VOID).value
        invoice.next_attempt_at, invoice.updated_at = None, held.at
        if invoice.credit_applied:
            owner, cause = credit.owner_of(row, invoice.currency), uuid5(invoice.id, "given-back")
            await credit.give_back(held.session, owner, invoice, cause=cause)
    never_charged = str(Money.from_decimal(row.deferred, (await held.plan()).currency)) if row.deferred else None
    set_status(held, wanted, reason=reason, why=why, deferred_and_forgiven=never_charged)
    row.ended_at, row.end_reason = held.at, reason[:300]
    row.cancelled_at = row.cancelled_at or held.at
    if wanted is SubscriptionStatus.CANCELLED:  # an expired one lives again with what was planned, if its money comes
        row.cancel_at_period_end, row.pending_plan_id, row.pending_quantity = False, None, None
    row.next_action_at = row.resume_at = None
    await tell(held, wanted.value, key=f"period-{row.period}", reason=reason, why=why, code=code)
