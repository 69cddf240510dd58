"""Refunds at PayU: asked for once, found again in the order, decided within days.

The usual answer is PENDING without an id. While PayU reviews a request the order shows no refund at all, and the same
request again is refused as already registered. Then a transaction appears, or several where PayU tries again; whether
it shows our reason is not known, so one of the amount that we asked for, after we asked, is ours as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from domain.money import Money
from providers.base import (
    NothingMoved,
    OutcomeUnknown,
    ProviderBusy,
    ProviderDeclined,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.payu.account import PayuAccount
from providers.payu.amounts import whole_pesos
from providers.payu.client import JsonObject, PayuClient
from providers.payu.errors import REGISTERED, failure_code
from providers.payu.methods import method_named
from providers.payu.objects import FAILED_STATES, Order, Transaction, identifier, refund_status, text
from providers.payu.requests import refund_submission

MAX_AGE = timedelta(days=357)
"""PayU refunds nothing that was approved longer ago, in Colombia."""
CLOCKS_DIFFER = timedelta(minutes=5)
"""How much earlier than our request PayU's clock may show what came of it."""
UNDATED = datetime.max.replace(tzinfo=UTC)
"""When something was made whose moment PayU does not tell: perhaps just now."""
ACCEPTED = ProviderRefund(None, RefundStatus.PENDING)
"""PayU has it under review; it has no id yet."""

Orders = Callable[[str], Awaitable[tuple[Order, ...]]]
"""The orders of our reference, as PayU's queries show them."""


class PayuRefunds:
    """Refunds of one account. The caller lets no two calls about one reference run at once."""

    def __init__(self, account: PayuAccount, client: PayuClient, orders: Orders, clock: Callable[[], datetime]) -> None:
        self._account = account
        self._client = client
        self._orders = orders
        self._clock = clock

    async def make(self, request: RefundRequest) -> ProviderRefund:
        """Have the refund made, or say how the earlier request for it stands.

        Raises NothingMoved only where no earlier request can have acted, else OutcomeUnknown in its place.
        """
        try:
            return await self._make(request)
        except ProviderBusy:
            raise
        except NothingMoved as refused:
            if request.asked_at is None:
                raise
            raise OutcomeUnknown("refund_asked_before", refused.code) from None

    async def look(self, request: RefundRequest, known_as: str | None) -> ProviderRefund | None:
        """What became of it, by PayU's id or ours. None: PayU shows none."""
        try:
            order, paid = await self._paid_order(request)
        except ProviderBusy as busy:
            if busy.code != "order_not_visible":
                raise
            return None
        known = next((one for one in order.transactions if one.id == known_as), None)
        if known is not None:
            return _latest(order, [known, *_followers(order, paid, [known], request.amount)])
        return _earlier(order, paid, request) if known_as is None else await self._by_id(known_as)

    async def _make(self, request: RefundRequest) -> ProviderRefund:
        whole_pesos(request.amount)
        order, paid = await self._paid_order(request)
        earlier = _earlier(order, paid, request)
        if earlier is not None:
            return earlier
        self._check(order, paid, request)
        whole = request.amount == order.paid_by(paid)
        try:
            answer = await self._client.submit(refund_submission(request, order.id, self._account, whole=whole))
        except ProviderRejected as refused:
            if refused.code == REGISTERED and request.asked_at is not None:  # by the earlier request
                return ACCEPTED
            raise
        return _answered(answer)

    async def _paid_order(self, request: RefundRequest) -> tuple[Order, Transaction]:
        orders = await self._orders(str(request.payment.reference))
        if not orders:
            raise ProviderBusy("order_not_visible", "the queries do not show the order of a captured payment")
        for order in orders:
            for one in order.captures():
                if one.id == request.transaction_id:
                    return order, one
        raise ProviderRejected("transaction_not_found")

    def _check(self, order: Order, paid: Transaction, request: RefundRequest) -> None:
        """What PayU would refuse, or worse would not. Raises NothingMoved errors."""
        if paid.state != "APPROVED":
            raise ProviderRejected("transaction_not_approved")
        named = method_named(paid.payment_method)
        method = next((one for one in self._account.methods if one.name == named), None)
        if method is not None and not method.refundable and not self._account.refunds_every_method:
            raise ProviderRejected("method_not_refundable", method.name)
        captured = order.paid_by(paid)
        standing = [one for one in order.refunds_of(paid.id) if order.outcome_of(one) is not RefundStatus.FAILED]
        taken = Money.zero(captured.currency)
        for one in standing:
            given = order.refunded_by(one, captured)
            if given is None:
                raise OutcomeUnknown("refunds_unclear", "a refund whose value PayU does not show")
            taken = taken if one.state in FAILED_STATES else taken + given
        if request.amount.currency != captured.currency or captured < taken + request.amount:
            raise ProviderRejected("refund_exceeds_payment")
        if standing and not self._account.several_refunds:
            raise ProviderRejected("second_refund_not_possible", "PayU makes one refund of an order")
        age = self._clock() - (paid.at or request.payment.created_at)
        if age > MAX_AGE:
            raise ProviderRejected("refund_too_late", f"{MAX_AGE.days} days")
        if age < self._account.refund_wait:
            raise ProviderBusy("refund_too_early", retry_after=self._account.refund_wait - age)

    async def _by_id(self, refund_id: str) -> ProviderRefund | None:
        """A refund that the order does not show, by TRANSACTION_RESPONSE_DETAIL."""
        payload = await self._client.transaction(refund_id)
        if not isinstance(payload, dict):
            return None
        state = text(payload, "state") or ""
        failed = state in FAILED_STATES
        code = failure_code(payload.get("responseCode"), state.lower()) if failed else None
        return ProviderRefund(refund_id, refund_status(state), code)


def _answered(answer: JsonObject) -> ProviderRefund:
    """The answer to a request. What has no id yet is under review, whatever its state is called."""
    state, refund_id = text(answer, "state"), identifier(answer, "transactionId")
    if state in FAILED_STATES:
        raise ProviderDeclined(failure_code(answer.get("responseCode"), "refund_declined"))
    if state is None:
        raise OutcomeUnknown("unreadable_answer", "refund without state")
    return ACCEPTED if refund_id is None else ProviderRefund(refund_id, refund_status(state))


def _earlier(order: Order, paid: Transaction, request: RefundRequest) -> ProviderRefund | None:
    """What came of an earlier request: by our id in the reason or parameters.

    Where PayU shows no reason, one of exactly this amount counts as ours as long as the refunds that are known
    (`refunded_before`) do not explain it: better one refund too few than one too many. One that was declined moved
    nothing, and may be of another request: it is ours if it came after we asked.
    """
    ours = str(request.refund_id)
    marked = [one for one in order.refunds_of(paid.id) if one.reason.startswith(ours) or ours in one.extra.values()]
    if marked:
        return _latest(order, [*marked, *_followers(order, paid, marked, request.amount)])
    captured = order.paid_by(paid)
    if not order.refunds_of(paid.id):
        gone = order.status == "REFUNDED" and request.amount == captured and request.asked_at is not None
        return ProviderRefund(None, RefundStatus.SUCCEEDED) if gone else None
    unmarked = [(one, order.refunded_by(one, captured)) for one in order.refunds_of(paid.id) if not one.reason]
    standing = [(one, given) for one, given in unmarked if one.state not in FAILED_STATES and given is not None]
    explained = sum(given.minor for _, given in standing) - request.refunded_before.minor < request.amount.minor
    fitting = [] if explained else [one for one, given in standing if given == request.amount]
    found = sorted(fitting, key=lambda one: one.at or UNDATED)[-1:]
    declined = [
        one
        for one, given in unmarked
        if one.state in FAILED_STATES and given == request.amount and _since(one, request.asked_at)
    ]
    return _latest(order, declined + found)


def _followers(order: Order, paid: Transaction, tries: list[Transaction], amount: Money) -> list[Transaction]:
    """The further tries that PayU made from these by itself, which carry no reason of ours."""
    begun = min((one.at for one in tries if one.at is not None), default=None)
    declined = any(one.state in FAILED_STATES for one in tries)
    captured = order.paid_by(paid)
    return [
        one
        for one in order.refunds_of(paid.id)
        if declined
        and one not in tries
        and not one.reason
        and order.refunded_by(one, captured) == amount
        and begun is not None
        and one.at is not None
        and one.at >= begun
    ]


def _since(refund: Transaction, asked_at: datetime | None) -> bool:
    return refund.at is not None and asked_at is not None and refund.at >= asked_at - CLOCKS_DIFFER


def _latest(order: Order, tries: list[Transaction]) -> ProviderRefund | None:
    """How a refund stands that was tried so: money that went back counts, else the last word."""
    if not tries:
        return None

    def weight(one: Transaction) -> tuple[bool, datetime, bool]:
        status = order.outcome_of(one)
        return status is RefundStatus.SUCCEEDED, one.at or UNDATED, status is RefundStatus.PENDING

    last = max(tries, key=weight)
    status = order.outcome_of(last)
    return ProviderRefund(last.id, status, last.failure if status is RefundStatus.FAILED else None)
