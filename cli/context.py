"""What commands share: settings, one database session, and how results are shown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

import wiring
from settings import Settings, load_settings
from storage import workspaces
from storage.models import Workspace
from storage.sealing import SealingError
from storage.session import is_outage

Result = TypeVar("Result")
ACTOR = "payment-cli"


class CliError(click.ClickException):
    """One line that says what to do; exit code 1."""


class IdType(click.ParamType[UUID]):
    """A UUID argument with a plain error."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        """Raises BadParameter."""
        try:
            return value if isinstance(value, UUID) else UUID(str(value))
        except ValueError:
            self.fail(f"{value!r} is not an id such as 018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79", param, ctx)


ID = IdType()


def in_database(work: Callable[[AsyncSession, Settings], Awaitable[Result]]) -> Result:
    """Run the work in one transaction; an unreachable database or a bad key is one clear line."""
    settings = load_settings()

    async def run() -> Result:
        database = wiring.database(settings)
        try:
            async with database.transaction() as session:
                return await work(session, settings)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except SealingError as error:
        raise CliError(str(error)) from None
    except (DBAPIError, OSError, TimeoutError) as error:
        if isinstance(error, DBAPIError) and not is_outage(error):
            raise
        raise CliError(
            "PostgreSQL does not answer; is DATABASE_URL right, and the service (make up) running?"
        ) from None


async def workspace_named(session: AsyncSession, slug: str) -> Workspace:
    """A workspace by slug. Raises CliError naming those that exist."""
    found = await workspaces.by_slug(session, slug)
    if found is None:
        known = ", ".join(row.slug for row in await workspaces.all_workspaces(session)) or "none yet"
        raise CliError(f"There is no workspace {slug}; known: {known}.")
    return found


def as_json(value: Any) -> None:
    """Print JSON; amounts are decimal strings, times ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same fields; an empty list says so."""
    if not rows:
        click.echo(f"{title}: none")
        return
    shown = Table(title=title, title_justify="left", title_style="bold")
    for name in rows[0]:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*("" if value is None else str(value) for value in row.values()))
    _console().print(shown)


def facts(title: str, values: Mapping[str, Any]) -> None:
    """Print one thing's fields."""
    shown = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    for name, value in values.items():
        shown.add_row(f"{name}:", "" if value is None else str(value))
    _console().print(shown)


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)


def fail(message: str) -> NoReturn:
    """End with exit code 1 and a line on standard error."""
    raise CliError(message)
