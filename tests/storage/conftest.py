"""Books without a service."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from storage.session import Database
from tests.support.books import Books, new_books


@pytest.fixture(scope="session")
def books_url(request: pytest.FixtureRequest) -> str:
    """PostgreSQL: that of the whole run, or one that outlives this process."""
    return os.environ.get("BOOKS_DATABASE_URL") or str(request.getfixturevalue("stack").database_url)


@pytest_asyncio.fixture(scope="session")
async def database(books_url: str) -> AsyncIterator[Database]:
    opened = Database(books_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def books(database: Database) -> Books:
    return await new_books(database)
