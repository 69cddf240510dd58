"""Sealing every stored secret again under the first key, so that an old key can go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, inspect, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from storage import audit
from storage.models import (
    Attempt,
    Base,
    IdempotentAnswer,
    MethodSetup,
    Payment,
    PaymentMethod,
    PayoutFile,
    ProviderAccount,
    Referrer,
    ReplacedToken,
    Workspace,
)
from storage.sealing import Sealer
from storage.session import Database

PAGE = 500
"""Rows of one transaction: whoever waits for one of them waits for milliseconds."""


class Sealed(NamedTuple):
    """Columns of a table that hold sealed secrets, where they hold anything."""

    model: type[Base]
    columns: tuple[str, ...]
    only: ColumnElement[bool] | None = None


SEALED = (
    Sealed(ProviderAccount, ("credentials",)),
    Sealed(Workspace, ("order_webhook_secret", "fingerprint_key")),
    Sealed(Payment, ("client_secret", "method_fields")),
    Sealed(Attempt, ("session_secret", "form", "method_fields")),
    Sealed(PaymentMethod, ("token",)),
    Sealed(ReplacedToken, ("token",)),
    Sealed(MethodSetup, ("session_secret",)),
    Sealed(Referrer, ("identity", "payout_details")),
    Sealed(PayoutFile, ("content",)),
    Sealed(IdempotentAnswer, ("body",), IdempotentAnswer.status_code != 0),  # 0: no answer yet, and nothing sealed
)
"""All there are: a test compares them with the columns of bytes."""


async def rotate(database: Database, sealer: Sealer, *, actor: str) -> int:
    """Seal every stored secret again under the first key. Returns how many provider accounts were sealed.

    First every secret is opened: raises SealingError, and then has changed nothing, when no key opens one of them.
    Then they are sealed page by page under the rows' locks, so that a secret replaced meanwhile is not put back, and
    nobody waits long. What is cut off is repeated as a whole.
    """
    for table in SEALED:
        await _page_by_page(database, sealer, table, _open)
    numbers = {table.model: await _page_by_page(database, sealer, table, _seal) for table in SEALED}
    await _note(database, actor)
    return numbers[ProviderAccount]


Work = Callable[[AsyncSession, Sealer, Sealed, Sequence[Row[Any]]], Awaitable[None]]


async def _page_by_page(database: Database, sealer: Sealer, table: Sealed, work: Work) -> int:
    """Do the work on all rows, in the order of their keys; each page is a transaction. Returns how many rows."""
    keys = list(inspect(table.model).primary_key)
    columns = [getattr(table.model, name) for name in table.columns]
    query = select(*keys, *columns).where(or_(*(column.is_not(None) for column in columns)))
    query = query.order_by(*keys).limit(PAGE)
    if table.only is not None:
        query = query.where(table.only)
    if work is _seal:
        query = query.with_for_update(key_share=True)
    number, page = 0, query
    while True:
        async with database.transaction() as session:
            rows = (await session.execute(page)).all()
            await work(session, sealer, table, rows)
        number += len(rows)
        if len(rows) < PAGE:
            return number
        page = query.where(tuple_(*keys) > tuple(rows[-1][: len(keys)]))


async def _open(_: AsyncSession, sealer: Sealer, table: Sealed, rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        for name in table.columns:
            secret = getattr(row, name)
            if secret is not None:
                sealer.open(secret)


async def _seal(session: AsyncSession, sealer: Sealer, table: Sealed, rows: Sequence[Row[Any]]) -> None:
    keys = list(inspect(table.model).primary_key)
    for row in rows:
        secrets = {name: getattr(row, name) for name in table.columns}
        again = {name: sealer.rotate(secret) for name, secret in secrets.items() if secret is not None}
        own = and_(*(key == value for key, value in zip(keys, row[: len(keys)], strict=True)))
        await session.execute(update(table.model).where(own).values(again))


async def _note(database: Database, actor: str) -> None:
    async with database.transaction() as session:
        owned = Counter(await session.scalars(select(ProviderAccount.workspace_id)))
        for workspace_id in await session.scalars(select(Workspace.id).order_by(Workspace.id)):
            audit.record(
                session,
                workspace_id,
                actor=actor,
                action="secrets.sealed_again",
                subject=("workspace", workspace_id),
                details={"provider_accounts": owned[workspace_id]},
            )
