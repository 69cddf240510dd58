"""The merchant's wishes about a locked subscription. What a dry run shows is what the same code would do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from activities import billing
from activities.billing import Held, plan_line, price_of
from domain.billing_calendar import Anchor
from domain.credit import take, total
from domain.money import Money
from domain.proration import Proration, prorate, restart
from domain.setup import MethodStatus
from domain.steps import advice
from domain.subscription import (
    ENDED,
    ChangeKind,
    NoCharge,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStatus,
)
from storage import credit, payment_methods, plans, subscriptions
from storage.models import Plan

Effects = dict[str, str | None]


class Refused(Exception):
    """It cannot be done as things stand; `code` is stable, `detail` says what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


NOT_NOW = "subscription_not_changeable"
ENDS = "subscription_cancel_scheduled"
LONGEST_PAUSE = timedelta(days=3653)


async def apply(held: Held, wish: SubscriptionChange) -> SubscriptionChanged:
    """Carry out a wish in the caller's transaction. Raises Refused, and then nothing was changed.

    The effects are told as text: amounts in major units, moments in ISO 8601, message types.
    """
    if held.row.managed_by == "provider":
        raise Refused(NOT_NOW, "The provider manages this subscription: change it there, it is followed here.")
    if held.status in ENDED and wish.kind not in (ChangeKind.CANCEL, ChangeKind.CANCEL_AT_PERIOD_END):
        raise Refused(NOT_NOW, f"The subscription is {held.status.value}.")
    effects: Effects = await _KINDS[wish.kind](held, wish)
    return SubscriptionChanged(held.status, effects | await _upcoming(held))


async def _upcoming(held: Held) -> Effects:
    """What stands after the change: what is planned for the period's end, and the next charge or why there is none."""
    row, charge = held.row, await billing.next_charge(held)
    pending = None if row.pending_plan_id is None else (await held.plan(row.pending_plan_id)).code
    planned = {
        "pending_plan": pending,
        "pending_quantity": None if row.pending_quantity is None else str(row.pending_quantity),
    }
    if isinstance(charge, NoCharge):
        nothing = dict.fromkeys(("next_charge", "next_charge_at", "next_charge_currency", "next_charge_method"))
        return planned | nothing | {"no_charge_because": charge.value}
    method = charge.payment_method_id
    return planned | {
        "next_charge": str(charge.amount),
        "next_charge_at": _iso(charge.at),
        "next_charge_currency": charge.amount.currency,
        "next_charge_method": "link" if method is None else str(method),
        "no_charge_because": None,
    }


async def _cancel(held: Held, wish: SubscriptionChange) -> Effects:
    row = held.row
    if held.status in ENDED:
        return {"ended_at": _iso(row.ended_at)}
    running = [str(payment.id) for payment in await subscriptions.open_payments(held.session, row.id)]
    dropped = await _drop_pending(held, plan=True, quantity=True)
    await billing.end(
        held, SubscriptionStatus.CANCELLED, reason=wish.reason or "cancelled by the merchant", why="cancelled"
    )
    return {
        "ended_at": _iso(row.ended_at),
        "payments_closed": ", ".join(running) or None,
        "dropped": dropped,
        "notifications": "subscription.cancelled",
    }


async def _cancel_at_period_end(held: Held, wish: SubscriptionChange) -> Effects:
    """In a period that is not paid there is nothing to wait for: then it ends now, and dunning with it.

    A change of plan to the period's end stays planned: it counts again when the cancel is withdrawn.
    """
    row = held.row
    if held.status in (*ENDED, SubscriptionStatus.INCOMPLETE, SubscriptionStatus.PAST_DUE, SubscriptionStatus.PAUSED):
        return await _cancel(held, wish)
    if not row.cancel_at_period_end:
        row.cancel_at_period_end, row.cancelled_at, row.updated_at = True, held.at, held.at
        billing.note(held, "cancel_scheduled", reason=wish.reason, ends_at=_iso(row.current_period_end))
        await billing.tell(held, "cancel_scheduled", key=str(wish.change_id), ends_at=row.current_period_end)
    return {"ends_at": _iso(row.current_period_end), "notifications": "subscription.cancel_scheduled"}


async def _pause(held: Held, wish: SubscriptionChange) -> Effects:
    row = held.row
    if wish.resume_at is not None and not held.at < wish.resume_at < held.at + LONGEST_PAUSE:
        raise Refused("validation_failed", "resume_at: must be in the future, and at most ten years ahead.")
    if held.status is SubscriptionStatus.PAUSED:
        before = row.resume_at
        dropped = None if before in (None, wish.resume_at) else f"resume_at {_iso(before)}"
        if before != wish.resume_at:
            row.resume_at, row.updated_at = wish.resume_at, held.at
            billing.note(held, "pause_changed", reason=wish.reason, resume_at=_iso(row.resume_at), dropped=dropped)
        return {"resume_at": _iso(row.resume_at), "dropped": dropped}
    await _must_be_settled(held, "paused", allowed=(SubscriptionStatus.ACTIVE,))
    if row.current_period_end <= held.at:
        raise Refused(NOT_NOW, "A new period is just beginning; try again in a moment.")
    row.paused_at, row.resume_at = held.at, wish.resume_at
    billing.set_status(held, SubscriptionStatus.PAUSED, reason=wish.reason or "paused by the merchant")
    await billing.tell(held, "paused", key=str(wish.change_id), resume_at=row.resume_at)
    return {
        "paused_at": _iso(held.at),
        "resume_at": _iso(row.resume_at),
        "paid_time_left": str(row.current_period_end - held.at),
        "notifications": "subscription.paused",
    }


async def _resume(held: Held, wish: SubscriptionChange) -> Effects:
    row = held.row
    if held.status is SubscriptionStatus.PAUSED:
        await resume(held, reason=wish.reason or "resumed by the merchant")
        await billing.tell(held, "resumed", key=str(wish.change_id))
    elif row.cancel_at_period_end:
        row.cancel_at_period_end, row.cancelled_at, row.updated_at = False, None, held.at
        billing.note(held, "cancel_withdrawn", reason=wish.reason)
        await billing.tell(held, "resumed", key=str(wish.change_id))
    else:
        raise Refused(NOT_NOW, f"The subscription is {held.status.value} and was not to be cancelled.")
    return {"current_period_end": _iso(row.current_period_end), "notifications": "subscription.resumed"}


async def resume(held: Held, *, reason: str) -> None:
    """Go on after a pause: the paid time that was left is left again, and later periods follow from its end."""
    row = held.row
    end = billing.set_anchor(held, billing.end_after_pause(held, await held.plan(), held.at), period=row.period + 1)
    row.current_period_end = end
    row.paused_at = row.resume_at = None
    billing.set_status(held, SubscriptionStatus.ACTIVE, reason=reason, current_period_end=end.isoformat())


async def _drop_pending(held: Held, *, plan: bool, quantity: bool) -> str | None:
    """Take back these parts of a change to the period's end; what they were, for people."""
    row, dropped = held.row, []
    if plan and row.pending_plan_id is not None:
        dropped.append(f"plan {(await held.plan(row.pending_plan_id)).code}")
        row.pending_plan_id = None
    if quantity and row.pending_quantity is not None:
        dropped.append(f"quantity {row.pending_quantity}")
        row.pending_quantity = None
    return ", ".join(dropped) or None


async def _change_plan(held: Held, wish: SubscriptionChange) -> Effects:
    """Plan, quantity or both, now. What was planned for the period's end stays, but for what is named here."""
    row = held.row
    _must_not_end(held)
    await _must_be_settled(held, "changed", allowed=(SubscriptionStatus.ACTIVE, SubscriptionStatus.TRIALING))
    before, after = await held.plan(), await _wanted_plan(held, wish.plan_id)
    quantity, names_plan, names_quantity = wish.quantity or row.quantity, wish.plan_id is not None, bool(wish.quantity)
    old, new = price_of(before, row.quantity), await _payable(held, after, quantity)
    then = after if names_plan else await held.plan(row.pending_plan_id or after.id)
    await _payable(held, then, quantity if names_quantity else row.pending_quantity or quantity)
    dropped = await _drop_pending(held, plan=names_plan, quantity=names_quantity)
    if (after.id, quantity) == (before.id, row.quantity):
        if dropped:
            row.updated_at = held.at
            billing.note(held, "plan_change_withdrawn", reason=wish.reason, dropped=dropped)
        return _same(after, quantity, dropped)
    if held.status is SubscriptionStatus.TRIALING:
        proration = Proration(Money.zero(new.currency), Money.zero(new.currency))
    else:
        proration = _prorate(held, before, after, old, new)
    listed = proration.credit
    reach = await credit.within_reach(held.session, row, new.currency, at=held.at) if listed.minor else []
    proration = replace(proration, credit=min(listed, total(reach, new.currency)))
    lines = [
        (plan_line(before, row.quantity, -proration.credit, kind="credit"), -proration.credit),
        (plan_line(after, quantity, proration.charge, kind="proration"), proration.charge),
    ]
    restarts = held.status is not SubscriptionStatus.TRIALING and _other_interval(before, after)
    row.plan_id, row.quantity, row.updated_at = after.id, quantity, held.at
    due = proration.due
    if restarts:
        row.period += 1
        billing.set_anchor(held, Anchor.at(held.at, held.zone), period=row.period, moment=held.at)
        row.current_period_start = held.at
        row.current_period_end = billing.period_end(held, after)
    charged = Money.zero(due.currency)
    if due.minor > 0:
        sequence = 0 if restarts else await subscriptions.next_sequence(held.session, row.id, row.period)
        invoice = await billing.issue(held, after, kind="change", sequence=sequence, lines=lines)
        charged = invoice.money
    elif due.minor < 0:
        owner = credit.owner_of(row, due.currency)
        await credit.grant(held.session, owner, take(reach, -due), cause=wish.change_id)
    facts: dict[str, Any] = {
        "plan": after.code,
        "quantity": quantity,
        "credit": str(proration.credit),
        "charge": str(proration.charge),
    }
    billing.note(held, "plan_changed", reason=wish.reason, plan_version=after.version, dropped=dropped, **facts)
    await billing.tell(held, "plan_changed", key=str(wish.change_id), **facts)
    return {
        "plan": after.code,
        "quantity": str(quantity),
        "credit": str(proration.credit),
        "credit_not_paid_for": str(listed - proration.credit),
        "charge": str(proration.charge),
        "due_now": str(charged),
        "deferred": str(Money.from_decimal(row.deferred, due.currency)) if row.deferred else "0",
        "carried_forward": str(-due) if due.minor < 0 else "0",
        "currency": due.currency,
        "dropped": dropped,
        "notifications": "subscription.plan_changed",
    }


def _prorate(held: Held, before: Plan, after: Plan, old: Money, new: Money) -> Proration:
    row = held.row
    split = restart if _other_interval(before, after) else prorate
    return split(old, new, start=row.current_period_start, end=row.current_period_end, at=held.at)


def _other_interval(before: Plan, after: Plan) -> bool:
    return plans.interval_of(before) != plans.interval_of(after)


async def _change_plan_at_period_end(held: Held, wish: SubscriptionChange) -> Effects:
    """Plan, quantity or both, with the next period: each is planned by itself, and the present one is no plan."""
    row = held.row
    if held.status is SubscriptionStatus.INCOMPLETE:
        raise Refused(NOT_NOW, "The first payment was not made yet.")
    _must_not_end(held)
    plan_id, number = row.pending_plan_id, row.pending_quantity
    if wish.plan_id is not None:
        plan_id = None if wish.plan_id == row.plan_id else (await _wanted_plan(held, wish.plan_id)).id
    if wish.quantity is not None:
        number = None if wish.quantity == row.quantity else wish.quantity
    after, quantity = await held.plan(plan_id), number or row.quantity
    await _payable(held, after, quantity)
    if (plan_id, number) == (row.pending_plan_id, row.pending_quantity):
        return {"currency": after.currency, "credit": "0", "charge": "0"} | _same(after, quantity, None)
    dropped = await _drop_pending(held, plan=plan_id != row.pending_plan_id, quantity=number != row.pending_quantity)
    row.pending_plan_id, row.pending_quantity, row.updated_at = plan_id, number, held.at
    what = "plan_change_withdrawn" if (plan_id, number) == (None, None) else "plan_change_scheduled"
    facts: dict[str, Any] = {"plan": after.code, "plan_version": after.version, "quantity": quantity}
    billing.note(held, what, reason=wish.reason, dropped=dropped, **facts)
    return {"currency": after.currency, "credit": "0", "charge": "0"} | _same(after, quantity, dropped)


def _same(plan: Plan, quantity: int, dropped: str | None) -> Effects:
    nothing = {"due_now": "0", "deferred": "0", "carried_forward": "0", "notifications": None}
    return {"plan": plan.code, "quantity": str(quantity), "dropped": dropped, **nothing}


async def _wanted_plan(held: Held, plan_id: UUID | None) -> Plan:
    """The named plan, or the present one (to change the quantity alone). Raises Refused."""
    if plan_id is None or plan_id == held.row.plan_id:
        return await held.plan()
    found = await plans.get(held.session, held.row.workspace_id, plan_id)
    if found is None or not (found.active or found.id == held.row.pending_plan_id):
        raise Refused("plan_not_available", "The workspace has no such active plan.")
    if found.currency != (await held.plan()).currency:
        raise Refused("plan_not_available", f"The plan is in {found.currency}.")
    return found


async def _payable(held: Held, plan: Plan, quantity: int) -> Money:
    """The price of a period. Raises Refused when it is more than can be put on record, or not in the provider's steps.

    What becomes of the price by proration and credit is cut at the step by itself; the price is what was agreed.
    """
    price = price_of(plan, quantity)
    if not price.is_storable:
        raise Refused("validation_failed", "quantity: the price of a period has too many digits.")
    _, account = await billing.payer_of(held)
    step = billing.step_at(account, plan.currency)
    if price.minor % step:
        raise Refused("amount_not_representable", advice(account.provider, price, step))
    return price


async def _payment_method(held: Held, wish: SubscriptionChange) -> Effects:
    """Charge another saved method from now on, at once where a payment is overdue."""
    row, method = held.row, None
    if wish.payment_method_id is not None:
        method = await payment_methods.get(held.session, row.workspace_id, wish.payment_method_id)
        if method is None or method.customer_id != row.customer_id or method.status != MethodStatus.ACTIVE:
            raise Refused("payment_method_not_active", "The customer has no such active payment method.")
    await billing.prefer_method(held, wish.payment_method_id, reason=wish.reason)
    overdue = await subscriptions.open_invoice(held.session, row.id)
    charged = None if overdue is None else (await billing.charged_next(held, overdue)).method
    retried = overdue is not None and method is not None and charged is not None and charged.id == method.id
    return {
        "payment_method_id": None if method is None else str(method.id),
        "retried_now": str(overdue.money) if retried and overdue is not None else None,
        "notifications": None,
    }


def _must_not_end(held: Held) -> None:
    """A change that would never come, or be paid for a few days only, is not taken. Raises Refused."""
    if held.row.cancel_at_period_end:
        raise Refused(ENDS, "It ends with the period: POST …/resume withdraws the cancel, then change it.")


async def _must_be_settled(held: Held, what: str, *, allowed: tuple[SubscriptionStatus, ...]) -> None:
    if held.status not in allowed:
        raise Refused(NOT_NOW, f"The subscription is {held.status.value}; it cannot be {what} now.")
    if await subscriptions.open_invoice(held.session, held.row.id) is not None:
        raise Refused(NOT_NOW, f"A payment is under way; it can be {what} when that has its outcome.")


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


_KINDS: dict[ChangeKind, Any] = {
    ChangeKind.CANCEL: _cancel,
    ChangeKind.CANCEL_AT_PERIOD_END: _cancel_at_period_end,
    ChangeKind.PAUSE: _pause,
    ChangeKind.RESUME: _resume,
    ChangeKind.CHANGE_PLAN: _change_plan,
    ChangeKind.CHANGE_PLAN_AT_PERIOD_END: _change_plan_at_period_end,
    ChangeKind.PAYMENT_METHOD: _payment_method,
}


def change_id_for(subscription_id: UUID, kind: ChangeKind, key: str) -> UUID:
    """The same subscription, request and idempotency key name the same change for ever, now or at the period's end."""
    return uuid5(subscription_id, f"change:{kind.value.removesuffix('_at_period_end')}:{key}")
