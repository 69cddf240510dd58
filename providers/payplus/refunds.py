"""Refunds at PayPlus: how one is written, how it is found again, and how it is divided over a payment's parts. Pure.

A refund's `more_info` is the printed line of PayPlus's own credit document, so it reads as one, and it carries our
refund's id, by which a repeat finds it. A payment by several ways is refunded part by part: cards first, in PayPlus's
order, then gift and club cards. The refund of each part then carries the part's number in that order and the whole
refund's amount, so that each is found by itself and an unfinished one is not taken for the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.money import Money, MoneyError
from providers.base import (
    ListedRefund,
    OutcomeUnknown,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.payplus.objects import APPROVED, REFUND, Transaction, parts_in, sum_of
from providers.payplus.wire import CLUB_CARDS, code_of, id_of, money_of, part

MAX_LINE_LENGTH = 200

_LINE = re.compile(
    r"Refund (?P<id>[0-9a-f-]{36})(?:/(?P<number>[0-9]{1,3}) of (?P<whole>[0-9]{1,12}\.[0-9]{2}))?(?::.*)?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a refund of ours says of itself: whose it is, and of a part its number and the whole refund's amount."""

    refund_id: UUID
    number: int | None = None
    whole: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What one part of a payment gives back. `number` counts the parts from 1; None where there are none."""

    transaction_id: str
    amount: Money
    number: int | None = None


def line_of(request: RefundRequest, number: int | None = None) -> str:
    """The line of a refund, or of its part with this number. The same at every try."""
    piece = "" if number is None else f"/{number} of {request.amount}"
    words = "".join(sign for sign in request.reason or "" if sign.isprintable())
    return f"Refund {request.refund_id}{piece}{f': {words}' if words else ''}"[:MAX_LINE_LENGTH]


def mark_of(one: Transaction) -> Mark | None:
    """What a transaction says of which refund of ours it is; older ones are named by the id alone."""
    found = _LINE.fullmatch(one.line or "")
    if found is None:
        return None if one.reference is None else Mark(one.reference)
    number, whole = found["number"], found["whole"]
    return Mark(UUID(found["id"]), None if number is None else int(number), None if whole is None else Decimal(whole))


def refund_body(request: RefundRequest, piece: Piece, *, initial_invoice: bool | None) -> dict[str, Any]:
    """A refund of part or all of one transaction. Where we issue the documents PayPlus issues none of a refund."""
    body: dict[str, Any] = {
        "transaction_uid": piece.transaction_id,
        "amount": piece.amount.to_decimal(),
        "more_info": line_of(request, piece.number),
    }
    if initial_invoice is not None:
        body["initial_invoice"] = initial_invoice
    return body


def refunded_in(found: Sequence[Transaction], currency: str) -> Money:
    """The sum of all approved refunds, whoever made them. Raises OutcomeUnknown when one cannot be read."""
    refunds = [one for one in found if one.type == REFUND and one.approved]
    total = sum_of(refunds) if refunds else Money.zero(currency)
    if total.currency != currency:
        raise OutcomeUnknown("mixed_currencies", "a refund in another currency than its charge")
    return total


def refunds_listed(found: Sequence[Transaction], charged: UUID) -> tuple[ListedRefund, ...] | None:
    """The refunds among some transactions. None where there is none: PayPlus may not show them, so that is not told.

    `charged` is the charge's reference, which a refund may carry as a copy: that says nothing of who made it. A refund
    of ours over several parts is one, once all of it has gone; until then its own look-up follows it.
    """
    shown = [one for one in found if one.type == REFUND]
    listed: list[ListedRefund] = []
    divided: dict[UUID, list[Transaction]] = {}
    for one in shown:
        mark = mark_of(one)
        if mark is not None and mark.number is not None:
            divided.setdefault(mark.refund_id, []).append(one)
            continue
        if one.amount is None:
            if one.approved:
                raise OutcomeUnknown("unreadable_amount")
            continue
        reference = None if mark is None or mark.refund_id == charged else mark.refund_id
        listed.append(
            ListedRefund(
                one.uid,
                _unsigned(one.amount),
                RefundStatus.SUCCEEDED if one.approved else RefundStatus.FAILED,
                reference=reference,
                unmarked=reference is None,
                failure_code=None if one.approved else _why_not(one),
            )
        )
    for refund_id, pieces in divided.items():
        made = sorted((one for one in pieces if one.approved), key=_number)
        total = sum_of(made) if made else None
        mark = mark_of(pieces[0])
        if total is not None and mark is not None and total.to_decimal() == mark.whole:
            listed.append(ListedRefund(made[0].uid, total, RefundStatus.SUCCEEDED, reference=refund_id))
    return tuple(listed) if shown else None


def refund_in(found: Sequence[Transaction], request: RefundRequest) -> ProviderRefund | None:
    """The refund that carries our id, one that succeeded before one that failed; None while parts of it are missing."""
    ours = [one for one in found if one.type == REFUND and _is_of(one, request)]
    whole = [one for one in ours if _number(one) == 0]
    best = next((one for one in whole if one.approved), whole[0] if whole else None)
    if best is not None:
        return _as_refund(best, request)
    made = sorted((one for one in ours if one.approved), key=_number)
    if not made or sum_of(made) != request.amount:
        return None
    return ProviderRefund(made[0].uid, RefundStatus.SUCCEEDED)


def refund_by_uid(found: Sequence[Transaction], request: RefundRequest, uid: str | None) -> ProviderRefund | None:
    """The refund with PayPlus's own id."""
    one = next((one for one in found if uid is not None and one.uid == uid and one.type == REFUND), None)
    if one is None or _number(one):
        return None
    return _as_refund(one, request)


def refund_of_same_sum(found: Sequence[Transaction], request: RefundRequest) -> ProviderRefund | None:
    """Refunds without any refund id that explain, to the last agora, why more was refunded than we know of.

    UNCONFIRMED is whether PayPlus shows a refund's `more_info` everywhere; where it does not, this is what keeps a
    repeat from refunding twice. A refund that the merchant made by hand meanwhile is taken for ours then: the same
    sum has gone back, and no second one follows.
    """
    if refunded_in(found, request.amount.currency) - request.refunded_before != request.amount:
        return None
    charge = next((one for one in found if one.uid == request.transaction_id), None)
    parts = [] if charge is None else in_order(parts_in(found, charge))
    plan = _divided([], request, parts, request.amount, request.refunded_before) if parts else []
    for amounts in ([request.amount], [piece.amount for piece in plan]):
        unnamed = [one for one in found if one.type == REFUND and one.approved and _is_unnamed(one, request)]
        taken = [_take(unnamed, amount) for amount in amounts]
        if taken and taken[0] is not None and all(one is not None for one in taken):
            return ProviderRefund(taken[0].uid, RefundStatus.SUCCEEDED)
    return None


def partly_made(found: Sequence[Transaction], request: RefundRequest) -> ProviderRefund | None:
    """What an earlier try has made of a refund over several parts, by the id of its first part."""
    ours = [one for one in found if one.type == REFUND and one.approved and _number(one) and _is_of(one, request)]
    return ProviderRefund(min(ours, key=_number).uid, RefundStatus.SUCCEEDED) if ours else None


def partly_visible(found: Sequence[Transaction], request: RefundRequest) -> bool:
    """Whether refunds without a name explain a part of ours only, of a payment that is refunded part by part."""
    charge = next((one for one in found if one.uid == request.transaction_id), None)
    if charge is None or not parts_in(found, charge):
        return False
    named = [one for one in found if one.type == REFUND and one.approved and _is_of(one, request)]
    known = request.refunded_before + (sum_of(named) if named else Money.zero(request.amount.currency))
    return 0 < (refunded_in(found, request.amount.currency) - known).minor < request.amount.minor


def shows_refund(found: Sequence[Transaction], provider_refund_id: str) -> bool:
    """Whether a refund that was made is among some transactions."""
    return any(one.type == REFUND and one.uid == provider_refund_id for one in found)


def pieces_of(found: Sequence[Transaction], request: RefundRequest) -> list[Piece]:
    """What each part of the payment is to give back, as far as that is not done; one piece where it has no parts.

    Raises ProviderRejected when the refunds would exceed the charge, which PayPlus documents for their sum as well, and
    for a payment by several ways whose parts PayPlus does not show: its total cannot be refunded.
    """
    charge = next((one for one in found if one.uid == request.transaction_id and one.amount is not None), None)
    if charge is None or charge.amount is None:
        return [Piece(request.transaction_id, request.amount)]
    if charge.amount.currency != request.amount.currency:
        raise ProviderRejected("currency_differs", "the charge is in another currency")
    parts = in_order(parts_in(found, charge))
    ours = [one for one in found if one.type == REFUND and one.approved and parts and _is_of(one, request)]
    made = sum_of(ours) if ours else Money.zero(charge.amount.currency)
    gone = max(
        refunded_in(found, charge.amount.currency) - made, request.refunded_before, key=lambda money: money.minor
    )
    if not parts:  # where refunds are not shown PayPlus refuses what is too much
        gone = refunded_in(found, charge.amount.currency)
    if not gone + request.amount <= charge.amount:
        raise ProviderRejected("refund_exceeds_charge")
    if not parts and charge.multiple:
        raise ProviderRejected("split_parts_not_shown", "the parts of a payment by several ways are not shown")
    if not parts:
        return [Piece(charge.uid, request.amount)]
    if request.amount < made:
        raise OutcomeUnknown("refund_amount_differs")
    return _divided(found, request, parts, request.amount - made, gone)


def in_order(parts: Sequence[Transaction]) -> list[Transaction]:
    """The parts in the order in which they give back: cards first, then gift and club cards, else as PayPlus has it."""
    return sorted(parts, key=lambda one: one.method in CLUB_CARDS)


def refund_made(data: object, request: RefundRequest, piece: Piece) -> ProviderRefund:
    """The answer to a refund. Raises OutcomeUnknown when it does not say what was done."""
    transaction = part(data, "transaction") if isinstance(data, dict) else {}
    uid, status_code = id_of(transaction.get("uid")), code_of(transaction.get("status_code"))
    if uid is None or status_code is None:
        raise OutcomeUnknown("unreadable_answer", "a refund without uid or status")
    if status_code != APPROVED:
        return ProviderRefund(uid, RefundStatus.FAILED, failure_code=status_code)
    amount = transaction.get("amount")
    if amount is not None and _money(amount, request.amount.currency) != piece.amount:
        raise OutcomeUnknown("refund_amount_differs")
    return ProviderRefund(uid, RefundStatus.SUCCEEDED)


def _divided(
    found: Sequence[Transaction], request: RefundRequest, parts: Sequence[Transaction], wanted: Money, gone: Money
) -> list[Piece]:
    """Take what is wanted from the parts in their order. What went back of no known part came from the first ones."""
    made = [one for one in found if one.type == REFUND and one.approved]
    zero, rooms, theirs = Money.zero(wanted.currency), [], gone
    for number, each in enumerate(parts, 1):
        of_it = [one for one in made if _part_of(one, parts) == number]
        rooms.append((each.amount or zero) - (sum_of(of_it) if of_it else zero))
        others = [one for one in of_it if not _is_of(one, request)]
        theirs = theirs - (sum_of(others) if others else zero)
    pieces = []
    for number, (each, free) in enumerate(zip(parts, rooms, strict=True), 1):
        taken = _least(free, theirs)
        theirs, room = theirs - taken, free - taken
        amount = _least(room, wanted)
        if amount.minor > 0 and not any(_is_of(one, request) and _number(one) == number for one in made):
            pieces.append(Piece(each.uid, amount, number))
            wanted = wanted - amount
    if wanted.minor > 0:
        raise ProviderRejected("refund_exceeds_charge", "the parts have less left than the payment")
    return pieces


def _part_of(refund: Transaction, parts: Sequence[Transaction]) -> int | None:
    """The number of the part that a refund gives back: as it says, else by its method and card; None: not known."""
    if _number(refund):
        return _number(refund)
    card = (refund.method, refund.card_last4)
    same = [number for number, each in enumerate(parts, 1) if (each.method, each.card_last4) == card]
    return same[0] if len(same) == 1 else None


def _least(one: Money, other: Money) -> Money:
    return Money(max(0, min(one.minor, other.minor)), one.currency)


def _is_of(one: Transaction, request: RefundRequest) -> bool:
    mark = mark_of(one)
    return mark is not None and mark.refund_id == request.refund_id


def _is_unnamed(one: Transaction, request: RefundRequest) -> bool:
    """Without a name, or with the charge's own, copied."""
    mark = mark_of(one)
    return mark is None or mark.refund_id == request.payment.reference


def _take(unnamed: list[Transaction], amount: Money) -> Transaction | None:
    """The first one of this amount, taken out of the list."""
    one = next((one for one in unnamed if one.amount is not None and _unsigned(one.amount) == amount), None)
    if one is not None:
        unnamed.remove(one)
    return one


def _number(one: Transaction) -> int:
    mark = mark_of(one)
    return 0 if mark is None or mark.number is None else mark.number


def _why_not(refund: Transaction) -> str:
    return "transaction_cancelled" if refund.cancelled else refund.status_code or "declined"


def _as_refund(one: Transaction, request: RefundRequest) -> ProviderRefund:
    if not one.approved:
        return ProviderRefund(one.uid, RefundStatus.FAILED, failure_code=one.status_code or "declined")
    if one.amount is not None and _unsigned(one.amount) != request.amount:
        raise OutcomeUnknown("refund_amount_differs")
    return ProviderRefund(one.uid, RefundStatus.SUCCEEDED)


def _unsigned(amount: Money) -> Money:
    return Money(abs(amount.minor), amount.currency)


def _money(amount: object, currency: object) -> Money | None:
    try:
        return money_of(amount, currency)
    except MoneyError:
        return None
