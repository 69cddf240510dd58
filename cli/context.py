"""What commands share: settings, the database, how its errors read, and how results are shown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
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
from storage.session import Database, is_outage

Result = TypeVar("Result")
ACTOR = "payment-cli"

AWAY = "PostgreSQL does not answer; is DATABASE_URL right, and the service (make up) running?"
_HINTS = {
    "28": "is DATABASE_URL right?",  # wrong user or password
    "3D": "is DATABASE_URL right?",  # no such database
    "42P01": "run alembic upgrade head",  # no such table
    "42703": "run alembic upgrade head",  # no such column
    "55P03": "something else holds the rows; try again",  # lock timeout
    "57014": "it took too long; try again",  # statement timeout
}
"""SQLSTATE, or its class → what to do about it."""
_PIPE_WIDTH = 400
"""Columns where the output is no terminal: wide enough that no id is broken, so that grep finds it."""


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


class ShortText(click.ParamType[str]):
    """Text without spaces around it, not empty, at most `longest` characters."""

    name = "text"

    def __init__(self, longest: int) -> None:
        self.longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Raises BadParameter."""
        text = str(value).strip()
        if not 1 <= len(text) <= self.longest:
            self.fail(f"give 1 to {self.longest} characters", param, ctx)
        return text


ID = IdType()


def in_database(work: Callable[[AsyncSession, Settings], Awaitable[Result]]) -> Result:
    """Run the work in one transaction, which commits when the work returns. Raises CliError as `with_database`."""

    async def whole(database: Database, settings: Settings) -> Result:
        async with database.transaction() as session:
            return await work(session, settings)

    return with_database(whole)


def with_database(work: Callable[[Database, Settings], Awaitable[Result]]) -> Result:
    """Run work that opens its own transactions.

    Raises CliError, one clear line without secrets, when settings are missing, PostgreSQL is away or refuses, or no
    key opens a stored secret.
    """
    settings = _settings()

    async def run() -> Result:
        database = _database(settings)
        try:
            return await work(database, settings)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except SealingError as error:
        raise CliError(str(error)) from None
    except DBAPIError as error:
        raise CliError(_explained(error)) from None
    except OSError:
        raise CliError(AWAY) from None


def _settings() -> Settings:
    try:
        return load_settings()
    except SystemExit as missing:
        raise CliError(str(missing.code)) from None


def _database(settings: Settings) -> Database:
    fault = wiring.fault_of_database_url(settings)
    if fault is not None:
        raise CliError(fault)
    return wiring.database(settings)


def _explained(error: DBAPIError) -> str:
    """PostgreSQL's own words and what to do; never the statement's parameters, some are secret."""
    if is_outage(error):
        return AWAY
    state = str(getattr(error.orig, "sqlstate", ""))
    words = str(error.orig).partition(">: ")[2] or str(error.orig)
    hint = _HINTS.get(state) or _HINTS.get(state[:2])
    return f"PostgreSQL refuses: {words.splitlines()[0]}" + (f"; {hint}" if hint else "")


async def workspace_named(session: AsyncSession, slug: str) -> Workspace:
    """A workspace by slug. Raises CliError naming those that exist."""
    found = await workspaces.by_slug(session, slug)
    if found is None:
        known = ", ".join(row.slug for row in await workspaces.all_workspaces(session)) or "none yet"
        raise CliError(f"There is no workspace {slug}; known: {known}.")
    return found


def as_json(value: Any) -> None:
    """Print JSON; amounts are decimal strings, times ISO 8601."""
    click.echo(json.dumps(value, indent=2, default=_json_text, ensure_ascii=False))


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same fields; an empty list says so."""
    if not rows:
        click.echo(f"{title}: none")
        return
    shown = Table(title=title, title_justify="left", title_style="bold")
    for name in rows[0]:
        shown.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        shown.add_row(*(_text(value) for value in row.values()))
    _console().print(shown)


def facts(title: str, values: Mapping[str, Any]) -> None:
    """Print one thing's fields."""
    shown = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    for name, value in values.items():
        shown.add_row(f"{name.replace('_', ' ')}:", _text(value))
    _console().print(shown)


def effects(title: str, values: Mapping[str, Any]) -> None:
    """Print what would be written: what it comes to, then changes, ledger entries and documents as tables."""
    lists = {name: rows for name, rows in values.items() if isinstance(rows, list)}
    facts(title, {name: value for name, value in values.items() if name not in lists})
    for name, rows in lists.items():
        shown = [row if isinstance(row, Mapping) else {"what": row} for row in rows]
        table(name.replace("_", " ").capitalize(), shown)


def _json_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _text(value: object) -> str:
    """A cell: times to the second, a mapping as `name value, name value`, yes or no."""
    if value is None or isinstance(value, bool):
        return "" if value is None else "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}".rstrip() for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(part) for part in value)
    return str(value)


def _console() -> Console:
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(file=sys.stdout, width=width, markup=False, highlight=False)


def fail(message: str) -> NoReturn:
    """End with exit code 1 and a line on standard error."""
    raise CliError(message)
