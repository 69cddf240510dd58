"""The rates of VAT of a workspace, by the days from which they hold."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from fastapi import APIRouter
from pydantic import ConfigDict, Field, field_validator

from api.admin import rate_text
from api.context import Administrator, ServicesDep, acting_workspace
from api.fields import Day, RequestBody
from api.problems import Problem
from domain.vat import BEGINNING, DatedRate
from storage import administration, workspaces
from storage.models import Workspace

router = APIRouter(tags=["administration"])
MAX_RATES = 100


class VatRate(RequestBody):
    """A rate and the day from which it holds, in the workspace's own zone."""

    model_config = ConfigDict(populate_by_name=True)

    from_day: Day = Field(alias="from", ge=BEGINNING, examples=["2025-01-01"])
    rate: str = Field(examples=["0.18"])

    _rates = field_validator("rate", mode="before")(rate_text)

    @property
    def dated(self) -> DatedRate:
        """As the rules take it."""
        return DatedRate(self.from_day, Decimal(self.rate))


class VatRates(RequestBody):
    """All rates of a workspace; each holds until the next one."""

    rates: list[VatRate] = Field(
        min_length=1, max_length=MAX_RATES, examples=[[{"from": "2025-01-01", "rate": "0.18"}]]
    )

    @field_validator("rates")
    @classmethod
    def _each_day_once(cls, value: list[VatRate]) -> list[VatRate]:
        if len({one.from_day for one in value}) < len(value):
            raise ValueError("two rates from the same day")
        return value


@router.get("/workspaces/{workspace_id}/vat-rates", summary="Read the VAT rates of a workspace")
async def read_vat_rates(workspace_id: UUID, caller: Administrator, services: ServicesDep) -> VatRates:
    """Oldest first. A document carries the rate of the day on which the money came, whenever it is issued."""
    async with services.database.transaction() as session:
        row = await workspaces.get(session, await acting_workspace(session, caller, workspace_id))
    return vat_rates_out(_found(row))


@router.put("/workspaces/{workspace_id}/vat-rates", summary="Set the VAT rates of a workspace")
async def set_vat_rates(workspace_id: UUID, body: VatRates, caller: Administrator, services: ServicesDep) -> VatRates:
    """Replace all of them; a change that is announced may be set before its day.

    `vat_rate` of the workspace is the rate of today, and changing it there is the same as a rate from today on.
    Documents that were issued keep their rate, and credit notes carry that of the document which they credit.
    """
    async with services.database.transaction() as session:
        row = _found(await workspaces.get(session, await acting_workspace(session, caller, workspace_id)))
        rates = [one.dated for one in body.rates]
        await administration.set_vat_rates(session, row, rates, actor=caller.actor)
    services.keys.forget()
    return vat_rates_out(row)


def vat_rates_out(row: Workspace) -> VatRates:
    """The rates on record; where only one was ever known it holds from the beginning."""
    known = workspaces.vat_rates_of(row) or [DatedRate(BEGINNING, row.vat_rate)]
    return VatRates(rates=[VatRate.model_validate(one.to_json()) for one in known])


def _found(row: Workspace | None) -> Workspace:
    if row is None:
        raise Problem("not_found", "There is no such workspace.")
    return row
