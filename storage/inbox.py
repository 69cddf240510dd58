"""The webhook inbox: insert once, dispatch until taken, mark handled only after success."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.money import Money
from storage import audit
from storage.models import Attempt, Payment, ProviderAccount, WebhookEvent, WebhookRejection


@dataclass(frozen=True, slots=True)
class Stored:
    """An inbox row after intake. `new` is false for a repeated delivery."""

    inbox_id: int
    new: bool
    status: str


async def store(session: AsyncSession, values: dict[str, Any]) -> Stored:
    """Insert a verified event, or count one more delivery of it."""
    statement = _stored_once().values(values).returning(WebhookEvent.id, _INSERTED, WebhookEvent.status)
    inbox_id, new, status = (await session.execute(statement)).one()
    return Stored(inbox_id, new, status)


async def store_many(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> set[str]:
    """The same for many events of one account, each with a name of its own. Returns the names of the new ones."""
    if not rows:
        return set()
    statement = _stored_once().returning(WebhookEvent.event_id, _INSERTED)
    result = await (await session.connection()).execute(statement, rows)
    return {event_id for event_id, new in result if new}


async def claims_of(session: AsyncSession, account_id: UUID, names: Sequence[str]) -> dict[str, Money]:
    """How much events on record speak of, by their names; only those that say it."""
    if not names:
        return {}
    query = select(WebhookEvent.event_id, WebhookEvent.claimed_amount, WebhookEvent.claimed_currency).where(
        WebhookEvent.provider_account_id == account_id,
        WebhookEvent.event_id.in_(names),
    )
    return {
        name: Money.from_decimal(amount, currency)
        for name, amount, currency in await session.execute(query)
        if amount is not None and currency is not None
    }


_INSERTED: ColumnElement[bool] = literal_column("xmax = 0")
"""xmax is zero only on a row that the statement itself has inserted."""


def _stored_once() -> Insert:
    return insert(WebhookEvent).on_conflict_do_update(
        index_elements=["provider_account_id", "event_id"],
        set_={"deliveries": WebhookEvent.deliveries + 1},
    )


async def capture_is_being_looked_at(session: AsyncSession, payment: Payment, reference: UUID | None) -> bool:
    """Whether an earlier event of the same attempt's capture is on its way to the workflow at this moment.

    Providers tell of one capture by several events within milliseconds. One look answers them all; should that look
    have come too early, the dispatcher hands over the later event when its turn comes. The advisory lock lets events
    of one payment see each other; it ends with the transaction.
    """
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(str(payment.id), 0))))
    query = select(WebhookEvent.id).where(
        WebhookEvent.payment_id == payment.id,
        WebhookEvent.reference.is_not_distinct_from(reference),
        WebhookEvent.kind == "captured",
        WebhookEvent.status.in_(["received", "dispatched"]),
        WebhookEvent.received_at > func.now() - timedelta(seconds=2),
    )
    return await session.scalar(query.limit(1)) is not None


@dataclass(frozen=True, slots=True)
class Named:
    """What one event says it is about: our reference of the attempt, and the provider's transaction."""

    inbox_id: int
    reference: UUID | None
    transaction_id: str | None


async def named_by(session: AsyncSession, inbox_ids: Sequence[int]) -> list[Named]:
    """What some events speak of, in order of arrival."""
    if not inbox_ids:
        return []
    query = select(WebhookEvent.id, WebhookEvent.reference, WebhookEvent.transaction_id)
    rows = await session.execute(query.where(WebhookEvent.id.in_(inbox_ids)).order_by(WebhookEvent.id))
    return [Named(*row) for row in rows.all()]


async def names_with(session: AsyncSession, inbox_ids: Sequence[int], mark: str) -> list[str]:
    """What stands behind a mark among the names of some events."""
    if not inbox_ids:
        return []
    rows = await session.scalars(select(WebhookEvent.named).where(WebhookEvent.id.in_(inbox_ids)))
    found = [name.removeprefix(mark) for named in rows for name in named if name.startswith(mark)]
    return list(dict.fromkeys(found))


def claimed(event: WebhookEvent) -> Money | None:
    """The money that an event speaks of, where it says how much."""
    if event.claimed_amount is None or event.claimed_currency is None:
        return None
    return Money.from_decimal(event.claimed_amount, event.claimed_currency)


async def captures_claimed(session: AsyncSession, payment_id: UUID, reference: UUID) -> Sequence[WebhookEvent]:
    """The verified events that say money came by an attempt, one of each transaction; where nobody can be asked.

    Of several events about one transaction it is the first that says how much, if any does.
    """
    query = select(WebhookEvent).where(
        WebhookEvent.payment_id == payment_id,
        WebhookEvent.reference == reference,
        WebhookEvent.kind == "captured",
    )
    found: dict[str, WebhookEvent] = {}
    for event in await session.scalars(query.order_by(WebhookEvent.claimed_amount.is_(None), WebhookEvent.id)):
        found.setdefault(event.transaction_id or event.event_id, event)
    return list(found.values())


async def mark_dispatched(session: AsyncSession, inbox_id: int) -> None:
    """The workflow engine has accepted the signal. A row that was handled meanwhile stays handled.

    One without an outcome is handed over again after 10 minutes, then after doubling waits up to 6 hours.
    """
    again = func.make_interval(0, 0, 0, 0, 0, 10) * func.power(2, func.least(WebhookEvent.attempts, 10))
    await session.execute(
        update(WebhookEvent)
        .where(WebhookEvent.id == inbox_id, WebhookEvent.status.in_(["received", "dispatched"]))
        .values(
            status="dispatched",
            dispatched_at=func.now(),
            attempts=WebhookEvent.attempts + 1,
            last_error=None,
            next_attempt_at=func.now() + func.least(again, func.make_interval(0, 0, 0, 0, 6)),
        )
    )


async def mark_handled(session: AsyncSession, inbox_ids: Sequence[int], *, outcome: str) -> None:
    """The look that these events asked for is done and recorded in this same transaction."""
    if inbox_ids:
        await session.execute(
            update(WebhookEvent)
            .where(WebhookEvent.id.in_(inbox_ids), WebhookEvent.status.in_(["received", "dispatched"]))
            .values(status="handled", handled_at=func.now(), outcome=outcome)
        )


async def mark_failed(session: AsyncSession, inbox_id: int, *, error: str) -> None:
    """The signal could not be given; try again with doubling waits, from 2 seconds to 5 minutes."""
    wait = func.least(
        func.make_interval(0, 0, 0, 0, 0, 0, 2.0) * func.power(2, func.least(WebhookEvent.attempts, 10)),
        func.make_interval(0, 0, 0, 0, 0, 5),
    )
    await session.execute(
        update(WebhookEvent)
        .where(WebhookEvent.id == inbox_id)
        .values(attempts=WebhookEvent.attempts + 1, last_error=error[:300], next_attempt_at=func.now() + wait)
    )


async def owner_known(session: AsyncSession, account_id: UUID, names: Sequence[str]) -> None:
    """What an account's events may call something of ours by became known: those that waited for it are dispatched."""
    if names:
        await session.execute(
            update(WebhookEvent)
            .where(
                WebhookEvent.status == "unmatched",
                WebhookEvent.provider_account_id == account_id,
                WebhookEvent.named.overlap(list(names)),
            )
            .values(status="received", next_attempt_at=func.now())
            .execution_options(synchronize_session=False)
        )


async def leave_unmatched(session: AsyncSession, inbox_id: int, *, outcome: str) -> None:
    """Nobody whom an event may be about is known: look again with doubling waits, from 15 seconds to a day."""
    wait = func.least(
        func.make_interval(0, 0, 0, 0, 0, 0, 15.0) * func.power(2, func.least(WebhookEvent.attempts, 13)),
        func.make_interval(0, 0, 0, 1),
    )
    await session.execute(
        update(WebhookEvent)
        .where(WebhookEvent.id == inbox_id)
        .values(
            status="unmatched",
            outcome=outcome,
            attempts=WebhookEvent.attempts + 1,
            next_attempt_at=func.now() + wait,
            handled_at=func.now(),
        )
    )


async def claim_unmatched(session: AsyncSession, *, lasting: timedelta, lease: timedelta, limit: int) -> Sequence[int]:
    """Unmatched events whose owner is to be looked for again; none that came longer ago than `lasting`."""
    query = (
        select(WebhookEvent.id)
        .where(
            WebhookEvent.status == "unmatched",
            WebhookEvent.next_attempt_at <= func.now(),
            WebhookEvent.received_at > func.now() - lasting,
        )
        .order_by(WebhookEvent.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = (await session.scalars(query)).all()
    if ids:
        await session.execute(
            update(WebhookEvent)
            .where(WebhookEvent.id.in_(ids))
            .values(next_attempt_at=func.now() + lease)
            .execution_options(synchronize_session=False)
        )
    return ids


async def note_shown(session: AsyncSession, payment: Payment, attempt: Attempt, *, kind: str, at: datetime) -> None:
    """Put in line what a look has shown of a payment, as if an event had told of it. Once an attempt and kind."""
    await store(
        session,
        {
            "provider_account_id": attempt.provider_account_id,
            "provider": attempt.provider,
            "event_id": f"shown-at-capture:{kind}:{attempt.reference}",
            "type": f"shown_at_capture.{kind}",
            "kind": kind,
            "payment_id": payment.id,
            "reference": attempt.reference,
            "transaction_id": attempt.transaction_id,
            "signature": "polled",
            "body": b"",
            "status": "received",
            "next_attempt_at": at,
            "received_at": at,
        },
    )


async def get(session: AsyncSession, inbox_id: int) -> WebhookEvent | None:
    """One event."""
    return await session.get(WebhookEvent, inbox_id)


async def park(session: AsyncSession, inbox_ids: Sequence[int], *, error: str) -> None:
    """These events fail for good: they wait visibly for a person, and hold up nothing."""
    if inbox_ids:
        await session.execute(
            update(WebhookEvent)
            .where(WebhookEvent.id.in_(inbox_ids), WebhookEvent.status.in_(["received", "dispatched"]))
            .values(status="parked", outcome="parked", last_error=error[:300], handled_at=func.now())
        )


@dataclass(frozen=True, slots=True)
class Due:
    """An event to hand over, its payment, and the attempt that it speaks of."""

    event: WebhookEvent
    payment: Payment | None
    attempt: Attempt | None


async def claim_due(session: AsyncSession, *, lease: timedelta, limit: int) -> Sequence[Due]:
    """Events that no workflow has taken, or took long ago without an outcome; hidden from others for the lease."""
    query = (
        select(WebhookEvent, Payment, Attempt)
        .outerjoin(Payment, Payment.id == WebhookEvent.payment_id)
        .outerjoin(Attempt, Attempt.reference == WebhookEvent.reference)
        .where(WebhookEvent.status.in_(["received", "dispatched"]), WebhookEvent.next_attempt_at <= func.now())
        .order_by(WebhookEvent.next_attempt_at)
        .limit(limit)
        .with_for_update(of=WebhookEvent, skip_locked=True)
    )
    rows = [Due(*row) for row in (await session.execute(query)).all()]
    if rows:
        await session.execute(
            update(WebhookEvent)
            .where(WebhookEvent.id.in_([due.event.id for due in rows]))
            .values(next_attempt_at=func.now() + lease)
            .execution_options(synchronize_session=False)
        )
    return rows


LEFT = ("unmatched", "parked", "unreadable")
"""Statuses of events that came to nothing: nobody to tell, or a failure for good."""


async def replay(
    session: AsyncSession, *, actor: str, inbox_id: int | None = None, pending: bool = False, left: bool = False
) -> int:
    """Hand events to their workflows once more: one, all that are unanswered, or all that came to nothing.

    Whose they are is looked for again. Returns how many.
    """
    statement = update(WebhookEvent).values(
        status="received", next_attempt_at=func.now(), outcome=None, handled_at=func.now()
    )
    if inbox_id is not None:
        statement = statement.where(WebhookEvent.id == inbox_id)
    if pending or left:
        chosen = (["received", "dispatched"] if pending else []) + (["unmatched", "parked"] if left else [])
        statement = statement.where(WebhookEvent.status.in_(chosen))
    accounts = Counter(await session.scalars(statement.returning(WebhookEvent.provider_account_id)))
    owners = await session.execute(
        select(ProviderAccount.id, ProviderAccount.workspace_id).where(ProviderAccount.id.in_(accounts))
    )
    events = Counter[UUID]()
    for account_id, workspace_id in owners:
        events[workspace_id] += accounts[account_id]
    for workspace_id, number in events.items():
        subject = ("workspace", workspace_id) if inbox_id is None else ("webhook_event", inbox_id)
        details = {"events": number}
        audit.record(
            session, workspace_id, actor=actor, action="webhook_events.replayed", subject=subject, details=details
        )
    return accounts.total()


async def count_rejections(session: AsyncSession, counts: Mapping[tuple[str, str, str, date], int]) -> None:
    """Add refused webhooks, by account, provider, reason and day; nothing else about them is kept."""
    rows = [
        {"account": account, "provider": provider, "reason": reason, "day": day, "count": number}
        for (account, provider, reason, day), number in sorted(counts.items())
    ]
    statement = insert(WebhookRejection).values(rows)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["account", "provider", "reason", "day"],
            set_={"count": WebhookRejection.count + statement.excluded.count, "last_at": func.now()},
        )
    )


async def health(session: AsyncSession, account_ids: Sequence[UUID]) -> dict[str, Any]:
    """Counts by status and outcome, repeats, what waits, latencies in ms over the last day, refusals by reason."""
    of_account = WebhookEvent.provider_account_id.in_(account_ids)
    counted = await session.execute(
        select(WebhookEvent.status, WebhookEvent.outcome, func.count(), func.sum(WebhookEvent.deliveries - 1))
        .where(of_account)
        .group_by(WebhookEvent.status, WebhookEvent.outcome)
    )
    counts, outcomes, repeated = Counter[str](), Counter[str](), 0
    for status, outcome, number, again in counted:
        counts[status] += number
        repeated += int(again)
        if outcome is not None:
            outcomes[outcome] += number
    waiting = await session.scalar(
        select(func.min(WebhookEvent.received_at)).where(
            of_account, WebhookEvent.status.in_(["received", "dispatched"])
        )
    )
    seconds = func.extract("epoch", WebhookEvent.handled_at - WebhookEvent.received_at)
    worked_on = WebhookEvent.handled_at > WebhookEvent.received_at  # the rest was decided on arrival: it took no time
    latency = await session.execute(
        select(
            func.percentile_cont(0.5).within_group(seconds).filter(worked_on),
            func.percentile_cont(0.95).within_group(seconds).filter(worked_on),
            func.max(WebhookEvent.received_at),
        ).where(of_account, WebhookEvent.status == "handled", WebhookEvent.handled_at > func.now() - timedelta(days=1))
    )
    p50, p95, last = latency.one()
    refused = await session.execute(
        select(WebhookRejection.reason, func.sum(WebhookRejection.count))
        .where(WebhookRejection.account.in_([str(account_id) for account_id in account_ids]))
        .group_by(WebhookRejection.reason)
    )
    return {
        "counts": dict(counts),
        "outcomes": dict(outcomes),
        "repeated": repeated,
        "oldest_waiting_since": waiting,
        "last_handled_received_at": last,
        "handled_within_ms": {"p50": _milliseconds(p50), "p95": _milliseconds(p95)},
        "refused": {reason: int(number) for reason, number in refused.all()},
    }


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(float(seconds) * 1000)


async def waiting(
    session: AsyncSession, account_ids: Sequence[UUID], *, failed_only: bool = False, left: bool = False
) -> Sequence[WebhookEvent]:
    """Events without an outcome, oldest first, at most two hundred; only those whose hand-over failed, if asked.

    With `left` those that came to nothing instead.
    """
    query = select(WebhookEvent).where(
        WebhookEvent.provider_account_id.in_(account_ids),
        WebhookEvent.status.in_(LEFT if left else ["received", "dispatched"]),
    )
    if failed_only:
        query = query.where(WebhookEvent.last_error.is_not(None))
    return (await session.scalars(query.order_by(WebhookEvent.id).limit(200))).all()


async def events_of(session: AsyncSession, payment_id: UUID) -> Sequence[WebhookEvent]:
    """The events about one payment, in order of arrival."""
    query = select(WebhookEvent).where(WebhookEvent.payment_id == payment_id).order_by(WebhookEvent.id)
    return (await session.scalars(query)).all()
