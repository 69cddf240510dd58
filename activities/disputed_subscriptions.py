"""What disputes of its payments do to a subscription that we charge, as its workspace wants it.

While a bank has not decided nothing is charged; what falls due meanwhile is charged when it has decided for the
merchant. After a loss the subscription is cancelled. One that a provider manages is charged and cancelled there.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from activities import billing
from activities.billing import Held
from domain.dispute import DisputeState
from domain.subscription import ENDED, SubscriptionStatus
from storage import disputes, subscriptions
from storage.models import Dispute, Payment


async def dispute_changed(session: AsyncSession, payment: Payment, changed: Iterable[Dispute], *, at: datetime) -> None:
    """Called with a locked payment, in the transaction in which some of its disputes changed their status.

    A loss cancels the subscription; whatever else has changed, its workflow is woken. A repeat changes nothing.
    """
    rows = list(changed)
    if not rows or payment.subscription_id is None:
        return
    held = await billing.hold(session, payment.subscription_id, at=at, actor="provider")
    if held is None or held.status in ENDED or held.row.managed_by == "provider":
        return
    held.row.wake_wanted_at = at
    lost = next((row for row in rows if row.status == DisputeState.LOST), None)
    if lost is not None and held.workspace.dispute_lost_action == "cancel":
        reason = f"the payer's bank took payment {payment.id} back"
        await billing.end(held, SubscriptionStatus.CANCELLED, reason=reason, why="charged_back", code=lost.reason)


async def charging_is_paused(held: Held) -> bool:
    """Whether nothing is to be charged now, because a bank has not decided about a payment; told when it changes.

    When charging resumes an invoice that was overdue has the time left that it had, so that nothing is given up for
    the time in which nothing was tried.
    """
    row = held.row
    paused = await _is_to_pause(held)
    if paused and row.charging_paused_at is None:
        row.charging_paused_at, row.updated_at = held.at, held.at
        billing.note(held, "charging_paused", reason="a payment is disputed")
        await billing.tell(held, "charging_paused", key=f"disputed-{held.at.isoformat()}", why="payment_disputed")
    elif not paused and row.charging_paused_at is not None:
        since, row.charging_paused_at, row.updated_at = row.charging_paused_at, None, held.at
        invoice = await subscriptions.open_invoice(held.session, row.id)
        if invoice is not None and invoice.first_failed_at is not None:
            for name in ("first_failed_at", "grace_until", "next_attempt_at"):
                moment = getattr(invoice, name)
                setattr(invoice, name, None if moment is None else moment + (held.at - since))
        billing.note(held, "charging_resumed", reason="no payment is disputed any more")
        await billing.tell(held, "charging_resumed", key=f"decided-{held.at.isoformat()}")
    return paused


async def _is_to_pause(held: Held) -> bool:
    if held.workspace.dispute_open_action != "pause" or held.status is SubscriptionStatus.INCOMPLETE:
        return False
    return await disputes.is_open_for(held.session, held.row.id)
