"""`payment-methods`: what customers have saved, and detaching it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

import wiring
from activities.method_news import MethodNews
from cli.context import ACTOR, ID, ShortText, as_json, facts, fail, in_database, table, with_database, workspace_named
from domain.setup import MethodStatus
from engine.client import connect
from engine.payments import EngineUnavailable
from engine.setups import SetupEngine
from settings import Settings
from storage import payment_methods
from storage.models import PaymentMethod
from storage.session import Database

MOST = 100
FIRST_ANSWER_SECONDS = 10.0


@click.group("payment-methods")
def methods() -> None:
    """Saved payment methods of customers. What charges one is never shown."""


@methods.command("list")
@click.option("--workspace", "slug", required=True, help="Whose customers.")
@click.option("--customer", "customer_id", type=ShortText(128), help="Of one customer, by the merchant's own id.")
@click.option("--status", type=click.Choice([status.value for status in MethodStatus]))
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def list_methods(slug: str, customer_id: str | None, status: str | None, *, json_output: bool) -> None:
    """The newest hundred, newest first."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        workspace = await workspace_named(session, slug)
        rows = await payment_methods.page(session, workspace.id, limit=MOST, customer_id=customer_id, status=status)
        return [_facts(row) for row in rows]

    found = in_database(work)
    as_json(found) if json_output else table("Payment methods", found)


@methods.command("detach")
@click.argument("method_id", type=ID)
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def detach(method_id: UUID, *, json_output: bool) -> None:
    """Never charge a method again; a repeat asks its provider again."""

    async def work(database: Database, settings: Settings) -> dict[str, Any]:
        async with database.transaction() as session:
            row = await payment_methods.lock(session, method_id)
            if row is None:
                fail(f"There is no payment method {method_id}.")
            gone = {"status": MethodStatus.DETACHED.value}
            await payment_methods.change(session, row, gone, at=datetime.now(UTC), actor=ACTOR)
        return _facts(row) | {"detached_at_provider": await _at_provider(database, settings, row)}

    found = with_database(work)
    as_json(found) if json_output else facts("Payment method", found)


async def _at_provider(database: Database, settings: Settings, row: PaymentMethod) -> bool:
    """Whether the provider has answered already; where Temporal is away the command has to be repeated."""
    try:
        async with asyncio.timeout(FIRST_ANSWER_SECONDS + 5):
            client = await connect(wiring.temporal_target(settings))
            await MethodNews(database, client).method_changed(row.workspace_id, row.customer_id)
            engine = SetupEngine(client, settings.temporal_task_queue)
            return await engine.detach(row.id, wait=timedelta(seconds=FIRST_ANSWER_SECONDS))
    except (EngineUnavailable, TimeoutError, RuntimeError):
        return False


def _facts(row: PaymentMethod) -> dict[str, Any]:
    expiry = None if row.exp_month is None or row.exp_year is None else f"{row.exp_month:02d}/{row.exp_year}"
    return {
        "id": str(row.id),
        "customer": row.customer_id,
        "provider": row.provider,
        "kind": row.kind,
        "brand": row.brand,
        "last4": row.last4,
        "expires": expiry,
        "status": row.status,
        "default": row.is_default,
    }
