"""One Meshulam (Grow) account behind the provider contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

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
    OpenedCheckout,
    ProviderEvent,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    ProviderSetup,
    RefundRequest,
    SavedMethod,
    SetupRef,
    SetupRequest,
)
from providers.http import ProviderHttp, base_address
from providers.meshulam.amounts import CURRENCY
from providers.meshulam.calls import Calls, page_code_of
from providers.meshulam.charges import NO_SUCH, SavedCards
from providers.meshulam.error_ids import ALREADY_DONE, LINK_EXPIRED, NOT_PERFORMED, UNKNOWN_TRANSACTION
from providers.meshulam.methods import METHODS, PAYER_FIELDS
from providers.meshulam.objects import opened, payment_of
from providers.meshulam.refunds import Refunds
from providers.meshulam.requests import acknowledgement_form, checkout_form
from providers.meshulam.tokens import setup_form, setup_of
from providers.meshulam.webhooks import check_token, read_event, split_tokens

PRODUCTION = "https://secure.meshulam.co.il"
SANDBOX = "https://sandbox.meshulam.co.il"
LINK_LIFETIME = timedelta(minutes=10)
"""From Grow's pages; the account option `link_minutes` says otherwise."""
LAPSE_GRACE = timedelta(minutes=5)
TEST_MARK = "test-"
"""Before the ids of Grow's test host: they are numbers as in production, and one of each may be the same."""
_MAX_LINK_MINUTES = 24 * 60
_UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)
_CREDENTIAL = re.compile(r"[\x20-\x7e]{1,500}")
_CODE = re.compile(r"[a-z][a-z_]{1,63}")


class MeshulamProvider:
    """One business at Meshulam. Forms out, JSON in; every answer is HTTP 200 and says in its body what happened.

    Credentials: `user_id`, `page_code`, `callback_token` (the unguessable last part of the callback address, of at
    least eight letters, digits, `-` or `_`; comma separated, newest first, while it is rotated). Optional:
    `page_code_<method>`, a page code for each further method, and `api_key` for platforms with several businesses.

    Options: `sandbox` (true: Grow's own test host), `api_base` (another origin), `link_minutes` (how long a payment
    link lives), `decline_codes` (which error ids beyond Grow's table are declines, in the words of domain/declines.py,
    such as `{"1602": "insufficient_funds"}`), `lists_partial_refunds` (true: Grow's answers have been seen to list
    refunds of a part, so that one which they do not list was not made).

    Nothing can be found by our reference: without the process id and token there is no look. Nothing is signed: a
    callback is authenticated by the token in its address, then by its process token (`ProviderEvent.proof`), and it is
    believed only by what a look says.
    """

    name = "meshulam"
    required_credentials = ("user_id", "page_code", "callback_token")
    options = frozenset({"api_base", "decline_codes", "link_minutes", "lists_partial_refunds", "sandbox"})
    capabilities = Capabilities(
        methods=METHODS,
        max_refunds=2,  # by call; a third is made by Grow's support
        acknowledges=True,
        one_checkout_per_reference=False,
        saves_methods=True,
        sets_up_methods=True,
        off_session=True,
        charge_payer_fields=PAYER_FIELDS,
        unit="major",
        currencies=frozenset({CURRENCY}),
        max_checkout_lifetime=LINK_LIFETIME,
    )

    def __init__(
        self,
        config: AccountConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Check the credentials' form; nothing is opened yet. Raises ProviderMisconfigured.

        `transport` replaces the network and `clock` the time (UTC), both for tests.
        """
        self._credentials = {name: value.strip() for name, value in config.credentials.items()}
        for needed in self.required_credentials:
            if not _CREDENTIAL.fullmatch(self._credentials.get(needed, "")):
                raise ProviderMisconfigured("credential_missing", needed)
        self._tokens = split_tokens(self._credentials["callback_token"])
        link_minutes = config.options.get("link_minutes")
        self._link_lifetime = LINK_LIFETIME if link_minutes is None else _lifetime(link_minutes)
        self.capabilities = replace(
            self.capabilities,
            methods=tuple(method for method in METHODS if page_code_of(self._credentials, method.name)),
            max_checkout_lifetime=self._link_lifetime,
        )
        decline_codes = _decline_codes(config.options.get("decline_codes"))
        self._origin = _origin(config.options)
        self._mark = TEST_MARK if self._origin == SANDBOX else ""
        self._clock = clock
        http = ProviderHttp(
            self._origin,
            timeout_seconds=config.timeout_seconds,
            transport=transport or config.network.transport(),
            clock=clock,
        )
        self._calls = Calls(http, self._credentials, self._mark)
        self._cards = SavedCards(self._calls, decline_codes)
        lists_parts = config.options.get("lists_partial_refunds", False)
        if not isinstance(lists_parts, bool):
            raise ProviderMisconfigured("option_invalid", "lists_partial_refunds is true or false")
        self._refunds = Refunds(self._calls, self._cards, lists_parts=lists_parts)

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Create a payment process. A repeat creates another one: the first, whose address nobody has, lapses.

        Raises ProviderRejected for what can be seen beforehand (`method_not_supported`, `checkout_window_passed`, and
        as `checkout_form` does), ProviderMisconfigured `page_code_missing` for a method without a page.
        """
        self._calls.page_code(request.method)
        maximum = next((one.maximum for one in METHODS if one.name == request.method), None)
        if maximum is not None and request.amount.to_decimal() > maximum:
            raise ProviderRejected("amount_above_method_limit", f"{request.method}: {maximum} {CURRENCY}")
        form = checkout_form(request, self._notify_url(request.callback_url))
        if request.expires_at <= self._clock():
            raise ProviderRejected("checkout_window_passed")
        process_id, token, url = opened(
            await self._calls.send("createPaymentProcess", form | self._calls.of_business, request.method)
        )
        return OpenedCheckout(process_id, url, session_secret=token)

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What Meshulam says now. UNKNOWN when it does not know the process, or without its id and token.

        PENDING covers unpaid, declined and held (J5) alike; EXPIRED where Meshulam says that the link is, and where
        nothing was begun on a page that must have lapsed.
        """
        if ref.mode is CheckoutMode.SAVED:
            return await self._cards.look(ref)
        if ref.session_id is None or ref.session_secret is None:
            return _UNKNOWN
        try:
            process = await self._calls.process(ref)
            if process.untouched and self._has_lapsed(ref):
                return ProviderPayment(PaymentStatus.EXPIRED, session_id=ref.session_id)
            return payment_of(process)
        except ProviderRejected as rejected:
            if rejected.code in NO_SUCH:
                return _UNKNOWN
            if rejected.code == LINK_EXPIRED:
                return ProviderPayment(PaymentStatus.EXPIRED, session_id=ref.session_id)
            raise

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Meshulam has no call to close a page: the link lapses by itself. Returns the state."""
        return await self.look(ref)

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all, as `Refunds.make`: Grow has no idempotency value, so its own sums are compared first."""
        return await self._refunds.make(request)

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund, as `Refunds.look`: by its id, else by the sums."""
        return await self._refunds.look(request, provider_refund_id)

    async def acknowledge(self, ref: CheckoutRef, transaction_id: str) -> None:
        """approveTransaction: ends the repeats of the callback. The charge stands with or without it.

        The transaction's fields are fetched first, so nothing of a callback has to be kept. Holds are not approved
        (they are no money), and the charge of a saved card wants none. Raises ProviderRejected `unknown_transaction`
        when the process has no such charge.
        """
        if ref.mode is CheckoutMode.SAVED:
            return
        process = await self._calls.process(ref)
        charge = process.transaction(transaction_id)
        if charge is None:
            raise ProviderRejected(UNKNOWN_TRANSACTION, "no such charge in the process")
        form = acknowledgement_form(process, ref.session_secret or "", charge)
        try:
            await self._calls.send("approveTransaction", form, ref.method)
        except ProviderRejected as rejected:
            if rejected.code != ALREADY_DONE:
                raise

    async def open_setup(self, request: SetupRequest) -> OpenedCheckout:
        """A process that only saves a card. A repeat creates another one: the first lapses."""
        form = setup_form(request, self._notify_url(request.callback_url)) | self._calls.of_business
        process_id, token, url = opened(await self._calls.send("createPaymentProcess", form))
        return OpenedCheckout(process_id, url, session_secret=token)

    async def look_setup(self, ref: SetupRef) -> ProviderSetup:
        """What Meshulam says now. UNKNOWN without the process's id and token."""
        if ref.session_id is None or ref.session_secret is None:
            return ProviderSetup(SetupStatus.UNKNOWN)
        form = {"processId": ref.session_id, "processToken": ref.session_secret}
        try:
            data = await self._calls.send("getPaymentProcessInfo", form)
        except ProviderRejected as rejected:
            if rejected.code == LINK_EXPIRED:
                return ProviderSetup(SetupStatus.EXPIRED, ref.session_id)
            if rejected.code in NO_SUCH:
                return ProviderSetup(SetupStatus.UNKNOWN)
            raise
        return setup_of(data, ref.session_id)

    async def close_setup(self, ref: SetupRef) -> ProviderSetup:
        """Meshulam has no call to close a page: the link lapses by itself. Returns the state."""
        return await self.look_setup(ref)

    async def look_method(self, token: str) -> SavedMethod | None:
        """The card as we have it: Meshulam has no call that reads one, and no callback that tells of one."""
        return SavedMethod(token=token)

    async def detach(self, token: str) -> None:
        """Nothing: Meshulam documents no call that forgets a card, so it is only forgotten by us."""

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge a saved card once, as `SavedCards.charge`."""
        return await self._cards.charge(request)

    async def check_account(self) -> AccountCheck:
        """Connection test. Meshulam has no call for it: it is asked about a process that cannot exist.

        "No such process" shows that the host answers and knows the page code (which of the two Meshulam checks first
        is UNCONFIRMED). The user id shows itself only when a checkout is opened.
        """
        form = {"processId": "0", "processToken": "0"} | self._calls.of_business
        try:
            await self._calls.send("getPaymentProcessInfo", form)
        except ProviderRejected as rejected:
            if rejected.code not in NO_SUCH | {NOT_PERFORMED, LINK_EXPIRED}:
                raise
        ending = self._credentials["user_id"][-4:]
        detail = "the page code is known; the user id is checked when a checkout is opened"
        return AccountCheck(f"Grow business …{ending}", live=self._origin == PRODUCTION, detail=detail)

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Check the token in the address and read a server update. Raises WebhookRejected, nothing else.

        There is no signature. The caller compares `proof` with the stored process token, and looks.
        """
        check_token(callback.path_token, self._tokens)
        content_type, user_id = callback.headers.get("content-type", ""), self._credentials["user_id"]
        return read_event(callback.body, content_type, user_id, mark=self._mark)

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        await self._calls.aclose()

    def _has_lapsed(self, ref: CheckoutRef) -> bool:
        """Whether the page is gone even if it was opened in the payment's last moment."""
        return ref.expires_at is not None and self._clock() > ref.expires_at + self._link_lifetime + LAPSE_GRACE

    def _notify_url(self, callback_url: str | None) -> str | None:
        """The callback address, ending in our token."""
        if callback_url is None or callback_url.rsplit("/", 1)[-1] in self._tokens:
            return callback_url
        return f"{callback_url.rstrip('/')}/{self._tokens[0]}"


def _decline_codes(option: object) -> dict[str, str]:
    """Error id → our word. Raises ProviderMisconfigured."""
    if option is None:
        return {}
    if not isinstance(option, Mapping) or not all(
        isinstance(one, str) and one.isdigit() and isinstance(code, str) and _CODE.fullmatch(code)
        for one, code in option.items()
    ):
        raise ProviderMisconfigured("option_invalid", 'decline_codes is like {"1602": "insufficient_funds"}')
    return dict(option)


def _origin(options: Mapping[str, object]) -> str:
    api_base = base_address(options, "api_base")
    if api_base is not None:
        return api_base
    sandbox = options.get("sandbox", False)
    if not isinstance(sandbox, bool):  # "true" must not mean the live host
        raise ProviderMisconfigured("option_invalid", "sandbox is true or false")
    return SANDBOX if sandbox else PRODUCTION


def _lifetime(minutes: object) -> timedelta:
    if type(minutes) is not int or not 0 < minutes <= _MAX_LINK_MINUTES:
        raise ProviderMisconfigured("option_invalid", f"link_minutes is a whole number from 1 to {_MAX_LINK_MINUTES}")
    return timedelta(minutes=minutes)
