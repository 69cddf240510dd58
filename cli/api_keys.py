"""`api-key`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

from cli.context import ACTOR, ID, ShortText, fail, in_database, table, workspace_named
from settings import Settings
from storage import administration, workspaces


@click.group("api-key")
def api_key() -> None:
    """Keys of callers."""


@api_key.command("create")
@click.option("--workspace", "slug", help="Whose key it is.")
@click.option("--platform", is_flag=True, help="The platform's own administrator instead.")
@click.option("--name", required=True, type=ShortText(100))
@click.option("--scope", "scopes", multiple=True, type=click.Choice(administration.SCOPES))
def create_key(slug: str | None, name: str, scopes: tuple[str, ...], *, platform: bool) -> None:
    """Make a key; it is shown this once."""
    if platform == (slug is not None):
        raise click.UsageError("say whose: --workspace SLUG or --platform")
    if platform and scopes:
        raise click.UsageError("--platform is the scope admin; --scope goes with --workspace")

    async def work(session: AsyncSession, _: Settings) -> str:
        owner = None if slug is None else (await workspace_named(session, slug)).id
        wanted = ("admin",) if platform else scopes or ("payments:write", "payments:read", "reports:read")
        return administration.create_api_key(session, workspace_id=owner, name=name, scopes=wanted, actor=ACTOR).key

    click.echo(in_database(work))


@api_key.command("list")
@click.option("--workspace", "slug", help="Of one workspace; the platform's own without it.")
def list_keys(slug: str | None) -> None:
    """Names, scopes and the last four characters."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        owner = None if slug is None else (await workspace_named(session, slug)).id
        return [
            {
                "id": row.id,
                "name": row.name,
                "hint": row.hint,
                "scopes": ", ".join(row.scopes),
                "revoked": row.revoked_at,
            }
            for row in await workspaces.keys_of(session, owner)
        ]

    table("API keys", in_database(work))


@api_key.command("revoke")
@click.argument("key_id", type=ID)
def revoke_key(key_id: UUID) -> None:
    """Revoke a key; it stops working within seconds."""

    async def work(session: AsyncSession, _: Settings) -> bool:
        return await administration.revoke_api_key(
            session, key_id, workspace_id=None, at=datetime.now(UTC), actor=ACTOR
        )

    if not in_database(work):
        fail("There is no such live key.")
    click.echo("revoked")
