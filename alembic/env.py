"""Runs migrations on DATABASE_URL, or on the connection that a caller passes in `config.attributes`."""

from __future__ import annotations

import asyncio
import os

from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import context
from settings import async_url
from storage.models import Base

LOCK_TIMEOUT = "5s"
"""A migration waits this long for a table in use, then fails and is run again: it must never queue up writers."""


def run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        context.run_migrations()


async def run_on_url(url: str) -> None:
    engine = create_async_engine(url, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


def database_url() -> str:
    url = context.config.attributes.get("url") or os.environ.get("DATABASE_URL")
    if not url:
        message = "Set DATABASE_URL, for example postgresql+asyncpg://user:password@host/database"
        raise SystemExit(message)
    return async_url(str(url))


if context.is_offline_mode():
    context.configure(url=database_url(), target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
    else:
        asyncio.run(run_on_url(database_url()))
