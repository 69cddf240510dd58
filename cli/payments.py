"""`payment-info`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

from cli.context import ID, as_json, facts, fail, in_database, table
from domain.money import Money
from engine.payments import workflow_id
from settings import Settings
from storage import attempts, audit, commissions, inbox, ledger, outbox, receipts
from storage.models import Payment


@click.command("payment-info")
@click.argument("payment_id", type=ID)
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def payment_info(payment_id: UUID, *, json_output: bool) -> None:
    """Everything on record about one payment."""

    async def work(session: AsyncSession, _: Settings) -> dict[str, Any]:
        payment = await session.get(Payment, payment_id)
        if payment is None:
            fail(f"There is no payment {payment_id}.")
        return {"payment": _payment(payment)} | await _around(session, payment)

    found = in_database(work)
    if json_output:
        as_json(found)
        return
    facts("Payment", found["payment"])
    for name in ("attempts", "callbacks", "order_notifications", "documents", "commissions", "ledger", "history"):
        table(name.replace("_", " ").capitalize(), found[name])


def _payment(payment: Payment) -> dict[str, Any]:
    return {
        "id": payment.id,
        "status": payment.status,
        "reason": payment.status_reason,
        "needs_a_look": payment.flag,
        "disputed": payment.disputed,
        "amount": payment.money,
        "currency": payment.currency,
        "order": payment.order_id,
        "provider": payment.provider,
        "account": payment.provider_account_id,
        "provider_session": payment.provider_session_id,
        "provider_transaction": payment.provider_transaction_id,
        "created": payment.created_at,
        "expires": payment.expires_at,
        "paid": payment.paid_at,
        "workflow": workflow_id(payment.id),
    }


async def _around(session: AsyncSession, payment: Payment) -> dict[str, list[dict[str, Any]]]:
    """What hangs on the payment, table by table."""
    receipt_rows = await receipts.all_of_payment(session, payment.id)
    earned = await commissions.of_payment(session, payment.id)
    entries = await audit.entries_about(session, payment.workspace_id, "payment", payment.id)
    return {
        "attempts": [
            {
                "number": row.number,
                "provider": row.provider,
                "session": row.session_id,
                "status": row.status,
                "error": row.error_code,
            }
            for row in await attempts.of_payment(session, payment.id)
        ],
        "callbacks": [
            {
                "inbox_id": row.id,
                "event": row.event_id,
                "type": row.type,
                "status": row.status,
                "outcome": row.outcome,
                "deliveries": row.deliveries,
                "received": row.received_at,
                "error": row.last_error,
            }
            for row in await inbox.events_of(session, payment.id)
        ],
        "order_notifications": [
            {"seq": row.seq, "type": row.type, "status": row.status, "attempts": row.attempts, "error": row.last_error}
            for row in await outbox.notices_of(session, payment.id)
        ],
        "documents": [
            {
                "id": row.id,
                "kind": row.kind,
                "number": f"{row.fiscal_year}-{row.number:06d}",
                "total": Money.from_decimal(row.total, row.currency),
                "currency": row.currency,
                "rendered": await receipts.has_pdf(session, row.id),
            }
            for row in receipt_rows
        ],
        "commissions": [
            {
                "id": row.id,
                "referrer": row.referrer_id,
                "amount": Money.from_decimal(row.amount, row.currency),
                "currency": row.currency,
                "status": row.status,
            }
            for row in (() if earned is None else (earned,))
        ],
        "ledger": [
            {
                "movement": row.kind,
                "account": row.account,
                "amount": Money.from_decimal(row.amount, row.currency),
                "currency": row.currency,
            }
            for row in await ledger.entries_of(session, payment.id)
        ],
        "history": [{"at": row.at, "who": row.actor, "what": row.action, "details": row.details} for row in entries],
    }
