"""The connection pool and its transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncpg.exceptions import InternalClientError
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

READ_ONLY = "25006"
"""A write was sent to a server that takes none: one that was demoted, or is not promoted yet."""
TOO_BUSY = frozenset({READ_ONLY, "25P03", "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03"})
"""A standby, idle for too long, serialization failure, deadlock, lock not available, statement timed out, and
PostgreSQL's own shutting down, crashing and starting up."""
TOO_BUSY_CLASSES = ("08", "53")
"""First two characters: the connection failed, or connections, memory or disk have run out."""
NO_SUCH_CHARACTER = frozenset({"22021", "22P05"})
"""Character not in repertoire, untranslatable character."""
STATEMENT_TIMEOUT_SECONDS = 15
LOCK_TIMEOUT_SECONDS = 10


class Database:
    """One pool. `transaction()` commits when its block ends well and rolls back otherwise; `statement()` is for one."""

    def __init__(self, url: str, *, pool_size: int = 10, pool_timeout_seconds: float = 10.0) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            hide_parameters=True,  # an error's text goes to logs and workflow histories, and rows are personal
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=pool_timeout_seconds,
            pool_use_lifo=True,
            connect_args={
                "timeout": 10,
                "server_settings": {
                    "application_name": "durable-payments",
                    "statement_timeout": str(STATEMENT_TIMEOUT_SECONDS * 1000),
                    "lock_timeout": str(LOCK_TIMEOUT_SECONDS * 1000),
                    "idle_in_transaction_session_timeout": "30000",
                    "timezone": "UTC",
                },
            },
        )
        event.listen(self.engine.sync_engine, "handle_error", _empty_the_pool)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False, autoflush=False)
        alone = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._statements = async_sessionmaker(alone, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncSession]:
        """A session for a single statement, or reads that need not agree: each is a transaction by itself.

        It saves the messages that begin and end a transaction. No locks are held from one statement to the next.
        """
        async with self._statements() as session:
            yield session

    async def ping(self) -> None:
        """Ask PostgreSQL for nothing. Raises what says that it is away."""
        async with self.statement() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Release all connections."""
        await self.engine.dispose()


def _empty_the_pool(context: ExceptionContext) -> None:
    """After a failover connections lead to a server that takes no writes, or are broken in the middle: none is kept."""
    if _sqlstate(context.original_exception) == READ_ONLY or _is_broken(context.original_exception):
        context.is_disconnect = True


def _sqlstate(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""


def _is_broken(error: BaseException | None) -> bool:
    """Whether the driver lost its place in the conversation, as when a connection dies under a rollback."""
    return isinstance(error, InternalClientError) or isinstance(getattr(error, "__cause__", None), InternalClientError)


_TIMEOUTS = text("SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true)")


@asynccontextmanager
async def in_a_hurry(session: AsyncSession, milliseconds: int) -> AsyncIterator[None]:
    """A savepoint with short time-outs: what fails inside, or takes long, is undone alone."""
    async with session.begin_nested():
        await session.execute(_TIMEOUTS, {"statement": str(milliseconds), "lock": str(milliseconds)})
        yield
        usual = {"statement": str(STATEMENT_TIMEOUT_SECONDS * 1000), "lock": str(LOCK_TIMEOUT_SECONDS * 1000)}
        await session.execute(_TIMEOUTS, usual)


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL is away, restarting or too busy, so that the same work may succeed later."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
            return True
        state = _sqlstate(error.orig)
        return state in TOO_BUSY or state.startswith(TOO_BUSY_CLASSES) or _is_broken(error.orig)
    return _is_broken(error) or isinstance(error, ConnectionError | TimeoutError | OSError | PoolTimeout)


def is_unstorable(error: BaseException) -> bool:
    """Whether PostgreSQL refused a character: NUL, which no text column holds."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in NO_SUCH_CHARACTER
