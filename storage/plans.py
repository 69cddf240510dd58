"""Plans: versions of a code, never changed once made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.billing_calendar import Interval, Unit
from storage import audit
from storage.models import Plan
from storage.paging import newest_first


def interval_of(plan: Plan) -> Interval:
    """How long a period of the plan is."""
    return Interval(Unit(plan.interval_unit), plan.interval_count)


async def get(session: AsyncSession, workspace_id: UUID, plan_id: UUID) -> Plan | None:
    """One plan of one workspace."""
    return await session.scalar(select(Plan).where(Plan.id == plan_id, Plan.workspace_id == workspace_id))


async def active(session: AsyncSession, workspace_id: UUID, code: str) -> Plan | None:
    """The version of a code that new subscriptions take."""
    return await session.scalar(select(Plan).where(Plan.workspace_id == workspace_id, Plan.code == code, Plan.active))


async def named(session: AsyncSession, workspace_id: UUID, ids: Collection[UUID]) -> dict[UUID, Plan]:
    """Those of these plans that are there, by id."""
    rows = await session.scalars(select(Plan).where(Plan.id.in_(ids), Plan.workspace_id == workspace_id))
    return {row.id: row for row in rows}


async def create(
    session: AsyncSession, workspace_id: UUID, values: dict[str, Any], *, at: datetime, actor: str
) -> Plan:
    """Make a plan, or the next version of its code: the one before is archived and stays with who has it.

    Raises IntegrityError when two make the same version at once.
    """
    before = await session.scalar(
        select(Plan)
        .where(Plan.workspace_id == workspace_id, Plan.code == values["code"], Plan.active)
        .with_for_update()
    )
    if before is not None:
        before.active, before.archived_at = False, at
        await session.flush()  # the constraint allows one active version at every moment
    last = await session.scalar(
        select(func.max(Plan.version)).where(Plan.workspace_id == workspace_id, Plan.code == values["code"])
    )
    plan = Plan(workspace_id=workspace_id, version=(last or 0) + 1, active=True, created_at=at, **values)
    session.add(plan)
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action="plan.created",
        subject=("plan", plan.id),
        details={"code": plan.code, "version": plan.version, "amount": str(plan.price), "currency": plan.currency},
    )
    return plan


def archive(session: AsyncSession, plan: Plan, *, at: datetime, actor: str) -> None:
    """Take it from what new subscriptions can choose. A repeat changes nothing."""
    if not plan.active:
        return
    plan.active, plan.archived_at = False, at
    audit.record(session, plan.workspace_id, actor=actor, action="plan.archived", subject=("plan", plan.id))


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    only_active: bool = False,
) -> Sequence[Plan]:
    """Newest first."""
    query = select(Plan).where(Plan.workspace_id == workspace_id)
    if only_active:
        query = query.where(Plan.active)
    query = newest_first(query, Plan, limit=limit, before=before)
    return (await session.scalars(query)).all()
