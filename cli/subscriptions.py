"""`subscription-info`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncSession

from activities import billing
from cli.context import ShortText, as_json, facts, fail, in_database, table, workspace_named
from domain.money import Money
from domain.subscription import NoCharge, subscription_workflow_id
from settings import Settings
from storage import audit, credit, outbox, payment_methods, plans, subscriptions, workspaces
from storage.models import Subscription, Workspace


@click.command("subscription-info")
@click.argument("user_id", type=ShortText(128))
@click.option("--workspace", "slug", help="Only this workspace's; all that know the customer, if not given.")
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def subscription_info(user_id: str, slug: str | None, *, json_output: bool) -> None:
    """A customer's subscriptions on record. With invoices, attempts, methods, messages and history."""

    async def work(session: AsyncSession, _: Settings) -> dict[str, Any]:
        only = None if slug is None else (await workspace_named(session, slug)).id
        rows = [row for row in await subscriptions.of_customer(session, user_id) if only in (None, row.workspace_id)]
        if not rows:
            fail(f"No subscription of a customer {user_id} is on record.")
        return {"customer": user_id, "subscriptions": [await _one(session, row) for row in rows]}

    found = in_database(work)
    if json_output:
        as_json(found)
        return
    for one in found["subscriptions"]:
        facts("Subscription", one["subscription"])
        for name in ("invoices", "attempts", "payment_methods", "order_notifications", "history"):
            table(name.replace("_", " ").capitalize(), one[name])


async def _one(session: AsyncSession, row: Subscription) -> dict[str, Any]:
    methods = await payment_methods.page(session, row.workspace_id, limit=20, customer_id=row.customer_id)
    return {
        "subscription": await _facts(session, row),
        "invoices": [
            {
                "id": one.id,
                "period": one.period,
                "kind": one.kind,
                "status": one.status,
                "total": one.money,
                "credit": Money.from_decimal(one.credit_applied, one.currency),
                "currency": one.currency,
                "attempts": one.attempts,
                "due": one.due_at,
                "paid": one.paid_at,
                "next_attempt": one.next_attempt_at,
                "grace_until": one.grace_until,
                "decline": one.decline_code,
            }
            for one in await subscriptions.invoices_of(session, row.id)
        ],
        "attempts": [
            {
                "payment": one.id,
                "invoice": one.invoice_id,
                "status": one.status,
                "reason": one.status_reason,
                "amount": one.money,
                "currency": one.currency,
                "by": "link" if one.payment_method_id is None else "saved method",
                "at": one.created_at,
            }
            for one in await subscriptions.payments_of(session, row.id)
        ],
        "payment_methods": [
            {
                "id": one.id,
                "kind": one.kind,
                "brand": one.brand,
                "last4": one.last4,
                "status": one.status,
                "default": one.is_default,
                "charged_by_this": one.id == row.payment_method_id,
            }
            for one in methods
        ],
        "order_notifications": [
            {"seq": one.seq, "type": one.type, "status": one.status, "attempts": one.attempts, "error": one.last_error}
            for one in await outbox.notices_of_subscription(session, row.id)
        ],
        "history": [
            {"at": one.at, "who": one.actor, "what": one.action, "details": one.details}
            for one in await audit.entries_about(session, row.workspace_id, "subscription", row.id)
        ],
    }


async def _upcoming(session: AsyncSession, workspace: Workspace | None, row: Subscription) -> dict[str, Any]:
    """What is planned for the period's end, and the next charge or why there is none."""
    pending = None if row.pending_plan_id is None else await plans.get(session, row.workspace_id, row.pending_plan_id)
    planned = {
        "planned_plan": None if pending is None else f"{pending.code} v{pending.version}",
        "planned_quantity": row.pending_quantity,
    }
    if workspace is None:
        return planned
    charge = await billing.next_charge(billing.Held(session, workspace, row, datetime.now(UTC), "cli"))
    if isinstance(charge, NoCharge):
        return planned | {"next_charge": None, "no_charge_because": charge.value}
    return planned | {
        "next_charge": charge.amount,
        "next_charge_at": charge.at,
        "next_charge_by": "link" if charge.payment_method_id is None else charge.payment_method_id,
    }


async def _facts(session: AsyncSession, row: Subscription) -> dict[str, Any]:
    plan = None if row.plan_id is None else await plans.get(session, row.workspace_id, row.plan_id)
    workspace = await workspaces.get(session, row.workspace_id)
    return {
        "id": row.id,
        "workspace": None if workspace is None else workspace.slug,
        "status": row.status,
        "managed_by": row.managed_by,
        "provider_subscription": row.provider_subscription_id,
        "plan": None if plan is None else f"{plan.code} v{plan.version}",
        "price": None if plan is None else plan.price,
        "quantity": row.quantity,
        "currency": None if plan is None else plan.currency,
        "interval": None if plan is None else str(plans.interval_of(plan)),
        "period": row.period,
        "current_period_start": row.current_period_start,
        "current_period_end": row.current_period_end,
        "time_zone": row.timezone,
        "trial_end": row.trial_end,
        "cancel_at_period_end": row.cancel_at_period_end,
        "ended": row.ended_at,
        "end_reason": row.end_reason,
        "resumes": row.resume_at,
        "charging_paused": row.charging_paused_at,
        "credit": None if plan is None else await credit.balance(session, credit.owner_of(row, plan.currency)),
        "deferred": None if plan is None else Money.from_decimal(row.deferred, plan.currency),
        **await _upcoming(session, workspace, row),
        "next_action": row.next_action_at,
        "workflow": subscription_workflow_id(row.id),
    }
