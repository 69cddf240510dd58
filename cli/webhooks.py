"""`webhook-status` and `webhook-replay`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncSession

from cli.context import ACTOR, as_json, facts, fail, in_database, table, workspace_named
from settings import Settings
from storage import inbox, outbox, workspaces
from storage.models import ProviderAccount


@click.command("webhook-status")
@click.option("--pending", is_flag=True, help="List the events that wait for their workflow.")
@click.option("--failed", is_flag=True, help="List only those whose hand-over failed.")
@click.option("--left", is_flag=True, help="List those that came to nothing: unmatched, unreadable or parked.")
@click.option("--workspace", "slug", help="Of one workspace.")
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def webhook_status(*, pending: bool, failed: bool, left: bool, slug: str | None, json_output: bool) -> None:
    """How callbacks and order notifications are doing."""

    async def work(session: AsyncSession, _: Settings) -> dict[str, Any]:
        chosen = [await workspace_named(session, slug)] if slug else await workspaces.all_workspaces(session)
        ids = {workspace.id for workspace in chosen}
        accounts = [row for row in await workspaces.all_accounts(session) if row.workspace_id in ids]
        found: dict[str, Any] = {
            "callbacks": await inbox.health(session, [account.id for account in accounts]),
            "order_notifications": {row.slug: await outbox.health(session, row.id) for row in chosen},
        }
        if pending or failed:
            found["waiting"] = await _waiting(session, accounts, failed=failed)
        if left:
            found["left"] = await _waiting(session, accounts, left=True)
        return found

    found = in_database(work)
    if json_output:
        as_json(found)
        return
    facts("Callbacks", found["callbacks"])
    table(
        "Order notifications",
        [{"workspace": name} | health for name, health in found["order_notifications"].items()],
    )
    if "waiting" in found:
        table("Failed" if failed else "Waiting", found["waiting"])
    if "left" in found:
        table("Came to nothing", found["left"])


async def _waiting(
    session: AsyncSession, accounts: list[ProviderAccount], *, failed: bool = False, left: bool = False
) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        {
            "inbox_id": row.id,
            "event": row.event_id,
            "type": row.type,
            "payment": row.payment_id,
            "status": row.status,
            "attempts": row.attempts,
            "age": str(max(now - row.received_at, timedelta(0))).split(".")[0],
            "last_error": row.last_error or (row.outcome if left else None),
        }
        for row in await inbox.waiting(session, [account.id for account in accounts], failed_only=failed, left=left)
    ]


@click.command("webhook-replay")
@click.option(
    "--id",
    "inbox_id",
    type=click.IntRange(1, 2**63 - 1),
    help="One event, by its inbox id (webhook-status --pending, payment-info).",
)
@click.option("--pending", is_flag=True, help="All events that no workflow has answered yet.")
@click.option("--left", is_flag=True, help="All events that came to nothing: unmatched or parked.")
@click.option("--notifications", is_flag=True, help="Order notifications that failed or were given up.")
def webhook_replay(*, inbox_id: int | None, pending: bool, left: bool, notifications: bool) -> None:
    """Put events or notifications back in line. A running worker takes them up within seconds."""
    if inbox_id is None and not pending and not left and not notifications:
        raise click.UsageError("say what: --id N, --pending, --left or --notifications")
    if inbox_id is not None and (pending or left):
        raise click.UsageError("--pending and --left are many events; --id is one: choose")

    async def work(session: AsyncSession, _: Settings) -> list[str]:
        done = []
        if inbox_id is not None or pending or left:
            number = await inbox.replay(session, actor=ACTOR, inbox_id=inbox_id, pending=pending, left=left)
            if inbox_id is not None and not number:
                fail(f"There is no event with the inbox id {inbox_id}; see webhook-status --pending, or payment-info.")
            done.append(f"{number} event{'' if number == 1 else 's'} back in line")
        if notifications:
            number = await outbox.send_again(session, actor=ACTOR)
            done.append(f"{number} notification{'' if number == 1 else 's'} back in line")
        return done

    click.echo("\n".join(in_database(work)))
