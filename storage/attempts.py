"""Attempts: the ways to pay one payment, each at one provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from domain.payment import OPEN, PaymentStatus, attempt_reference
from storage import inbox
from storage.models import Attempt, Payment, ProviderAccount, ProviderHealth, Workspace

OPENING = "opening"
"""On record, and the provider is being asked to open it; with an error code, the last try moved nothing."""
LIVE = frozenset({OPENING, *OPEN})
"""Statuses of an attempt that may still bring money in the ordinary way."""
SETTLED = frozenset({"paid", "surplus"})
"""Statuses of an attempt that has brought money; nothing that was seen before changes them."""


@dataclass(frozen=True, slots=True)
class Way:
    """An attempt with its account and the account's health; `attempt` is None before the first one is on record."""

    attempt: Attempt | None
    account: ProviderAccount
    health: ProviderHealth | None


async def with_payment(session: AsyncSession, reference: UUID) -> tuple[Attempt, Payment] | None:
    """The attempt that carries a reference of ours, and its payment."""
    query = select(Attempt, Payment).join(Payment, Payment.id == Attempt.payment_id)
    row = (await session.execute(query.where(Attempt.reference == reference))).first()
    return None if row is None else (row[0], row[1])


@dataclass(frozen=True, slots=True)
class Loaded:
    """A payment as activities begin with it. At least one way, made of the payment's own account; first to last."""

    payment: Payment
    workspace: Workspace
    ways: list[Way]


async def load(session: AsyncSession, payment_id: UUID) -> Loaded | None:
    """A payment, its workspace and its ways in one query."""
    query = (
        select(Payment, Workspace, Attempt, ProviderAccount, ProviderHealth)
        .join(Workspace, Workspace.id == Payment.workspace_id)
        .outerjoin(Attempt, Attempt.payment_id == Payment.id)
        .join(
            ProviderAccount,
            ProviderAccount.id == func.coalesce(Attempt.provider_account_id, Payment.provider_account_id),
        )
        .outerjoin(ProviderHealth, ProviderHealth.provider_account_id == ProviderAccount.id)
        .where(Payment.id == payment_id)
        .order_by(Attempt.number)
    )
    rows = (await session.execute(query)).all()
    return Loaded(rows[0][0], rows[0][1], [Way(row[2], row[3], row[4]) for row in rows]) if rows else None


async def record(session: AsyncSession, payment_id: UUID, number: int, values: dict[str, Any]) -> None:
    """Write an attempt: new, or its new state. Raises IntegrityError when another attempt has its session id."""
    statement = insert(Attempt).values(
        payment_id=payment_id, number=number, reference=attempt_reference(payment_id, number), **values
    )
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["payment_id", "number"], set_={**values, "updated_at": func.now()}
        )
    )


async def begin(session: AsyncSession, payment_id: UUID, number: int, values: dict[str, Any]) -> tuple[Attempt, bool]:
    """Put on record that an attempt's provider is being asked to open it; `values` describe one that is new.

    The flag tells that an earlier try began whose end is not on record, so that nobody knows what it did.
    """
    reference = attempt_reference(payment_id, number)
    earlier = await by_reference(session, reference)
    if earlier is None:
        await record(session, payment_id, number, values | {"status": OPENING})
        made = await by_reference(session, reference)
        assert made is not None  # noqa: S101  (written two lines above)
        return made, False
    begun = earlier.status == OPENING and earlier.error_code is None
    unsure = begun or earlier.status == PaymentStatus.UNKNOWN
    if earlier.session_id is None:
        earlier.status, earlier.error_code = OPENING, None
    return earlier, unsure


async def not_opened(session: AsyncSession, attempt_id: int, *, status: str, error_code: str) -> None:
    """How a try ended that opened nothing as far as we know. What was opened all the same stays as it is."""
    await session.execute(
        update(Attempt)
        .where(Attempt.id == attempt_id, Attempt.session_id.is_(None), Attempt.status.in_(LIVE))
        .values(status=status, error_code=error_code[:100], updated_at=func.now())
    )


async def claim(session: AsyncSession, attempt_id: int, *, seen: datetime, at: datetime) -> bool:
    """Note that the provider is asked again now, unless somebody has done so since `seen`. Returns whether it was."""
    statement = update(Attempt).where(Attempt.id == attempt_id, Attempt.updated_at == seen).values(updated_at=at)
    return (await session.execute(statement.returning(Attempt.id))).first() is not None


async def name_session(session: AsyncSession, attempt_id: int, session_id: str) -> None:
    """Keep what the provider calls an attempt that came to nothing, so that its events find it."""
    await session.execute(
        update(Attempt)
        .where(Attempt.id == attempt_id, Attempt.session_id.is_(None))
        .values(session_id=session_id[:255])
    )


async def withdraw(session: AsyncSession, attempt_id: int, *, error_code: str) -> None:
    """Nobody has begun to open this attempt, and nobody will."""
    await session.execute(
        update(Attempt)
        .where(Attempt.id == attempt_id, Attempt.status == PaymentStatus.CREATED.value)
        .values(status=PaymentStatus.FAILED.value, error_code=error_code, updated_at=func.now())
    )


async def set_status(
    session: AsyncSession,
    attempt_id: int,
    *,
    status: str,
    error_code: str | None = None,
) -> bool:
    """How an attempt without money stands. Returns whether that is news. One that has brought money keeps its status.

    A look may have begun before the money came and be recorded after it.
    """
    statement = (
        update(Attempt)
        .where(
            Attempt.id == attempt_id,
            Attempt.status.not_in(SETTLED),
            or_(Attempt.status != status, Attempt.error_code.is_distinct_from(error_code)),
        )
        .values(status=status, error_code=error_code, updated_at=func.now())
    )
    return (await session.execute(statement.returning(Attempt.id))).first() is not None


async def set_settled(
    session: AsyncSession, attempt_id: int, *, status: str, transaction_id: str | None, other_ids: Sequence[str] = ()
) -> None:
    """The attempt brought money: it settled the payment (`paid`), or what it brought is beyond it (`surplus`).

    Events that came before the provider's ids of it were known are taken up now.
    """
    statement = (
        update(Attempt)
        .where(Attempt.id == attempt_id)
        .values(
            status=status,
            error_code=None,
            transaction_id=func.coalesce(transaction_id, Attempt.transaction_id),
            other_ids=[one[:255] for one in dict.fromkeys(other_ids)] or Attempt.other_ids,
            updated_at=func.now(),
        )
        .returning(Attempt.provider_account_id, Attempt.session_id, Attempt.transaction_id, Attempt.other_ids)
    )
    account_id, session_id, known, others = (await session.execute(statement)).one()
    names = [one for one in (session_id, known, *others) if one is not None]
    await inbox.owner_known(session, account_id, names)


async def of_payment(session: AsyncSession, payment_id: UUID) -> Sequence[Attempt]:
    """All attempts, first to last."""
    query = select(Attempt).where(Attempt.payment_id == payment_id).order_by(Attempt.number)
    return (await session.scalars(query)).all()


async def by_reference(session: AsyncSession, reference: UUID) -> Attempt | None:
    """The attempt that carries a reference of ours, as it is now."""
    query = select(Attempt).where(Attempt.reference == reference)
    return await session.scalar(query.execution_options(populate_existing=True))


async def by_provider_ids(
    session: AsyncSession, account: ProviderAccount, column: InstrumentedAttribute[str | None], ids: Sequence[str]
) -> dict[str, tuple[Payment, Attempt]]:
    """The payments and attempts of an account by the provider's own ids, of sessions or of transactions."""
    if not ids:
        return {}
    query = (
        select(column, Payment, Attempt)
        .join(Payment, Payment.id == Attempt.payment_id)
        .where(Attempt.provider_account_id == account.id, column.in_(ids))
    )
    return {found: (payment, attempt) for found, payment, attempt in await session.execute(query) if found is not None}


async def payment_of_event(
    session: AsyncSession,
    account: ProviderAccount,
    *,
    reference: UUID | None,
    session_id: str | None,
    transaction_id: str | None,
    other_ids: Sequence[str] = (),
) -> tuple[Payment | None, Attempt | None, bool]:
    """The payment and the attempt that a provider's event is about, by our reference or by the provider's own ids.

    The flag tells that the reference names a payment which this account may not speak of: then nothing is returned.
    """
    if reference is not None:
        query = (
            select(Payment, Attempt)
            .outerjoin(Attempt, and_(Attempt.payment_id == Payment.id, Attempt.reference == reference))
            .where(
                or_(
                    Payment.id == reference,
                    Payment.id == select(Attempt.payment_id).where(Attempt.reference == reference).scalar_subquery(),
                )
            )
        )
        row = (await session.execute(query)).first()
        if row is None:
            return None, None, False
        payment, attempt = row
        owner = payment.provider_account_id if attempt is None else attempt.provider_account_id
        if payment.workspace_id != account.workspace_id or owner != account.id:
            return None, None, True
        return payment, attempt, False
    named = [one for one in (session_id, transaction_id, *other_ids) if one is not None]
    tests: list[ColumnElement[bool]] = []
    if session_id is not None:
        tests.append(Attempt.session_id == session_id)
    if transaction_id is not None:
        tests.append(Attempt.transaction_id == transaction_id)
    if other_ids:
        tests += [Attempt.session_id.in_(other_ids), Attempt.transaction_id.in_(other_ids)]
    if named:
        tests.append(and_(text("attempts.other_ids <> '{}'"), Attempt.other_ids.overlap(named)))
    for test in tests:  # one index each; the first that is known decides
        found = await session.execute(
            select(Payment, Attempt)
            .join(Payment, Payment.id == Attempt.payment_id)
            .where(Attempt.provider_account_id == account.id, test)
            .limit(1)
        )
        row = found.first()
        if row is not None:
            return row[0], row[1], False
    return None, None, False
