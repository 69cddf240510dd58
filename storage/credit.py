"""Customers' credit and the payments that it comes from; the rules are in `domain.credit`.

A customer's credit is locked by its row before anything of it is read that is to be changed, after the lock of a
payment, the receipt counter's and a subscription's. Entries are inserted at once, by statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain import credit
from domain.credit import FundedInvoice, Part, Source
from domain.ledger import credit_entries
from domain.money import Money
from domain.subscription import InvoiceStatus
from storage import ledger
from storage.models import CreditEntry, CustomerCredit, Invoice, Payment, Subscription

REPEATABLE = frozenset({"taken_back", "restored"})
"""A dispute may take and give back more than once; whatever else has one cause happens once."""
ROUNDING = "rounding"
"""The kind of an invoice's line for what was below the provider's step and was taken off."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose credit it is: a customer of a workspace, in one currency."""

    workspace_id: UUID
    customer_id: str
    currency: str

    @property
    def zero(self) -> Money:
        """Nothing, in its currency."""
        return Money.zero(self.currency)

    def money(self, value: Decimal) -> Money:
        """An amount from a column."""
        return Money.from_decimal(value, self.currency)


def owner_of(row: Subscription | Payment, currency: str) -> Owner:
    """Whose credit a subscription uses, or a subscription's payment is the source of."""
    return Owner(row.workspace_id, row.customer_id or "", currency)


async def balance(session: AsyncSession, owner: Owner) -> Money:
    """What the customer has left over."""
    return owner.money((await session.scalar(select(CustomerCredit.balance).where(*_is_of(owner)))) or Decimal(0))


async def balances(
    session: AsyncSession, workspace_id: UUID, customers: Collection[str]
) -> dict[tuple[str, str], Money]:
    """What these customers have left over, by customer and currency; nothing for those who never had any."""
    query = select(CustomerCredit).where(
        CustomerCredit.workspace_id == workspace_id, CustomerCredit.customer_id.in_(customers)
    )
    return {
        (row.customer_id, row.currency): Money.from_decimal(row.balance, row.currency)
        for row in await session.scalars(query.execution_options(populate_existing=True))
    }


async def lock(session: AsyncSession, owner: Owner) -> Money:
    """The same, held to the commit, also where the customer has never had any."""
    values = {"workspace_id": owner.workspace_id, "customer_id": owner.customer_id, "currency": owner.currency}
    await session.execute(insert(CustomerCredit).values(values).on_conflict_do_nothing())
    found = await session.scalar(select(CustomerCredit.balance).where(*_is_of(owner)).with_for_update())
    return owner.money(found or Decimal(0))


async def sources(
    session: AsyncSession, owner: Owner, also: Collection[UUID] = (), *, held: bool = True
) -> dict[UUID | None, Source]:
    """All sources of a customer's credit, the oldest first, and the payments of `also` with or without credit.

    Locks the credit, unless it is only shown. What no entry speaks of (credit from before they were kept, or written
    by the release before) has no source; credit that the release before has spent is taken off the oldest.
    """
    whole = await (lock if held else balance)(session, owner)
    query = (
        select(CreditEntry.payment_id, func.sum(CreditEntry.unused), func.sum(CreditEntry.used))
        .where(
            CreditEntry.workspace_id == owner.workspace_id,
            CreditEntry.customer_id == owner.customer_id,
            CreditEntry.currency == owner.currency,
            CreditEntry.payment_id.is_not(None),
        )
        .group_by(CreditEntry.payment_id)
        .order_by(func.min(CreditEntry.id))
    )
    sums: dict[UUID, tuple[Money, Money]] = {
        key: (owner.money(free), owner.money(used))
        for key, free, used in await session.execute(query)
        if key is not None
    }
    left = await _left_of(session, owner, [*sums, *also])
    unsourced = whole - sum((free for free, _ in sums.values()), owner.zero)
    nobody = max(unsourced, owner.zero)
    found: dict[UUID | None, Source] = {None: Source(None, nobody, nobody, owner.zero)}
    spent = max(-unsourced, owner.zero)
    for key in left:
        free, used = sums.get(key, (owner.zero, owner.zero))
        here = min(spent, free)
        spent = spent - here
        found[key] = Source(key, left[key], free - here, used + here)
    return found


async def payments_behind(session: AsyncSession, owner: Owner) -> list[UUID]:
    """The payments that unused credit comes from; lock them before the credit."""
    found = await sources(session, owner, held=False)
    return [key for key, source in found.items() if key is not None and source.unused.minor]


async def source_of(session: AsyncSession, payment: Payment) -> Source:
    """A locked payment as a source of credit; locks the credit of its customer, if it is a subscription's."""
    owner = owner_of(payment, payment.currency)
    if payment.subscription_id is None or not owner.customer_id:
        return Source(payment.id, left_of(payment), owner.zero, owner.zero)
    return (await sources(session, owner, [payment.id]))[payment.id]


def left_of(payment: Payment) -> Money:
    """What has neither gone back of a captured payment, nor is under way back, nor is held by a bank."""
    taken = payment.refunded + payment.refund_reserved + payment.dispute_held
    return Money.from_decimal(payment.amount - taken, payment.currency)


async def _left_of(session: AsyncSession, owner: Owner, ids: Collection[UUID]) -> dict[UUID, Money]:
    """The same of many, in the order of `ids`: as committed, or as this transaction has it."""
    taken = Payment.refunded + Payment.refund_reserved + Payment.dispute_held
    rows = await session.execute(select(Payment.id, Payment.amount - taken).where(Payment.id.in_(ids)))
    found = {key: owner.money(left) for key, left in rows}
    mine = {row.id: left_of(row) for row in session.dirty if isinstance(row, Payment)}
    return {key: mine.get(key, found[key]) for key in dict.fromkeys(ids)}


async def used_on(session: AsyncSession, owner: Owner, invoice: Invoice) -> dict[UUID | None, Money]:
    """The credit that an invoice has used and still has, by source; None for what no entry speaks of."""
    rows = (await session.scalars(select(CreditEntry).where(CreditEntry.invoice_id == invoice.id))).all()
    sums: dict[UUID | None, Money] = {None: owner.zero}
    for row in rows:
        sums[row.payment_id] = sums.get(row.payment_id, owner.zero) + owner.money(row.used)
    known = sum((owner.money(row.used) for row in rows if row.kind == "applied"), owner.zero)
    sums[None] = sums[None] + max(owner.money(invoice.credit_applied) - known, owner.zero)
    return {key: amount for key, amount in sums.items() if amount.minor > 0}


async def behind_period(session: AsyncSession, row: Subscription) -> list[Invoice]:
    """The invoices whose money the present period runs on, the newest first.

    A period that a change has begun runs on the money of the one before it as well.
    """
    found: list[Invoice] = []
    for period in range(row.period, 0, -1):
        query = select(Invoice).where(Invoice.subscription_id == row.id, Invoice.period == period)
        rows = (await session.scalars(query.order_by(Invoice.sequence.desc()))).all()
        found += rows
        if any(one.sequence == 0 and one.kind != "change" for one in rows):
            break
    return found


async def within_reach(session: AsyncSession, row: Subscription, currency: str, *, at: datetime) -> list[Part]:
    """What of the money behind a locked subscription's period can become credit at `at`; locks the credit."""
    owner, funded = owner_of(row, currency), []
    for one in await behind_period(session, row):
        used = await used_on(session, owner, one)
        paid = one.status == InvoiceStatus.PAID
        rounded = sum((-Decimal(line["amount"]) for line in one.lines if line["kind"] == ROUNDING), Decimal(0))
        since = row.current_period_start if one.sequence == 0 else one.due_at
        funded.append(
            FundedInvoice(
                one.id,
                one.payment_id if paid else None,
                owner.money(one.total + rounded),
                tuple(used.items()),
                since if one.period == row.period else None,
            )
        )
    named = [one.payment_id for one in funded if one.payment_id is not None]
    named += [key for one in funded for key, _ in one.credit if key is not None]
    known = await sources(session, owner, named)
    return credit.within_reach(funded, known, end=row.current_period_end, at=at)


async def grant(session: AsyncSession, owner: Owner, parts: Sequence[Part], *, cause: UUID) -> None:
    """Make parts of captured money, or of credit that was used, the customer's credit. The caller has bounded them."""
    rows = [(part, part.amount, owner.zero if part.invoice_id is None else -part.amount) for part in parts]
    await _move(session, owner, "granted", rows, cause=cause)


async def apply(session: AsyncSession, owner: Owner, amount: Money, *, invoice_id: UUID, cause: UUID) -> Money:
    """Pay so much of an invoice by credit, the oldest first. Returns what was paid: less where there is not so much."""
    parts = credit.take(credit.spendable((await sources(session, owner)).values()), amount)
    rows = [(Part(part.payment_id, part.amount, invoice_id), -part.amount, part.amount) for part in parts]
    await _move(session, owner, "applied", rows, cause=cause)
    return credit.total(parts, owner.currency)


async def give_back(session: AsyncSession, owner: Owner, invoice: Invoice, *, cause: UUID) -> Money:
    """An invoice is not collected after all: the credit that it used is credit again, as far as money is behind it."""
    used = await used_on(session, owner, invoice)
    known = await sources(session, owner, [key for key in used if key is not None])
    parts = credit.given_back([Part(key, amount, invoice.id) for key, amount in used.items()], known)
    await _move(session, owner, "given_back", [(part, again, -part.amount) for part, again in parts], cause=cause)
    return sum((again for _, again in parts), owner.zero)


async def take_back(session: AsyncSession, payment: Payment, most: Money, *, cause: UUID) -> Money:
    """Take unused credit from a locked payment whose money goes back, at most so much. Returns what was taken."""
    taken = min((await source_of(session, payment)).unused, most)
    await _turn(session, payment, "taken_back", -taken, cause=cause)
    return taken


async def restore(session: AsyncSession, payment: Payment, most: Money, *, cause: UUID) -> Money:
    """Give credit again that was taken of a locked payment whose money has stayed, or is back. Returns how much."""
    again = min((await source_of(session, payment)).room, most)
    await _turn(session, payment, "restored", again, cause=cause)
    return again


async def withdraw(session: AsyncSession, owner: Owner, amount: Money, *, cause: UUID, reason: str) -> list[Part]:
    """Take credit from a customer by a person's decision, the oldest first; its money stays with the workspace."""
    parts = credit.take(credit.spendable((await sources(session, owner)).values()), amount)
    rows = [(part, -part.amount, owner.zero) for part in parts]
    await _move(session, owner, "withdrawn", rows, cause=cause, reason=reason)
    return parts


async def write_off(session: AsyncSession, payment: Payment, *, cause: UUID, reason: str) -> Money:
    """Bear the loss of credit that was used before its money went back. Returns how much that was.

    The invoices that it has paid keep that: no change of plan gives it back. The oldest, which are used up, first.
    """
    owner, lost = owner_of(payment, payment.currency), (await source_of(session, payment)).overdrawn
    query = (
        select(CreditEntry.invoice_id, func.sum(CreditEntry.used))
        .where(CreditEntry.payment_id == payment.id)
        .group_by(CreditEntry.invoice_id)
        .order_by(func.min(CreditEntry.id))
    )
    used = [Part(payment.id, owner.money(amount), invoice) for invoice, amount in await session.execute(query)]
    rows = [(part, owner.zero, -part.amount) for part in credit.take(used, lost)]
    await _move(session, owner, "written_off", rows, cause=cause, reason=reason)
    return lost


async def owners(session: AsyncSession, workspace_id: UUID, customer_id: str) -> list[Owner]:
    """A customer's credits, one a currency."""
    query = select(CustomerCredit.currency).where(
        CustomerCredit.workspace_id == workspace_id, CustomerCredit.customer_id == customer_id
    )
    return [
        Owner(workspace_id, customer_id, currency) for currency in await session.scalars(query.order_by("currency"))
    ]


async def entries(session: AsyncSession, owner: Owner, *, limit: int) -> Sequence[CreditEntry]:
    """What happened to a customer's credit, newest first."""
    query = select(CreditEntry).where(
        CreditEntry.workspace_id == owner.workspace_id,
        CreditEntry.customer_id == owner.customer_id,
        CreditEntry.currency == owner.currency,
    )
    return (await session.scalars(query.order_by(CreditEntry.id.desc()).limit(limit))).all()


def _is_of(owner: Owner) -> tuple[ColumnElement[bool], ...]:
    return (
        CustomerCredit.workspace_id == owner.workspace_id,
        CustomerCredit.customer_id == owner.customer_id,
        CustomerCredit.currency == owner.currency,
    )


async def _turn(session: AsyncSession, payment: Payment, kind: str, unused: Money, *, cause: UUID) -> None:
    owner = owner_of(payment, payment.currency)
    await _move(session, owner, kind, [(Part(payment.id, unused), unused, owner.zero)], cause=cause)


async def _move(
    session: AsyncSession,
    owner: Owner,
    kind: str,
    rows: Iterable[tuple[Part, Money, Money]],
    *,
    cause: UUID,
    reason: str | None = None,
) -> None:
    """Put entries on record, and their sum into the balance and the ledger; the caller holds the credit's lock."""
    moved = [(part, unused, used) for part, unused, used in rows if unused.minor or used.minor]
    if not moved:
        return
    name = f"credit-{kind}"
    if kind in REPEATABLE:
        of_cause = select(func.count()).select_from(CreditEntry)
        turn = await session.scalar(of_cause.where(CreditEntry.cause_id == cause, CreditEntry.kind == kind))
        name += f"-{turn}" if turn else ""
    for part, unused, used in moved:
        values = {
            "workspace_id": owner.workspace_id,
            "customer_id": owner.customer_id,
            "currency": owner.currency,
            "payment_id": part.payment_id,
            "invoice_id": part.invoice_id,
            "kind": kind,
            "unused": unused.to_decimal(),
            "used": used.to_decimal(),
            "cause_id": cause,
            "reason": reason,
        }
        await session.execute(insert(CreditEntry).values(values))
    change = sum((unused for _, unused, _ in moved), owner.zero)
    await session.execute(
        update(CustomerCredit)
        .where(*_is_of(owner))
        .values(balance=CustomerCredit.balance + change.to_decimal(), updated_at=func.now())
        .execution_options(synchronize_session=False)
    )
    ledger.book(
        session,
        workspace_id=owner.workspace_id,
        payment_id=None,
        movement_id=uuid5(cause, name),
        kind=f"credit_{kind}",
        entries=credit_entries(change, customer=owner.customer_id),
    )
