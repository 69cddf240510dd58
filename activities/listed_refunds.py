"""Refunds as a provider lists them: each is one record of ours, found by its id there or by our reference in it.

Nothing is concluded from a sum, from what is not listed, or from the order in which news come. Each refund is taken in
its own transaction, so that one which cannot be booked holds up none of the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncSession

from activities import dispute_money, returned_refunds
from activities.credit import show_overdrawn
from activities.review_state import refresh
from activities.settlement import ORDER_PAID_TWICE
from domain.money import Money
from domain.payment import PaymentStatus, SurplusStatus
from domain.refund import CAME_BACK, FINAL_REFUND, RefundState
from domain.review import WHOLE, ReviewReason
from providers.base import ListedRefund, RefundStatus
from storage import attempts, audit, disputes, payments, refunds, surplus
from storage.models import Attempt, Payment, Receipt, Refund, SurplusCapture, Workspace

EXCEEDS_PAYMENT = ReviewReason.REFUND_EXCEEDS_PAYMENT
"""Review reason: more went back at the provider than is left of the payment. It is in no books of ours."""

_WENT = (RefundStatus.SUCCEEDED, RefundStatus.PENDING)

Settle = Callable[..., Awaitable[Receipt | None]]
"""`refunds.settle_refund`: book a refund that succeeded."""
Fail = Callable[..., Awaitable[None]]
"""`refunds.fail_refund`: release what a refund that failed had reserved."""


@dataclass(slots=True)
class Taken:
    """What became of a list: credit notes to render, and records without which the rest cannot be told apart yet."""

    documents: list[UUID] = field(default_factory=list)
    waiting: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Books:
    """A locked payment with what is on record of money that went back by one of its attempts."""

    session: AsyncSession
    payment: Payment
    workspace: Workspace
    attempt: Attempt | None
    rows: Sequence[Refund]
    beyond: Sequence[SurplusCapture]
    settle: Settle
    fail: Fail
    at: datetime

    @property
    def sold(self) -> bool:
        """Whether the attempt brought the sale's money, and not only money beyond it."""
        paid = self.attempt is None or self.attempt.status == "paid"
        return paid and all(row.reason not in WHOLE for row in self.beyond)


async def open_books(
    session: AsyncSession, payment_id: UUID, attempt: Attempt | None, *, settle: Settle, fail: Fail, at: datetime
) -> Books:
    """Lock the payment and read what is on record."""
    payment, workspace = await payments.lock(session, payment_id)
    provider = payment.provider if attempt is None else attempt.provider
    rows = [row for row in await refunds.of_payment(session, payment.id) if row.provider == provider]
    beyond = [
        row
        for row in await surplus.of_payment(session, payment.id)
        if attempt is not None and row.attempt_id == attempt.id
    ]
    if attempt is not None:  # as it is now: the look may be older
        attempt = await attempts.by_reference(session, attempt.reference)
    return Books(session, payment, workspace, attempt, rows, beyond, settle, fail, at)


def adopt(books: Books, listed: Sequence[ListedRefund]) -> None:
    """Name what was put on record by its sum, before the provider's list was read: by amounts, this one time.

    A record may stand for several refunds that were seen as one.
    """
    strangers = [one for one in _oldest_first(listed) if _record_of(books, one) is None and one.reference is None]
    unnamed = [
        row for row in books.rows if row.provider_refund_id is None and RefundState(row.status) is RefundState.SUCCEEDED
    ]
    for row in unnamed:
        same = [one for one in strangers if one.amount == row.money]
        found = sorted(same, key=lambda one: one.status is RefundStatus.FAILED)[:1] or _adding_up(strangers, row.money)
        for one in found:
            strangers.remove(one)
            _name(row, one.provider_refund_id)


async def take(books: Books, one: ListedRefund, listed: Sequence[ListedRefund], taken: Taken) -> None:
    """Bring the record of one listed refund up to date, or make it. A repeat changes nothing."""
    record = _record_of(books, one)
    if isinstance(record, Refund):
        await _follow(books, record, one, taken)
    elif isinstance(record, SurplusCapture):
        await _follow_overpayment(books, record, one, listed)
    elif one.unmarked and (open_ones := _may_be_ours(books, one)):
        taken.waiting += open_ones
    else:
        await _take_stranger(books, one, listed, taken)


async def _follow(books: Books, row: Refund, one: ListedRefund, taken: Taken) -> None:
    """Bring a record of ours in step with what the provider lists. What failed for good may have gone all the same."""
    state = RefundState(row.status)
    if one.status is RefundStatus.FAILED:
        await _has_failed(books, row, one)
    elif one.status is RefundStatus.PENDING:
        if state in (RefundState.REQUESTED, RefundState.UNKNOWN):
            _name(row, one.provider_refund_id)
            row.status, row.updated_at = RefundState.PENDING.value, books.at
    elif state in CAME_BACK:
        await returned_refunds.sent_again(
            books.session, books.payment, books.workspace, row, known_as=one.provider_refund_id, at=books.at
        )
    elif state is not RefundState.SUCCEEDED:
        if state is RefundState.FAILED:
            if not await _make_room(books, one, taken):
                return
            books.payment.refund_reserved = books.payment.refund_reserved + row.amount
        _name(row, one.provider_refund_id)
        await _settle(books, row, taken)


async def _has_failed(books: Books, row: Refund, one: ListedRefund) -> None:
    if row.provider_refund_id not in (None, one.provider_refund_id):
        return  # an earlier try of the same refund
    _name(row, one.provider_refund_id)
    session, payment, state = books.session, books.payment, RefundState(row.status)
    if state is RefundState.SUCCEEDED:
        found = {row.id: one.failure_code or "returned"}
        await returned_refunds.record(session, payment, books.workspace, found, at=books.at)
    elif state not in FINAL_REFUND:
        await books.fail(session, payment, books.workspace, row, code=one.failure_code, at=books.at)
        await dispute_money.take_what_is_free(session, payment, await disputes.of_payment(session, payment.id))
        await show_overdrawn(session, books.workspace, payment, at=books.at)


async def _take_stranger(books: Books, one: ListedRefund, listed: Sequence[ListedRefund], taken: Taken) -> None:
    """A refund that was made at the provider: of money beyond the obligation where it is, else of the sale."""
    overpayment = _overpayment_of(books, one)
    if overpayment is not None:
        _name(overpayment, one.provider_refund_id)
        await _follow_overpayment(books, overpayment, one, listed)
        return
    if not books.sold:
        return
    owed = next((row for row in books.rows if RefundState(row.status) in CAME_BACK and row.money == one.amount), None)
    if owed is not None and one.status in _WENT:
        if one.status is RefundStatus.PENDING:
            taken.waiting.append(owed.id)
            return
        await returned_refunds.sent_again(
            books.session, books.payment, books.workspace, owed, known_as=one.provider_refund_id, at=books.at
        )
        return
    if one.status is RefundStatus.FAILED or await _make_room(books, one, taken):
        await _put_on_record(books, one, taken)


async def _put_on_record(books: Books, one: ListedRefund, taken: Taken) -> None:
    values = {
        "id": uuid5(books.payment.id, f"provider-refund:{one.provider_refund_id}"),
        "amount": one.amount.to_decimal(),
        "origin": "provider",
        "reason": "refunded at the provider",
        "provider_refund_id": one.provider_refund_id,
        "status": RefundState.PENDING.value,
    }
    if one.status is RefundStatus.FAILED:  # it holds nothing, so nothing is reserved for it
        row = await refunds.record_failed(books.session, books.payment, values, code=one.failure_code, at=books.at)
        returned_refunds.tell(books.session, books.payment, books.workspace, row, "refund.failed", at=books.at)
        return
    row = await refunds.record_foreign(books.session, books.payment, values)
    if one.status is RefundStatus.SUCCEEDED:
        await _settle(books, row, taken)
        return
    await refunds.take_credit(books.session, books.payment, row, actor="provider")
    await show_overdrawn(books.session, books.workspace, books.payment, at=books.at)


async def _settle(books: Books, row: Refund, taken: Taken) -> None:
    document = await books.settle(books.session, books.payment, books.workspace, row, at=books.at)
    if document is not None:
        taken.documents.append(document.id)


async def _make_room(books: Books, one: ListedRefund, taken: Taken) -> bool:
    """Whether the payment has as much left: disputes give way to money that is gone already.

    Refunds of ours that are under way have reserved what they cannot get any more: they fail, and then there is room.
    """
    lacking = one.amount - refunds.left_of(books.payment)
    if lacking.minor > 0:
        await dispute_money.give_way(books.session, books.payment, lacking)
    if one.amount <= refunds.left_of(books.payment):
        return True
    under_way = [row.id for row in books.rows if row.status in refunds.UNDER_WAY and row.origin != "provider"]
    if under_way:
        taken.waiting += under_way
        return False
    details = {"provider_refund_id": one.provider_refund_id, "amount": str(one.amount)}
    if await audit.has(books.session, ("payment", books.payment.id), "payment.flagged", details):
        return False  # a person sees it, or has closed it since
    payments.set_flag(books.session, books.payment, EXCEEDS_PAYMENT, details=details)
    return False


async def _follow_overpayment(
    books: Books, row: SurplusCapture, one: ListedRefund, listed: Sequence[ListedRefund]
) -> None:
    """Money beyond the obligation has gone back once as much as it is has, in however many parts."""
    session, status = books.session, SurplusStatus(row.status)
    names = {row.provider_refund_id, *row.further_provider_refund_ids}
    parts = [
        each for each in listed if each.provider_refund_id in names or each.provider_refund_id == one.provider_refund_id
    ]
    gone = sum(
        (each.amount for each in parts if each.status is RefundStatus.SUCCEEDED), Money.zero(one.amount.currency)
    )
    attempt = books.attempt
    assert attempt is not None  # noqa: S101  (money beyond the obligation is of an attempt)
    if row.money <= gone and status is not SurplusStatus.REFUNDED:
        surplus.change_status(
            session,
            row,
            attempt,
            SurplusStatus.REFUNDED,
            at=books.at,
            actor="provider",
            provider_refund_id=one.provider_refund_id,
        )
        if row.reason == ORDER_PAID_TWICE:
            payments.change_status(
                session,
                books.workspace,
                books.payment,
                PaymentStatus.REFUNDED,
                at=books.at,
                actor="provider",
                reason=ORDER_PAID_TWICE,
            )
        await refresh(books.session, books.payment, books.workspace, at=books.at, actor="provider")
    elif gone < row.money and one.status is RefundStatus.FAILED and one.provider_refund_id == row.provider_refund_id:
        if status in (SurplusStatus.REFUNDED, SurplusStatus.REFUNDING):
            surplus.change_status(
                session,
                row,
                attempt,
                SurplusStatus.REFUND_FAILED,
                at=books.at,
                actor="provider",
                failure_code=one.failure_code or "returned",
            )
    elif gone.minor and status is not SurplusStatus.REFUNDED:
        audit.record(
            session,
            books.workspace.id,
            actor="provider",
            action="surplus.partly_refunded",
            subject=("payment", books.payment.id),
            details={"surplus_id": str(row.id), "amount": str(row.money), "refunded": str(gone)},
        )


def _record_of(books: Books, one: ListedRefund) -> Refund | SurplusCapture | None:
    """The record that a listed refund is of, by the provider's id, else by our reference in it."""
    known: Sequence[Refund | SurplusCapture] = (*books.rows, *books.beyond)
    for row in known:
        if one.provider_refund_id in (row.provider_refund_id, *row.further_provider_refund_ids):
            return row
    if one.reference is None:
        return None
    for row in known:
        own = {row.id} if isinstance(row, Refund) else set(surplus.refund_ids(row))
        if one.reference in own:
            return row
    return None


def _overpayment_of(books: Books, one: ListedRefund) -> SurplusCapture | None:
    """The money beyond the obligation that a refund made at the provider gives back; None where it is of the sale.

    Decided by the capture that it names. Where none is named, it is taken for what is owed to the payer of that amount.
    """
    owed = [row for row in books.beyond if row.status != SurplusStatus.REFUNDED and row.currency == one.amount.currency]
    if not owed:
        return None
    of_sale = books.sold and one.transaction_id == books.payment.provider_transaction_id
    same_capture = [row for row in owed if row.transaction_id == one.transaction_id]
    if one.transaction_id is not None and of_sale and not same_capture:
        return None
    same_amount = [row for row in same_capture or owed if row.money == one.amount]
    if same_amount or same_capture:
        return (same_amount or same_capture)[0]
    return owed[0] if one.transaction_id is not None or not books.sold else None


def _may_be_ours(books: Books, one: ListedRefund) -> list[UUID]:
    """Records of ours under way that a refund without a mark may be: of its amount, and without a name there yet."""
    found = [
        row.id
        for row in books.rows
        if row.provider_refund_id is None and row.status in refunds.UNDER_WAY and row.money == one.amount
    ]
    found += [
        row.id
        for row in books.beyond
        if row.provider_refund_id is None and row.status == SurplusStatus.REFUNDING and row.money == one.amount
    ]
    return found


def _name(row: Refund | SurplusCapture, provider_refund_id: str) -> None:
    """Note what the provider calls it; several names are kept."""
    if row.provider_refund_id is None:
        row.provider_refund_id = provider_refund_id
    elif provider_refund_id not in (row.provider_refund_id, *row.further_provider_refund_ids):
        row.further_provider_refund_ids = [*row.further_provider_refund_ids, provider_refund_id]


def _adding_up(strangers: Sequence[ListedRefund], amount: Money) -> list[ListedRefund]:
    """The oldest refunds that together are this amount, if some are."""
    chosen: list[ListedRefund] = []
    for one in strangers:
        if one.status is not RefundStatus.SUCCEEDED or one.amount.currency != amount.currency:
            continue
        chosen.append(one)
        if sum(each.amount.minor for each in chosen) == amount.minor:
            return chosen
    return []


def age(one: ListedRefund) -> tuple[bool, float, str]:
    """For sorting in the order in which refunds were made, as far as that is told."""
    return one.at is None, one.at.timestamp() if one.at else 0.0, one.provider_refund_id


def _oldest_first(listed: Sequence[ListedRefund]) -> list[ListedRefund]:
    """In the order in which they were made, as far as that is told."""
    return sorted(listed, key=age)
