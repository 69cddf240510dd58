"""Rendering issued documents."""

from __future__ import annotations

import asyncio

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from domain.payment import RenderReceipt
from domain.receipt import ReceiptDocument
from receipts.render import render_pdf
from storage import receipts
from storage.session import Database

log = structlog.get_logger()


class ReceiptActivities:
    """PDFs come after settlement: a document counts from its number on, whether its picture exists or not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn
    async def render_receipt(self, command: RenderReceipt) -> None:
        """Render and keep the PDF of an issued document. A repeat changes nothing."""
        async with self._database.statement() as session:
            receipt = await receipts.get(session, command.receipt_id)
        if receipt is None:
            raise ApplicationError("no such receipt", "receipt_not_found", None, type="PaymentNotFound")
        pdf = await asyncio.to_thread(render_pdf, ReceiptDocument.from_json(receipt.document))
        async with self._database.statement() as session:
            await receipts.store_pdf(session, receipt.id, pdf)
        log.info("receipt rendered", payment_id=str(receipt.payment_id), receipt_id=str(receipt.id), bytes=len(pdf))
