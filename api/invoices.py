"""Invoices of subscriptions: what a period, or a change of plan within it, costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, PageSize
from domain.money import Money
from domain.payment import OPEN, PaymentStatus
from domain.subscription import InvoiceStatus, attempt_payment_id
from storage import payments, subscriptions
from storage.models import Invoice, Payment

router = APIRouter(tags=["subscriptions"])

Reader = Annotated[Member, Depends(member("payments:read"))]


class InvoiceOut(BaseModel):
    """What a period, or a change of plan within it, costs. Amounts are major units, tax included."""

    id: UUID
    subscription_id: UUID
    kind: str
    status: InvoiceStatus
    period: int
    period_start: datetime
    period_end: datetime
    lines: list[dict[str, Any]]
    subtotal: str
    credit_applied: str
    total: str
    currency: str
    attempts: int
    next_attempt_at: datetime | None
    grace_until: datetime | None
    decline_code: str | None
    payment_id: UUID | None = Field(description="The payment that paid it, or else the last attempt.")
    payment_status: PaymentStatus | None = None
    checkout_url: str | None = Field(None, description="Where the payer pays or confirms, while that is open.")
    due_at: datetime
    paid_at: datetime | None


class InvoicePage(BaseModel):
    """A page of invoices, newest first."""

    data: list[InvoiceOut]
    next_cursor: str | None


@router.get("/invoices", summary="List invoices")
async def list_invoices(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    subscription_id: UUID | None = None,
    status: InvoiceStatus | None = None,
) -> InvoicePage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await subscriptions.invoice_page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            subscription_id=subscription_id,
            status=None if status is None else status.value,
        )
        shown, more = cut_page(rows, limit)
        data = await invoice_outs(session, caller, shown)
    return InvoicePage(data=data, next_cursor=more)


async def invoice_outs(session: AsyncSession, caller: Member, rows: Sequence[Invoice]) -> list[InvoiceOut]:
    """Invoices as callers see them, with their payments, in one statement for a page."""
    tried = {row.id: _payment_of(row) for row in rows}
    found = await payments.named(session, caller.workspace.id, {one for one in tried.values() if one is not None})
    return [_out(row, None if (one := tried[row.id]) is None else found.get(one)) for row in rows]


def _payment_of(row: Invoice) -> UUID | None:
    """What paid it, or else the last attempt."""
    return row.payment_id or (attempt_payment_id(row.id, row.attempts) if row.attempts else None)


def _out(row: Invoice, payment: Payment | None) -> InvoiceOut:
    def shown(value: Decimal) -> str:
        return str(Money.from_decimal(value, row.currency))

    is_open = payment is not None and payment.status in OPEN
    return InvoiceOut(
        id=row.id,
        subscription_id=row.subscription_id,
        kind=row.kind,
        status=InvoiceStatus(row.status),
        period=row.period,
        period_start=row.period_start,
        period_end=row.period_end,
        lines=row.lines,
        subtotal=shown(row.subtotal),
        credit_applied=shown(row.credit_applied),
        total=shown(row.total),
        currency=row.currency,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at,
        grace_until=row.grace_until,
        decline_code=row.decline_code,
        payment_id=None if payment is None else payment.id,
        payment_status=None if payment is None else PaymentStatus(payment.status),
        checkout_url=payment.checkout_url if is_open and payment is not None else None,
        due_at=row.due_at,
        paid_at=row.paid_at,
    )
