"""What PayPlus's transactions say of one payment. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from domain.payment import PaymentStatus
from providers.base import OutcomeUnknown, ProviderPayment
from providers.payplus.objects import APPROVAL, APPROVED, CHARGE, REFUND, Transaction, counted, parts_in, sum_of
from providers.payplus.refunds import in_order, refunded_in, refunds_listed
from providers.payplus.wire import code_of

UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)


def payment_of(found: Sequence[Transaction], reference: UUID, session_id: str | None) -> ProviderPayment | None:
    """The payment behind the transactions of one page, or of our reference; None when there is none of it.

    PAID only by a charge with `000` and `approved`; an approval (J5) is a hold and stays PENDING. A payment by several
    ways is its total, once; charges of one page that are no parts of a total are added up. Status PAID also where all
    was refunded later. Raises OutcomeUnknown when the answer cannot be true or read: another page's or payment's
    charge, an unreadable amount, two currencies.
    """
    totals = {one.uid for one in found if one.multiple}
    parts = [one for one in found if one.part_of in totals and one.type != REFUND]
    own = [one for one in found if one.type != REFUND and one not in parts and _is_ours(one, reference, session_id)]
    if not own:
        return None
    charges = [one for one in own if one.type == CHARGE and one.approved]
    if not charges:
        return _unpaid(own, session_id)
    paid = {one.uid for one in charges}
    charges += [one for one in parts if one.type == CHARGE and one.approved and one.part_of in paid]
    wholes = counted(charges)
    if any(charge.status is None for charge in wholes):
        raise OutcomeUnknown("unreadable_answer", "a charge without a status")
    main, captured = wholes[0], sum_of(wholes)
    card = next(iter(in_order(parts_in(charges, main))), main)
    refunds = refunds_listed(found, reference)
    return ProviderPayment(
        PaymentStatus.PAID,
        session_id=main.page_uid or session_id,
        transaction_id=main.uid,
        captured=captured,
        captured_at=main.at,
        refunded=None if refunds is None else refunded_in(found, captured.currency),
        refunds=refunds,
        other_ids=tuple(dict.fromkeys(one.uid for one in (*wholes, *charges))),
        method=card.method,
        card_brand=card.card_brand,
        card_last4=card.card_last4,
        saved_method=card.saved or main.saved,
    )


def _is_ours(one: Transaction, reference: UUID, session_id: str | None) -> bool:
    """Whether a transaction belongs to the page or, without one, to our reference.

    Asked for a page, PayPlus has no reason to show another's charge: then nothing is concluded at all.
    """
    if session_id is None:
        return one.reference == reference
    same = one.page_uid in (None, session_id) and one.reference in (None, reference)
    if not same and one.type == CHARGE and one.approved:
        raise OutcomeUnknown("foreign_transaction", "the charge names another page or payment")
    return same


def _unpaid(own: Sequence[Transaction], session_id: str | None) -> ProviderPayment:
    """Held, taken back on the same day, or declined; after a decline the page stays open for the next try."""
    newest = own[0]
    page = newest.page_uid or session_id
    held = next((one for one in own if one.type == APPROVAL and one.approved), None)
    if held is not None:
        return ProviderPayment(PaymentStatus.PENDING, session_id=page, transaction_id=held.uid, method=held.method)
    if newest.cancelled:
        return ProviderPayment(PaymentStatus.CANCELED, session_id=page, failure_code="transaction_cancelled")
    failure = newest.status_code if newest.status_code != APPROVED else code_of(newest.status)
    return ProviderPayment(PaymentStatus.PENDING, session_id=page, failure_code=failure or "declined")
