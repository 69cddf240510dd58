"""What providers warned of about payments: the banks' early fraud warnings, and the providers' reviews."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, PageSize
from domain.risk import RiskAlertKind, RiskDecision
from storage import risk_alerts
from storage.models import RiskAlert

router = APIRouter(tags=["disputes"])
Reader = Annotated[Member, Depends(member("payments:read"))]


class RiskAlertOut(BaseModel):
    """A warning about a captured payment, and what was done when it was first seen."""

    id: UUID
    payment_id: UUID
    kind: RiskAlertKind
    reason: str | None = Field(description="The bank's type of fraud, or why the provider reviews; its own word.")
    is_open: bool = Field(description="Of a review: whether nobody has decided at the provider yet.")
    closed_reason: str | None
    actionable: bool | None = Field(
        description="Whether a refund may still prevent a dispute, as the provider says; null where it does not say."
    )
    decision: RiskDecision
    refund_id: UUID | None
    provider: str
    provider_alert_id: str
    raised_at: datetime | None
    created_at: datetime
    updated_at: datetime


class RiskAlertPage(BaseModel):
    """A page of warnings, newest first."""

    data: list[RiskAlertOut]
    next_cursor: str | None


@router.get("/risk-alerts", summary="List what providers warned of")
async def list_risk_alerts(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    payment_id: UUID | None = None,
    kind: RiskAlertKind | None = None,
) -> RiskAlertPage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await risk_alerts.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            payment_id=payment_id,
            kind=kind,
        )
    shown, more = cut_page(rows, limit)
    return RiskAlertPage(data=[risk_alert_out(row) for row in shown], next_cursor=more)


def risk_alert_out(row: RiskAlert) -> RiskAlertOut:
    """A warning as callers see it."""
    return RiskAlertOut(
        id=row.id,
        payment_id=row.payment_id,
        kind=RiskAlertKind(row.kind),
        reason=row.reason,
        is_open=row.is_open,
        closed_reason=row.closed_reason,
        actionable=row.actionable,
        decision=RiskDecision(row.decision),
        refund_id=row.refund_id,
        provider=row.provider,
        provider_alert_id=row.provider_alert_id,
        raised_at=row.raised_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
