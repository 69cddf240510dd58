"""One PayU account in Colombia behind the provider contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID
from weakref import WeakValueDictionary

import httpx

from domain.payment import PaymentStatus
from providers.base import (
    AccountCheck,
    AccountConfig,
    Bank,
    Callback,
    Capabilities,
    CashInstructions,
    Charged,
    ChargeRequest,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    Method,
    OpenedCheckout,
    OutcomeUnknown,
    ProviderDeclined,
    ProviderDispute,
    ProviderEvent,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    SavedMethod,
)
from providers.http import ProviderHttp
from providers.payu.account import REQUIRED_CREDENTIALS, account_of
from providers.payu.amounts import CURRENCY, MINOR_IN_PESO
from providers.payu.chargebacks import chargebacks_of
from providers.payu.client import JsonObject, PayuClient
from providers.payu.errors import REGISTERED, REJECTED, failure_code
from providers.payu.methods import CARD, METHODS, NETWORKS, PSE
from providers.payu.objects import (
    FAILED_STATES,
    Order,
    Transaction,
    banks_of,
    extra_parameters,
    identifier,
    moment_of_milliseconds,
    payment_of,
    read_orders,
    text,
)
from providers.payu.refunds import PayuRefunds
from providers.payu.requests import cash_expiry, checkout_form, submission
from providers.payu.tokens import charge_submission, decline_of, imported
from providers.payu.webhooks import read_confirmation


class PayuProvider:
    """One account at PayU Latam (Colombia, COP).

    Credentials: `api_key`, `api_login`, `merchant_id`, `account_id`, and `hmac_key` for accounts that sign with
    HMAC-SHA256 by a key of their own. Options, all in docs/connect-payu.md: `test`, `test_flag`, `api_base`,
    `checkout_base`, `signature_algorithm`, `send_tax`, `payer_optional`, `payment_methods`, `limits`, `agreements`,
    `refund_wait_seconds`, `refunds_every_method`, `partial_value_in_order`, `several_refunds`, `cancellations_module`.

    A card is paid on PayU's page, which our form opens: opening it calls nobody, and the session id is our reference.
    PSE and cash are submitted, and their session id is PayU's order id. PayU has no idempotency keys: everything that
    acts first looks our reference up, and calls of this object about one reference go one after the other.
    """

    name = "payu"
    required_credentials = REQUIRED_CREDENTIALS
    options = frozenset(
        {
            "agreements",
            "api_base",
            "cancellations_module",
            "charges_without_cvv",
            "checkout_base",
            "limits",
            "partial_value_in_order",
            "payer_optional",
            "payment_methods",
            "refund_wait_seconds",
            "refunds_every_method",
            "send_tax",
            "several_refunds",
            "signature_algorithm",
            "test",
            "test_flag",
        }
    )
    capabilities = Capabilities(
        methods=METHODS,
        bank_list=True,
        max_refunds=1,  # one partial refund an order, and of a whole one nothing is left
        lists_refunds=True,
        looks_up_by_reference=True,
        off_session=True,
        imports_tokens=True,
        unit="major",
        currencies=frozenset({CURRENCY}),
        steps={CURRENCY: MINOR_IN_PESO},
    )

    def __init__(
        self,
        config: AccountConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read credentials and options; nothing is opened yet. Raises ProviderMisconfigured.

        `transport` replaces the network and `clock` the time (UTC), both for tests.
        """
        self._account = account_of(config)
        self.capabilities = replace(
            self.capabilities,
            methods=self._account.methods,
            max_refunds=None if self._account.several_refunds else self.capabilities.max_refunds,
        )
        self._http = ProviderHttp(
            self._account.api_base,
            timeout_seconds=config.timeout_seconds,
            transport=transport or config.network.transport(),
            clock=clock,
        )
        self._client = PayuClient(self._account, self._http)
        self._refunds = PayuRefunds(self._account, self._client, self._orders, clock)
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """The form of PayU's page (card), or the bank's address (PSE), or the code for the counter (cash).

        A repeat finds the transaction of an earlier try by our reference. Raises ProviderRejected for what PayU would
        not take, before anything is sent; ProviderDeclined when the transaction was declined at once.
        """
        method = self.capabilities.method(request.method)
        if method is None:
            raise ProviderRejected("method_not_supported")
        if request.mode is not CheckoutMode.HOSTED:
            raise ProviderRejected("mode_not_supported")
        if method.name == CARD.name:
            return OpenedCheckout(str(request.reference), None, form=checkout_form(request, method, self._account))
        transaction = submission(request, method, self._account, self._clock())
        async with self._alone(str(request.reference)):
            earlier = await self._submitted_before(request, method)
            return earlier or await self._submit(request, method, transaction)

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What PayU says now, by our reference. UNKNOWN while nobody has tried to pay on PayU's page."""
        reference = str(ref.reference)
        orders = await self._orders(reference)
        if ref.mode is CheckoutMode.SAVED:
            seen = payment_of(orders, _first_id(orders), form=False)
            failed = seen.status is PaymentStatus.FAILED
            return replace(seen, failure_code=decline_of(seen.failure_code)) if failed else seen
        form = ref.session_id == reference or (ref.session_id is None and ref.method in (None, CARD.name))
        return payment_of(orders, reference if form else _first_id(orders), form=form)

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Look only: PayU can close neither its page nor a code (`closes_checkout` is False)."""
        return await self.look(ref)

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all of a card payment; PayU usually answers PENDING without an id and decides within days.

        An earlier request is found in the order once PayU shows it there. Raises ProviderBusy `refund_too_early` in the
        first ten minutes, ProviderRejected when it is more than what is left, a second one, or the method has no
        refunds. After an earlier request (`asked_at`) a refusal is OutcomeUnknown: it says nothing of that one.
        """
        async with self._alone(str(request.payment.reference)):
            return await self._refunds.make(request)

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund, by PayU's id or ours. None: none is shown, as for days while PayU reviews it."""
        return await self._refunds.look(request, provider_refund_id)

    async def disputes_by_reference(
        self, reference: UUID, transaction_id: str, known: Sequence[str]
    ) -> list[ProviderDispute]:
        """The chargeback of a captured transaction, as its order shows it."""
        return chargebacks_of(await self._orders(str(reference)), transaction_id, known, self._clock())

    def import_token(self, given: SavedMethod) -> SavedMethod:
        """A token that PayU's library made in the payer's browser."""
        return imported(given)

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge a tokenised card. A charge of an earlier try is found by our reference before anything is sent.

        Raises ProviderDeclined with the code in our words.
        """
        transaction = charge_submission(request, self._account)
        async with self._alone(str(request.reference)):
            earlier = await self._charge_made(str(request.reference))
            if earlier is not None:
                return earlier
            answer = await self._client.submit(transaction)
        state = text(answer, "state")
        order_id, transaction_id = (identifier(answer, name) for name in ("orderId", "transactionId"))
        if state in FAILED_STATES:
            raise ProviderDeclined(decline_of(failure_code(answer.get("responseCode"), "")), session_id=order_id)
        if state is None or order_id is None:
            raise OutcomeUnknown("unreadable_answer", "transaction without order or state")
        status = PaymentStatus.PAID if state == "APPROVED" else PaymentStatus.PENDING
        return Charged(order_id, status, transaction_id)

    async def _charge_made(self, reference: str) -> Charged | None:
        """The charge that an earlier try made. Raises ProviderDeclined when that one was declined."""
        orders = await self._orders(reference)
        seen = payment_of(orders, _first_id(orders), form=False)
        if seen.status is PaymentStatus.UNKNOWN:
            return None
        if seen.status in (PaymentStatus.FAILED, PaymentStatus.EXPIRED):
            raise ProviderDeclined(decline_of(seen.failure_code), session_id=seen.session_id)
        return Charged(seen.session_id or reference, seen.status, seen.transaction_id)

    async def check_account(self) -> AccountCheck:
        """Connection test: PING on both interfaces with the account's credentials."""
        await self._client.ping()
        account = self._account
        return AccountCheck(f"PayU merchant {account.merchant_id}", account.live, f"account {account.account_id}")

    async def banks(self) -> Sequence[Bank]:
        """The banks of PSE; `code` is the method field `financial_institution_code`."""
        return banks_of(await self._client.banks())

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Authenticate and read a confirmation. Raises WebhookRejected, nothing else."""
        return read_confirmation(callback.body, self._account)

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        await self._http.aclose()

    async def _orders(self, reference: str) -> tuple[Order, ...]:
        account = self._account
        payload = await self._client.orders(reference)
        return read_orders(payload, reference, live=account.live, retried=account.cancellations_module)

    async def _submit(self, request: CheckoutRequest, method: Method, transaction: JsonObject) -> OpenedCheckout:
        try:
            answer = await self._client.submit(transaction)
        except ProviderRejected as refused:
            # The reason may be that our reference exists: an earlier try that was not visible yet.
            found = await self._submitted_before(request, method) if refused.code in (REJECTED, REGISTERED) else None
            if found is None:
                raise
            return found
        state, order_id = text(answer, "state"), identifier(answer, "orderId")
        if state in FAILED_STATES:
            raise ProviderDeclined(failure_code(answer.get("responseCode"), "declined"))
        if state is None or order_id is None:
            raise OutcomeUnknown("unreadable_answer", "transaction without order or state")
        return self._opened(request, method, order_id, extra_parameters(answer))

    async def _submitted_before(self, request: CheckoutRequest, method: Method) -> OpenedCheckout | None:
        """What an earlier try submitted. Raises ProviderDeclined when that one was declined."""
        orders = await self._orders(str(request.reference))
        attempts = [(order, one) for order in orders for one in order.captures()]
        if not attempts:
            if orders:
                raise OutcomeUnknown("order_without_transaction")
            return None
        alive = next(((order, one) for order, one in attempts if one.state not in FAILED_STATES), None)
        if alive is None:
            raise ProviderDeclined(attempts[-1][1].failure)
        order, transaction = alive
        return self._opened(request, method, order.id, await self._extra(method, transaction))

    async def _extra(self, method: Method, transaction: Transaction) -> JsonObject:
        """The transaction's extra parameters; where the order does not show them, its response is asked for."""
        needed = "BANK_URL" if method.name == PSE.name else "REFERENCE"
        if needed in transaction.extra:
            return transaction.extra
        payload = await self._client.transaction(transaction.id)
        return {**transaction.extra, **extra_parameters(payload if isinstance(payload, dict) else {})}

    def _opened(self, request: CheckoutRequest, method: Method, order_id: str, extra: JsonObject) -> OpenedCheckout:
        if method.name == PSE.name:
            url = _address(extra, "BANK_URL")
            if url is None:  # nobody was ever given the bank's page of this transaction, so it lapses unpaid
                raise ProviderRejected("bank_page_unknown")
            return OpenedCheckout(order_id, url)
        cash = CashInstructions(
            network=NETWORKS[method.name],
            code=identifier(extra, "REFERENCE") or order_id,  # PayU's page: the two are equal
            agreement=self._account.agreements.get(method.name) or _service_codes(extra),
            expires_at=moment_of_milliseconds(extra.get("EXPIRATION_DATE")) or cash_expiry(request),
            voucher_url=_address(extra, "URL_PAYMENT_RECEIPT_HTML"),
        )
        return OpenedCheckout(order_id, None, cash=cash)

    @asynccontextmanager
    async def _alone(self, reference: str) -> AsyncIterator[None]:
        """Look-up and act are two calls: nobody else of ours comes between them."""
        lock = self._locks.setdefault(reference, asyncio.Lock())
        async with lock:
            yield


def _first_id(orders: Sequence[Order]) -> str | None:
    return orders[0].id if orders else None


def _address(extra: JsonObject, name: str) -> str | None:
    url = text(extra, name)
    return url if url is not None and url.startswith(("https://", "http://")) else None


def _service_codes(extra: JsonObject) -> str | None:
    """BANK_REFERENCED: the agreement's number at each bank."""
    banks = (("BANCO_BOGOTA_SERVICE_CODE", "Banco de Bogotá"), ("BANCOLOMBIA_SERVICE_CODE", "Bancolombia"))
    found = [f"{name} {text(extra, field)}" for field, name in banks if text(extra, field)]
    return ", ".join(found) or None
