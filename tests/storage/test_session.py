"""Sessions: a transaction is whole or not at all; a statement alone costs one message."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage.session import Database, is_outage
from tests.support.service import Service


class AbortedOnPurposeError(Exception):
    """The crash."""


async def test_a_statement_alone_is_kept_at_once_and_leaves_no_transaction_open(service: Service) -> None:
    async with service.database.transaction() as session:
        await session.execute(text("CREATE TABLE alone (number integer)"))
    with pytest.raises(AbortedOnPurposeError):
        async with service.database.statement() as session:
            await session.execute(text("INSERT INTO alone VALUES (1)"))
            numbers = [await session.scalar(text("SELECT pg_current_xact_id()::text")) for _ in range(2)]
            assert numbers[0] != numbers[1]  # each was a transaction of its own
            raise AbortedOnPurposeError
    with pytest.raises(AbortedOnPurposeError):
        async with service.database.transaction() as session:
            await session.execute(text("INSERT INTO alone VALUES (2)"))
            raise AbortedOnPurposeError
    async with service.database.transaction() as session:
        assert list(await session.scalars(text("SELECT number FROM alone"))) == [1]
        await session.execute(text("DROP TABLE alone"))


@pytest.mark.parametrize(
    ("state", "outage"),
    [("57P03", True), ("57P01", True), ("53300", True), ("53200", True), ("08006", True), ("28P01", False)],
)
async def test_a_postgresql_that_is_still_starting_is_away_and_no_fault_of_ours(
    state: str,
    outage: bool,  # noqa: FBT001
) -> None:
    """The API answered 500 while PostgreSQL was coming back, and the worker wrote an error every half second."""

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")  # no encryption here
        await reader.read(4096)
        fields = f"SFATAL\0VFATAL\0C{state}\0Mthe database system is starting up\0\0".encode()
        writer.write(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuses, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    database = Database(f"postgresql+asyncpg://somebody:nobody@127.0.0.1:{port}/nothing")
    try:
        with pytest.raises(DBAPIError) as caught:
            async with database.transaction() as session:
                await session.execute(text("SELECT 1"))
        assert is_outage(caught.value) is outage
    finally:
        await database.close()
        server.close()
        await server.wait_closed()
