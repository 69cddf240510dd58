"""Plans: what subscriptions cost and how often."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.effects import DryRun
from api.fields import AmountText, Cursor, Flag, OneOf, PageSize, RequestBody
from api.idempotency import IdempotencyKey, answer_once
from api.problems import Problem, answers
from domain.billing_calendar import Unit
from domain.money import Money, MoneyError
from storage import plans
from storage.models import Plan

router = APIRouter(tags=["subscriptions"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Administrator = Annotated[Member, Depends(member("admin"))]
MOST_OF_UNIT = {Unit.DAY: 365, Unit.WEEK: 52, Unit.MONTH: 36, Unit.YEAR: 3}


class NewPlan(RequestBody):
    """A plan to offer, or the next version of its code. The price is for one period and one unit, tax included."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "clinic-monthly",
                "name": "Clinic, monthly",
                "amount": "129.90",
                "currency": "ILS",
                "interval": "month",
                "trial_days": 14,
            }
        },
    )

    code: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", examples=["clinic-monthly"])
    name: str = Field(min_length=1, max_length=200, description="Printed on receipts.")
    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["ILS"])
    amount: AmountText
    interval: OneOf[Unit] = Unit.MONTH
    interval_count: int = Field(1, ge=1, le=365)
    trial_days: int = Field(0, ge=0, le=730)

    @field_validator("amount")
    @classmethod
    def _not_negative(cls, value: str, info: ValidationInfo) -> str:
        if "currency" not in info.data:
            return value
        try:
            money = Money.parse(value, info.data["currency"])
        except MoneyError as error:
            raise ValueError(str(error)) from None
        if money.minor < 0:
            raise ValueError("must not be negative")
        return value

    @field_validator("interval_count")
    @classmethod
    def _at_most_three_years(cls, value: int, info: ValidationInfo) -> int:
        unit = info.data.get("interval")
        if unit is not None and value > MOST_OF_UNIT[unit]:
            raise ValueError(f"at most {MOST_OF_UNIT[unit]} {unit.value}s")
        return value


class PlanOut(BaseModel):
    """A version of a plan. Subscriptions keep the version that they took."""

    id: UUID
    code: str
    version: int
    name: str
    amount: str
    currency: str
    interval: Unit
    interval_count: int
    trial_days: int
    active: bool
    created_at: datetime
    archived_at: datetime | None


class PlanPage(BaseModel):
    """A page of plans, newest first."""

    data: list[PlanOut]
    next_cursor: str | None


@router.post(
    "/plans",
    status_code=201,
    summary="Offer a plan",
    responses=answers("already_exists", "currency_not_of_workspace", "idempotency_key_reused"),
)
async def create_plan(
    body: NewPlan, caller: Administrator, services: ServicesDep, idempotency_key: IdempotencyKey = None
) -> PlanOut:
    """A price never changes: the same code again makes its next version, and the one before is archived."""
    if body.currency != caller.workspace.currency:
        raise Problem("currency_not_of_workspace", f"This workspace takes {caller.workspace.currency}.")

    async def work(session: AsyncSession) -> PlanOut:
        values = {
            "id": uuid7(),
            "code": body.code,
            "name": body.name,
            "amount": Money.parse(body.amount, body.currency).to_decimal(),
            "currency": body.currency,
            "interval_unit": body.interval.value,
            "interval_count": body.interval_count,
            "trial_days": body.trial_days,
        }
        return plan_out(await plans.create(session, caller.workspace.id, values, at=services.now(), actor=caller.actor))

    try:
        return await answer_once(
            services,
            route="POST /plans",
            scope=f"{caller.workspace.id}:plans",
            key=idempotency_key,
            request=body,
            answer=PlanOut,
            work=work,
        )
    except IntegrityError:
        raise Problem("already_exists", f"A version of {body.code} was just made; read it and try again.") from None


@router.get("/plans", summary="List plans")
async def list_plans(
    caller: Reader,
    services: ServicesDep,
    *,
    limit: PageSize = 20,
    cursor: Cursor = None,
    active: Annotated[Flag, Query(description="Only those that can be taken.")] = False,
) -> PlanPage:
    """Newest first, all versions unless only active ones are asked for."""
    async with services.database.transaction() as session:
        rows = await plans.page(
            session, caller.workspace.id, limit=limit + 1, before=decode_cursor(cursor), only_active=active
        )
    shown, more = cut_page(rows, limit)
    return PlanPage(data=[plan_out(row) for row in shown], next_cursor=more)


@router.get("/plans/{plan_id}", summary="Read a plan")
async def read_plan(plan_id: UUID, caller: Reader, services: ServicesDep) -> PlanOut:
    """One version of a plan."""
    async with services.database.transaction() as session:
        return plan_out(await _existing(session, caller, plan_id))


@router.post("/plans/{plan_id}/archive", summary="Stop offering a plan")
async def archive_plan(
    plan_id: UUID, caller: Administrator, services: ServicesDep, *, dry_run: DryRun = False
) -> PlanOut:
    """No new subscription can take it; those that have it go on. A repeat changes nothing."""
    async with services.database.transaction() as session:
        plan = await _existing(session, caller, plan_id)
        plans.archive(session, plan, at=services.now(), actor=caller.actor)
        out = plan_out(plan)
        if dry_run:
            await session.rollback()
    return out


async def _existing(session: AsyncSession, caller: Member, plan_id: UUID) -> Plan:
    plan = await plans.get(session, caller.workspace.id, plan_id)
    if plan is None:
        raise Problem("not_found", "This workspace has no such plan.")
    return plan


def plan_out(plan: Plan) -> PlanOut:
    """As callers see it."""
    return PlanOut(
        id=plan.id,
        code=plan.code,
        version=plan.version,
        name=plan.name,
        amount=str(plan.price),
        currency=plan.currency,
        interval=Unit(plan.interval_unit),
        interval_count=plan.interval_count,
        trial_days=plan.trial_days,
        active=plan.active,
        created_at=plan.created_at,
        archived_at=plan.archived_at,
    )
