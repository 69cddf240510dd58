"""Which saved method a subscription's invoice is charged to next: what is on record, given to the rule. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.next_method import Attempts, Preferred, choose
from domain.subscription import SubscriptionStatus, attempt_payment_id
from storage import charged_methods
from storage.models import Invoice, Payment, PaymentMethod, Subscription


@dataclass(frozen=True, slots=True)
class NextMethod:
    """What is charged next, None for a link; `at_once` without waiting; `preferred` is kept with the attempt."""

    method: PaymentMethod | None
    at_once: bool
    preferred: Preferred


async def next_method(session: AsyncSession, row: Subscription, invoice: Invoice | None = None) -> NextMethod:
    """What to charge a new invoice to, or one for which attempts were made.

    The first payment is made by the method that was named for it, or by link: who asked for a page gets one.
    """
    usable = await charged_methods.usable_of(session, row.workspace_id, row.customer_id)
    default = next((one for one in usable if one.is_default), None)
    preferred = Preferred(row.payment_method_id)
    if default is not None:
        preferred = Preferred(row.payment_method_id, default.id, default.default_chosen)
    attempts = Attempts() if invoice is None else await _attempts_for(session, invoice)
    cards = [charged_methods.card_of(one) for one in usable]
    named_only = row.status == SubscriptionStatus.INCOMPLETE.value
    choice = choose(cards, preferred, attempts, named_only=named_only)
    method = next((one for one in usable if one.id == choice.method_id), None)
    return NextMethod(method, choice.at_once, preferred)


async def _attempts_for(session: AsyncSession, invoice: Invoice) -> Attempts:
    last: Payment | None = None
    if invoice.attempts:
        last = await session.get(Payment, attempt_payment_id(invoice.id, invoice.attempts))
    return await charged_methods.attempts_for(session, invoice, last)
