"""Payout batches: preparing, deciding, the file for the bank, reminders."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from domain.money import Money
from domain.payout import (
    OPEN_PAYOUT,
    Decided,
    DecidePayout,
    ExportPayout,
    LineStatus,
    LookAtPayout,
    PayoutProgress,
    PayoutStatus,
    PreparePayout,
    RemindOfPayout,
)
from domain.payout_file import PayeeLine, payout_csv
from storage import audit, outbox, payouts
from storage.models import Payout, PayoutLine, Referrer, Workspace
from storage.sealing import Sealer, SealingError
from storage.session import Database

log = structlog.get_logger()

WAITS_FOR = {PayoutStatus.PREPARED: "payout.awaiting_approval", PayoutStatus.APPROVED: "payout.awaiting_results"}
FINAL = frozenset(PayoutStatus) - OPEN_PAYOUT


class PayoutActivities:
    """Each is one transaction, safe to repeat: the rows say what was done."""

    def __init__(self, database: Database, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._database = database
        self._sealer = sealer
        self._now = now

    @activity.defn
    async def prepare_payout(self, command: PreparePayout) -> PayoutProgress:
        """Collect the lines of a batch and reserve their commissions. Safe to repeat."""
        async with self._database.transaction() as session:
            payout, workspace = await _locked(session, command)
            fresh = payout.status == PayoutStatus.REQUESTED
            await payouts.prepare(session, payout, workspace, at=self._now())
            await session.flush()
            progress = await payouts.progress_of(session, payout)
            if fresh:
                tell(session, workspace, payout, progress, f"payout.{progress.status.value}", at=self._now())
        log.info("payout prepared", payout_id=str(payout.id), status=payout.status, lines=progress.lines)
        return progress

    @activity.defn
    async def decide_payout(self, command: DecidePayout) -> Decided:
        """Approve or reject a batch. Safe to repeat: the same decision again finds itself done.

        Before an approval the lines are brought in step with what has happened since they were prepared. If that
        changes anything, the changed lines are kept and nothing is approved: nobody has seen them yet.
        """
        async with self._database.transaction() as session:
            payout, workspace = await _locked(session, command)
            decided = await approve_or_reject(session, payout, workspace, command, at=self._now())
        log.info("payout decided", payout_id=str(payout.id), status=payout.status, changed=decided.changed)
        return decided

    @activity.defn
    async def export_payout(self, command: ExportPayout) -> None:
        """Make and keep the file of an approved batch. The first file stays, whatever is repeated."""
        async with self._database.transaction() as session:
            payout, _ = await _locked(session, command)
            if await payouts.file_of(session, payout.id) is not None:
                return
            lines = [
                self._payee(line.money, line.id, line.referrer_id, referrer)
                for line, referrer in await payouts.lines_of(session, payout.id)
                if line.status != LineStatus.DROPPED
            ]
            content = payout_csv(lines, currency=payout.currency)
            await payouts.keep_file(
                session,
                payout,
                content=self._sealer.seal(content.decode()),
                sha256=hashlib.sha256(content).digest(),
                at=self._now(),
            )

    @activity.defn
    async def look_at_payout(self, command: LookAtPayout) -> PayoutProgress:
        """Read how a batch stands."""
        async with self._database.transaction() as session:
            payout, _ = await _locked(session, command)
            return await payouts.progress_of(session, payout)

    @activity.defn
    async def remind_of_payout(self, command: RemindOfPayout) -> PayoutProgress:
        """Tell the order service that a batch waits for people, if it still does. Safe to repeat."""
        async with self._database.transaction() as session:
            payout, workspace = await _locked(session, command)
            progress = await payouts.progress_of(session, payout)
            notice = WAITS_FOR.get(progress.status)
            nobody = workspace.order_webhook_url is None  # then nothing on record would tell a repeat from the first
            known = notice is None or await outbox.exists(session, payout.id, notice, command.number)
            if notice is not None and not known and not nobody:
                tell(session, workspace, payout, progress, notice, at=self._now(), number=command.number)
                audit.record(
                    session,
                    workspace.id,
                    actor="workflow",
                    action="payout.reminded",
                    subject=("payout", payout.id),
                    details={"number": command.number, "waits_for": notice.removeprefix("payout.awaiting_")},
                )
            return progress

    def _payee(self, amount: Money, line_id: UUID, referrer_id: str, referrer: Referrer | None) -> PayeeLine:
        identity: dict[str, str] = {}
        details: dict[str, str] = {}
        try:
            if referrer is not None and referrer.identity is not None:
                identity = self._sealer.open_mapping(referrer.identity)
            if referrer is not None and referrer.payout_details is not None:
                details = self._sealer.open_mapping(referrer.payout_details)
        except SealingError:
            raise ApplicationError("payout details cannot be opened", "sealing", None, type="SealingError") from None
        return PayeeLine(line_id, referrer_id, identity.get("name", ""), amount, details)


async def approve_or_reject(
    session: AsyncSession, payout: Payout, workspace: Workspace, command: DecidePayout, *, at: datetime
) -> Decided:
    """Decide on a locked batch, with everything that follows. What cannot be is in the answer."""
    wanted, status = PayoutStatus.APPROVED if command.approve else PayoutStatus.REJECTED, PayoutStatus(payout.status)
    if status is not PayoutStatus.PREPARED:
        done = status is wanted or (command.approve and status is PayoutStatus.CLOSED)
        progress = await payouts.progress_of(session, payout)
        same = done and payout.decided_by == command.actor
        return Decided(progress, refused=None if same else "payout_is_final")
    if command.approve and workspace.payout_approval == "another_key" and payout.prepared_by == command.actor:
        return Decided(await payouts.progress_of(session, payout), refused="approval_by_preparer")
    changed = False
    if not command.approve:
        await payouts.reject(session, payout, actor=command.actor, at=at)
    else:
        changed = await payouts.refresh(session, payout, workspace, at=at)
        if not changed:
            await payouts.approve(session, payout, actor=command.actor, at=at)
    await session.flush()
    progress = await payouts.progress_of(session, payout)
    if progress.status is not PayoutStatus.PREPARED:
        tell(session, workspace, payout, progress, f"payout.{progress.status.value}", at=at)
    return Decided(progress, changed=changed)


def tell(
    session: AsyncSession,
    workspace: Workspace,
    payout: Payout,
    progress: PayoutProgress,
    notice_type: str,
    *,
    at: datetime,
    number: int = 1,
) -> None:
    """Queue a notification about a batch."""
    outbox.add_lone_notice(
        session,
        workspace,
        payout.id,
        notice_type=notice_type,
        number=number,
        at=at,
        data=notice_data(payout, progress),
    )


def tell_returned(
    session: AsyncSession,
    workspace: Workspace,
    payout: Payout,
    line: PayoutLine,
    progress: PayoutProgress,
    *,
    at: datetime,
) -> None:
    """Queue a notification about a line that the bank brought back: whoever was told that it is paid hears of it."""
    outbox.add_lone_notice(
        session,
        workspace,
        line.id,
        notice_type="payout.line_returned",
        at=at,
        data=notice_data(payout, progress) | {"line_id": str(line.id), "amount": str(line.money)},
    )


def notice_data(payout: Payout, progress: PayoutProgress) -> dict[str, object]:
    """What the order service is told about a batch. No personal data."""
    return {
        "payout_id": str(payout.id),
        "status": progress.status.value,
        "lines": progress.lines,
        "open_lines": progress.open_lines,
        "total": str(Money.from_decimal(payout.total, payout.currency)),
        "currency": payout.currency,
        "cut_off": payout.cut_off.isoformat(),
    }


async def _locked(
    session: AsyncSession, command: PreparePayout | DecidePayout | ExportPayout | LookAtPayout | RemindOfPayout
) -> tuple[Payout, Workspace]:
    try:
        return await payouts.lock(session, command.payout_id)
    except payouts.PayoutNotFound:
        raise ApplicationError("no such payout", "payout_not_found", None, type="PayoutNotFound") from None
