"""Read PayPlus's transactions, in every form in which they are seen, into our words. Pure functions.

A status query answers with flat fields, with `{"transaction": {…}, "data": {…}}`, or with a list of either; related
transactions (refunds, further charges of one page) hang below. All of it is read into one list first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import (
    ListedRefund,
    OutcomeUnknown,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
    SavedMethod,
)
from providers.payplus.wire import JsonObject, code_of, first, id_of, money_of, part
from providers.reading import own_reference

APPROVED = "000"
_ISRAEL = ZoneInfo("Asia/Jerusalem")
CHARGE, APPROVAL, REFUND = "charge", "approval", "refund"
MAX_DEPTH = 4
MAX_TRANSACTIONS = 500

UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction. `amount` None when it cannot be read exactly; `type` lower case."""

    uid: str
    type: str
    status: str | None
    status_code: str | None
    amount: Money | None
    page_uid: str | None = None
    reference: UUID | None = None
    """The UUID in `more_info`: the payment's for a charge, the refund's for a refund of ours."""
    method: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    cancelled: bool = False
    further_reference: UUID | None = None
    """The UUID in `more_info_1`: ours where a token was charged, the shop's own order id elsewhere."""
    token: str | None = field(default=None, repr=False)
    customer_uid: str | None = field(default=None, repr=False)
    exp_month: int | None = None
    exp_year: int | None = None
    at: datetime | None = None

    @property
    def approved(self) -> bool:
        """`000` and, where a status is given, `approved`: neither alone is enough."""
        return self.status_code == APPROVED and self.status in (None, "approved") and not self.cancelled

    @property
    def saved(self) -> SavedMethod | None:
        """The token that it made; None where it made none. PayPlus tells no fingerprint."""
        if self.token is None:
            return None
        return SavedMethod(
            token=self.token,
            customer=self.customer_uid,
            brand=self.card_brand,
            last4=self.card_last4,
            exp_month=self.exp_month,
            exp_year=self.exp_year,
        )


def transactions_in(data: object) -> list[Transaction]:
    """Every transaction in an answer, the answer's own order kept, each once."""
    found: dict[str, Transaction] = {}
    for one in _walk(data, MAX_DEPTH):
        found.setdefault(one.uid, one)
        if len(found) > MAX_TRANSACTIONS:
            raise OutcomeUnknown("unreadable_answer", "too many transactions")
    return list(found.values())


def payment_of(found: Sequence[Transaction], reference: UUID, session_id: str | None) -> ProviderPayment | None:
    """The payment behind the transactions of one page, or of our reference; None when there is none of it.

    PAID only by a charge with `000` and `approved`; an approval (J5) is a hold and stays PENDING. Several charges
    under one page (a payment split over cards) are added up, refunds likewise. Status PAID also where all was
    refunded later. Raises OutcomeUnknown when the answer cannot be true or read: another page's or payment's charge,
    an unreadable amount, two currencies.
    """
    own = [one for one in found if one.type != REFUND and _is_ours(one, reference, session_id)]
    if not own:
        return None
    charges = [one for one in own if one.type == CHARGE and one.approved]
    if not charges:
        return _unpaid(own, session_id)
    for charge in charges:
        if charge.status is None:
            raise OutcomeUnknown("unreadable_answer", "a charge without a status")
    main = charges[0]
    captured = _sum(charges)
    refunds = refunds_listed(found, reference)
    return ProviderPayment(
        PaymentStatus.PAID,
        session_id=main.page_uid or session_id,
        transaction_id=main.uid,
        captured=captured,
        captured_at=main.at,
        refunded=None if refunds is None else refunded_in(found, captured.currency),
        refunds=refunds,
        other_ids=tuple(one.uid for one in charges),
        method=main.method,
        card_brand=main.card_brand,
        card_last4=main.card_last4,
        saved_method=main.saved,
    )


def refunded_in(found: Sequence[Transaction], currency: str) -> Money:
    """The sum of all approved refunds, whoever made them. Raises OutcomeUnknown when one cannot be read."""
    refunds = [one for one in found if one.type == REFUND and one.approved]
    total = _sum(refunds) if refunds else Money.zero(currency)
    if total.currency != currency:
        raise OutcomeUnknown("mixed_currencies", "a refund in another currency than its charge")
    return total


def refunds_listed(found: Sequence[Transaction], charged: UUID) -> tuple[ListedRefund, ...] | None:
    """The refunds among some transactions. None where there is none: PayPlus may not show them, so that is not told.

    `charged` is the charge's reference, which a refund may carry as a copy: that says nothing of who made it.
    """
    shown = [one for one in found if one.type == REFUND]
    listed = []
    for one in shown:
        if one.amount is None:
            if one.approved:
                raise OutcomeUnknown("unreadable_amount")
            continue
        reference = None if one.reference == charged else one.reference
        listed.append(
            ListedRefund(
                one.uid,
                Money(abs(one.amount.minor), one.amount.currency),
                RefundStatus.SUCCEEDED if one.approved else RefundStatus.FAILED,
                reference=reference,
                unmarked=reference is None,
                failure_code=None if one.approved else _why_not(one),
            )
        )
    return tuple(listed) if shown else None


def _why_not(refund: Transaction) -> str:
    return "transaction_cancelled" if refund.cancelled else refund.status_code or "declined"


def refund_in(found: Sequence[Transaction], request: RefundRequest) -> ProviderRefund | None:
    """The refund that carries our refund id; one that succeeded before one that failed."""
    ours = [one for one in found if one.type == REFUND and one.reference == request.refund_id]
    best = next((one for one in ours if one.approved), ours[0] if ours else None)
    return None if best is None else _as_refund(best, request)


def refund_by_uid(found: Sequence[Transaction], request: RefundRequest, uid: str | None) -> ProviderRefund | None:
    """The refund with PayPlus's own id."""
    one = next((one for one in found if uid is not None and one.uid == uid and one.type == REFUND), None)
    return None if one is None else _as_refund(one, request)


def refund_of_same_sum(found: Sequence[Transaction], request: RefundRequest) -> ProviderRefund | None:
    """A refund without any refund id that explains, to the last agora, why more was refunded than we know of.

    UNCONFIRMED is whether PayPlus shows a refund's `more_info` everywhere; where it does not, this is what keeps a
    repeat from refunding twice. A refund that the merchant made by hand meanwhile is taken for ours then: the same
    sum has gone back, and no second one follows.
    """
    if refunded_in(found, request.amount.currency) - request.refunded_before != request.amount:
        return None
    unnamed = (None, request.payment.reference)  # none, or the charge's own, copied
    for one in found:
        if one.type == REFUND and one.approved and one.reference in unnamed and one.amount == request.amount:
            return ProviderRefund(one.uid, RefundStatus.SUCCEEDED)
    return None


def check_room(found: Sequence[Transaction], request: RefundRequest) -> None:
    """Raise ProviderRejected when the refunds would exceed the charge; PayPlus documents it for the sum as well."""
    charge = next((one for one in found if one.uid == request.transaction_id and one.amount is not None), None)
    if charge is None or charge.amount is None:
        return
    if charge.amount.currency != request.amount.currency:
        raise ProviderRejected("currency_differs", "the charge is in another currency")
    if not refunded_in(found, charge.amount.currency) + request.amount <= charge.amount:
        raise ProviderRejected("refund_exceeds_charge")


def refund_made(data: object, request: RefundRequest) -> ProviderRefund:
    """The answer to a refund. Raises OutcomeUnknown when it does not say what was done."""
    transaction = part(data, "transaction") if isinstance(data, dict) else {}
    uid, status_code = id_of(transaction.get("uid")), code_of(transaction.get("status_code"))
    if uid is None or status_code is None:
        raise OutcomeUnknown("unreadable_answer", "a refund without uid or status")
    if status_code != APPROVED:
        return ProviderRefund(uid, RefundStatus.FAILED, failure_code=status_code)
    amount = transaction.get("amount")
    if amount is not None and _money(amount, request.amount.currency) != request.amount:
        raise OutcomeUnknown("refund_amount_differs")
    return ProviderRefund(uid, RefundStatus.SUCCEEDED)


def read_transaction(source: JsonObject, kind: object = None) -> Transaction | None:
    """One transaction from its fields; `kind` where the type stands outside of it. None without an id."""
    uid = id_of(first(source, "transaction_uid", "uid"))
    if uid is None:
        return None
    kind = kind if isinstance(kind, str) else first(source, "transaction_type", "type")
    status = source.get("status")
    card = {**source, **part(source, "card_information")}
    return Transaction(
        uid=uid,
        type=kind.strip().lower() if isinstance(kind, str) else "",
        status=status.strip().lower() if isinstance(status, str) and status.strip() else None,
        status_code=code_of(source.get("status_code")),
        amount=_money(source.get("amount"), first(source, "currency", "currency_code")),
        page_uid=id_of(first(source, "page_request_uid", "payment_request_uid", "payment_page_request_uid")),
        reference=own_reference(source.get("more_info")),
        method=code_of(first(source, "alternative_method_name", "method")),
        card_brand=_label(card.get("brand_name")),
        card_last4=_last4(card.get("four_digits")),
        cancelled=source.get("transaction_is_cancelled") is True,
        further_reference=own_reference(source.get("more_info_1")),
        token=id_of(first(card, "token_uid", "token")),
        customer_uid=id_of(source.get("customer_uid")),
        exp_month=_number(card.get("expiry_month"), 1, 12),
        exp_year=_year(card.get("expiry_year")),
        at=_moment(source.get("date")),
    )


def _moment(value: object) -> datetime | None:
    """A moment as PayPlus writes it. That it is Israel's time where it names no zone is UNCONFIRMED."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=_ISRAEL)


def _walk(data: object, depth: int) -> Iterator[Transaction]:
    if depth == 0:
        return
    if isinstance(data, list):
        for item in data:
            yield from _walk(item, depth - 1)
        return
    if not isinstance(data, dict):
        return
    inner = data.get("transaction")
    if isinstance(inner, dict):
        beside = part(data, "data")
        one = read_transaction({**beside, **inner}, data.get("transaction_type"))
        related = first(data, "related_transactions") or inner.get("related_transactions")
    else:
        one, related = read_transaction(data), data.get("related_transactions")
    if one is not None:
        yield one
    elif not isinstance(inner, dict):
        for name in ("data", "transactions"):
            yield from _walk(data.get(name), depth - 1)
    yield from _walk(related, depth - 1)


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


def _as_refund(one: Transaction, request: RefundRequest) -> ProviderRefund:
    if not one.approved:
        return ProviderRefund(one.uid, RefundStatus.FAILED, failure_code=one.status_code or "declined")
    if one.amount is not None and one.amount != request.amount:
        raise OutcomeUnknown("refund_amount_differs")
    return ProviderRefund(one.uid, RefundStatus.SUCCEEDED)


def _sum(transactions: Sequence[Transaction]) -> Money:
    """Amounts without their sign (a refund's may carry one), added. Raises OutcomeUnknown."""
    amounts = [one.amount for one in transactions if one.amount is not None]
    if len(amounts) != len(transactions):
        raise OutcomeUnknown("unreadable_amount")
    if len({amount.currency for amount in amounts}) != 1:
        raise OutcomeUnknown("mixed_currencies")
    return Money(sum(abs(amount.minor) for amount in amounts), amounts[0].currency)


def _money(amount: object, currency: object) -> Money | None:
    try:
        return money_of(amount, currency)
    except MoneyError:
        return None


def _number(value: object, least: int, most: int) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and least <= int(text[:4]) <= most else None


def _year(value: object) -> int | None:
    """A year of two digits or four."""
    year = _number(value, 0, 2199)
    return None if year is None else year + 2000 if year < 100 else year  # noqa: PLR2004


def _label(value: object) -> str | None:
    """A card brand's name: short, letters and spaces."""
    return value if isinstance(value, str) and 0 < len(value) <= 40 and value.isprintable() else None  # noqa: PLR2004


def _last4(value: object) -> str | None:
    text = str(value) if type(value) is int else value
    return text if isinstance(text, str) and len(text) == 4 and text.isascii() and text.isdigit() else None  # noqa: PLR2004
