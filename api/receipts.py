"""Issued documents and their PDFs."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, PageSize
from api.media import BINARY, answers_with
from api.problems import Problem, answers
from domain.money import Money
from domain.receipt import DocumentKind, ReceiptDocument, israeli_code
from storage import receipts
from storage.models import Receipt

router = APIRouter(tags=["receipts"])
Reader = Annotated[Member, Depends(member("payments:read"))]


class ReceiptOut(BaseModel):
    """A document as callers see it; net plus vat is always the total."""

    id: UUID
    payment_id: UUID
    kind: str
    israeli_code: int
    fiscal_year: int
    number: int
    display_number: str
    issued_on: date
    currency: str
    net: str
    vat: str
    vat_rate: str
    total: str
    created_at: datetime


class ReceiptPage(BaseModel):
    """A page of documents, newest first."""

    data: list[ReceiptOut]
    next_cursor: str | None


@router.get("/receipts", summary="List documents")
async def list_receipts(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
) -> ReceiptPage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await receipts.page(session, caller.workspace.id, limit=limit + 1, before=decode_cursor(cursor))
    shown, more = cut_page(rows, limit)
    return ReceiptPage(data=[_out(row) for row in shown], next_cursor=more)


@router.get(
    "/receipts/{receipt_id}.pdf",
    summary="The PDF of a document",
    response_class=Response,
    responses=answers("receipt_not_rendered") | answers_with("application/pdf", BINARY, "The document"),
)
async def read_pdf(receipt_id: UUID, caller: Reader, services: ServicesDep) -> Response:
    """The document as it was rendered once; 503 with Retry-After in the moment before that."""
    async with services.database.transaction() as session:
        receipt = await receipts.get(session, receipt_id, caller.workspace.id)
        pdf = None if receipt is None else await receipts.pdf_of(session, receipt_id)
    if receipt is None:
        raise Problem("not_found", "This workspace has no such document.")
    if pdf is None:
        raise Problem("receipt_not_rendered", "Try again in a moment.", headers={"retry-after": "1"})
    name = ReceiptDocument.from_json(receipt.document).display_number
    return Response(
        pdf,
        media_type="application/pdf",
        headers={"content-disposition": f'inline; filename="{receipt.kind}-{name}.pdf"', "cache-control": "private"},
    )


@router.get("/receipts/{receipt_id}", summary="Read a document")
async def read_receipt(receipt_id: UUID, caller: Reader, services: ServicesDep) -> ReceiptOut:
    """The document's figures."""
    async with services.database.transaction() as session:
        receipt = await receipts.get(session, receipt_id, caller.workspace.id)
    if receipt is None:
        raise Problem("not_found", "This workspace has no such document.")
    return _out(receipt)


def _out(receipt: Receipt) -> ReceiptOut:
    document = ReceiptDocument.from_json(receipt.document)
    return ReceiptOut(
        id=receipt.id,
        payment_id=receipt.payment_id,
        kind=receipt.kind,
        israeli_code=israeli_code(DocumentKind(receipt.kind), document.dealer),
        fiscal_year=receipt.fiscal_year,
        number=receipt.number,
        display_number=document.display_number,
        issued_on=receipt.issued_on,
        currency=receipt.currency,
        net=str(Money.from_decimal(receipt.net, receipt.currency)),
        vat=str(Money.from_decimal(receipt.vat, receipt.currency)),
        vat_rate=format(receipt.vat_rate.normalize(), "f"),
        total=str(Money.from_decimal(receipt.total, receipt.currency)),
        created_at=receipt.created_at,
    )
