"""One Wompi account behind the provider contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx

from domain.payment import PaymentStatus
from providers.base import (
    AccountCheck,
    AccountConfig,
    Bank,
    Callback,
    Capabilities,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    OpenedCheckout,
    OutcomeUnknown,
    ProviderDeclined,
    ProviderEvent,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
    RefundWindow,
)
from providers.http import ProviderHttp
from providers.reading import Tolerance
from providers.webhook_signatures import read_json_object
from providers.wompi.account import REQUIRED, account_of
from providers.wompi.api import REFERENCE_USED, WompiApi
from providers.wompi.objects import (
    APPROVED,
    CURRENCY,
    FAILED,
    VOIDED,
    Attempt,
    Link,
    Transaction,
    failure_code,
    payment_of,
)
from providers.wompi.requests import (
    DIRECT,
    LINK,
    METHODS,
    NEQUI,
    PSE,
    link_body,
    link_url,
    payment_method,
    transaction_body,
    web_checkout_url,
)
from providers.wompi.webhooks import check_event, read_event

CLOSING_GRACE = timedelta(minutes=5)
"""After its end a page is taken as closed only this much later: Wompi lets a refused payer try again for 3 minutes."""
BANK_URL_WAITS_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Between looks for the bank's address; the last one repeats for as long as the call may take."""
NEQUI_APP = "Nequi"
VOIDABLE = RefundWindow(0, "America/Bogota", "in Wompi's panel (comercios.wompi.co)")
"""A void is taken on the day of the payment. What the panel refunds later is shown by no call."""
MAX_PAGES = 40
CLOCK_MARGIN = timedelta(days=1)

_UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)


class WompiProvider:
    """One merchant at Wompi (Colombia); pesos only, in whole cents.

    Credentials: `public_key`, `private_key`, `integrity_secret`, `events_secret` (comma separated while it is
    changed). Options: `api_base`, `checkout_base` (to reach something else than Wompi), `event_max_age_seconds`,
    and for what Wompi's pages leave open: `transactions_key` (`either`, `public`, `private`: for POST /transactions),
    `personal_auth_field` (the field of the second acceptance token, '' to send none). UNCONFIRMED besides: that a
    transaction of a payment link is found by day and link, and the form of its reference.

    Every call ends within `timeout_seconds`, with all its requests together. Calls raise ProviderError subclasses
    only; their texts hold types and field names, nothing personal.
    """

    name = "wompi"
    required_credentials = REQUIRED
    options = frozenset(
        {"api_base", "checkout_base", "event_max_age_seconds", "personal_auth_field", "transactions_key"}
    )
    capabilities = Capabilities(
        methods=METHODS,
        bank_list=True,
        partial_refund=False,
        refund_window=VOIDABLE,
        lists_refunds=True,
        looks_up_by_reference=True,
        currencies=frozenset({CURRENCY}),
    )

    def __init__(
        self,
        config: AccountConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Check keys and options; nothing is opened yet. Raises ProviderMisconfigured.

        `transport` replaces the network and `clock` the time (UTC), both for tests.
        """
        self._account = account_of(config)
        self._timeout_seconds = config.timeout_seconds
        self._tolerance = Tolerance(self._account.event_max_age_seconds, config.webhook_future_tolerance_seconds)
        self._clock = clock
        self._http = ProviderHttp(
            self._account.api_base,
            timeout_seconds=config.timeout_seconds,
            transport=transport or config.network.transport(),
            clock=clock,
        )
        self._api = WompiApi(self._account, self._http)

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Compute the Web Checkout's address (`card`), create a link (`link`) or a transaction (`pse`, `nequi`).

        `card` sends nothing; the session id is our reference. A transaction exists once: Wompi refuses a second one of
        our reference (422), and then the first is looked up. A link whose creation went unanswered is made again, and
        the first, whose address nobody has, lapses. `nequi` has no address but `approve_in`. Raises OutcomeUnknown
        `bank_url_pending` when the bank's address was not ready in time (a repeat finds it), ProviderDeclined when
        the transaction was refused at once, ProviderRejected `checkout_window_passed`, `method_not_supported`,
        `field_missing`, `field_invalid`, …
        """
        method = self.capabilities.method(request.method)
        if method is None or request.mode is not CheckoutMode.HOSTED:
            raise ProviderRejected("method_not_supported")
        request = replace(request, method=method.name)
        if method.name in DIRECT:
            payment_method(request)
        url = web_checkout_url(request, self._account)  # also the check of amount and currency
        if method.name in DIRECT:
            async with self._deadline() as end:
                return await self._open_transaction(request, end)
        if request.expires_at <= self._clock():
            raise ProviderRejected("checkout_window_passed")
        if method.name == LINK:
            link = await self._api.create_link(link_body(request))
            return OpenedCheckout(link.id, link_url(link.id, self._account))
        return OpenedCheckout(str(request.reference), url)

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What Wompi says now.

        Of a page that nobody paid at Wompi knows nothing: it is PENDING where we gave its address out (our reference
        as session id), EXPIRED some minutes after its end, and UNKNOWN without a session id.
        """
        if ref.session_id in (None, str(ref.reference)):
            return await self._look_by_reference(ref)
        if ref.method == LINK:
            return await self._look_at_link(ref, ref.session_id)
        transaction = await self._api.transaction(ref.session_id)
        if transaction is None or transaction.reference != str(ref.reference):
            return _UNKNOWN
        return payment_of([transaction], Attempt(ref.session_id, PaymentStatus.PENDING, final_failures=True))

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Close a link; a page and a transaction cannot be closed, they end by themselves. The state after it."""
        if ref.method == LINK and ref.session_id is not None:
            with suppress(ProviderRejected):  # closed before, paid or unknown: the look tells
                await self._api.close_link(ref.session_id)
        return await self.look(ref)

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Void the whole of a card transaction; a repeat finds it voided and does nothing.

        Raises ProviderRejected: `refund_not_supported_by_method` (Wompi has no call for anything but cards),
        `partial_refund_not_supported` (a partial void carries no reference, so a repeat could not be told from a
        second one), `refund_exceeds_captured`, `not_captured`, `transaction_not_found`, `refund_window_over` (the day
        of the payment is past: Wompi's panel makes the refund), or `void_refused`.
        """
        if request.refunded_before.minor + request.amount.minor > request.captured.minor:
            raise ProviderRejected("refund_exceeds_captured")
        async with self._deadline():
            transaction = _refundable(await self._of_payment(request), request)
            if transaction.status == VOIDED:
                return _void_of(transaction.id, voided=True)
            paid_at = transaction.finalized_at
            if paid_at is not None and VOIDABLE.is_over(paid_at, self._clock()):
                raise ProviderRejected("refund_window_over", f"voids are for the same day: {VOIDABLE.afterwards}")
            return await self._void(transaction.id)

    async def check_account(self) -> AccountCheck:
        """Connection test of both keys: the merchant's name by the public one, an empty search by the private one."""
        async with self._deadline():
            merchant = await self._api.merchant()
            await self._api.transactions("connection-test")
        name = merchant.get("name")
        active = merchant.get("active") is not False
        return AccountCheck(
            name if isinstance(name, str) and name else "wompi",
            live=self._account.live,
            detail="can take payments" if active else "cannot take payments yet",
        )

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:  # noqa: ARG002
        """A void is seen on the transaction itself. None: not voided, or not yet."""
        transaction = await self._of_payment(request)
        voided = transaction is not None and transaction.status == VOIDED
        return _void_of(request.transaction_id, voided=True) if voided else None

    async def banks(self) -> Sequence[Bank]:
        """The banks of PSE; the code goes into `method_fields` as `financial_institution_code`."""
        return await self._api.banks()

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Authenticate and read an event. Raises WebhookRejected, nothing else."""
        event = read_json_object(callback.body)
        check_event(callback.headers, event, self._account.events_secrets, callback.received_at, self._tolerance)
        return read_event(event, self._account.environment)

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        await self._http.aclose()

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[float]:
        """All requests inside share one time-out; the end (loop's clock) is given. Raises OutcomeUnknown."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield asyncio.get_running_loop().time() + self._timeout_seconds
        except TimeoutError:
            raise OutcomeUnknown("timeout", f"no answer in {self._timeout_seconds:g} s") from None

    async def _open_transaction(self, request: CheckoutRequest, end: float) -> OpenedCheckout:
        transaction = await self._created_or_found(request)
        if request.method == PSE:
            transaction = await self._with_bank_url(transaction, end)
        if transaction.status in FAILED:
            raise ProviderDeclined(failure_code(transaction) or "")
        return OpenedCheckout(
            transaction.id, transaction.bank_url, approve_in=NEQUI_APP if request.method == NEQUI else None
        )

    async def _created_or_found(self, request: CheckoutRequest) -> Transaction:
        reference = str(request.reference)
        if request.expires_at <= self._clock():  # too late to create: only an earlier try can have
            found = await self._api.transactions(reference)
            if not found:
                raise ProviderRejected("checkout_window_passed")
            return found[0]
        body = transaction_body(request, self._account, await self._api.acceptance())
        try:
            return await self._api.create_transaction(body)
        except ProviderRejected as rejected:
            if rejected.code != REFERENCE_USED:
                raise
        found = await self._api.transactions(reference)
        if not found:  # an earlier try acted, only the search does not show it yet
            raise OutcomeUnknown(REFERENCE_USED, "the transaction of our reference is not to be seen yet")
        return found[0]

    async def _with_bank_url(self, transaction: Transaction, end: float) -> Transaction:
        """Look again until the bank's address is there or the transaction is final, as long as the call may take."""
        clock = asyncio.get_running_loop().time
        tries = 0
        while transaction.bank_url is None and transaction.status == "PENDING":
            wait = BANK_URL_WAITS_SECONDS[min(tries, len(BANK_URL_WAITS_SECONDS) - 1)]
            if clock() + wait + wait > end:  # the look takes its time too
                raise OutcomeUnknown("bank_url_pending", "the transaction exists, its bank's address does not yet")
            await asyncio.sleep(wait)
            tries += 1
            transaction = await self._api.transaction(transaction.id) or transaction
        return transaction

    async def _look_by_reference(self, ref: CheckoutRef) -> ProviderPayment:
        found = await self._api.transactions(str(ref.reference))
        idle = PaymentStatus.UNKNOWN if ref.session_id is None else PaymentStatus.PENDING
        if idle is PaymentStatus.PENDING and self._is_past(ref.expires_at):
            idle = PaymentStatus.EXPIRED
        session_id = ref.session_id
        if ref.method in DIRECT and found:
            session_id = found[0].id
        return payment_of(found, Attempt(session_id, idle, final_failures=ref.method in DIRECT))

    async def _look_at_link(self, ref: CheckoutRef, link_id: str) -> ProviderPayment:
        """A paid transaction that is known by its id says all; else the link and all of its transactions are read."""
        async with self._deadline():
            named = None if ref.transaction_id is None else await self._api.transaction(ref.transaction_id)
            if named is not None and named.link_id == link_id and named.status in (APPROVED, VOIDED):
                return payment_of([named], Attempt(link_id, PaymentStatus.PENDING))
            link = await self._api.link(link_id)
            if link is None:
                return _UNKNOWN
            found = await self._of_link(link_id, ref.created_at)
        return payment_of(found, Attempt(link_id, self._link_status(link)))

    async def _void(self, transaction_id: str) -> ProviderRefund:
        """Void, and look where the answer does not show it. A void that is not seen yet is PENDING."""
        refused = None
        try:
            answer = await self._api.void(transaction_id)
        except ProviderRejected as rejected:  # perhaps because another try was faster
            refused = rejected
        else:
            shown = answer.transaction
            if shown is not None and (shown.id, shown.status) == (transaction_id, VOIDED):
                return _void_of(transaction_id, voided=True)
            if answer.status is not None and answer.status in FAILED:  # of the void, which was taken and not made
                refused = ProviderRejected("void_refused", answer.status.lower())
        transaction = await self._api.transaction(transaction_id)
        voided = transaction is not None and transaction.status == VOIDED
        if refused is not None and not voided:
            raise ProviderRejected("void_refused", refused.detail)
        return _void_of(transaction_id, voided=voided)

    def _link_status(self, link: Link) -> PaymentStatus:
        """What a link without money is. The end is judged first: a link may be made inactive by it."""
        if self._is_past(link.expires_at):
            return PaymentStatus.EXPIRED
        return PaymentStatus.PENDING if link.active else PaymentStatus.CANCELED

    def _is_past(self, end: datetime | None) -> bool:
        """Whether a page or link of this end takes no more payments."""
        return end is not None and self._clock() > end + CLOSING_GRACE

    async def _of_link(self, link_id: str, created_at: datetime) -> list[Transaction]:
        """The transactions of one link. Wompi searches by reference or by day, and a link's references are its own.

        Raises OutcomeUnknown when there are too many to read them all and none of the read ones is paid.
        """
        first, last = (created_at - CLOCK_MARGIN).date(), (self._clock() + CLOCK_MARGIN).date()
        found: dict[str, Transaction] = {}
        seen: set[str] = set()
        for page in range(1, MAX_PAGES + 1):
            listed = await self._api.transactions_between(first, last, page)
            found |= {one.id: one for one in listed if one.link_id == link_id}
            new = {one.id for one in listed} - seen
            if not new or any(one.status == APPROVED for one in found.values()):
                return list(found.values())
            seen |= new
        raise OutcomeUnknown("too_many_transactions", f"more than {len(seen)} since the link was made")

    async def _of_payment(self, request: RefundRequest) -> Transaction | None:
        """The refunded payment's transaction, if it is that payment's: Wompi shows those of any merchant."""
        transaction = await self._api.transaction(request.transaction_id)
        if transaction is None:
            return None
        ours = transaction.reference == str(request.payment.reference)
        by_link = transaction.link_id is not None and transaction.link_id == request.payment.session_id
        return transaction if ours or by_link else None


def _refundable(transaction: Transaction | None, request: RefundRequest) -> Transaction:
    """The transaction, if it can be voided as a whole or was. Raises ProviderRejected."""
    if transaction is None:
        raise ProviderRejected("transaction_not_found")
    if transaction.method != "card":
        raise ProviderRejected("refund_not_supported_by_method", transaction.method or "")
    if transaction.status not in (APPROVED, VOIDED):
        raise ProviderRejected("not_captured")
    if request.amount != transaction.captured():
        raise ProviderRejected("partial_refund_not_supported")
    return transaction


def _void_of(transaction_id: str, *, voided: bool) -> ProviderRefund:
    """There is at most one void of a transaction, so its id says which one it is."""
    return ProviderRefund(f"void-{transaction_id}", RefundStatus.SUCCEEDED if voided else RefundStatus.PENDING)
