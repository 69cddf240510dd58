"""Referral commissions: lists, a referrer's report, marking paid."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Member, ServicesDep, decode_cursor, encode_cursor, member
from api.effects import DryRun, EffectsOut, effects_out
from api.fields import Cursor, PageSize, RequestBody
from api.problems import Problem, answers
from domain.commission import CommissionState, CommissionStatus, Review
from domain.money import Money
from storage import commissions
from storage.models import Commission
from storage.rehearsal import rehearsal

router = APIRouter(tags=["commissions"])
Reader = Annotated[Member, Depends(member("reports:read"))]
Payer = Annotated[Member, Depends(member("commissions:write"))]


class CommissionOut(BaseModel):
    """A referrer's share of one order."""

    id: UUID
    payment_id: UUID
    order_id: str
    referrer_id: str
    order_amount: str
    rate: str
    amount: str
    clawed_back: str = Field(description="What refunds of the order took of it, also after it was paid out.")
    currency: str
    status: CommissionStatus
    state: CommissionState = Field(description="The status, and of an accrued one what the books say at this moment.")
    vests_at: datetime = Field(description="End of the holding period: payable from then on, if nothing holds it.")
    review: Review | None = Field(description="Set where a fraud guard asked for a person.")
    held_by: list[str] = Field(description="The guards that asked.")
    review_reason: str | None
    payout_reference: str | None
    created_at: datetime
    paid_at: datetime | None


class CommissionPage(BaseModel):
    """A page of commissions, newest first."""

    data: list[CommissionOut]
    next_cursor: str | None


class StatusTotal(BaseModel):
    """Sums of one status."""

    status: CommissionStatus
    count: int
    amount: str = Field(description="What is left after claw-backs.")
    clawed_back: str
    orders_total: str
    currency: str


class ReferrerReport(BaseModel):
    """What one referrer brought and earned; `commissions` are the latest hundred."""

    referrer_id: str
    count: int
    totals: list[StatusTotal]
    commissions: list[CommissionOut]


class MarkPaid(RequestBody):
    """How it was paid out."""

    reference: str | None = Field(None, max_length=200, examples=["bank-transfer-2026-11"])


class ReviewDecision(RequestBody):
    """What a person decides on a commission that a fraud guard holds."""

    decision: Literal["approve", "reject"] = Field(examples=["approve"])
    reason: str = Field(min_length=1, max_length=300, examples=["the office shares one address"])


@router.get("/commissions", summary="List commissions")
async def list_commissions(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    referrer_id: Annotated[str | None, Query(max_length=128)] = None,
    status: CommissionStatus | None = None,
    state: CommissionState | None = None,
) -> CommissionPage:
    """Newest first. `state` says where each stands now, such as pending, payable or held."""
    async with services.database.transaction() as session:
        rows = await commissions.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            referrer_id=referrer_id,
            status=None if status is None else status.value,
            state=None if state is None else state.value,
            at=services.now(),
        )
    shown = rows[:limit]
    more = encode_cursor(shown[-1][0].created_at, shown[-1][0].id) if len(rows) > limit else None
    return CommissionPage(data=[_out(*row) for row in shown], next_cursor=more)


@router.get("/referrers/{referrer_id}/report", summary="A referrer's report")
async def referrer_report(referrer_id: str, caller: Reader, services: ServicesDep) -> ReferrerReport:
    """Counts and totals by status, and the latest commissions. An unknown referrer has an empty report."""
    async with services.database.transaction() as session:
        totals = await commissions.totals(session, caller.workspace.id, referrer_id)
        latest = await commissions.page(
            session, caller.workspace.id, limit=100, referrer_id=referrer_id, at=services.now()
        )
    return ReferrerReport(
        referrer_id=referrer_id,
        count=sum(total.count for total in totals),
        totals=[
            StatusTotal(
                status=CommissionStatus(total.status),
                count=total.count,
                amount=str(total.amount),
                clawed_back=str(total.clawed_back),
                orders_total=str(total.orders_total),
                currency=total.amount.currency,
            )
            for total in totals
        ],
        commissions=[_out(*row) for row in latest],
    )


@router.post(
    "/commissions/{commission_id}/paid",
    summary="Mark a commission paid out",
    responses=answers(
        "commission_already_paid",
        "commission_clawed_back",
        "commission_held",
        "commission_in_payout",
        "commission_rejected",
    ),
)
async def mark_commission_paid(
    commission_id: UUID, body: MarkPaid, caller: Payer, services: ServicesDep, *, dry_run: DryRun = False
) -> CommissionOut | EffectsOut:
    """Books a payment by hand, also before the holding period is over. What is held or in a batch is refused.

    A repeat with the same reference changes nothing; with another it is refused.
    """
    at = services.now()

    async def book(session: AsyncSession) -> Commission:
        return await commissions.mark_paid(
            session,
            caller.workspace.id,
            commission_id,
            reference=body.reference,
            actor=caller.actor,
            at=at,
        )

    try:
        if dry_run:
            async with rehearsal(services.database) as (session, effects):
                await book(session)
            return effects_out(effects)
        async with services.database.transaction() as session:
            await book(session)
            await session.flush()
            return _out(*await commissions.get(session, caller.workspace.id, commission_id, at=at))
    except commissions.CommissionNotFound:
        raise Problem("not_found", "This workspace has no such commission.") from None
    except commissions.CommissionHeld:
        raise Problem("commission_held", "A review or a dispute is undecided, or the referrer is suspended.") from None
    except commissions.CommissionInPayout:
        raise Problem("commission_in_payout", "An unfinished payout batch has it.") from None
    except commissions.CommissionRejected:
        raise Problem("commission_rejected", "A review has refused it.") from None
    except commissions.CommissionClawedBack:
        raise Problem("commission_clawed_back", "Refunds of the order have taken all of it.") from None
    except commissions.CommissionAlreadyPaid:
        raise Problem("commission_already_paid", "It was paid under another reference.") from None


@router.post(
    "/commissions/{commission_id}/review",
    summary="Decide on a held commission",
    responses=answers("commission_not_in_review"),
)
async def review_commission(
    commission_id: UUID, body: ReviewDecision, caller: Payer, services: ServicesDep, *, dry_run: DryRun = False
) -> CommissionOut | EffectsOut:
    """Approve: it vests like any other. Reject: it is owed to nobody. The first decision stays."""
    at = services.now()

    async def decide(session: AsyncSession) -> Commission:
        return await commissions.review(
            session,
            caller.workspace.id,
            commission_id,
            approve=body.decision == "approve",
            reason=body.reason,
            actor=caller.actor,
            at=at,
        )

    try:
        if dry_run:
            async with rehearsal(services.database) as (session, effects):
                await decide(session)
            return effects_out(effects)
        async with services.database.transaction() as session:
            await decide(session)
            await session.flush()
            return _out(*await commissions.get(session, caller.workspace.id, commission_id, at=at))
    except commissions.CommissionNotFound:
        raise Problem("not_found", "This workspace has no such commission.") from None
    except commissions.NotUnderReview:
        raise Problem("commission_not_in_review", "No guard holds it, or it was decided otherwise before.") from None


def _out(row: Commission, state: CommissionState) -> CommissionOut:
    return CommissionOut(
        id=row.id,
        payment_id=row.payment_id,
        order_id=row.order_id,
        referrer_id=row.referrer_id,
        order_amount=str(Money.from_decimal(row.base_amount, row.currency)),
        rate=format(row.rate.normalize(), "f"),
        amount=str(Money.from_decimal(row.amount, row.currency)),
        clawed_back=str(Money.from_decimal(row.clawed_back, row.currency)),
        currency=row.currency,
        status=CommissionStatus(row.status),
        state=state,
        vests_at=row.vests_at,
        review=None if row.review is None else Review(row.review),
        held_by=list(row.held_by),
        review_reason=row.review_reason,
        payout_reference=row.payout_reference,
        created_at=row.created_at,
        paid_at=row.paid_at,
    )
