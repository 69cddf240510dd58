"""Read Wompi's answers: transactions and payment links in our words. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import ListedRefund, OutcomeUnknown, ProviderPayment, RefundStatus

JsonObject: TypeAlias = Mapping[str, Any]

CURRENCY = "COP"
MAX_WIRE = 10**14
"""Cents. Far above any charge, and within what storage holds."""

APPROVED, VOIDED, DECLINED, ERROR = "APPROVED", "VOIDED", "DECLINED", "ERROR"
FAILED = frozenset({DECLINED, ERROR})

_NOTHING: JsonObject = {}
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_LINK_REFERENCE = re.compile(r"([A-Za-z0-9_-]{2,64})_[0-9]{9,12}_[A-Za-z0-9_-]{1,40}", re.ASCII)
"""The reference that Wompi itself gives to a transaction of a payment link: link, seconds, chance."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction. `money` is None when the amount cannot be read, which matters only where money moved."""

    id: str
    status: str
    money: Money | None
    reference: str | None
    created_at: str = ""
    finalized_at: datetime | None = None
    method: str | None = None
    link_id: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    bank_url: str | None = None

    def captured(self) -> Money:
        """What arrived. Raises OutcomeUnknown when it cannot be read: neither paid nor unpaid can be claimed then."""
        if self.money is None:
            raise OutcomeUnknown("unreadable_answer", "amount or currency")
        return self.money


@dataclass(frozen=True, slots=True)
class VoidAnswer:
    """What a void says of itself: its own status, and the transaction as it is after it; None for what it left out."""

    status: str | None = None
    transaction: Transaction | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One payment link."""

    id: str
    active: bool
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of our own side of an attempt.

    `idle` is its status as long as no transaction decides it. `final_failures`: a refused transaction ends it, as
    with the methods for which we create the one transaction there can be.
    """

    session_id: str | None
    idle: PaymentStatus
    final_failures: bool = False


def payment_of(found: Sequence[Transaction], attempt: Attempt) -> ProviderPayment:
    """What all transactions of one attempt amount to: money first, then what is under way, then what was refused.

    A voided transaction was approved before (Wompi's rule), so it is PAID with all of it refunded; an approved one
    beside it wins. Of several approved ones the first counts.
    """
    moved = [one for one in found if one.status in (APPROVED, VOIDED)]
    if moved:
        return _moved(min(moved, key=lambda one: (one.status != APPROVED, one.created_at, one.id)), attempt)
    refused = [one for one in found if one.status in FAILED]
    waiting = [one for one in found if one not in refused]
    if waiting:
        newest = max(waiting, key=lambda one: (one.created_at, one.id))
        status = PaymentStatus.REQUIRES_ACTION if newest.method == "nequi" else PaymentStatus.PENDING
        return _unpaid(status, newest, attempt)
    if not refused:
        return ProviderPayment(attempt.idle, session_id=attempt.session_id)
    newest = max(refused, key=lambda one: (one.created_at, one.id))
    idle = PaymentStatus.PENDING if attempt.idle is PaymentStatus.UNKNOWN else attempt.idle
    return _unpaid(PaymentStatus.FAILED if attempt.final_failures else idle, newest, attempt)


def failure_code(transaction: Transaction) -> str | None:
    """`declined` or `error`. Wompi's `status_message` is a sentence for people and is not kept."""
    return transaction.status.lower() if transaction.status in FAILED else None


def transaction_of(value: object) -> Transaction:
    """Read one transaction. Raises OutcomeUnknown when it has no id or status."""
    source = value if isinstance(value, Mapping) else _NOTHING
    transaction_id, status = name(source.get("id")), name(source.get("status"))
    if transaction_id is None or status is None:
        raise OutcomeUnknown("unreadable_answer", "transaction without id or status")
    method = _object(source, "payment_method")
    extra = _object(method, "extra")
    method_name = name(source.get("payment_method_type")) or name(method.get("type"))
    last4, url = extra.get("last_four"), extra.get("async_payment_url")
    return Transaction(
        id=transaction_id,
        status=status,
        money=_money(source),
        reference=_text(source.get("reference")),
        created_at=_text(source.get("created_at")) or "",
        finalized_at=_moment(source.get("finalized_at")),
        method=None if method_name is None else method_name.lower(),
        link_id=link_of(source),
        card_brand=(name(extra.get("brand")) or "").lower() or None,
        card_last4=last4 if isinstance(last4, str) and re.fullmatch(r"[0-9]{4}", last4, re.ASCII) else None,
        bank_url=url if isinstance(url, str) and url.startswith(("https://", "http://")) else None,
    )


def void_answer(value: object) -> VoidAnswer:
    """Read the answer to a void. Never raises: it may be empty, and the look afterwards says the same."""
    source = value if isinstance(value, Mapping) else _NOTHING
    try:
        transaction = transaction_of(source.get("transaction"))
    except OutcomeUnknown:
        transaction = None
    return VoidAnswer(name(source.get("status")), transaction)


def transactions_of(value: object) -> list[Transaction]:
    """Read a list of transactions. Raises OutcomeUnknown when it is none."""
    if not isinstance(value, list):
        raise OutcomeUnknown("unreadable_answer", "no list of transactions")
    return [transaction_of(one) for one in value]


def link_object(value: object) -> Link:
    """Read one payment link. Raises OutcomeUnknown when it has no id."""
    source = value if isinstance(value, Mapping) else _NOTHING
    link_id = name(source.get("id"))
    if link_id is None:
        raise OutcomeUnknown("unreadable_answer", "payment link without id")
    return Link(link_id, source.get("active") is not False, _moment(source.get("expires_at")))


def link_of(transaction: JsonObject) -> str | None:
    """The payment link that a transaction came from: named, or in the reference that Wompi made for it."""
    named = name(transaction.get("payment_link_id"))
    made = _LINK_REFERENCE.fullmatch(_text(transaction.get("reference")) or "")
    return named or (made.group(1) if made else None)


def name(value: object) -> str | None:
    """An id or type that is safe to store and print."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def void_of(transaction_id: str, captured: Money) -> ListedRefund:
    """The void of a transaction as a refund: there is at most one, so the transaction's id says which one it is."""
    return ListedRefund(
        f"void-{transaction_id}", captured, RefundStatus.SUCCEEDED, unmarked=True, transaction_id=transaction_id
    )


def _moved(transaction: Transaction, attempt: Attempt) -> ProviderPayment:
    captured, voided = transaction.captured(), transaction.status == VOIDED
    return ProviderPayment(
        status=PaymentStatus.PAID,
        session_id=attempt.session_id,
        transaction_id=transaction.id,
        captured=captured,
        captured_at=transaction.finalized_at,
        refunded=captured if voided else None,  # a refund made in Wompi's panel cannot be seen
        refunds=(void_of(transaction.id, captured),) if voided else None,
        method=transaction.method,
        card_brand=transaction.card_brand,
        card_last4=transaction.card_last4,
    )


def _unpaid(status: PaymentStatus, transaction: Transaction, attempt: Attempt) -> ProviderPayment:
    return ProviderPayment(
        status=status,
        session_id=attempt.session_id,
        transaction_id=transaction.id,
        method=transaction.method,
        failure_code=failure_code(transaction),
    )


def _money(source: JsonObject) -> Money | None:
    amount, currency = source.get("amount_in_cents"), source.get("currency")
    if type(amount) is not int or not 0 < amount <= MAX_WIRE or not isinstance(currency, str):
        return None
    try:
        # cents are hundredths whatever the currency says; one without two digits would be another amount here
        money = Money(amount, currency)
    except MoneyError:
        return None
    return money if money.to_decimal().as_tuple().exponent == -_CENT_DIGITS else None


_CENT_DIGITS = 2


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _object(source: JsonObject, field: str) -> JsonObject:
    value = source.get(field)
    return value if isinstance(value, Mapping) else _NOTHING


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
