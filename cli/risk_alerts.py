"""`risk-alerts`: what providers warned of about payments."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

from api.risk_alerts import risk_alert_out
from cli.context import ID, as_json, in_database, table, workspace_named
from domain.risk import RiskAlertKind
from settings import Settings
from storage import risk_alerts

MOST = 100


@click.command("risk-alerts")
@click.option("--workspace", "slug", required=True, help="Whose payments.")
@click.option("--payment", "payment_id", type=ID, help="Of one payment.")
@click.option("--kind", type=click.Choice([kind.value for kind in RiskAlertKind]))
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def risk_alerts_list(slug: str, payment_id: UUID | None, kind: str | None, *, json_output: bool) -> None:
    """Banks' early fraud warnings and providers' reviews, and what was done about each; the newest hundred."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        workspace = await workspace_named(session, slug)
        wanted = None if kind is None else RiskAlertKind(kind)
        rows = await risk_alerts.page(session, workspace.id, limit=MOST, payment_id=payment_id, kind=wanted)
        return [risk_alert_out(row).model_dump(mode="json") for row in rows]

    found = in_database(work)
    as_json(found) if json_output else table("Risk alerts", found)
