"""One PayPlus account behind the provider contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    AccountCheck,
    AccountConfig,
    Callback,
    Capabilities,
    Charged,
    ChargeRequest,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    Method,
    OpenedCheckout,
    OutcomeUnknown,
    ProviderDeclined,
    ProviderEvent,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    ProviderSetup,
    RefundRequest,
    SavedMethod,
    SetupRef,
    SetupRequest,
)
from providers.http import ProviderHttp
from providers.payplus import client
from providers.payplus.client import PayPlusClient
from providers.payplus.methods import (
    charge_body,
    charge_made,
    charge_of,
    search_window,
    setup_body,
    setup_of,
    token_of,
)
from providers.payplus.objects import transactions_in
from providers.payplus.options import REQUIRED_CREDENTIALS, PayPlusAccount
from providers.payplus.payments import UNKNOWN, payment_of
from providers.payplus.queries import found_in
from providers.payplus.refunding import PayPlusRefunds
from providers.payplus.requests import MIN_LIFETIME, link_body
from providers.payplus.webhooks import HASH_HEADER, check_signature, read_event
from providers.payplus.wire import CLUB_CARDS, CURRENCIES, JsonObject, id_of

METHODS = (
    Method("credit-card"),
    Method("bit", "wallet", currency="ILS"),
    Method("google-pay", "wallet"),
    Method("apple-pay", "wallet"),
    Method("paypal", "wallet"),
    *(Method(name) for name in CLUB_CARDS),
)
"""PayPlus's own names, as `allowed_charge_methods` takes them; which of them a page offers is the page's setting."""

FRESH = timedelta(minutes=1)
"""Older requests are looked up before a page is made: an earlier page may have been paid."""

_NO_PAGE = ("payment-request-uid", "page-request")
_NO_TOKEN = ("find-token", "find-card", "token-not-found")
_CLOSED = ("disabled", "expired", "already", "inactive", "not-active", "can-not-find", "cannot-find", "not-found")
"""Parts of the descriptions of refusals. `can-not-find-card` is seen in public clients; the rest is UNCONFIRMED, and
the option `closed_descriptions` adds to it."""


class PayPlusProvider:
    """One account at PayPlus, classic REST API v1.0 with hosted payment pages.

    Credentials: `api_key`, `secret_key` (also signs the callbacks), `payment_page_uid`; optional
    `previous_secret_key`, still accepted on callbacks. Options: see PayPlusAccount. Amounts are major units on the
    wire. UNCONFIRMED, so configurable or read liberally: the spelling of GBP (`gbp_code`), the descriptions by which
    PayPlus says `nobody paid yet` and `closed already`, and whether a refund's `more_info` is shown everywhere.
    """

    name = "payplus"
    required_credentials = REQUIRED_CREDENTIALS
    options = frozenset(
        {
            "api_base",
            "auth_form",
            "cashier_uid",
            "closed_descriptions",
            "environment",
            "gbp_code",
            "initial_invoice",
            "not_found_descriptions",
            "refund_documents",
            "send_email_approval",
            "send_email_failure",
            "terminal_uid",
        }
    )
    capabilities = Capabilities(
        methods=METHODS,
        lists_refunds=True,
        closes_checkout=True,
        one_checkout_per_reference=False,
        looks_up_by_reference=True,
        saves_methods=True,
        sets_up_methods=True,
        off_session=True,
        unit="major",
        currencies=CURRENCIES,
        min_checkout_lifetime=MIN_LIFETIME,
    )

    def __init__(
        self,
        config: AccountConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Check credentials and options; nothing is opened yet. Raises ProviderMisconfigured.

        `transport` replaces the network and `clock` the time (UTC), both for tests.
        """
        self._account = PayPlusAccount.of(config)
        if not self._account.charges_tokens:  # what could never be charged is not saved
            sheet = PayPlusProvider.capabilities
            self.capabilities = replace(sheet, saves_methods=False, sets_up_methods=False, off_session=False)
        http = ProviderHttp(
            self._account.api_base,
            timeout_seconds=config.timeout_seconds,
            transport=transport or config.network.transport(),
            clock=clock,
        )
        self._api = PayPlusClient(self._account, http)
        self._clock = clock
        self._refunds = PayPlusRefunds(self._api, self._account)

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Make a payment page. A repeat may make another one; the first, whose address nobody has, lapses.

        PayPlus has no idempotency key and shows no unpaid pages, but it finds payments by our reference: a repeat
        that is not fresh finds a page that was paid meanwhile instead of making a second one (its address is then
        not known any more and not needed). Raises ProviderRejected `checkout_window_passed` after the expiry.
        """
        if request.mode is not CheckoutMode.HOSTED:
            raise ProviderRejected("mode_not_supported", request.mode.value)
        if request.method is not None and self.capabilities.method(request.method) is None:
            raise ProviderRejected("method_not_supported")
        now = self._clock()
        body = link_body(request, self._account, now)
        if now - request.created_at > FRESH:
            paid = await self._paid_already(request)
            if paid is not None:
                return paid
        answer = await self._api.post(client.GENERATE_LINK, body)
        return _opened(answer.accepted())

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What PayPlus says now, refunds included.

        Its status query knows transactions, not pages: a page of ours at which nobody has tried to pay yet is
        PENDING unless PayPlus says that there is no such page. Without a page, our reference is searched, and what
        is not found is UNKNOWN.
        """
        if ref.mode is CheckoutMode.SAVED:
            return await self._look_at_charge(ref)
        if ref.session_id is None:
            return await self._look_by_reference(ref)
        answer = await self._api.post(client.IPN, {"payment_request_uid": ref.session_id, "related_transaction": True})
        found = found_in(self._account, answer)
        payment = payment_of(found, ref.reference, ref.session_id)
        if payment is not None:
            return payment
        if answer.says(*_NO_PAGE):
            return UNKNOWN
        return ProviderPayment(PaymentStatus.PENDING, session_id=ref.session_id)

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Disable the page, then look. CANCELED when it is closed and nobody paid, the money when somebody did.

        Where PayPlus refuses to disable for a reason that is not known to mean `closed`, the state is as `look` says.
        """
        if ref.mode is CheckoutMode.SAVED:  # a charge is over when it is answered
            return await self._look_at_charge(ref)
        if ref.session_id is None:
            return await self._look_by_reference(ref)
        closed = await self._disable(ref.session_id)
        seen = await self.look(ref)
        held = seen.transaction_id is not None
        if closed and seen.captured is None and seen.status is PaymentStatus.PENDING and not held:
            return ProviderPayment(PaymentStatus.CANCELED, session_id=ref.session_id, failure_code=seen.failure_code)
        return seen

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all of a charge; a repeat with the same id refunds once, where PayPlus shows refunds."""
        return await self._refunds.make(request)

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund, by our refund id. None: PayPlus shows refunds, and this one not, or not all of it.

        Raises OutcomeUndecided for one whose answer was lost, until PayPlus has shown a refund of this account.
        """
        return await self._refunds.look(request, provider_refund_id)

    async def open_setup(self, request: SetupRequest) -> OpenedCheckout:
        """Make a page that makes a token and takes nothing. A repeat may make another one; the first lapses."""
        body = setup_body(request, self._account, self._clock())
        return _opened((await self._api.post(client.GENERATE_LINK, body)).accepted())

    async def look_setup(self, ref: SetupRef) -> ProviderSetup:
        """What PayPlus says now. It knows tries, not pages: where nobody has tried the page is PENDING."""
        if ref.session_id is None:
            found = found_in(self._account, await self._api.post(client.IPN, {"more_info": str(ref.reference)}))
            page = next((one.page_uid for one in found if one.page_uid and one.reference == ref.reference), None)
            if page is None:
                return ProviderSetup(SetupStatus.UNKNOWN)
            return setup_of(found, ref.reference, page) or ProviderSetup(SetupStatus.UNKNOWN)
        answer = await self._api.post(client.IPN, {"payment_request_uid": ref.session_id})
        seen = setup_of(found_in(self._account, answer), ref.reference, ref.session_id)
        if seen is not None:
            return seen
        gone = answer.says(*_NO_PAGE)
        return ProviderSetup(SetupStatus.UNKNOWN if gone else SetupStatus.PENDING, ref.session_id)

    async def close_setup(self, ref: SetupRef) -> ProviderSetup:
        """Disable the page, then look."""
        closed = ref.session_id is not None and await self._disable(ref.session_id)
        seen = await self.look_setup(ref)
        if closed and seen.status is SetupStatus.PENDING:
            return ProviderSetup(SetupStatus.EXPIRED, ref.session_id, failure_code=seen.failure_code)
        return seen

    async def look_method(self, token: str) -> SavedMethod | None:
        """The card behind a token as PayPlus has it now; None when it has none such."""
        answer = await self._api.get(f"{client.TOKEN_CHECK}/{quote(token, safe='')}", {})
        return None if answer.says(*_NO_TOKEN) else token_of(answer.accepted(), token)

    async def detach(self, token: str) -> None:
        """Have PayPlus forget a token; one that it has forgotten already is no fault."""
        body = {} if self._account.terminal_uid is None else {"terminal_uid": self._account.terminal_uid}
        answer = await self._api.post(f"{client.TOKEN_REMOVE}/{quote(token, safe='')}", body)
        if not answer.says(*_NO_TOKEN):
            answer.accepted()

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge a token. PayPlus has no idempotency key: whoever repeats looks the reference up first.

        A token that is bound to other data of the customer is refused before anything moves: it is asked for once more
        with `move_token`, and without a customer that PayPlus does not find. Raises ProviderDeclined with the code in
        our words, `token_not_found` where PayPlus refuses the token itself.
        """
        body = charge_body(request, self._account)
        answer = await self._api.post(client.CHARGE_TOKEN, body)
        while (changed := _for_another_try(answer, body)) is not None:
            body = changed
            answer = await self._api.post(client.CHARGE_TOKEN, body)
        if answer.reason is not None:
            refusal = client.error_of(answer)
            if isinstance(refusal, ProviderRejected) and answer.says("token", *_NO_TOKEN):
                raise ProviderDeclined("token_not_found", refusal.code)
            raise refusal
        return charge_made(answer.data)

    async def _look_at_charge(self, ref: CheckoutRef) -> ProviderPayment:
        """The charge of a token: by PayPlus's id, else by our reference, else among the account's of those days."""
        if ref.session_id is not None:
            body = {"transaction_uid": ref.session_id, "related_transaction": True}
            found = found_in(self._account, await self._api.post(client.IPN, body))
            return charge_of(found, ref.reference, ref.session_id) or UNKNOWN
        found = found_in(self._account, await self._api.post(client.IPN, {"more_info": str(ref.reference)}))
        seen = charge_of(found, ref.reference, None)
        if seen is None:
            window = search_window(ref.created_at, self._clock())
            seen = charge_of(found_in(self._account, await self._api.post(client.VIEW, window)), ref.reference, None)
        return seen or UNKNOWN

    async def check_account(self) -> AccountCheck:
        """Connection test: the key may see the payment page. PayPlus names no account, so the page stands for it."""
        params = {"payment_page_uid": self._account.payment_page_uid}
        data = (await self._api.get(client.CHARGE_METHODS, params)).accepted()
        count = len(data) if isinstance(data, list | dict) else 0
        name = f"PayPlus page …{self._account.payment_page_uid[-4:]}"
        return AccountCheck(name, live=self._account.live, detail=f"{count} payment methods" if count else "")

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Authenticate and read a callback. Raises WebhookRejected, nothing else."""
        check_signature(callback.headers.get(HASH_HEADER), callback.body, self._account.callback_secrets)
        return read_event(callback.body, terminal_uid=self._account.terminal_uid)

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        await self._api.aclose()

    async def _paid_already(self, request: CheckoutRequest) -> OpenedCheckout | None:
        """The page that was paid for this reference. A refused query is no hindrance: a page alone moves no money."""
        answer = await self._api.post(client.IPN, {"more_info": str(request.reference)})
        found = transactions_in(answer.data) if answer.reason is None else []
        paid = payment_of(found, request.reference, None)
        if paid is None or paid.captured is None:
            return None
        return OpenedCheckout(paid.session_id or paid.transaction_id or str(request.reference), None)

    async def _disable(self, page_uid: str) -> bool:
        """Whether nobody can pay at the page any more. A refusal that is not understood is no."""
        try:
            answer = await self._api.post(f"{client.DISABLE}/{quote(page_uid, safe='')}", {})
        except ProviderRejected:
            return False
        if answer.reason is None:
            return True
        refusal = client.error_of(answer)
        if not isinstance(refusal, ProviderRejected):
            raise refusal
        return answer.says(*_CLOSED, *self._account.closed_descriptions)

    async def _look_by_reference(self, ref: CheckoutRef) -> ProviderPayment:
        """The newest payment with our reference; PayPlus's answer is searched again for it, exactly."""
        body = {"more_info": str(ref.reference), "related_transaction": True}
        found = found_in(self._account, await self._api.post(client.IPN, body))
        return payment_of(found, ref.reference, None) or UNKNOWN


def _for_another_try(answer: client.Answer, body: dict[str, Any]) -> dict[str, Any] | None:
    """The charge as PayPlus may take it after this refusal; None where no repeat helps, each change being made once."""
    if answer.says("find-card") and "move_token" not in body:
        return {**body, "move_token": True}
    if answer.says("find-customer") and "customer_uid" in body:
        return {name: value for name, value in body.items() if name != "customer_uid"}
    return None


def _opened(data: Any) -> OpenedCheckout:
    source: JsonObject = data if isinstance(data, dict) else {}
    page, link = id_of(source.get("page_request_uid")), source.get("payment_page_link")
    if page is None or not isinstance(link, str) or not _is_address(link):
        raise OutcomeUnknown("unreadable_answer", "a page without id or address")
    return OpenedCheckout(page, link)


def _is_address(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname)
