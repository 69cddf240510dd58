"""Disputes: read and list. They are answered in the provider's own dashboard."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, PageSize
from api.problems import Problem
from domain.dispute import DisputeState
from domain.money import Money
from storage import disputes
from storage.models import Dispute

router = APIRouter(tags=["disputes"])
Reader = Annotated[Member, Depends(member("payments:read"))]


class DisputeOut(BaseModel):
    """A dispute. `amount` is what the bank wants, `held` the part of the payment that it has; major units."""

    id: UUID
    payment_id: UUID
    status: DisputeState
    amount: str
    currency: str
    held: str
    reason: str | None
    evidence_due_at: datetime | None
    provider: str
    provider_dispute_id: str
    created_at: datetime
    updated_at: datetime


class DisputePage(BaseModel):
    """A page of disputes, newest first."""

    data: list[DisputeOut]
    next_cursor: str | None


@router.get("/disputes", summary="List disputes")
async def list_disputes(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    status: DisputeState | None = None,
) -> DisputePage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await disputes.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            status=None if status is None else status.value,
        )
    shown, more = cut_page(rows, limit)
    return DisputePage(data=[_out(row, caller.workspace.currency) for row in shown], next_cursor=more)


@router.get("/disputes/{dispute_id}", summary="Read a dispute")
async def read_dispute(dispute_id: UUID, caller: Reader, services: ServicesDep) -> DisputeOut:
    """The dispute as it is on record."""
    async with services.database.transaction() as session:
        row = await disputes.get(session, dispute_id, caller.workspace.id)
    if row is None:
        raise Problem("not_found", "This workspace has no such dispute.")
    return _out(row, caller.workspace.currency)


def _out(row: Dispute, currency: str) -> DisputeOut:
    return DisputeOut(
        id=row.id,
        payment_id=row.payment_id,
        status=DisputeState(row.status),
        amount=str(row.money),
        currency=row.currency,
        held=str(Money.from_decimal(row.held, currency)),
        reason=row.reason,
        evidence_due_at=row.evidence_due_at,
        provider=row.provider,
        provider_dispute_id=row.provider_dispute_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
