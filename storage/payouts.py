"""Payout batches: what is payable, lines and their results, and the books that follow. One transaction a step.

Locks are taken in one order, batch, line, commissions by id, and audit entries come last, so that refunds and disputes
that run at the same time are waited for and never deadlock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid5

from sqlalchemy import exists, func, literal, select, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.commission import CommissionState, CommissionStatus
from domain.ledger import (
    owed_to,
    payout_bounced_entries,
    payout_paid_entries,
    payout_returned_entries,
    payout_sent_entries,
)
from domain.money import Money, MoneyError
from domain.payout import OPEN_PAYOUT, Due, ItemStatus, LineStatus, PayoutProgress, PayoutStatus, due, is_paid_out
from storage import audit, ledger
from storage.commissions import state_at
from storage.models import (
    Commission,
    LedgerEntry,
    Payout,
    PayoutFile,
    PayoutItem,
    PayoutLine,
    Referrer,
    Workspace,
)
from storage.paging import newest_first

OUT = (ItemStatus.SENT.value, ItemStatus.PAID.value)
WITH_RESULT = frozenset({LineStatus.PAID, LineStatus.FAILED, LineStatus.RETURNED})


class PayoutNotFound(Exception):
    """No such batch, or no such line of it, in this workspace."""


class PayoutOpen(Exception):
    """The workspace has an unfinished batch; its id is the argument."""


class LineNotSent(Exception):
    """The batch is not approved, or the line was dropped."""


class LineHasResult(Exception):
    """The line has another result already."""


class LineNotPaid(Exception):
    """Only what was paid comes back."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one referrer would be paid, and by which commissions. `why_not` is a stable code where it would not."""

    referrer_id: str
    due: Due
    commissions: tuple[tuple[UUID, Money], ...]
    why_not: Literal["below_minimum", "books_disagree"] | None = None


def minimum_of(workspace: Workspace) -> Money:
    """The smallest balance that is paid; digits that the currency does not have are cut off."""
    digits = int(Money.zero(workspace.currency).to_decimal().as_tuple().exponent)
    cut = workspace.payout_minimum.quantize(Decimal(1).scaleb(digits), rounding="ROUND_DOWN")
    return Money.from_decimal(cut, workspace.currency)


async def collect(
    session: AsyncSession, workspace: Workspace, *, cut_off: datetime, minimum: Money, lock: bool = False
) -> list[Candidate]:
    """What each referrer with something payable would get at the cut-off. `lock` keeps the commissions as they are."""
    vested = (
        Commission.workspace_id == workspace.id,
        Commission.currency == workspace.currency,
        Commission.status == CommissionStatus.ACCRUED.value,
        Commission.vests_at <= cut_off,
    )
    if lock:
        await session.execute(select(Commission.id).where(*vested).order_by(Commission.id).with_for_update())
    # a statement of its own, after the locks: it sees what those who held them have written
    query = select(Commission).where(*vested, state_at(cut_off) == CommissionState.PAYABLE.value)
    found: dict[str, list[Commission]] = defaultdict(list)
    for row in await session.scalars(query.order_by(Commission.id)):
        found[row.referrer_id].append(row)
    debts = await _books_of(session, workspace, found)
    return [_candidate(name, found[name], debts[name], minimum) for name in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Books:
    balance: Money
    unpaid: Money
    underpaid: Money

    def due(self, payable: Money) -> Due:
        """What is to be paid of these remainders. Raises MoneyError when the books disagree."""
        return due(payable=payable, balance=self.balance, unpaid=self.unpaid, underpaid=self.underpaid)


def _candidate(referrer_id: str, rows: Sequence[Commission], books: _Books, minimum: Money) -> Candidate:
    parts = tuple((row.id, Money.from_decimal(row.amount - row.clawed_back, row.currency)) for row in rows)
    payable = sum((part for _, part in parts), Money.zero(minimum.currency))
    try:
        wanted = books.due(payable)
    except MoneyError:
        return Candidate(referrer_id, Due(payable, Money.zero(minimum.currency)), parts, "books_disagree")
    return Candidate(referrer_id, wanted, parts, None if is_paid_out(wanted, minimum) else "below_minimum")


async def _books_of(session: AsyncSession, workspace: Workspace, names: Iterable[str]) -> dict[str, _Books]:
    """The books of each referrer, of one moment.

    They are what the ledger owes, what is left of all commissions that were not sent out, and by how much those that
    were sent are worth more by now.
    """
    wanted, currency = list(names), workspace.currency
    sent = exists().where(
        PayoutItem.commission_id == Commission.id,
        PayoutItem.status != ItemStatus.RELEASED.value,  # what the index is of
        PayoutItem.status.in_(OUT),
    )
    table = (
        select(Commission.referrer_id.label("name"), (Commission.amount - Commission.clawed_back).label("left"))
        .where(
            Commission.workspace_id == workspace.id,
            Commission.currency == currency,
            Commission.referrer_id.in_(wanted),
            Commission.status != CommissionStatus.PAID.value,
            ~sent,
        )
        .subquery()
    )
    accounts = {owed_to(name): name for name in wanted}
    books = (
        select(LedgerEntry.account.label("name"), LedgerEntry.amount.label("left"))
        .where(
            LedgerEntry.workspace_id == workspace.id,
            LedgerEntry.currency == currency,
            LedgerEntry.account.in_(accounts),
        )
        .subquery()
    )
    worth = Commission.amount - Commission.clawed_back
    better = (
        select(Commission.referrer_id.label("name"), func.greatest(worth - PayoutItem.amount, 0).label("left"))
        .join(PayoutItem, PayoutItem.commission_id == Commission.id)
        .where(
            Commission.workspace_id == workspace.id,
            Commission.currency == currency,
            Commission.referrer_id.in_(wanted),
            PayoutItem.status != ItemStatus.RELEASED.value,  # what the index is of
            PayoutItem.status.in_(OUT),
        )
        .subquery()
    )
    query = union_all(
        *(
            select(literal(source), one.c.name, func.sum(one.c.left)).group_by(one.c.name)
            for source, one in (("table", table), ("ledger", books), ("better", better))
        )
    )
    zero = Money.zero(currency)
    unpaid, balance, underpaid = (dict.fromkeys(wanted, zero) for _ in range(3))
    for source, name, amount in (await session.execute(query)).all():
        money = Money.from_decimal(amount, currency)
        if source == "table":
            unpaid[name] = money
        elif source == "better":
            underpaid[name] = money
        else:
            balance[accounts[name]] = -money
    return {name: _Books(balance[name], unpaid[name], underpaid[name]) for name in wanted}


async def request(session: AsyncSession, workspace: Workspace, values: dict[str, Any], *, actor: str) -> Payout:
    """Put a batch on record, to be prepared by its workflow. Raises PayoutOpen while another one is unfinished."""
    statement = insert(Payout).values(
        workspace_id=workspace.id,
        currency=workspace.currency,
        minimum=minimum_of(workspace).to_decimal(),
        prepared_by=actor,
        **values,
    )
    made: Payout | None = await session.scalar(statement.on_conflict_do_nothing().returning(Payout))
    if made is None:
        raise PayoutOpen(await open_one(session, workspace.id))
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="payout.requested",
        subject=("payout", made.id),
        details={"cut_off": made.cut_off.isoformat()},
    )
    return made


async def open_one(session: AsyncSession, workspace_id: UUID) -> UUID | None:
    """The workspace's unfinished batch."""
    query = select(Payout.id).where(
        Payout.workspace_id == workspace_id, Payout.status.in_([status.value for status in OPEN_PAYOUT])
    )
    return await session.scalar(query)


async def prepare(session: AsyncSession, payout: Payout, workspace: Workspace, *, at: datetime) -> None:
    """Make the lines of a locked batch and reserve their commissions. A repeat changes nothing."""
    if payout.status != PayoutStatus.REQUESTED:
        return
    minimum = Money.from_decimal(payout.minimum, payout.currency)
    candidates = await collect(session, workspace, cut_off=payout.cut_off, minimum=minimum, lock=True)
    chosen = [one for one in candidates if one.why_not is None]
    total = sum((one.due.amount for one in chosen), Money.zero(payout.currency))
    lines = [
        PayoutLine(
            id=uuid5(payout.id, f"line:{one.referrer_id}"),
            payout_id=payout.id,
            workspace_id=payout.workspace_id,
            referrer_id=one.referrer_id,
            gross=one.due.gross.to_decimal(),
            carried=one.due.carried.to_decimal(),
            amount=one.due.amount.to_decimal(),
            currency=payout.currency,
        )
        for one in chosen
    ]
    session.add_all(lines)
    await session.flush()
    session.add_all(
        PayoutItem(commission_id=commission_id, line_id=line.id, amount=left.to_decimal())
        for line, one in zip(lines, chosen, strict=True)
        for commission_id, left in one.commissions
    )
    payout.status = (PayoutStatus.PREPARED if lines else PayoutStatus.EMPTY).value
    payout.total, payout.updated_at = total.to_decimal(), at
    if not lines:
        payout.closed_at = at
    left_out = {
        reason: sum(one.why_not == reason for one in candidates) for reason in ("below_minimum", "books_disagree")
    }
    audit.record(
        session,
        payout.workspace_id,
        actor="workflow",
        action=f"payout.{payout.status}",
        subject=("payout", payout.id),
        details={"lines": len(lines), "total": str(total), "currency": payout.currency}
        | {name: number for name, number in left_out.items() if number},
    )


async def lock(session: AsyncSession, payout_id: UUID, workspace_id: UUID | None = None) -> tuple[Payout, Workspace]:
    """A batch as it is now, under its row lock, held to the commit, with its workspace. Raises PayoutNotFound."""
    query = (
        select(Payout, Workspace)
        .join(Workspace, Workspace.id == Payout.workspace_id)
        .where(Payout.id == payout_id)
        .with_for_update(of=Payout)
        .execution_options(populate_existing=True)
    )
    if workspace_id is not None:
        query = query.where(Payout.workspace_id == workspace_id)
    row = (await session.execute(query)).first()
    if row is None:
        raise PayoutNotFound(str(payout_id))
    return row[0], row[1]


async def get(session: AsyncSession, workspace_id: UUID, payout_id: UUID) -> Payout:
    """One batch of one workspace. Raises PayoutNotFound."""
    found = await session.scalar(select(Payout).where(Payout.id == payout_id, Payout.workspace_id == workspace_id))
    if found is None:
        raise PayoutNotFound(str(payout_id))
    return found


async def by_key(session: AsyncSession, workspace_id: UUID, key: str) -> Payout | None:
    """The batch that an idempotency key has made."""
    return await session.scalar(
        select(Payout).where(Payout.workspace_id == workspace_id, Payout.idempotency_key == key)
    )


async def unstarted(session: AsyncSession, *, older_than: datetime, limit: int) -> Sequence[Payout]:
    """Batches that were accepted but whose workflow may never have begun."""
    query = select(Payout).where(Payout.status == PayoutStatus.REQUESTED.value, Payout.created_at < older_than)
    return (await session.scalars(query.order_by(Payout.created_at).limit(limit))).all()


async def page(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    status: str | None = None,
) -> Sequence[Payout]:
    """Newest first."""
    query = select(Payout).where(Payout.workspace_id == workspace_id)
    if status is not None:
        query = query.where(Payout.status == status)
    query = newest_first(query, Payout, limit=limit, before=before)
    return (await session.scalars(query)).all()


async def lines_of(session: AsyncSession, payout_id: UUID) -> Sequence[tuple[PayoutLine, Referrer | None]]:
    """All lines of a batch with their referrers, by referrer."""
    query = (
        select(PayoutLine, Referrer)
        .outerjoin(
            Referrer,
            (Referrer.workspace_id == PayoutLine.workspace_id) & (Referrer.id == PayoutLine.referrer_id),
        )
        .where(PayoutLine.payout_id == payout_id)
        .order_by(PayoutLine.referrer_id)
    )
    return [(line, referrer) for line, referrer in (await session.execute(query)).all()]


async def progress_of(session: AsyncSession, payout: Payout) -> PayoutProgress:
    """How a batch stands."""
    kept = PayoutLine.status != LineStatus.DROPPED.value
    finished = PayoutLine.status.in_([status.value for status in WITH_RESULT])
    query = select(func.count().filter(kept), func.count().filter(kept, ~finished)).where(
        PayoutLine.payout_id == payout.id
    )
    lines, open_lines = (await session.execute(query)).one()
    return PayoutProgress(
        payout.id,
        PayoutStatus(payout.status),
        lines,
        open_lines,
        Money.from_decimal(payout.total, payout.currency).minor,
        payout.currency,
    )


async def refresh(session: AsyncSession, payout: Payout, workspace: Workspace, *, at: datetime) -> bool:
    """Bring the lines of a locked, prepared batch in step with what refunds, disputes and reviews have done since.

    What is held now leaves the batch, what was clawed back is no longer paid, debts are netted anew; a line that is not
    worth paying any more is dropped. Nothing is added. Returns whether anything changed.
    """
    lines = {
        line.id: line
        for line in await session.scalars(
            select(PayoutLine)
            .where(PayoutLine.payout_id == payout.id, PayoutLine.status == LineStatus.PREPARED.value)
            .order_by(PayoutLine.id)
            .with_for_update()
        )
    }
    reserved = (PayoutItem.line_id.in_(lines), PayoutItem.status == ItemStatus.RESERVED.value)
    await lock_commissions(session, payout)
    query = (
        select(PayoutItem, Commission, state_at(payout.cut_off, whatever_batch=True))
        .join(Commission, Commission.id == PayoutItem.commission_id)
        .where(*reserved)
        .execution_options(populate_existing=True)
    )
    kept: dict[UUID, list[Money]] = defaultdict(list)
    for item, commission, state in (await session.execute(query)).all():
        left = commission.amount - commission.clawed_back
        if state != CommissionState.PAYABLE.value or left <= 0:
            item.status = ItemStatus.RELEASED.value
        elif item.line_id is not None:
            item.amount = left
            kept[item.line_id].append(Money.from_decimal(left, payout.currency))
    books = await _books_of(session, workspace, [line.referrer_id for line in lines.values()])
    changed = False
    for line in lines.values():
        changed |= await _redo(session, payout, line, kept[line.id], books[line.referrer_id])
    if changed:
        await _retotal(session, payout, at=at)
    return changed


async def _redo(session: AsyncSession, payout: Payout, line: PayoutLine, parts: Sequence[Money], books: _Books) -> bool:
    minimum = Money.from_decimal(payout.minimum, payout.currency)
    payable = sum(parts, Money.zero(payout.currency))
    try:
        wanted = books.due(payable)
    except MoneyError:
        wanted = Due(Money.zero(payout.currency), Money.zero(payout.currency))  # the books disagree: nothing is paid
    if not is_paid_out(wanted, minimum):
        line.status = LineStatus.DROPPED.value
        await _move_items(session, [line.id], ItemStatus.RELEASED)
        return True
    before = (line.gross, line.carried)
    line.gross, line.carried = wanted.gross.to_decimal(), wanted.carried.to_decimal()
    line.amount = wanted.amount.to_decimal()
    return before != (line.gross, line.carried)


async def _retotal(session: AsyncSession, payout: Payout, *, at: datetime) -> None:
    await session.flush()
    kept = (PayoutLine.payout_id == payout.id, PayoutLine.status != LineStatus.DROPPED.value)
    query = select(func.coalesce(func.sum(PayoutLine.amount), 0), func.count()).where(*kept)
    total, number = (await session.execute(query)).one()
    payout.total, payout.updated_at = total, at
    if not number:
        payout.status, payout.closed_at = PayoutStatus.EMPTY.value, at
    audit.record(
        session,
        payout.workspace_id,
        actor="workflow",
        action="payout.changed",
        subject=("payout", payout.id),
        details={"lines": number, "total": str(Money.from_decimal(total, payout.currency))},
    )


async def lock_commissions(session: AsyncSession, payout: Payout) -> None:
    """Keep the commissions of a locked batch as they are, to the commit."""
    inside = (
        select(PayoutItem.commission_id)
        .join(PayoutLine, PayoutLine.id == PayoutItem.line_id)
        .where(PayoutLine.payout_id == payout.id, PayoutItem.status != ItemStatus.RELEASED.value)
    )
    await session.execute(
        select(Commission.id).where(Commission.id.in_(inside)).order_by(Commission.id).with_for_update()
    )


async def approve(session: AsyncSession, payout: Payout, *, actor: str, at: datetime) -> None:
    """Send a locked batch on its way, after `refresh` has found nothing changed: what we owe is in transit."""
    lines = (
        await session.scalars(
            select(PayoutLine).where(PayoutLine.payout_id == payout.id, PayoutLine.status == LineStatus.PREPARED.value)
        )
    ).all()
    for line in lines:
        line.status = LineStatus.SENT.value
        _book(
            session,
            line,
            "sent",
            payout_sent_entries(line.money, referrer=line.referrer_id, payout_id=str(payout.id)),
        )
    await _move_items(session, [line.id for line in lines], ItemStatus.SENT)
    payout.status, payout.updated_at = PayoutStatus.APPROVED.value, at
    payout.decided_by, payout.decided_at = actor, at
    audit.record(
        session,
        payout.workspace_id,
        actor=actor,
        action="payout.approved",
        subject=("payout", payout.id),
        details={"lines": len(lines), "total": str(Money.from_decimal(payout.total, payout.currency))},
    )


async def reject(session: AsyncSession, payout: Payout, *, actor: str, at: datetime) -> None:
    """Give up a locked batch that is not approved: its commissions are payable again. Its reason is on record."""
    lines = (
        await session.scalars(
            select(PayoutLine).where(PayoutLine.payout_id == payout.id, PayoutLine.status == LineStatus.PREPARED.value)
        )
    ).all()
    for line in lines:
        line.status = LineStatus.DROPPED.value
    await _move_items(session, [line.id for line in lines], ItemStatus.RELEASED)
    payout.status, payout.updated_at, payout.closed_at = PayoutStatus.REJECTED.value, at, at
    payout.decided_by, payout.decided_at = actor, at
    audit.record(
        session,
        payout.workspace_id,
        actor=actor,
        action="payout.rejected",
        subject=("payout", payout.id),
        details={"reason": payout.reason},
    )


async def note_reason(session: AsyncSession, workspace_id: UUID, payout_id: UUID, reason: str) -> None:
    """Keep why a batch is about to be given up. People's words stay in the database, not in the workflow's history."""
    payout, _ = await lock(session, payout_id, workspace_id)
    if payout.status == PayoutStatus.PREPARED:
        payout.reason = reason


async def of_line(session: AsyncSession, workspace_id: UUID, line_id: UUID) -> Payout:
    """The batch that a line is of. Raises PayoutNotFound."""
    query = (
        select(Payout)
        .join(PayoutLine, PayoutLine.payout_id == Payout.id)
        .where(PayoutLine.id == line_id, Payout.workspace_id == workspace_id)
    )
    found = await session.scalar(query)
    if found is None:
        raise PayoutNotFound(str(line_id))
    return found


async def has_result(
    session: AsyncSession, payout: Payout, line_id: UUID, *, result: LineStatus, reference: str | None
) -> bool:
    """Whether a line of a locked batch has, or had before it came back, exactly this result already."""
    query = select(PayoutLine).where(PayoutLine.id == line_id, PayoutLine.payout_id == payout.id)
    line = await session.scalar(query)
    return line is not None and _has(line, result, reference)


def _has(line: PayoutLine, result: LineStatus, reference: str | None) -> bool:
    if result is LineStatus.PAID:
        return line.status in (LineStatus.PAID, LineStatus.RETURNED) and line.reference == reference
    return line.status == result and line.failure == reference


async def record_result(
    session: AsyncSession,
    payout: Payout,
    line_id: UUID,
    *,
    result: LineStatus,
    reference: str | None,
    actor: str,
    at: datetime,
) -> PayoutLine:
    """Book what became of one line of a locked batch; the last one closes it. A repeat changes nothing.

    `reference` is the bank's, or why it failed or came back. Paid: the money has left us, and its commissions are paid
    for good. Failed: we owe it again, and the commissions are payable by the next batch. Returned: the same, of a line
    that was booked as paid, also long after its batch was closed. Raises PayoutNotFound, LineNotSent, LineHasResult,
    LineNotPaid.
    """
    query = select(PayoutLine).where(PayoutLine.id == line_id, PayoutLine.payout_id == payout.id)
    line = await session.scalar(query.with_for_update())
    if line is None:
        raise PayoutNotFound(str(line_id))
    if _has(line, result, reference):
        return line
    _must_be_possible(line, result)
    book = {LineStatus.PAID: _paid, LineStatus.FAILED: _failed, LineStatus.RETURNED: _returned}[result]
    await book(session, payout, line, reference, at)
    line.status, line.finished_at = result.value, at
    audit.record(
        session,
        payout.workspace_id,
        actor=actor,
        action=f"payout.line_{result.value}",
        subject=("payout", payout.id),
        details={"line_id": str(line.id), "amount": str(line.money), "reference": reference},
    )
    if payout.status == PayoutStatus.APPROVED:
        await _close_when_done(session, payout, actor=actor, at=at)
    return line


def _must_be_possible(line: PayoutLine, result: LineStatus) -> None:
    if result is LineStatus.RETURNED:
        if line.status == LineStatus.RETURNED:
            raise LineHasResult(line.status)
        if line.status != LineStatus.PAID:
            raise LineNotPaid(line.status)
        return
    if LineStatus(line.status) in WITH_RESULT:
        raise LineHasResult(line.status)
    if line.status != LineStatus.SENT:
        raise LineNotSent(line.status)


async def _paid(session: AsyncSession, payout: Payout, line: PayoutLine, reference: str | None, at: datetime) -> None:
    line.reference = reference
    for commission in await _lock_commissions_of(session, line, ItemStatus.SENT):
        commission.status, commission.paid_at = CommissionStatus.PAID.value, at
        commission.payout_reference = reference or str(line.id)
    await _move_items(session, [line.id], ItemStatus.PAID)
    _book(session, line, "paid", payout_paid_entries(line.money, payout_id=str(payout.id)))


async def _returned(session: AsyncSession, payout: Payout, line: PayoutLine, reason: str | None, at: datetime) -> None:
    line.failure = reason
    payout.updated_at = at
    for commission in await _lock_commissions_of(session, line, ItemStatus.PAID):
        gone = commission.clawed_back == commission.amount
        commission.status = (CommissionStatus.CLAWED_BACK if gone else CommissionStatus.ACCRUED).value
        commission.paid_at = commission.payout_reference = None
    await _move_items(session, [line.id], ItemStatus.RELEASED)
    _book(session, line, "returned", payout_bounced_entries(line.money, referrer=line.referrer_id))


async def _lock_commissions_of(session: AsyncSession, line: PayoutLine, status: ItemStatus) -> Sequence[Commission]:
    inside = select(PayoutItem.commission_id).where(PayoutItem.line_id == line.id, PayoutItem.status == status.value)
    query = select(Commission).where(Commission.id.in_(inside)).order_by(Commission.id).with_for_update()
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def _failed(session: AsyncSession, payout: Payout, line: PayoutLine, reason: str | None, at: datetime) -> None:
    line.failure = reason
    payout.updated_at = at
    await _move_items(session, [line.id], ItemStatus.RELEASED)
    _book(
        session,
        line,
        "returned",
        payout_returned_entries(line.money, referrer=line.referrer_id, payout_id=str(payout.id)),
    )


async def _close_when_done(session: AsyncSession, payout: Payout, *, actor: str, at: datetime) -> None:
    await session.flush()
    progress = await progress_of(session, payout)
    if progress.open_lines:
        return
    payout.status, payout.closed_at, payout.updated_at = PayoutStatus.CLOSED.value, at, at
    audit.record(
        session,
        payout.workspace_id,
        actor=actor,
        action="payout.closed",
        subject=("payout", payout.id),
        details={"lines": progress.lines},
    )


async def _move_items(session: AsyncSession, line_ids: Sequence[UUID], status: ItemStatus) -> None:
    """Move what is live in these lines on."""
    await session.flush()
    await session.execute(
        update(PayoutItem)
        .where(PayoutItem.line_id.in_(line_ids), PayoutItem.status != ItemStatus.RELEASED.value)
        .values(status=status.value)
        .execution_options(synchronize_session=False)
    )


def _book(session: AsyncSession, line: PayoutLine, what: str, entries: Iterable[Any]) -> None:
    ledger.book(
        session,
        workspace_id=line.workspace_id,
        payment_id=None,
        movement_id=uuid5(line.id, what),
        kind=f"payout_{what}",
        entries=entries,
    )


async def keep_file(session: AsyncSession, payout: Payout, *, content: bytes, sha256: bytes, at: datetime) -> bool:
    """Keep the sealed file of a batch, once. Returns whether this call kept it."""
    statement = insert(PayoutFile).values(payout_id=payout.id, content=content, sha256=sha256, made_at=at)
    made = await session.scalar(statement.on_conflict_do_nothing().returning(PayoutFile.payout_id))
    if made is not None:
        audit.record(
            session,
            payout.workspace_id,
            actor="workflow",
            action="payout.file_made",
            subject=("payout", payout.id),
            details={"sha256": sha256.hex()},
        )
    return made is not None


async def file_of(session: AsyncSession, payout_id: UUID) -> PayoutFile | None:
    """The sealed file of a batch."""
    return await session.get(PayoutFile, payout_id)
