"""Read PayU's answers: orders and their transactions, in our words. Pure functions.

One reference may have several orders, and one order several transactions: a tried card each, and the refunds. What is
not readable where money could be is OutcomeUnknown, never "nothing there".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NoReturn
from uuid import UUID

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import Bank, ListedRefund, OutcomeUnknown, ProviderPayment, RefundStatus
from providers.payu.amounts import money_from
from providers.payu.client import JsonObject
from providers.payu.errors import failure_code
from providers.payu.methods import CARD_BRANDS, method_named
from providers.reading import own_reference

CAPTURE = "AUTHORIZATION_AND_CAPTURE"
REFUNDS = frozenset({"REFUND", "PARTIAL_REFUND"})
CHARGEBACK = "CHARGEBACK"
"""An order's status, and the type of the transaction, by which the payer's bank has taken money back."""
MODULE = "CANCELLATIONS_MODULE"
"""PayU's own department for refunds, which tries again what the network has declined."""
FAILED_STATES = frozenset({"DECLINED", "ERROR", "EXPIRED"})
"""Final without money. Whatever else is not APPROVED may still become so."""

_NOTHING: JsonObject = {}
_LAST4 = 4
_UUID_LENGTH = 36
_LONGEST = 2048
"""Of a text, as of an address by PayU's documents."""
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)
_LONG_FROM_NOW = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One attempt to move money."""

    id: str
    type: str
    state: str
    parent_id: str | None
    response_code: object
    payment_method: str | None
    values: JsonObject
    reason: str
    extra: JsonObject
    card_last4: str | None = field(repr=False, default=None)
    at: datetime | None = None
    source: str | None = None
    """Who made a refund's transaction: MODULE, or whoever asked for it."""

    @property
    def failure(self) -> str:
        """Why it failed."""
        return failure_code(self.response_code, self.state.lower() or "failed")


@dataclass(frozen=True, slots=True)
class Order:
    """One order with its transactions, as PayU lists them."""

    id: str
    status: str
    values: JsonObject
    transactions: tuple[Transaction, ...]
    retried: bool = False
    """PayU goes on with this account's refunds that the network has declined."""

    def captures(self) -> list[Transaction]:
        """The attempts to pay."""
        return [one for one in self.transactions if one.type == CAPTURE]

    @property
    def disputed(self) -> bool:
        """Whether the payer's bank has taken it back."""
        return CHARGEBACK in (self.status, *(one.type for one in self.transactions))

    def paid_by(self, transaction: Transaction) -> Money:
        """What an approved attempt captured: its own value, else the order's. Raises OutcomeUnknown."""
        return _value(transaction.values) or _value(self.values) or _unreadable("captured amount")

    def refunds_of(self, transaction_id: str) -> list[Transaction]:
        """The refunds of an attempt; one that names no parent belongs to the order's only payment."""
        return [one for one in self.transactions if one.type in REFUNDS and one.parent_id in (None, "", transaction_id)]

    def outcome_of(self, refund: Transaction) -> RefundStatus:
        """How a refund stands. Most are PENDING for days; a decline that PayU's module goes on from is, too.

        The module makes a transaction for each try. `MANUAL_REFUND` is true on its last one and false on those before;
        the first, from before the module, has no such mark.
        """
        if refund.state not in FAILED_STATES:
            return RefundStatus.SUCCEEDED if refund.state == "APPROVED" else RefundStatus.PENDING
        mark = str(refund.extra.get("MANUAL_REFUND") or "").lower()
        if mark:
            return RefundStatus.FAILED if mark == "true" else RefundStatus.PENDING
        retried = self.retried or any(one.source == MODULE for one in self.transactions)
        return RefundStatus.PENDING if retried else RefundStatus.FAILED

    def chargebacks_of(self, transaction_id: str) -> list[Transaction]:
        """The chargebacks of an attempt; one that names no parent belongs to the order's only payment."""
        return [
            one for one in self.transactions if one.type == CHARGEBACK and one.parent_id in (None, "", transaction_id)
        ]

    def refunded_by(self, refund: Transaction, captured: Money) -> Money | None:
        """What a refund gives back. None: a partial one whose value PayU does not show."""
        return _value(refund.values) or (captured if refund.type == "REFUND" else None)


def read_orders(payload: object, reference: str, *, live: bool, retried: bool = False) -> tuple[Order, ...]:
    """The orders of our reference; none for a payload of null. Raises OutcomeUnknown.

    An order that PayU marks as a test (`isTest`, which its page does not list) is no order of a live account: the
    payer can write `test=1` into a WebCheckout form, whose signature does not cover it.
    """
    if payload is None:
        return ()
    found = payload if isinstance(payload, list) else [payload]
    orders = [_object(item, "order") for item in found]
    return tuple(
        _order(order, retried=retried)
        for order in orders
        if order.get("referenceCode") == reference and not (live and order.get("isTest") is True)
    )


def payment_of(orders: Sequence[Order], session_id: str | None, *, form: bool) -> ProviderPayment:
    """What became of a reference. UNKNOWN without an order.

    Paid if any attempt was approved; where more than one was, `captured` is their sum, so that the surplus is seen.
    On PayU's page (`form`) a declined payer may try again, so a failure there is PENDING with a `failure_code`.
    """
    attempts = [(order, one) for order in orders for one in order.captures()]
    approved = [(order, one) for order, one in attempts if one.state == "APPROVED"]
    if approved:
        return _paid(sorted(approved, key=lambda pair: _age(pair[1])), session_id)
    failed = [one for _, one in attempts if one.state in FAILED_STATES]
    if len(failed) < len(attempts) or not attempts:
        known = bool(orders)
        waiting = next((one for _, one in attempts if one.state not in FAILED_STATES), None)
        return ProviderPayment(
            PaymentStatus.PENDING if known else PaymentStatus.UNKNOWN,
            session_id if known else None,
            transaction_id=None if waiting is None else waiting.id,
            method=None if waiting is None else method_named(waiting.payment_method),
        )
    last = failed[-1]
    status = PaymentStatus.EXPIRED if last.state == "EXPIRED" else PaymentStatus.FAILED
    return ProviderPayment(
        PaymentStatus.PENDING if form else status,
        session_id,
        transaction_id=last.id,
        method=method_named(last.payment_method),
        failure_code=last.failure,
    )


def refund_status(state: str) -> RefundStatus:
    """A refund's state; what is not decided is PENDING, as most of them are for days."""
    if state == "APPROVED":
        return RefundStatus.SUCCEEDED
    return RefundStatus.FAILED if state in FAILED_STATES else RefundStatus.PENDING


def banks_of(listed: object) -> list[Bank]:
    """The banks of GET_BANKS_LIST without its first line, which asks to choose one. Raises OutcomeUnknown."""
    if not isinstance(listed, list):
        _unreadable("banks")
    found = [(text(bank, "pseCode"), text(bank, "description")) for bank in listed if isinstance(bank, Mapping)]
    return [Bank(code, name) for code, name in found if code is not None and name is not None and code != "0"]


def text(source: JsonObject, name: str) -> str | None:
    """A readable string or a whole number as text, else None: PayU writes ids both ways."""
    value = source.get(name)
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() else None


def identifier(source: JsonObject, name: str) -> str | None:
    """An id that is safe to store and print, else None."""
    value = text(source, name)
    return value if value is not None and _ID.fullmatch(value) else None


def moment_of_milliseconds(value: object) -> datetime | None:
    """A moment in epoch milliseconds, as a number or a string."""
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value  # noqa: PLR2004
    if type(number) is not int or number <= 0:
        return None
    try:
        return datetime.fromtimestamp(number / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def extra_parameters(source: JsonObject) -> JsonObject:
    """`extraParameters` of a transaction or of a response; empty where there are none."""
    value = source.get("extraParameters")
    return value if isinstance(value, Mapping) else _NOTHING


def _paid(approved: list[tuple[Order, Transaction]], session_id: str | None) -> ProviderPayment:
    order, first = approved[0]
    try:
        captured = order.paid_by(first)
        refunded = Money.zero(captured.currency)
        for owner, one in approved:
            paid = owner.paid_by(one)
            captured = captured if one is first else captured + paid
            refunded = refunded + _refunded(owner, one, paid)
    except MoneyError:
        _unreadable("approved attempts in more than one currency")
    return ProviderPayment(
        PaymentStatus.PAID,
        session_id,
        transaction_id=first.id,
        captured=captured,
        captured_at=first.at,
        refunded=refunded,
        refunds=_listed(approved, refunded),
        disputed=any(owner.disputed for owner, _ in approved),
        other_ids=tuple(dict.fromkeys(name for owner, one in approved for name in (owner.id, one.id))),
        method=method_named(first.payment_method),
        card_brand=first.payment_method.lower() if first.payment_method in CARD_BRANDS else None,
        card_last4=first.card_last4,
    )


def _listed(approved: list[tuple[Order, Transaction]], refunded: Money) -> tuple[ListedRefund, ...] | None:
    """The refunds one by one; not told where an order says that it is refunded and shows none.

    One that is not decided and whose value PayU does not show is left out: it is told when it is decided. So is a try
    that was declined and from which PayU goes on: the next one tells.
    """
    found: dict[str, ListedRefund] = {}
    for order, paid in approved:
        captured = order.paid_by(paid)
        for one in order.refunds_of(paid.id):
            amount = order.refunded_by(one, captured)
            status = order.outcome_of(one)
            goes_on = one.state in FAILED_STATES and status is RefundStatus.PENDING
            if amount is None or one.id in found or goes_on:
                continue
            found[one.id] = ListedRefund(
                one.id,
                amount,
                status,
                at=one.at,
                reference=_our_refund(one),
                unmarked=not one.reason,
                transaction_id=paid.id,
                failure_code=one.failure if status is RefundStatus.FAILED else None,
            )
    return None if refunded.minor and not found else tuple(found.values())


def _our_refund(refund: Transaction) -> UUID | None:
    """Our id of a refund, at the beginning of its reason or among its parameters."""
    texts = (refund.reason[:_UUID_LENGTH], *refund.extra.values())
    return next((named for named in map(own_reference, texts) if named is not None), None)


def _age(transaction: Transaction) -> tuple[datetime, str]:
    """Oldest first, whatever the order of PayU's list, so that the same one stands for the payment for ever."""
    return transaction.at or _LONG_FROM_NOW, transaction.id


def _refunded(order: Order, transaction: Transaction, paid: Money) -> Money:
    """The sum of the refunds that were approved."""
    approved = [one for one in order.refunds_of(transaction.id) if one.state == "APPROVED"]
    total = Money.zero(paid.currency)
    for one in approved:
        total = total + (order.refunded_by(one, paid) or _unreadable("refunded amount"))
    if order.status == "REFUNDED" and not total.minor:
        return paid
    return min(total, paid)


def _order(order: JsonObject, *, retried: bool) -> Order:
    listed = order.get("transactions")
    if listed is not None and not isinstance(listed, list):
        _unreadable("transactions")
    return Order(
        id=identifier(order, "id") or _unreadable("order without id"),
        status=text(order, "status") or "",
        values=_mapping(order, "additionalValues"),
        transactions=tuple(_transaction(_object(one, "transaction")) for one in listed or ()),
        retried=retried,
    )


def _transaction(one: JsonObject) -> Transaction:
    response = _mapping(one, "transactionResponse")
    number = text(_mapping(one, "creditCard"), "maskedNumber") or ""
    return Transaction(
        id=identifier(one, "id") or _unreadable("transaction without id"),
        type=text(one, "type") or "",
        state=text(response, "state") or "",
        parent_id=identifier(one, "parentTransactionId"),
        response_code=response.get("responseCode"),
        payment_method=text(one, "paymentMethod"),
        values=_mapping(one, "additionalValues"),
        reason=text(one, "reason") or "",
        extra={**extra_parameters(response), **extra_parameters(one)},
        card_last4=number[-_LAST4:] if number[-_LAST4:].isdigit() and len(number) > _LAST4 else None,
        at=moment_of_milliseconds(response.get("operationDate")),
        source=text(one, "source"),
    )


def _value(values: JsonObject) -> Money | None:
    """TX_VALUE. None where there is none; raises OutcomeUnknown where it cannot be read."""
    value = values.get("TX_VALUE")
    if value is None:
        return None
    try:
        source = _object(value, "TX_VALUE")
        return money_from(source.get("value"), source.get("currency"))
    except MoneyError:
        _unreadable("TX_VALUE")


def _mapping(source: JsonObject, name: str) -> JsonObject:
    value = source.get(name)
    return value if isinstance(value, Mapping) else _NOTHING


def _object(value: object, what: str) -> JsonObject:
    return value if isinstance(value, Mapping) else _unreadable(what)


def _unreadable(what: str) -> NoReturn:
    raise OutcomeUnknown("unreadable_answer", what)
