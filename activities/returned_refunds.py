"""Refunds that had succeeded and came back: the payer's bank sent the money to us again, and it is owed to the payer.

The sale stays undone, with its credit note, its tax and its claw-back; only the money is with us once more. The ledger
holds it as the payer's credit until the provider sends it on its way again, or the merchant has paid it by other means,
and the payment is flagged for a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import LedgerEntry, settled_outside_entries, surplus_entries, surplus_refund_entries
from domain.money import Money
from domain.payment import PaymentStatus
from domain.refund import RefundState
from domain.review import ReviewReason
from storage import audit, ledger, outbox, payments, refunds
from storage.models import Payment, Refund, Workspace

REFUND_RETURNED = ReviewReason.REFUND_RETURNED
REFUND_PAID_TWICE = ReviewReason.REFUND_PAID_TWICE
"""The provider has sent again what the merchant had paid by other means: the payer owes it to us."""


class NotReturned(ValueError):
    """There is nothing to settle: the refund has not come back, or was settled under another reference."""


async def record(
    session: AsyncSession, payment: Payment, workspace: Workspace, found: Mapping[UUID, str], *, at: datetime
) -> None:
    """Put on record which refunds of a locked payment came back, with the provider's code for each. Repeatable."""
    for row in await refunds.of_payment(session, payment.id):
        if row.id not in found or RefundState(row.status) is not RefundState.SUCCEEDED:
            continue
        row.status, row.failure_code, row.updated_at = RefundState.RETURNED.value, found[row.id], at
        entries = surplus_entries(row.money, **_sides(payment))
        await _book(session, payment, row, "returned", entries)
        payments.set_flag(session, payment, REFUND_RETURNED, details={"refund_id": str(row.id)})
        tell(session, payment, workspace, row, "refund.returned", at=at)


async def paid_again(
    session: AsyncSession, payment: Payment, workspace: Workspace, missing: Money, *, at: datetime
) -> Money:
    """Match what a locked payment's provider sent back anew with what had come back. Returns what is beyond that.

    `missing` is what went back without being on record. The provider's id of a refund that came back is forgotten: it
    names the one that failed. What the merchant had paid by other means comes last: the payer has had it twice then.
    """
    rows = await refunds.of_payment(session, payment.id)
    owed = [row for row in rows if RefundState(row.status) is RefundState.RETURNED]
    owed += [row for row in rows if RefundState(row.status) is RefundState.SETTLED_OUTSIDE]
    for row in owed:
        if missing < row.money:
            continue
        missing = missing - row.money
        await sent_again(session, payment, workspace, row, known_as=None, at=at)
    _unflag(session, payment, rows)
    return missing


async def sent_again(
    session: AsyncSession, payment: Payment, workspace: Workspace, row: Refund, *, known_as: str | None, at: datetime
) -> None:
    """The provider of a locked payment has sent a refund anew that had come back; `known_as` is its id of it, if told.

    What the merchant had paid by other means meanwhile the payer has had twice then.
    """
    if RefundState(row.status) is RefundState.SETTLED_OUTSIDE:
        payments.set_flag(session, payment, REFUND_PAID_TWICE, details={"refund_id": str(row.id)})
    row.status, row.failure_code, row.updated_at = RefundState.SUCCEEDED.value, None, at
    if row.provider_refund_id is not None and row.provider_refund_id != known_as:
        row.further_provider_refund_ids = [*row.further_provider_refund_ids, row.provider_refund_id]
    row.provider_refund_id = known_as
    await _book(session, payment, row, "paid_again", surplus_refund_entries(row.money, **_sides(payment)))
    tell(session, payment, workspace, row, "refund.paid_again", at=at)
    _unflag(session, payment, await refunds.of_payment(session, payment.id))


async def settle_outside(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    row: Refund,
    *,
    reference: str,
    actor: str,
    at: datetime,
) -> None:
    """Put on record that the merchant has paid a refund that came back by other means. Both rows are locked.

    Nothing is owed to the payer any more, and the order service is told. The sale stays undone as it was. A repeat with
    the same reference changes nothing. Raises NotReturned.
    """
    state = RefundState(row.status)
    if state is RefundState.SETTLED_OUTSIDE and row.outside_reference == reference:
        return
    if state is not RefundState.RETURNED:
        by = f" by {row.outside_reference}" if state is RefundState.SETTLED_OUTSIDE else ""
        raise NotReturned(f"The refund is {row.status}{by}; only one that is returned can be settled.")
    row.status, row.outside_reference, row.updated_at = RefundState.SETTLED_OUTSIDE.value, reference, at
    entries = settled_outside_entries(row.money, payment_id=str(payment.id))
    await _book(session, payment, row, "settled_outside", entries)
    _unflag(session, payment, await refunds.of_payment(session, payment.id), actor=actor)
    tell(session, payment, workspace, row, "refund.settled_outside", at=at, actor=actor)


def _unflag(session: AsyncSession, payment: Payment, rows: Sequence[Refund], *, actor: str = "provider") -> None:
    if all(RefundState(row.status) is not RefundState.RETURNED for row in rows):
        payments.clear_flag(session, payment, REFUND_RETURNED, actor=actor)


async def _book(session: AsyncSession, payment: Payment, row: Refund, what: str, entries: list[LedgerEntry]) -> None:
    """Book one turn; a refund may come back more than once, so turns are counted (under the payment's lock)."""
    kind = f"refund_{what}"
    turn = await ledger.count_movements(session, payment.id, kind=kind)
    ledger.book(
        session,
        workspace_id=payment.workspace_id,
        payment_id=payment.id,
        movement_id=uuid5(row.id, f"{what}-{turn}"),
        kind=kind,
        entries=entries,
    )


def _sides(payment: Payment) -> dict[str, str]:
    return {"provider_account": str(payment.provider_account_id), "payment_id": str(payment.id)}


def tell(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    row: Refund,
    what: str,
    *,
    at: datetime,
    actor: str = "provider",
) -> None:
    """Note a refund's turn of which no document speaks, and tell the order service, under the same name."""
    details = {"refund_id": str(row.id), "amount": str(row.money), "code": row.failure_code}
    if row.outside_reference is not None:
        details["outside_reference"] = row.outside_reference
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action=what,
        subject=("payment", payment.id),
        details=details,
    )
    outbox.add_notice(
        session,
        workspace,
        payment,
        notice_type=what,
        at=at,
        data=payments.notice_data(payment, PaymentStatus(payment.status)) | details,
    )
