"""Sessions: a transaction is whole or not at all; a statement alone costs one message."""

from __future__ import annotations

import pytest
from sqlalchemy import text

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
