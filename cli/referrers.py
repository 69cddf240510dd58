"""`blocklist`, and what `commissions` says of one referrer."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import click
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

import wiring
from api.problems import Problem, words_of
from api.referrers import NewBlock, StatementOut, block, statement_of
from cli.context import ACTOR, ID, ShortText, as_json, facts, fail, in_database, table, workspace_named
from domain.fraud import Kind
from settings import Settings
from storage import referrers
from storage.models import Blocked

DAY = click.DateTime(["%Y-%m-%d"])


@click.command("statement")
@click.argument("referrer")
@click.option("--workspace", "slug", required=True)
@click.option("--from", "since", type=DAY, required=True, help="First day, in the workspace's time zone.")
@click.option("--to", "until", type=DAY, required=True, help="Last day.")
@click.option("--json", "json_output", is_flag=True)
def statement(referrer: str, slug: str, since: datetime, until: datetime, *, json_output: bool) -> None:
    """A referrer's account within a period, from the ledger alone."""

    async def work(session: AsyncSession, _: Settings) -> StatementOut:
        workspace = await workspace_named(session, slug)
        try:
            return await statement_of(session, workspace, referrer, since.date(), until.date())
        except Problem as problem:
            fail(problem.detail)

    found = in_database(work)
    if json_output:
        as_json(found.model_dump(mode="json"))
        return
    facts(f"Statement of {referrer}", found.model_dump(exclude={"movements", "more", "referrer_id"}))
    rows = [one.model_dump(exclude={"movement_id"}) | {"posting": one.posting.value} for one in found.movements]
    table("Movements", rows)
    if found.more:
        click.echo("There are more movements; the sums are of all of them.")


@click.group("blocklist")
def blocklist() -> None:
    """Who and what earns no commission."""


@blocklist.command("add")
@click.argument("kind", type=click.Choice([kind.value for kind in Kind]))
@click.argument("value", required=False)
@click.option("--workspace", "slug", required=True)
@click.option("--payment", "payment_id", type=ID, help="As this payment has it; the way to block a card.")
@click.option("--reason", type=ShortText(300))
def add(kind: str, value: str | None, slug: str, payment_id: UUID | None, reason: str | None) -> None:
    """Block a referrer, e-mail, domain, card, address (ip) or network (ip_range, a /24 or /64)."""
    try:
        body = NewBlock(kind=Kind(kind), value=value, payment_id=payment_id, reason=reason)
    except ValidationError as error:
        raise click.UsageError("; ".join(words_of(dict(fault)) for fault in error.errors())) from None

    async def work(session: AsyncSession, settings: Settings) -> dict[str, Any]:
        workspace = await workspace_named(session, slug)
        try:
            return _row(await block(session, wiring.sealer(settings), workspace, body, actor=ACTOR))
        except Problem as problem:
            fail(problem.detail)

    table("Blocked", [in_database(work)])


@blocklist.command("list")
@click.option("--workspace", "slug", required=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--json", "json_output", is_flag=True)
def list_blocked(slug: str, limit: int, *, json_output: bool) -> None:
    """The latest, newest first."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        workspace = await workspace_named(session, slug)
        return [_row(row) for row in await referrers.blocklist_page(session, workspace.id, limit=limit)]

    rows = in_database(work)
    as_json(rows) if json_output else table("Blocklist", rows)


@blocklist.command("remove")
@click.argument("block_id", type=ID)
@click.option("--workspace", "slug", required=True)
def remove(block_id: UUID, slug: str) -> None:
    """Take something off the list."""

    async def work(session: AsyncSession, _: Settings) -> None:
        workspace = await workspace_named(session, slug)
        if not await referrers.unblock(session, workspace.id, block_id, actor=ACTOR):
            fail(f"{slug}'s blocklist has no entry {block_id}; see payment-cli blocklist list.")

    in_database(work)
    click.echo("taken off the blocklist")


def _row(row: Blocked) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "shown_as": row.hint,
        "reason": row.reason,
        "by": row.created_by,
        "created": row.created_at,
    }
