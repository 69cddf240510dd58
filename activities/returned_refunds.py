"""Refunds that had succeeded and came back: the payer's bank sent the money to us again, and it is owed to the payer.

The sale stays undone, with its credit note, its tax and its claw-back; only the money is with us once more. The ledger
holds it as the payer's credit until the provider sends it on its way again, and the payment is flagged for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import LedgerEntry, surplus_entries, surplus_refund_entries
from domain.money import Money
from domain.payment import PaymentStatus
from domain.refund import RefundState
from storage import audit, ledger, outbox, payments, refunds
from storage.models import Payment, Refund, Workspace

REFUND_RETURNED = "refund_returned"


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
    names the one that failed.
    """
    rows = await refunds.of_payment(session, payment.id)
    owed = [row for row in rows if RefundState(row.status) is RefundState.RETURNED]
    for row in owed:
        if missing < row.money:
            continue
        missing = missing - row.money
        row.status, row.failure_code, row.updated_at = RefundState.SUCCEEDED.value, None, at
        row.provider_refund_id = None
        await _book(session, payment, row, "paid_again", surplus_refund_entries(row.money, **_sides(payment)))
        tell(session, payment, workspace, row, "refund.paid_again", at=at)
    if all(RefundState(row.status) is not RefundState.RETURNED for row in rows):
        payments.clear_flag(session, payment, REFUND_RETURNED)
    return missing


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
    session: AsyncSession, payment: Payment, workspace: Workspace, row: Refund, what: str, *, at: datetime
) -> None:
    """Note a refund's turn of which no document speaks, and tell the order service, under the same name."""
    details = {"refund_id": str(row.id), "amount": str(row.money), "code": row.failure_code}
    audit.record(
        session,
        workspace.id,
        actor="provider",
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
