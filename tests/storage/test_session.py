"""Sessions: a transaction is whole or not at all; a statement alone costs one message."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from asyncpg.exceptions import InternalClientError
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


async def test_after_a_failover_no_connection_to_the_demoted_server_is_kept(service: Service) -> None:
    database = Database(service.stack.database_url)
    write = text("INSERT INTO demoted VALUES (1)")
    demote = text("SET default_transaction_read_only = on")
    try:
        async with database.statement() as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS demoted (number integer)"))
        async with AsyncExitStack() as several:  # what the pool keeps leads to a server that takes no writes any more
            for _ in range(4):
                session = await several.enter_async_context(database.statement())
                await session.execute(demote)
        with pytest.raises(DBAPIError) as caught:
            async with database.transaction() as session:
                await session.execute(write)
        assert is_outage(caught.value)
        for _ in range(4):  # one try found it out for all of them
            async with database.transaction() as session:
                await session.execute(write)
    finally:
        async with database.statement() as session:
            await session.execute(text("DROP TABLE demoted"))
        await database.close()


async def test_a_connection_that_lost_its_place_is_an_outage_and_is_not_kept(service: Service) -> None:
    database = Database(service.stack.database_url, pool_size=1)
    try:
        async with database.statement() as session:
            connection = await (await session.connection()).get_raw_connection()
            driver = connection.driver_connection
            assert driver is not None
            first = await session.scalar(text("SELECT pg_backend_pid()"))

        def broken(*_: object, **__: object) -> None:
            raise InternalClientError("got result for unknown protocol state 3")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(driver), "prepare", broken)
            with pytest.raises(Exception, match="unknown protocol state") as caught:
                async with database.statement() as session:
                    await session.execute(text("SELECT 1"))
        assert is_outage(caught.value)
        async with database.statement() as session:
            assert await session.scalar(text("SELECT pg_backend_pid()")) != first
    finally:
        await database.close()
