"""The migrations are the models, and the constraints hold what they promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import command
from embedded import postgres
from embedded.stack import ROOT, Stack, migrate
from storage import audit
from tests.support.service import Service, Shop


@pytest_asyncio.fixture
async def empty_database(stack: Stack) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex[:8]}"
    await asyncio.to_thread(postgres.ensure_database, stack.state / "postgres", name)
    yield postgres.database_url(stack.state / "postgres", name)


def alembic_config(url: str) -> Config:
    config = Config(str(Path(ROOT) / "alembic.ini"))
    config.attributes["url"] = url
    return config


async def tables(url: str) -> set[str]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        functions = await connection.execute(
            text("SELECT proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'")
        )
        found = {row[0] for row in rows} | {f"{row[0]}()" for row in functions}
    await engine.dispose()
    return found


async def test_upgrade_equals_the_models_and_downgrade_leaves_nothing(empty_database: str) -> None:
    config = alembic_config(empty_database)
    await asyncio.to_thread(command.upgrade, config, "head")
    await asyncio.to_thread(command.check, config)
    assert "payments" in await tables(empty_database)
    await asyncio.to_thread(command.downgrade, config, "base")
    assert await tables(empty_database) == {"alembic_version"}
    await asyncio.to_thread(command.upgrade, config, "head")


async def test_a_migration_that_cannot_run_says_so() -> None:
    from embedded.parts import StartFailed

    with pytest.raises(StartFailed, match="could not be migrated"):
        await asyncio.to_thread(migrate, "postgresql+asyncpg://postgres@/x?host=/nowhere")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET action = 'x'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "UPDATE ledger_entries SET amount = 1",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
    ],
)
async def test_history_cannot_be_changed(service: Service, shop: Shop, statement: str) -> None:
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    with pytest.raises(DBAPIError, match="append-only"):
        async with service.database.transaction() as session:
            await session.execute(text(statement))


async def test_a_movement_that_does_not_balance_is_refused_at_commit(service: Service, shop: Shop) -> None:
    insert = text(
        "INSERT INTO ledger_entries (workspace_id, movement_id, kind, account, amount, currency)"
        " VALUES (:workspace, :movement, 'capture', :account, :amount, 'ILS')"
    )
    movement = uuid4()
    with pytest.raises(DBAPIError, match="does not balance"):
        async with service.database.transaction() as session:
            for account, amount in (("a", 10), ("b", -9)):
                await session.execute(
                    insert,
                    {"workspace": shop.workspace.id, "movement": movement, "account": account, "amount": amount},
                )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ('UPDATE audit_log SET details = \'{"amount": "1.00"}\' WHERE id = :id', "changed after it was written"),
        ("DELETE FROM audit_log WHERE id = :id", "missing"),
        ("UPDATE audit_log SET hash = 'x', previous_hash = 'y' WHERE id = :id", "follow|changed"),
    ],
)
async def test_the_audit_chain_shows_any_edit(service: Service, shop: Shop, change: str, fault: str) -> None:
    await shop.pays()
    async with service.database.transaction() as session:
        target = await session.scalar(
            text("SELECT id FROM audit_log WHERE workspace_id = :w ORDER BY seq LIMIT 1 OFFSET 1"),
            {"w": shop.workspace.id},
        )
        connection = await session.connection()
        await connection.execute(text("SET LOCAL session_replication_role = replica"))  # what an intruder would do
        await connection.execute(text(change), {"id": target})
        faults = [found async for found in audit.chain_faults(session) if found.workspace_id == shop.workspace.id]
        assert len(faults) == 1
        import re

        assert re.search(fault, faults[0].fault)
        await session.rollback()


async def test_an_untouched_chain_verifies_and_a_cut_end_shows(service: Service, shop: Shop) -> None:
    await shop.pays()
    async with service.database.transaction() as session:
        assert not [f async for f in audit.chain_faults(session) if f.workspace_id == shop.workspace.id]
        connection = await session.connection()
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(
            text(
                "DELETE FROM audit_log WHERE workspace_id = :w AND seq ="
                " (SELECT max(seq) FROM audit_log WHERE workspace_id = :w)"
            ),
            {"w": shop.workspace.id},
        )
        faults = [f async for f in audit.chain_faults(session) if f.workspace_id == shop.workspace.id]
        assert "end of the log" in faults[0].fault
        await session.rollback()
