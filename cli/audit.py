"""`audit`."""

from __future__ import annotations

import click
from sqlalchemy.ext.asyncio import AsyncSession

from cli.context import fail, in_database
from settings import Settings
from storage import audit


@click.group("audit")
def audit_log() -> None:
    """The audit log."""


@audit_log.command("verify")
def verify_audit() -> None:
    """Check the hash chain of every workspace; exit code 1 names the first fault of each broken one."""

    async def work(session: AsyncSession, _: Settings) -> tuple[int, list[str]]:
        faults = [
            f"workspace {found.workspace_id}, entry {found.seq}: {found.fault}"
            async for found in audit.chain_faults(session)
        ]
        return await audit.length(session), faults

    number, faults = in_database(work)
    if faults:
        fail("\n".join(["The audit log was changed:", *faults]))
    click.echo(f"{number} entries, every chain holds")
