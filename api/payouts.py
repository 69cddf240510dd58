"""Payout batches: prepare, look, approve, give to the bank, record what became of each line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Literal, TypeAlias
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from activities.payouts import FINAL, approve_or_reject, tell, tell_returned
from api.context import Member, Services, ServicesDep, cut_page, decode_cursor, member
from api.effects import DryRun, EffectsOut, effects_out
from api.fields import Cursor, Flag, Moment, PageSize, RequestBody
from api.idempotency import IdempotencyKey, fingerprint_of
from api.media import TEXT, answers_with, takes
from api.problems import Problem, answers, key_reused, try_again
from domain.idempotency import is_repeat
from domain.money import Money
from domain.payout import Decided, DecidePayout, LineStatus, PayoutStatus, StartPayout
from domain.payout_file import MAX_TEXT, ResultRow, read_results
from engine.payments import EngineUnavailable
from engine.payouts import PayoutEngine
from storage import audit, payouts
from storage.models import Payout, PayoutLine, Referrer, Workspace
from storage.payouts import Candidate
from storage.rehearsal import rehearsal
from storage.session import Database

router = APIRouter(tags=["payouts"])
Reader = Annotated[Member, Depends(member("reports:read"))]
Preparer = Annotated[Member, Depends(member("payouts:write"))]
Approver = Annotated[Member, Depends(member("payouts:approve"))]

Opener: TypeAlias = Callable[[bytes], str]
FIRST_ANSWER = timedelta(seconds=20)
MAX_FILE_BYTES = 2_000_000
LINE_PROBLEMS = answers("payout_line_has_result", "payout_line_not_paid", "payout_not_approved")
DECISION_PROBLEMS = answers("approval_by_preparer", "payout_changed", "payout_is_final")


class NewPayout(RequestBody):
    """A batch to prepare: what has vested by the cut-off, now if none is given."""

    cut_off: Moment | None = Field(None, description="Not in the future.", examples=["2026-11-30T22:00:00Z"])


class PayoutLineOut(BaseModel):
    """One referrer's part. `amount` is `gross` and what is `carried`, a debt if negative; major units."""

    id: UUID | None
    referrer_id: str
    gross: str
    carried: str
    amount: str
    commissions: int | None = Field(None, description="How many are in it, in a dry run.")
    status: LineStatus | None = None
    skipped: Literal["below_minimum", "books_disagree"] | None = Field(
        None, description="In a dry run: why there would be no line."
    )
    reference: str | None = None
    failure: str | None = None
    payout_details_changed_at: datetime | None = Field(
        None, description="Look twice where this is shortly before the batch."
    )


class PayoutOut(BaseModel):
    """A batch. Lines are there in the answers about one batch."""

    id: UUID | None
    status: PayoutStatus | None
    cut_off: datetime
    currency: str
    minimum: str
    total: str
    prepared_by: str
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str | None = None
    created_at: datetime | None = None
    closed_at: datetime | None = None
    lines: list[PayoutLineOut] | None = None


class PayoutPage(BaseModel):
    """A page of batches, newest first."""

    data: list[PayoutOut]
    next_cursor: str | None


class Refusal(RequestBody):
    """Why a batch is given up."""

    reason: str = Field(min_length=1, max_length=300, examples=["the bank details of two referrers are old"])


class LinePaid(RequestBody):
    """How a line was paid."""

    reference: str | None = Field(None, min_length=1, max_length=MAX_TEXT, examples=["transfer-4711"])


class LineFailed(RequestBody):
    """Why a line could not be paid."""

    reason: str = Field(min_length=1, max_length=MAX_TEXT, examples=["account closed"])


class LineReturned(RequestBody):
    """Why the bank brought the money back."""

    reason: str = Field(min_length=1, max_length=MAX_TEXT, examples=["account closed"])


class ResultRowOut(BaseModel):
    """What became of one row of a file of results."""

    line: int
    line_id: UUID | None
    verdict: Literal["recorded", "repeated", "refused"]
    problem: str | None = None


class ResultReport(BaseModel):
    """A file of results, row by row."""

    rows: list[ResultRowOut]
    recorded: int
    repeated: int
    refused: int
    payout: PayoutOut
    would_write: EffectsOut | None = Field(None, description="In a dry run: nothing of it was done.")


@router.post(
    "/payouts",
    status_code=201,
    summary="Prepare a payout batch",
    responses=answers("idempotency_key_reused", "payout_open")
    | {200: {"model": PayoutOut, "description": "A repeat, or a dry run"}, 202: {"model": PayoutOut}},
)
async def prepare_payout(
    body: NewPayout,
    caller: Preparer,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: Annotated[Flag, Query(description="Say what would be paid, and to whom not yet, and do nothing.")] = False,
) -> PayoutOut:
    """Collect what every referrer is owed, reserve it, and wait for an approval. One batch at a time is open.

    202 means that the lines are not there yet: read the batch again.
    """
    if dry_run:
        response.status_code = 200
        async with services.database.transaction() as session:
            return await rehearse(session, caller.workspace, body, at=services.now(), actor=caller.actor)
    payout_id, created = await accept(
        services.database, caller.workspace, body, at=services.now(), actor=caller.actor, key=idempotency_key
    )
    progress = None
    try:
        progress = await PayoutEngine.beside(services.engine).start(
            StartPayout(payout_id, caller.workspace.id), wait=FIRST_ANSWER
        )
    except EngineUnavailable:
        progress = None  # it is on record; the dispatcher starts it
    out = await _shown(services, caller, payout_id)
    if not created:
        response.status_code = 200
    elif progress is None:
        response.status_code = 202
    response.headers["location"] = f"/api/v1/payouts/{payout_id}"
    return out


@router.get("/payouts", summary="List payout batches")
async def list_payouts(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    status: PayoutStatus | None = None,
) -> PayoutPage:
    """Newest first, without their lines."""
    async with services.database.transaction() as session:
        rows = await payouts.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            status=None if status is None else status.value,
        )
    shown, more = cut_page(rows, limit)
    return PayoutPage(data=[_out(row) for row in shown], next_cursor=more)


@router.get("/payouts/{payout_id}", summary="Read a payout batch")
async def read_payout(payout_id: UUID, caller: Reader, services: ServicesDep) -> PayoutOut:
    """The batch and its lines as they are on record."""
    return await _shown(services, caller, payout_id)


@router.post(
    "/payouts/{payout_id}/approve",
    summary="Approve a payout batch",
    responses=DECISION_PROBLEMS,
)
async def approve_payout(
    payout_id: UUID, caller: Approver, services: ServicesDep, *, dry_run: DryRun = False
) -> PayoutOut | EffectsOut:
    """Send it on its way. If anything has changed since it was prepared, it is not approved: look at it again."""
    if dry_run:
        return await _rehearsed(services, caller, DecidePayout(payout_id, caller.actor, approve=True))
    return await _decided(services, caller, DecidePayout(payout_id, caller.actor, approve=True))


@router.post(
    "/payouts/{payout_id}/reject",
    summary="Give up a payout batch",
    responses=DECISION_PROBLEMS,
)
async def reject_payout(
    payout_id: UUID, body: Refusal, caller: Approver, services: ServicesDep, *, dry_run: DryRun = False
) -> PayoutOut | EffectsOut:
    """Its commissions are payable by the next batch."""
    if dry_run:
        return await _rehearsed(services, caller, DecidePayout(payout_id, caller.actor, approve=False))
    async with services.database.transaction() as session:
        await _found(session, caller.workspace.id, payout_id)
        await payouts.note_reason(session, caller.workspace.id, payout_id, body.reason)
    return await _decided(services, caller, DecidePayout(payout_id, caller.actor, approve=False))


@router.get(
    "/payouts/{payout_id}/export.csv",
    summary="The file for the bank",
    response_class=Response,
    responses=answers("payout_file_not_made", "payout_not_approved") | answers_with("text/csv", TEXT, "The file"),
)
async def export_payout(payout_id: UUID, caller: Preparer, services: ServicesDep) -> Response:
    """The approved lines with payout details and their sum: always the same file. The audit log says who fetched it."""
    async with services.database.transaction() as session:
        content = await exported(session, services.sealer.open, caller.workspace.id, payout_id, actor=caller.actor)
    name = f'attachment; filename="payout-{payout_id}.csv"'
    return Response(content, media_type="text/csv", headers={"content-disposition": name, "cache-control": "no-store"})


@router.post(
    "/payouts/{payout_id}/lines/{line_id}/paid",
    summary="A line was paid",
    responses=LINE_PROBLEMS,
)
async def line_paid(
    payout_id: UUID,
    line_id: UUID,
    body: LinePaid,
    caller: Preparer,
    services: ServicesDep,
    *,
    dry_run: DryRun = False,
) -> PayoutOut | EffectsOut:
    """Its commissions are paid for good. A repeat with the same reference changes nothing."""
    row = ResultRow(0, line_id, LineStatus.PAID, body.reference)
    return await _with_result(services, caller, payout_id, row, dry_run=dry_run)


@router.post(
    "/payouts/{payout_id}/lines/{line_id}/failed",
    summary="A line could not be paid",
    responses=LINE_PROBLEMS,
)
async def line_failed(
    payout_id: UUID,
    line_id: UUID,
    body: LineFailed,
    caller: Preparer,
    services: ServicesDep,
    *,
    dry_run: DryRun = False,
) -> PayoutOut | EffectsOut:
    """It is owed again: its commissions are payable by the next batch."""
    row = ResultRow(0, line_id, LineStatus.FAILED, body.reason)
    return await _with_result(services, caller, payout_id, row, dry_run=dry_run)


@router.post(
    "/payouts/{payout_id}/lines/{line_id}/returned",
    summary="A line that was paid came back",
    responses=LINE_PROBLEMS,
)
async def line_returned(
    payout_id: UUID,
    line_id: UUID,
    body: LineReturned,
    caller: Preparer,
    services: ServicesDep,
    *,
    dry_run: DryRun = False,
) -> PayoutOut | EffectsOut:
    """The bank brought it back after it was booked as paid, also long after the batch was closed.

    It is owed again: its commissions are payable by the next batch. A repeat with the same reason changes nothing.
    """
    row = ResultRow(0, line_id, LineStatus.RETURNED, body.reason)
    return await _with_result(services, caller, payout_id, row, dry_run=dry_run)


@router.post(
    "/payouts/{payout_id}/results",
    summary="Take in a file of results",
    openapi_extra=takes("text/csv", description="line_id, result, reference"),
)
async def take_results(
    payout_id: UUID, request: Request, caller: Preparer, services: ServicesDep, *, dry_run: DryRun = False
) -> ResultReport:
    """A CSV file as the body: `line_id`, `result` (paid, failed or returned), `reference`. It is told row by row.

    Good rows are recorded also where others are not; the same file again changes nothing.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_FILE_BYTES:
            raise Problem("body_too_large", f"A file of results has at most {MAX_FILE_BYTES} bytes.")
    rows, workspace_id = read_results(bytes(body)), caller.workspace.id
    at = services.now()
    if dry_run:
        async with rehearsal(services.database) as (session, effects):
            verdicts = await record_rows(session, workspace_id, payout_id, rows, actor=caller.actor, at=at)
            await session.flush()
            shown = await with_lines(session, await _found(session, workspace_id, payout_id))
        return _report(verdicts, shown, effects_out(effects))
    async with services.database.transaction() as session:
        verdicts = await record_rows(session, workspace_id, payout_id, rows, actor=caller.actor, at=at)
    await _wake(services, payout_id)
    return _report(verdicts, await _shown(services, caller, payout_id))


def _report(verdicts: list[ResultRowOut], payout: PayoutOut, would_write: EffectsOut | None = None) -> ResultReport:
    return ResultReport(
        rows=verdicts,
        recorded=sum(row.verdict == "recorded" for row in verdicts),
        repeated=sum(row.verdict == "repeated" for row in verdicts),
        refused=sum(row.verdict == "refused" for row in verdicts),
        payout=payout,
        would_write=would_write,
    )


async def rehearse(
    session: AsyncSession, workspace: Workspace, body: NewPayout, *, at: datetime, actor: str
) -> PayoutOut:
    """What a batch would pay, by the same rule that prepares it; nothing is written or locked. Raises Problem."""
    cut_off, minimum = _cut_off(body, at), payouts.minimum_of(workspace)
    candidates = await payouts.collect(session, workspace, cut_off=cut_off, minimum=minimum)
    total = sum((one.due.amount for one in candidates if one.why_not is None), Money.zero(workspace.currency))
    return PayoutOut(
        id=None,
        status=None,
        cut_off=cut_off,
        currency=workspace.currency,
        minimum=str(minimum),
        total=str(total),
        prepared_by=actor,
        lines=[_candidate_out(one) for one in candidates],
    )


def _repeated(known: Payout, asked: bytes) -> UUID:
    """The batch that the key has made. Raises Problem when that was another request."""
    if not is_repeat(known.fingerprint, asked):
        raise key_reused()
    return known.id


async def accept(
    database: Database, workspace: Workspace, body: NewPayout, *, at: datetime, actor: str, key: str | None
) -> tuple[UUID, bool]:
    """Put a batch on record, or find the one that the key made; its id, and whether it is new. Raises Problem."""
    cut_off, asked = _cut_off(body, at), fingerprint_of("POST /payouts", body)
    try:
        async with database.transaction() as session:
            known = None if key is None else await payouts.by_key(session, workspace.id, key)
            if known is not None:
                return _repeated(known, asked), False
            values = {
                "id": uuid7() if key is None else uuid5(workspace.id, f"payout:{key}"),
                "cut_off": cut_off,
                "idempotency_key": key,
                "fingerprint": asked,
            }
            return (await payouts.request(session, workspace, values, actor=actor)).id, True
    except payouts.PayoutOpen as error:
        open_one = error.args[0]
        if key is not None and open_one == uuid5(workspace.id, f"payout:{key}"):  # the same key at the same time
            async with database.transaction() as session:
                known = await payouts.by_key(session, workspace.id, key)
            return open_one if known is None else _repeated(known, asked), False
        raise Problem(
            "payout_open", "Finish or reject it first.", payout_id=None if open_one is None else str(open_one)
        ) from None


async def record_rows(
    session: AsyncSession,
    workspace_id: UUID,
    payout_id: UUID,
    rows: list[ResultRow],
    *,
    actor: str,
    at: datetime,
) -> list[ResultRowOut]:
    """Record the results that can be recorded, and say of each row what became of it. Raises Problem."""
    payout, workspace = await _locked(session, workspace_id, payout_id)
    await payouts.lock_commissions(session, payout)  # all of them first: the audit log's lock must come last
    before, verdicts = payout.status, []
    for row in rows:
        problem, repeated = row.problem, False
        if problem is None:
            try:
                repeated = await record_row(session, workspace, payout, row, actor=actor, at=at)
            except tuple(_LINE_PROBLEMS) as error:
                problem = _LINE_PROBLEMS[type(error)][0]
        verdict: Literal["recorded", "repeated", "refused"] = (
            "refused" if problem is not None else "repeated" if repeated else "recorded"
        )
        verdicts.append(ResultRowOut(line=row.line, line_id=row.line_id, verdict=verdict, problem=problem))
    await _tell_when_closed(session, workspace, payout, before, at)
    return verdicts


async def record_row(
    session: AsyncSession, workspace: Workspace, payout: Payout, row: ResultRow, *, actor: str, at: datetime
) -> bool:
    """Record one result, and tell of a line that came back. True: it was on record before. Raises as storage does."""
    assert row.line_id is not None  # noqa: S101  (a row without a problem)
    assert row.result is not None  # noqa: S101  (the same)
    if await payouts.has_result(session, payout, row.line_id, result=row.result, reference=row.reference):
        return True
    line = await payouts.record_result(
        session, payout, row.line_id, result=row.result, reference=row.reference, actor=actor, at=at
    )
    if row.result is LineStatus.RETURNED:
        tell_returned(session, workspace, payout, line, await payouts.progress_of(session, payout), at=at)
    return False


async def exported(session: AsyncSession, unseal: Opener, workspace_id: UUID, payout_id: UUID, *, actor: str) -> bytes:
    """The file of an approved batch, and an entry on the audit log of who has it. Raises Problem."""
    payout = await _found(session, workspace_id, payout_id)
    if payout.status not in (PayoutStatus.APPROVED, PayoutStatus.CLOSED):
        raise Problem("payout_not_approved", f"It is {payout.status}.", status_now=payout.status)
    kept = await payouts.file_of(session, payout_id)
    if kept is None:
        raise Problem("payout_file_not_made", "Try again in a moment.", headers={"retry-after": "2"})
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action="payout.file_fetched",
        subject=("payout", payout_id),
        details={"sha256": kept.sha256.hex()},
    )
    return unseal(kept.content).encode()


def refusal(decided: Decided | None, payout: Payout) -> Problem | None:
    """Why a decision was not taken, if it was not."""
    if decided is None:
        if PayoutStatus(payout.status) in FINAL:
            return Problem("payout_is_final", f"It is {payout.status}.", status_now=payout.status)
        return try_again("Read the batch in a moment.")
    if decided.changed:
        total = str(Money(decided.progress.total_minor, decided.progress.currency))
        return Problem(
            "payout_changed",
            "Refunds, disputes or reviews have changed it: look at its lines, then decide.",
            total=total,
            status_now=decided.progress.status.value,
        )
    if decided.refused == "approval_by_preparer":
        return Problem("approval_by_preparer", "The workspace wants another key to approve than the preparer's.")
    if decided.refused is not None:
        now = decided.progress.status.value
        return Problem("payout_is_final", f"It is {now}.", status_now=now)
    return None


async def _rehearsed(services: Services, caller: Member, decision: DecidePayout) -> EffectsOut:
    """What a decision would do now, done and undone. Raises Problem where it would be refused."""
    async with rehearsal(services.database) as (session, effects):
        payout, workspace = await _locked(session, caller.workspace.id, decision.payout_id)
        decided = await approve_or_reject(session, payout, workspace, decision, at=services.now())
        problem = refusal(decided, payout)
        if problem is not None:
            raise problem
    return effects_out(effects)


async def _decided(services: Services, caller: Member, decision: DecidePayout) -> PayoutOut:
    async with services.database.transaction() as session:
        payout = await _found(session, caller.workspace.id, decision.payout_id)
    if PayoutStatus(payout.status) in FINAL:
        raise Problem("payout_is_final", f"It is {payout.status}.", status_now=payout.status)
    command = StartPayout(payout.id, caller.workspace.id)
    try:
        decided = await PayoutEngine.beside(services.engine).decide(command, decision, wait=FIRST_ANSWER)
    except EngineUnavailable:
        raise try_again() from None
    problem = refusal(decided, payout)
    if problem is not None:
        raise problem
    return await _shown(services, caller, payout.id)


async def _with_result(
    services: Services, caller: Member, payout_id: UUID, row: ResultRow, *, dry_run: bool
) -> PayoutOut | EffectsOut:
    at = services.now()

    async def record(session: AsyncSession) -> None:
        payout, workspace = await _locked(session, caller.workspace.id, payout_id)
        before = payout.status
        await record_row(session, workspace, payout, row, actor=caller.actor, at=at)
        await _tell_when_closed(session, workspace, payout, before, at)

    try:
        if dry_run:
            async with rehearsal(services.database) as (session, effects):
                await record(session)
            return effects_out(effects)
        async with services.database.transaction() as session:
            await record(session)
    except tuple(_LINE_PROBLEMS) as error:
        code, words = _LINE_PROBLEMS[type(error)]
        raise Problem(code, words) from None
    await _wake(services, payout_id)
    return await _shown(services, caller, payout_id)


_LINE_PROBLEMS: dict[type[Exception], tuple[str, str]] = {
    payouts.PayoutNotFound: ("not_found", "This batch has no such line."),
    payouts.LineNotSent: ("payout_not_approved", "The batch is not approved, or the line was dropped."),
    payouts.LineHasResult: ("payout_line_has_result", "The first result stays; what comes back is returned."),
    payouts.LineNotPaid: ("payout_line_not_paid", "Only what was paid comes back; record it as failed."),
}


async def _tell_when_closed(
    session: AsyncSession, workspace: Workspace, payout: Payout, before: str, at: datetime
) -> None:
    if before == payout.status or payout.status != PayoutStatus.CLOSED:
        return
    tell(session, workspace, payout, await payouts.progress_of(session, payout), "payout.closed", at=at)


async def _wake(services: Services, payout_id: UUID) -> None:
    """The last result ends the workflow; the others are not worth its history."""
    async with services.database.transaction() as session:
        payout = await session.get(Payout, payout_id)
    if payout is not None and PayoutStatus(payout.status) in FINAL:
        await PayoutEngine.beside(services.engine).result_recorded(payout_id)


async def _shown(services: Services, caller: Member, payout_id: UUID) -> PayoutOut:
    async with services.database.transaction() as session:
        payout = await _found(session, caller.workspace.id, payout_id)
        return await with_lines(session, payout)


async def with_lines(session: AsyncSession, payout: Payout) -> PayoutOut:
    """A batch as callers see it, with its lines."""
    out = _out(payout)
    out.lines = [_line_out(line, referrer) for line, referrer in await payouts.lines_of(session, payout.id)]
    return out


async def _found(session: AsyncSession, workspace_id: UUID, payout_id: UUID) -> Payout:
    try:
        return await payouts.get(session, workspace_id, payout_id)
    except payouts.PayoutNotFound:
        raise Problem("not_found", "This workspace has no such payout batch.") from None


async def _locked(session: AsyncSession, workspace_id: UUID, payout_id: UUID) -> tuple[Payout, Workspace]:
    try:
        return await payouts.lock(session, payout_id, workspace_id)
    except payouts.PayoutNotFound:
        raise Problem("not_found", "This workspace has no such payout batch.") from None


def _cut_off(body: NewPayout, at: datetime) -> datetime:
    if body.cut_off is not None and body.cut_off > at:
        raise Problem("validation_failed", "cut_off: not in the future.")
    return body.cut_off or at


def _out(row: Payout) -> PayoutOut:
    return PayoutOut(
        id=row.id,
        status=PayoutStatus(row.status),
        cut_off=row.cut_off,
        currency=row.currency,
        minimum=str(Money.from_decimal(row.minimum, row.currency)),
        total=str(Money.from_decimal(row.total, row.currency)),
        prepared_by=row.prepared_by,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        reason=row.reason,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


def _line_out(row: PayoutLine, referrer: Referrer | None) -> PayoutLineOut:
    return PayoutLineOut(
        id=row.id,
        referrer_id=row.referrer_id,
        gross=str(Money.from_decimal(row.gross, row.currency)),
        carried=str(Money.from_decimal(row.carried, row.currency)),
        amount=str(row.money),
        status=LineStatus(row.status),
        reference=row.reference,
        failure=row.failure,
        payout_details_changed_at=None if referrer is None else referrer.payout_details_at,
    )


def _candidate_out(one: Candidate) -> PayoutLineOut:
    return PayoutLineOut(
        id=None,
        referrer_id=one.referrer_id,
        gross=str(one.due.gross),
        carried=str(one.due.carried),
        amount=str(one.due.amount),
        commissions=len(one.commissions),
        skipped=one.why_not,
    )
