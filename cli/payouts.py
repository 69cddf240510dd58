"""`commissions pay` for a whole batch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import wiring
from activities.payouts import approve_or_reject
from api.payouts import (
    MAX_FILE_BYTES,
    NewPayout,
    PayoutOut,
    ResultRowOut,
    accept,
    exported,
    record_rows,
    refusal,
    rehearse,
    with_lines,
)
from api.problems import Problem
from cli.context import ACTOR, as_json, facts, fail, table, with_database, workspace_named
from domain.payout import DecidePayout, LineStatus, PayoutStatus, StartPayout
from domain.payout_file import ResultRow, read_results
from engine.client import connect
from engine.payments import EngineUnavailable
from engine.payouts import PayoutEngine
from settings import Settings
from storage import payouts
from storage.models import Payout, Workspace
from storage.rehearsal import Effects, rehearsal
from storage.session import Database

WAIT = timedelta(seconds=20)
FILE_PATIENCE_SECONDS = 15.0
AWAY = "Temporal does not answer; is TEMPORAL_ADDRESS right, and does the worker run?"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do with a batch: in this order, as far as it is said."""

    payout_id: UUID | None
    cut_off: datetime | None
    dry_run: bool
    approve: bool
    reject: str | None
    export: Path | None
    results: Path | None
    paid: UUID | None
    failed: UUID | None
    returned: UUID | None
    reference: str | None

    @property
    def needs_a_batch(self) -> bool:
        """Whether it is about a batch that is there, so that none must be prepared."""
        return any((self.reject, self.export and not self.approve, self.results, *self.lines))

    @property
    def lines(self) -> dict[UUID, LineStatus]:
        """Results of single lines."""
        named = {LineStatus.PAID: self.paid, LineStatus.FAILED: self.failed, LineStatus.RETURNED: self.returned}
        return {line_id: result for result, line_id in named.items() if line_id is not None}


def run_batch(slug: str, wanted: Wanted, *, json_output: bool) -> None:
    """Prepare a batch, or take up the open one, and do what is wanted. Prints the batch; fails with one line."""
    if wanted.export is not None and wanted.export.exists():
        fail(f"{wanted.export} exists; name another file.")

    async def work(database: Database, settings: Settings) -> tuple[PayoutOut, list[ResultRowOut], Effects | None]:
        async with database.transaction() as session:
            workspace = await workspace_named(session, slug)
        try:
            return await _batch(database, settings, workspace, wanted)
        except Problem as problem:
            fail(problem.detail)

    payout, rows, effects = with_database(work)
    if json_output:
        shown = {"payout": payout.model_dump(mode="json"), "rows": [row.model_dump(mode="json") for row in rows]}
        as_json(shown if effects is None else shown | {"would_write": asdict(effects)})
        return
    _print(payout, dry_run=wanted.dry_run)
    if rows:
        table("Results", [_result_row(row) for row in rows])
    if effects is not None:
        table("Would be booked", effects.ledger)
        table("Would be told", [{"notice": notice} for notice in effects.notices])


async def _batch(
    database: Database, settings: Settings, workspace: Workspace, wanted: Wanted
) -> tuple[PayoutOut, list[ResultRowOut], Effects | None]:
    at = datetime.now(UTC)
    body = NewPayout(cut_off=wanted.cut_off)
    payout = await _chosen(database, workspace, wanted)
    if wanted.dry_run:
        return await _dry(database, workspace, payout, body, wanted)
    if payout is None:
        payout_id, _ = await accept(database, workspace, body, at=at, actor=ACTOR, key=None)
        await _prepared(settings, workspace, payout_id)
    else:
        payout_id = payout.id
    if wanted.approve or wanted.reject is not None:
        await _decide(database, settings, workspace, payout_id, wanted)
    if wanted.export is not None:
        _write(wanted.export, await _file(database, settings, workspace, payout_id))
    rows = await _results(database, settings, workspace, payout_id, wanted, at)
    async with database.transaction() as session:
        return await with_lines(session, await payouts.get(session, workspace.id, payout_id)), rows, None


async def _dry(
    database: Database, workspace: Workspace, payout: Payout | None, body: NewPayout, wanted: Wanted
) -> tuple[PayoutOut, list[ResultRowOut], Effects | None]:
    """What would be prepared; or the batch that is there, as what is wanted would leave it. Raises Problem."""
    at = datetime.now(UTC)
    if payout is None:
        async with database.transaction() as session:
            return await rehearse(session, workspace, body, at=at, actor=ACTOR), [], None
    async with rehearsal(database) as (session, effects):
        locked, owner = await payouts.lock(session, payout.id, workspace.id)
        if wanted.approve or wanted.reject is not None:
            decision = DecidePayout(payout.id, ACTOR, approve=wanted.approve)
            problem = refusal(await approve_or_reject(session, locked, owner, decision, at=at), locked)
            if problem is not None:
                raise problem
        rows, asked = [], _rows(wanted)
        if asked:
            rows = await record_rows(session, workspace.id, payout.id, asked, actor=ACTOR, at=at)
        await session.flush()
        out = await with_lines(session, locked)
    return out, rows, effects


async def _chosen(database: Database, workspace: Workspace, wanted: Wanted) -> Payout | None:
    """The batch that is named, else the open one, else for its file the latest. None: one is to be prepared."""
    async with database.transaction() as session:
        if wanted.payout_id is not None:
            try:
                return await payouts.get(session, workspace.id, wanted.payout_id)
            except payouts.PayoutNotFound:
                fail(f"{workspace.slug} has no payout batch {wanted.payout_id}.")
        if wanted.returned is not None:  # of a batch that is closed, as a rule
            try:
                return await payouts.of_line(session, workspace.id, wanted.returned)
            except payouts.PayoutNotFound:
                fail(f"{workspace.slug} has no payout line {wanted.returned}.")
        open_id = await payouts.open_one(session, workspace.id)
        if open_id is not None:
            return await payouts.get(session, workspace.id, open_id)
        if not wanted.needs_a_batch:
            return None
        closed = await payouts.page(session, workspace.id, limit=1, status=PayoutStatus.CLOSED.value)
    if wanted.export is None or not closed:
        fail(f"{workspace.slug} has no open payout batch.")
    return closed[0]


async def _engine(settings: Settings) -> PayoutEngine:
    async with asyncio.timeout(WAIT.total_seconds()):
        client = await connect(wiring.temporal_target(settings))
    return PayoutEngine(client, settings.temporal_task_queue)


async def _prepared(settings: Settings, workspace: Workspace, payout_id: UUID) -> None:
    """Wait for the lines; where Temporal is away the worker prepares the batch later."""
    try:
        await (await _engine(settings)).start(StartPayout(payout_id, workspace.id), wait=WAIT)
    except (EngineUnavailable, TimeoutError, RuntimeError):
        return


async def _decide(
    database: Database, settings: Settings, workspace: Workspace, payout_id: UUID, wanted: Wanted
) -> None:
    if wanted.reject is not None:
        async with database.transaction() as session:
            await payouts.note_reason(session, workspace.id, payout_id, wanted.reject)
    decision = DecidePayout(payout_id, ACTOR, approve=wanted.approve)
    try:
        decided = await (await _engine(settings)).decide(StartPayout(payout_id, workspace.id), decision, wait=WAIT)
    except (EngineUnavailable, TimeoutError, RuntimeError):
        fail(AWAY)
    async with database.transaction() as session:
        payout = await payouts.get(session, workspace.id, payout_id)
    problem = refusal(decided, payout)
    if problem is not None:
        raise problem


async def _file(database: Database, settings: Settings, workspace: Workspace, payout_id: UUID) -> bytes:
    """The file, which is made a moment after the approval."""
    unseal = wiring.sealer(settings).open
    until = asyncio.get_running_loop().time() + FILE_PATIENCE_SECONDS
    while True:
        try:
            async with database.transaction() as session:
                return await exported(session, unseal, workspace.id, payout_id, actor=ACTOR)
        except Problem as problem:
            if problem.code != "payout_file_not_made" or asyncio.get_running_loop().time() > until:
                raise
        await asyncio.sleep(0.2)


def _write(path: Path, content: bytes) -> None:
    """A new file that only its owner reads: it names people and accounts."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
    except FileExistsError:
        fail(f"{path} exists; name another file.")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.")


async def _results(
    database: Database,
    settings: Settings,
    workspace: Workspace,
    payout_id: UUID,
    wanted: Wanted,
    at: datetime,
) -> list[ResultRowOut]:
    rows = _rows(wanted)
    if not rows:
        return []
    async with database.transaction() as session:
        verdicts = await record_rows(session, workspace.id, payout_id, rows, actor=ACTOR, at=at)
        payout = await payouts.get(session, workspace.id, payout_id)
    if wanted.results is None and verdicts[0].problem is not None:
        fail(f"The line's result was not recorded: {verdicts[0].problem}.")
    if payout.status == PayoutStatus.CLOSED:
        await _wake(settings, payout_id)
    return verdicts


def _rows(wanted: Wanted) -> list[ResultRow]:
    rows = _read(wanted.results) if wanted.results is not None else []
    return rows + [ResultRow(0, line_id, result, wanted.reference) for line_id, result in wanted.lines.items()]


async def _wake(settings: Settings, payout_id: UUID) -> None:
    try:
        await (await _engine(settings)).result_recorded(payout_id)
    except (TimeoutError, RuntimeError):
        return  # it looks by itself at its next reminder


def _read(path: Path) -> list[ResultRow]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            fail(f"A file of results has at most {MAX_FILE_BYTES} bytes.")
        return read_results(path.read_bytes())
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}.")


def _print(payout: PayoutOut, *, dry_run: bool) -> None:
    shown = payout.model_dump(exclude={"lines"})
    facts("Would be paid" if dry_run else "Payout", {name: value for name, value in shown.items() if value is not None})
    hidden = {"id", "status", "reference", "failure"} if payout.id is None else {"commissions", "skipped"}
    table("Lines", [_line(line.model_dump(exclude=hidden)) for line in payout.lines or []])


def _line(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in values.items()}


def _result_row(row: ResultRowOut) -> dict[str, Any]:
    return row.model_dump()
