"""Settlement files: what a network collected, uploaded by an operator and taken in like callbacks, many at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from api.accounts import owned_account
from api.context import Administrator, Services, ServicesDep
from api.media import takes
from api.problems import Problem, answers, unusable_credentials
from api.webhooks import TakenIn, Told, store_many
from providers.base import ProviderMisconfigured, ReadsSettlementFiles, SettlementRow
from storage import audit
from storage.models import ProviderAccount
from storage.sealing import SealingError

router = APIRouter(tags=["administration"])
log = structlog.get_logger()

MAX_FILE_BYTES = 5_000_000
AMOUNT_DIFFERS = "amount_differs"
"""The reason of a repeated row whose transaction was told of before with another amount; the first word counts."""
ROWS_AT_ONCE = 1000
"""Rows of one transaction: few enough that it is short, many enough that a file of 90,000 rows takes seconds."""


class FileRow(BaseModel):
    """What became of one row. `reason` says why it was refused, or why no payment waits for it."""

    line: int
    verdict: Literal["taken", "repeated", "refused"]
    reason: str | None = None
    payment_id: UUID | None = None
    amount: str | None = None


class FileReport(BaseModel):
    """A settlement file, row by row. `unmatched` of the rows that are on record are of no payment of the account."""

    rows: list[FileRow]
    taken: int
    repeated: int
    refused: int
    unmatched: int = 0


@router.post(
    "/provider-accounts/{account_id}/settlement-file",
    summary="Take in a settlement file",
    response_model=FileReport,
    openapi_extra=takes("application/octet-stream", "text/csv", description="The file as it is."),
    responses=answers("method_unavailable", "provider_misconfigured"),
)
async def take_settlement_file(
    account_id: UUID, request: Request, caller: Administrator, services: ServicesDep
) -> Response:
    """The network's file of collected payments, as the body of the request. Each good row is taken in like a callback.

    The same row twice, in this file or another, counts once; so a file whose upload broke off is sent again as a whole.
    The report tells row by row what became of it: `taken` rows are on record, and settled within seconds, but those of
    `unmatched` money, for which the account has no payment: ask the network.
    """
    content = await _read(request)
    async with services.database.transaction() as session:
        account = await owned_account(session, caller, account_id)
    try:
        provider = services.pool.of(account)
    except (ProviderMisconfigured, SealingError):
        raise unusable_credentials() from None
    if not isinstance(provider, ReadsSettlementFiles):
        raise Problem("method_unavailable", f"{account.provider} has no settlement files.")
    rows = await asyncio.to_thread(provider.read_settlement_file, content)
    report = await _take_rows(services, account, rows, actor=caller.actor, digest=hashlib.sha256(content).hexdigest())
    log.info("settlement file", account_id=str(account.id), rows=len(rows), taken=report.taken, refused=report.refused)
    # as text, made aside: tens of thousands of rows would keep other requests waiting
    return Response(await asyncio.to_thread(report.model_dump_json), media_type="application/json")


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_FILE_BYTES:
            raise Problem("body_too_large", f"A settlement file has at most {MAX_FILE_BYTES} bytes.")
    return bytes(body)


async def _take_rows(
    services: Services, account: ProviderAccount, rows: Sequence[SettlementRow], *, actor: str, digest: str
) -> FileReport:
    """Part by part, each in one transaction; the last one puts the file on the audit log."""
    report = FileReport(rows=[], taken=0, repeated=0, refused=0)
    for begin in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        part = rows[begin : begin + ROWS_AT_ONCE]
        told = [Told(row.event, f"settlement file, line {row.line}".encode()) for row in part if row.event is not None]
        async with services.database.transaction() as session:
            taken = iter(await store_many(session, account, told, now=services.now()))
            report.rows += [_judged(row, None if row.event is None else next(taken)) for row in part]
            if begin + ROWS_AT_ONCE >= len(rows):
                report.taken, report.repeated, report.refused = (
                    sum(row.verdict == verdict for row in report.rows) for verdict in ("taken", "repeated", "refused")
                )
                report.unmatched = sum(row.verdict != "refused" and row.payment_id is None for row in report.rows)
                audit.record(
                    session,
                    account.workspace_id,
                    actor=actor,
                    action="provider_account.settlement_file_taken",
                    subject=("provider_account", account.id),
                    details=report.model_dump(exclude={"rows"}) | {"sha256": digest},
                )
    return report


def _judged(row: SettlementRow, taken: TakenIn | None) -> FileRow:
    if row.event is None or taken is None:
        return FileRow(line=row.line, verdict="refused", reason=row.problem)
    return FileRow(
        line=row.line,
        verdict="taken" if taken.new else "repeated",
        reason=AMOUNT_DIFFERS if taken.differs else taken.outcome,
        payment_id=taken.payment_id,
        amount=None if row.event.amount is None else str(row.event.amount),
    )
