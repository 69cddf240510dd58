"""What disputes hold of a locked payment: taken, lost, given back, and never the same money twice.

A dispute holds what its bank took, at most what refunds and other disputes have left of the payment. When one of those
lets go of something, or turns out to have taken it first, the shares follow: the sum of what is on record never exceeds
the capture, and no event has to come before another. Commissions are locked here, so audit entries must not have been
written before (`storage.audit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from uuid import uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from activities.credit import restore_of_dispute, take_for_dispute
from domain.dispute import HOLDS_MONEY, DisputeState
from domain.ledger import LedgerEntry, dispute_lost_entries, dispute_opened_entries, dispute_won_entries
from domain.money import Money
from storage import audit, commissions, disputes, ledger
from storage.models import Commission, Dispute, Payment


async def hold(session: AsyncSession, payment: Payment, row: Dispute) -> Money:
    """Take from the payment what the bank took and is not held yet, as far as it is left. Returns what was taken."""
    free = payment.amount - payment.refunded - payment.refund_reserved - payment.dispute_held
    wanted = row.amount if row.currency == payment.currency else payment.amount
    more = Money.from_decimal(max(min(wanted - row.held, free), Decimal(0)), payment.currency)
    row.held = row.held + more.to_decimal()
    payment.dispute_held = payment.dispute_held + more.to_decimal()
    await _book(session, payment, row, "opened", dispute_opened_entries(more, **_sides(row, payment)))
    await take_for_dispute(session, payment, row, more)
    return more


async def release(session: AsyncSession, payment: Payment, row: Dispute) -> None:
    """The bank gives all of it back."""
    await _let_go(session, payment, row, _held(payment, row), "won")


async def lose(session: AsyncSession, payment: Payment, row: Dispute, amount: Money) -> None:
    """So much of what it holds is gone for good, and the referrer gives back a share of it in proportion."""
    commission = await commissions.lock_of_payment(session, payment.id)
    payment.dispute_lost = payment.dispute_lost + amount.to_decimal()
    back = None if commission is None else commissions.take_back(commission, payment)
    await _book(session, payment, row, "lost", _loss(row, amount, commission, back))


async def win_back(session: AsyncSession, payment: Payment, row: Dispute, amount: Money | None = None) -> None:
    """All that was lost, or so much of it, was not lost after all: loss and claw-back are undone, the bank holds it."""
    amount = amount or _held(payment, row)
    commission = await commissions.lock_of_payment(session, payment.id)
    payment.dispute_lost = payment.dispute_lost - amount.to_decimal()
    back = None if commission is None else -commissions.take_back(commission, payment)
    undone = [replace(entry, amount=-entry.amount) for entry in _loss(row, amount, commission, back)]
    await _book(session, payment, row, "loss_undone", undone)


async def take_what_is_free(session: AsyncSession, payment: Payment, rows: Sequence[Dispute]) -> None:
    """Let disputes that hold less than their banks took have what is free by now, the oldest first.

    A refund that had reserved it was refused, or another dispute was won: the banks have that money all the same.
    """
    for row in rows:
        if row.status not in HOLDS_MONEY and row.status != DisputeState.LOST:
            continue
        more = await hold(session, payment, row)
        if not more.minor:
            continue
        if row.status == DisputeState.LOST:
            await lose(session, payment, row, more)
        _note(session, payment, row)


async def give_way(session: AsyncSession, payment: Payment, needed: Money) -> None:
    """Give up so much of what disputes hold: a refund that nobody knew of had taken it before them.

    The latest first, and what is undecided before what is lost. Gives up all there is if that is less.
    """
    latest_first = reversed(await disputes.of_payment(session, payment.id))
    for row in sorted(latest_first, key=lambda row: row.status == DisputeState.LOST):  # stable
        part = min(_held(payment, row), needed)
        if part.minor <= 0:
            continue
        if row.status == DisputeState.LOST:
            await win_back(session, payment, row, part)
        await _let_go(session, payment, row, part, "reduced")
        needed = needed - part
        _note(session, payment, row)


async def _let_go(session: AsyncSession, payment: Payment, row: Dispute, amount: Money, what: str) -> None:
    payment.dispute_held = payment.dispute_held - amount.to_decimal()
    row.held = row.held - amount.to_decimal()
    await _book(session, payment, row, what, dispute_won_entries(amount, **_sides(row, payment)))
    await restore_of_dispute(session, payment, row, amount)


async def _book(session: AsyncSession, payment: Payment, row: Dispute, what: str, entries: list[LedgerEntry]) -> None:
    """Book one turn of a dispute; it may take the same turn again, so turns are counted (under the lock)."""
    entries = [entry for entry in entries if entry.amount.minor]
    if not entries:
        return
    turn = await ledger.count_movements(session, payment.id, kind=f"dispute_{what}")
    ledger.book(
        session,
        workspace_id=payment.workspace_id,
        payment_id=payment.id,
        movement_id=uuid5(row.id, what if turn == 0 else f"{what}-{turn}"),
        kind=f"dispute_{what}",
        entries=entries,
    )


def _note(session: AsyncSession, payment: Payment, row: Dispute) -> None:
    audit.record(
        session,
        payment.workspace_id,
        actor="provider",
        action="dispute.held_changed",
        subject=("payment", payment.id),
        details={"dispute_id": str(row.id), "held": str(_held(payment, row))},
    )


def _loss(row: Dispute, amount: Money, commission: Commission | None, back: Money | None) -> list[LedgerEntry]:
    referrer = None if commission is None else commission.referrer_id
    return dispute_lost_entries(amount, dispute_id=str(row.id), commission=back, referrer=referrer)


def _held(payment: Payment, row: Dispute) -> Money:
    return Money.from_decimal(row.held, payment.currency)


def _sides(row: Dispute, payment: Payment) -> dict[str, str]:
    return {"provider_account": str(payment.provider_account_id), "dispute_id": str(row.id)}
