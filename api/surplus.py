"""Money beyond an obligation: lists, and the decision to give it back or to keep it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from activities.review_state import refresh
from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.effects import DryRun, EffectsOut, effects_out
from api.fields import Cursor, PageSize
from api.problems import Problem, answers, try_again
from domain.payment import SurplusStatus
from domain.review import UNBOOKED
from engine.payments import EngineUnavailable
from storage import payments, surplus
from storage.models import Attempt, SurplusCapture
from storage.rehearsal import rehearsal

router = APIRouter(tags=["surplus"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Decider = Annotated[Member, Depends(member("refunds:write"))]


class SurplusOut(BaseModel):
    """Money that came in beyond what was owed. `reason`: second_capture or order_paid_twice."""

    id: UUID
    payment_id: UUID
    provider: str
    provider_transaction_id: str
    amount: str
    currency: str
    reason: str
    status: SurplusStatus
    failure_code: str | None
    created_at: datetime
    updated_at: datetime


class SurplusPage(BaseModel):
    """A page, newest first."""

    data: list[SurplusOut]
    next_cursor: str | None


@router.get("/surplus", summary="List surplus captures")
async def list_surplus(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    status: SurplusStatus | None = None,
) -> SurplusPage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await surplus.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            status=None if status is None else status.value,
        )
    shown, more = cut_page(rows, limit)
    return SurplusPage(data=[_out(row) for row in shown], next_cursor=more)


@router.post(
    "/surplus/{surplus_id}/refund",
    status_code=202,
    summary="Give surplus money back",
    responses=answers("surplus_is_final") | {200: {"model": EffectsOut, "description": "A dry run"}},
)
async def refund_surplus(
    surplus_id: UUID, caller: Decider, services: ServicesDep, response: Response, *, dry_run: DryRun = False
) -> SurplusOut | EffectsOut:
    """Start the refund at the provider that took the money; a repeat while it is under way changes nothing."""
    if dry_run:
        response.status_code = 200
        async with rehearsal(services.database) as (session, effects):
            row, attempt = await _to_refund(session, caller, surplus_id, at=services.now())
            surplus.change_status(session, row, attempt, SurplusStatus.REFUNDED, at=services.now(), actor="provider")
        return effects_out(effects)
    async with services.database.transaction() as session:
        row, _ = await _to_refund(session, caller, surplus_id, at=services.now())
    try:
        await services.engine.return_surplus(surplus_id)
    except EngineUnavailable:
        raise try_again() from None
    return _out(row)


@router.post(
    "/surplus/{surplus_id}/keep", summary="Keep surplus money", responses=answers("review_refused", "surplus_is_final")
)
async def keep_surplus(
    surplus_id: UUID, caller: Decider, services: ServicesDep, *, dry_run: DryRun = False
) -> SurplusOut | EffectsOut:
    """Decide that it stays, because it was agreed with the payer (a credit, another order)."""
    if dry_run:
        async with rehearsal(services.database) as (session, effects):
            await _keep(session, caller, surplus_id, at=services.now())
        return effects_out(effects)
    async with services.database.transaction() as session:
        row = await _keep(session, caller, surplus_id, at=services.now())
    return _out(row)


async def _to_refund(
    session: AsyncSession, caller: Member, surplus_id: UUID, *, at: datetime
) -> tuple[SurplusCapture, Attempt]:
    row, attempt = await _locked(session, caller, surplus_id)
    if SurplusStatus(row.status) in (SurplusStatus.REFUNDED, SurplusStatus.KEPT, SurplusStatus.SETTLED_OUTSIDE):
        raise Problem("surplus_is_final", f"It is {row.status}.", status_now=row.status)
    surplus.change_status(session, row, attempt, SurplusStatus.REFUNDING, at=at, actor=caller.actor)
    return row, attempt


async def _keep(session: AsyncSession, caller: Member, surplus_id: UUID, *, at: datetime) -> SurplusCapture:
    row, attempt = await _locked(session, caller, surplus_id)
    if row.status != SurplusStatus.KEPT and SurplusStatus(row.status) not in surplus.UNDECIDED:
        raise Problem("surplus_is_final", f"It is {row.status}.", status_now=row.status)
    if row.reason in UNBOOKED:
        raise Problem("review_refused", "No receipt was issued for it: send it back, or close its review.")
    surplus.change_status(session, row, attempt, SurplusStatus.KEPT, at=at, actor=caller.actor)
    payment, workspace = await payments.lock(session, row.payment_id)
    await refresh(session, payment, workspace, at=at, actor=caller.actor)
    return row


async def _locked(session: AsyncSession, caller: Member, surplus_id: UUID) -> tuple[SurplusCapture, Attempt]:
    found = await surplus.get(session, surplus_id, caller.workspace.id)
    if found is None:
        raise Problem("not_found", "This workspace has no such surplus.")
    await payments.lock(session, found.payment_id)  # before the surplus's, as everybody takes them
    return await surplus.lock(session, surplus_id)


def _out(row: SurplusCapture) -> SurplusOut:
    return SurplusOut(
        id=row.id,
        payment_id=row.payment_id,
        provider=row.provider,
        provider_transaction_id=row.transaction_id,
        amount=str(row.money),
        currency=row.currency,
        reason=row.reason,
        status=SurplusStatus(row.status),
        failure_code=row.failure_code,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
