"""Issued documents and their gapless numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.receipt import fiscal_year
from storage import workspaces
from storage.models import Receipt, ReceiptCounter, ReceiptPdf, Refund, Workspace
from storage.paging import newest_first


@dataclass(frozen=True, slots=True)
class Place:
    """A document's place in its series, and the moment at which it was decided."""

    number: int
    fiscal_year: int
    issued_on: date
    at: datetime


async def next_place(session: AsyncSession, workspace: Workspace, kind: str, clock: Callable[[], datetime]) -> Place:
    """The next number of a series and its date: one decision, under a lock that is held to the commit.

    The clock is read when the lock is held, and a document is never dated before the one in front of it, whatever the
    clocks of two processes say, also over the end of a year. A place that is rolled back is given again.
    """
    series = f"{workspace.id}:documents:{kind}"
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(series, 0))))
    of_series = (Receipt.workspace_id == workspace.id, Receipt.kind == kind)
    newest = (Receipt.fiscal_year.desc(), Receipt.number.desc())
    latest = await session.scalar(select(Receipt.issued_on).where(*of_series).order_by(*newest).limit(1))
    at = clock()
    issued_on = max(workspaces.legal_day(workspace, at), latest or date.min)
    year = fiscal_year(issued_on)
    return Place(await next_number(session, workspace.id, kind, year), year, issued_on, at)


async def next_number(session: AsyncSession, workspace_id: UUID, kind: str, year: int) -> int:
    """The next number of the series, locked to the commit: a rolled-back number is given to the next caller."""
    statement = insert(ReceiptCounter).values(workspace_id=workspace_id, kind=kind, fiscal_year=year, last_number=1)
    statement = statement.on_conflict_do_update(
        index_elements=["workspace_id", "kind", "fiscal_year"], set_={"last_number": ReceiptCounter.last_number + 1}
    )
    return (await session.execute(statement.returning(ReceiptCounter.last_number))).scalar_one()


async def of_payment(session: AsyncSession, payment_id: UUID) -> Receipt | None:
    """The document that the payment's capture issued."""
    return await session.scalar(select(Receipt).where(Receipt.payment_id == payment_id, Receipt.refund_id.is_(None)))


async def all_of_payment(session: AsyncSession, payment_id: UUID) -> Sequence[Receipt]:
    """Its documents, credit notes included, in the order of their making."""
    query = select(Receipt).where(Receipt.payment_id == payment_id).order_by(Receipt.created_at, Receipt.id)
    return (await session.scalars(query)).all()


async def of_payments(session: AsyncSession, payment_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """The documents that the captures of these payments issued, by payment."""
    query = select(Receipt).where(Receipt.payment_id.in_(payment_ids), Receipt.refund_id.is_(None))
    return {row.payment_id: row.id for row in await session.scalars(query)}


async def of_refund(session: AsyncSession, refund_id: UUID) -> Receipt | None:
    """The credit note of a refund, found by the index of its payment's documents."""
    payment_id = select(Refund.payment_id).where(Refund.id == refund_id).scalar_subquery()
    return await session.scalar(select(Receipt).where(Receipt.payment_id == payment_id, Receipt.refund_id == refund_id))


async def of_refunds(session: AsyncSession, refunds: Collection[Refund]) -> dict[UUID, UUID]:
    """The credit notes of these refunds that have one, by refund."""
    query = select(Receipt.refund_id, Receipt.id).where(
        Receipt.payment_id.in_({row.payment_id for row in refunds}), Receipt.refund_id.in_([row.id for row in refunds])
    )
    return {refund: receipt for refund, receipt in (await session.execute(query)).all() if refund is not None}


async def get(session: AsyncSession, receipt_id: UUID, workspace_id: UUID | None = None) -> Receipt | None:
    """One document; with a workspace, only if it is that workspace's."""
    query = select(Receipt).where(Receipt.id == receipt_id)
    return await session.scalar(query if workspace_id is None else query.where(Receipt.workspace_id == workspace_id))


async def page(
    session: AsyncSession, workspace_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None = None
) -> Sequence[Receipt]:
    """Newest first."""
    query = select(Receipt).where(Receipt.workspace_id == workspace_id)
    query = newest_first(query, Receipt, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def store_pdf(session: AsyncSession, receipt_id: UUID, pdf: bytes) -> None:
    """Keep the rendered document; a repeat keeps the first one."""
    statement = insert(ReceiptPdf).values(receipt_id=receipt_id, pdf=pdf, sha256=hashlib.sha256(pdf).digest())
    await session.execute(statement.on_conflict_do_nothing())


async def pdf_of(session: AsyncSession, receipt_id: UUID) -> bytes | None:
    """The rendered document, or None while it is not rendered yet."""
    return await session.scalar(select(ReceiptPdf.pdf).where(ReceiptPdf.receipt_id == receipt_id))


async def has_pdf(session: AsyncSession, receipt_id: UUID) -> bool:
    """Whether the document is rendered."""
    return bool(await session.scalar(select(func.count()).where(ReceiptPdf.receipt_id == receipt_id)))
