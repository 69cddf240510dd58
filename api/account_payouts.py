"""What providers have paid out to the merchant's bank account, as they told."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, PageSize
from api.problems import Problem
from domain.provider_payout import ProviderPayoutStatus
from storage import provider_payouts, workspaces
from storage.models import ProviderPayout

router = APIRouter(tags=["administration"])
Reader = Annotated[Member, Depends(member("payments:read"))]


class ProviderPayoutOut(BaseModel):
    """A payout of the provider. One that was paid may fail days later, when the bank sends it back."""

    id: UUID
    provider_payout_id: str
    status: ProviderPayoutStatus
    amount_minor: int = Field(
        description="Minor units of the currency; below zero where the provider took money from the bank account."
    )
    currency: str
    arrival_date: date | None = Field(description="The bank's day, as the provider expects it.")
    failure_code: str | None
    created_at: datetime
    updated_at: datetime


class ProviderPayoutPage(BaseModel):
    """A page of payouts, the one that was heard of last first."""

    data: list[ProviderPayoutOut]
    next_cursor: str | None


@router.get("/provider-accounts/{account_id}/payouts", summary="List a provider's payouts")
async def list_provider_payouts(
    account_id: UUID,
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    status: ProviderPayoutStatus | None = None,
) -> ProviderPayoutPage:
    """Of an account whose provider tells of them; kept for reconciliation, and no money here moves by them."""
    async with services.database.transaction() as session:
        account = await workspaces.account(session, account_id)
        if account is None or account.workspace_id != caller.workspace.id:
            raise Problem("not_found", "There is no such account.")
        rows = await provider_payouts.page(
            session, account.id, limit=limit + 1, before=decode_cursor(cursor), status=status
        )
    shown, more = cut_page(rows, limit)
    return ProviderPayoutPage(data=[payout_out(row) for row in shown], next_cursor=more)


def payout_out(row: ProviderPayout) -> ProviderPayoutOut:
    """A payout as callers see it."""
    return ProviderPayoutOut(
        id=row.id,
        provider_payout_id=row.provider_payout_id,
        status=ProviderPayoutStatus(row.status),
        amount_minor=row.amount_minor,
        currency=row.currency,
        arrival_date=row.arrival_date,
        failure_code=row.failure_code,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
