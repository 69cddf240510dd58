"""One Meshulam (Grow) account behind the provider contract."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

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
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    ProviderSetup,
    RefundRequest,
    RefundStatus,
    SavedMethod,
    SetupRef,
    SetupRequest,
)
from providers.http import ProviderHttp, base_address
from providers.meshulam.amounts import CURRENCY, to_wire
from providers.meshulam.errors import (
    ALREADY_DONE,
    ALREADY_REFUNDED,
    EXCEEDS_PAYMENT,
    IDENTIFIER_USED,
    LINK_EXPIRED,
    MANUAL_APPROVAL,
    NOT_FOUND,
    NOT_PERFORMED,
    UNKNOWN_PROCESS,
    UNKNOWN_TRANSACTION,
    UNNAMED,
    answered,
    data_of,
)
from providers.meshulam.objects import (
    Process,
    earlier_refund,
    opened,
    payment_of,
    process_of,
    read_transaction,
    refund_of,
)
from providers.meshulam.requests import acknowledgement_form, checkout_form, refund_form
from providers.meshulam.tokens import (
    IDENTIFIERS,
    RUNNING,
    Found,
    charge_form,
    charge_found,
    charge_made,
    identifier,
    payment_of_charge,
    payment_running,
    search_form,
    setup_form,
    setup_of,
)
from providers.meshulam.webhooks import check_token, read_event, split_tokens

PRODUCTION = "https://secure.meshulam.co.il"
SANDBOX = "https://sandbox.meshulam.co.il"
PATH = "/api/light/server/1.0/"
LINK_LIFETIME = timedelta(minutes=10)
"""Second-hand and UNCONFIRMED; the account option `link_minutes` says otherwise."""
LAPSE_GRACE = timedelta(minutes=5)
TEST_MARK = "test-"
"""Before the ids of Grow's test host: they are numbers as in production, and one of each may be the same."""
BIT_MAXIMUM = Decimal(3600)

_PAYER = ("name", "phone")
_METHODS = (
    Method("card", currency=CURRENCY, payer_fields=_PAYER),
    Method("bit", "wallet", CURRENCY, maximum=BIT_MAXIMUM, payer_fields=_PAYER),
    Method("paybox", "wallet", CURRENCY, payer_fields=_PAYER),
    Method("apple_pay", "wallet", CURRENCY, payer_fields=_PAYER),
    Method("google_pay", "wallet", CURRENCY, payer_fields=_PAYER),
    Method("bank_transfer", "bank", CURRENCY, payer_fields=_PAYER),
)
_MAX_LINK_MINUTES = 24 * 60
_UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)
_NO_SUCH_PROCESS = frozenset({UNKNOWN_PROCESS, UNKNOWN_TRANSACTION, NOT_FOUND})
_NOTHING_LEFT = frozenset({ALREADY_REFUNDED, EXCEEDS_PAYMENT})
_CREDENTIAL = re.compile(r"[\x20-\x7e]{1,500}")
_CODE = re.compile(r"[a-z][a-z_]{1,63}")
_APPROVAL = "approval-"


class MeshulamProvider:
    """One business at Meshulam. Forms out, JSON in; every answer is HTTP 200 and says in its body what happened.

    Credentials: `user_id`, `page_code`, `callback_token` (the unguessable last part of the callback address, of at
    least eight letters, digits, `-` or `_`; comma separated, newest first, while it is rotated). Optional:
    `page_code_<method>`, a page code for each further method, and `api_key` for platforms with several businesses.

    Options: `sandbox` (true: Grow's own test host), `api_base` (another origin), `link_minutes` (how long a payment
    link lives; ten minutes is UNCONFIRMED).

    Nothing can be found by our reference: without the process id and token there is no look. Nothing is signed: a
    callback is authenticated by the token in its address, then by its process token (`ProviderEvent.proof`), and it is
    believed only by what a look says.

    Saved cards: option `decline_codes` says what an error id of a declined charge means, in the words of
    domain/declines.py, such as `{"1002": "insufficient_funds"}`; Grow documents none.
    """

    name = "meshulam"
    required_credentials = ("user_id", "page_code", "callback_token")
    options = frozenset({"api_base", "decline_codes", "link_minutes", "sandbox"})
    capabilities = Capabilities(
        methods=_METHODS,
        acknowledges=True,
        one_checkout_per_reference=False,
        saves_methods=True,
        sets_up_methods=True,
        off_session=True,
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
            methods=tuple(method for method in _METHODS if self._page_code_of(method.name)),
            max_checkout_lifetime=self._link_lifetime,
        )
        self._decline_codes = _decline_codes(config.options.get("decline_codes"))
        self._origin = _origin(config.options)
        self._mark = TEST_MARK if self._origin == SANDBOX else ""
        self._clock = clock
        self._http = ProviderHttp(
            self._origin,
            timeout_seconds=config.timeout_seconds,
            transport=transport or config.network.transport(),
            clock=clock,
        )
        self._refunding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Create a payment process. A repeat creates another one: the first, whose address nobody has, lapses.

        Raises ProviderRejected for what can be seen beforehand (`method_not_supported`, `checkout_window_passed`, and
        as `checkout_form` does), ProviderMisconfigured `page_code_missing` for a method without a page.
        """
        page_code = self._page_code(request.method)
        maximum = next((one.maximum for one in _METHODS if one.name == request.method), None)
        if maximum is not None and request.amount.to_decimal() > maximum:
            raise ProviderRejected("amount_above_method_limit", f"{request.method}: {maximum} {CURRENCY}")
        form = checkout_form(request, self._notify_url(request.callback_url))
        if request.expires_at <= self._clock():
            raise ProviderRejected("checkout_window_passed")
        process_id, token, url = opened(
            await self._call("createPaymentProcess", form | {"userId": self._credentials["user_id"]}, page_code)
        )
        return OpenedCheckout(process_id, url, session_secret=token)

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What Meshulam says now. UNKNOWN when it does not know the process, or without its id and token.

        PENDING covers unpaid, declined and held (J5) alike; EXPIRED where Meshulam says that the link is, and where
        nothing was begun on a page that must have lapsed.
        """
        if ref.mode is CheckoutMode.SAVED:
            return await self._look_at_charge(ref)
        if ref.session_id is None or ref.session_secret is None:
            return _UNKNOWN
        try:
            process = await self._process(ref)
            if process.untouched and self._has_lapsed(ref):
                return ProviderPayment(PaymentStatus.EXPIRED, session_id=ref.session_id)
            return payment_of(process)
        except ProviderRejected as rejected:
            if rejected.code in _NO_SUCH_PROCESS:
                return _UNKNOWN
            if rejected.code == LINK_EXPIRED:
                return ProviderPayment(PaymentStatus.EXPIRED, session_id=ref.session_id)
            raise

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Meshulam has no call to close a page: the link lapses by itself. Returns the state."""
        return await self.look(ref)

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all. Meshulam has no idempotency value, so its own refunded sum is compared first.

        A sum beyond `refunded_before` by exactly this amount means that an earlier try acted: its refund is returned.
        Limits: a refund of the same amount made by hand meanwhile looks the same; another unexplained sum raises
        OutcomeUnknown. Part of a payment cannot be refunded on the payment's own day (ProviderRejected
        `same_day_partial_refund`). Money already paid out to the business needs Grow's approval: PENDING.
        """
        async with self._refunding.setdefault(request.transaction_id, asyncio.Lock()):
            if request.payment.mode is CheckoutMode.SAVED:
                return await self._whole_refund(request) or await self._refund_charge(request)
            process = await self._process(request.payment)
            earlier = earlier_refund(process, request)
            return earlier or await self._refund(request, process)

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund: by its id among the process's entries, else by the sum as `refund` does.

        Of a saved card's charge Meshulam shows only that all went back: a part that was asked for and not answered
        raises OutcomeUnknown `refund_not_visible` and is left to a person, rather than asked for twice.
        """
        if request.payment.mode is CheckoutMode.SAVED:
            if request.amount != request.captured:
                raise OutcomeUnknown("refund_not_visible", "Meshulam shows no parts of a saved card's refund")
            return await self._whole_refund(request)
        process = await self._process(request.payment)
        if any(credit.id == provider_refund_id for credit in process.credits):
            return ProviderRefund(str(provider_refund_id), RefundStatus.SUCCEEDED)
        earlier = earlier_refund(process, request)
        if earlier is None and provider_refund_id is not None and provider_refund_id.startswith(_APPROVAL):
            return ProviderRefund(provider_refund_id, RefundStatus.PENDING)
        return earlier

    async def acknowledge(self, ref: CheckoutRef, transaction_id: str) -> None:
        """approveTransaction: ends the repeats of the callback. The charge stands with or without it.

        The transaction's fields are fetched first, so nothing of a callback has to be kept. Holds are not approved
        (they are no money), and the charge of a saved card wants none. Raises ProviderRejected `unknown_transaction`
        when the process has no such charge.
        """
        if ref.mode is CheckoutMode.SAVED:
            return
        process = await self._process(ref)
        charge = process.transaction(transaction_id)
        if charge is None:
            raise ProviderRejected(UNKNOWN_TRANSACTION, "no such charge in the process")
        form = acknowledgement_form(process, ref.session_secret or "", charge)
        try:
            await self._call("approveTransaction", form, self._page_code(ref.method))
        except ProviderRejected as rejected:
            if rejected.code != ALREADY_DONE:
                raise

    async def open_setup(self, request: SetupRequest) -> OpenedCheckout:
        """A process that only saves a card. A repeat creates another one: the first lapses."""
        form = setup_form(request, self._notify_url(request.callback_url)) | {"userId": self._credentials["user_id"]}
        process_id, token, url = opened(await self._call("createPaymentProcess", form, self._page_code(None)))
        return OpenedCheckout(process_id, url, session_secret=token)

    async def look_setup(self, ref: SetupRef) -> ProviderSetup:
        """What Meshulam says now. UNKNOWN without the process's id and token."""
        if ref.session_id is None or ref.session_secret is None:
            return ProviderSetup(SetupStatus.UNKNOWN)
        form = {"processId": ref.session_id, "processToken": ref.session_secret}
        try:
            data = await self._call("getPaymentProcessInfo", form, self._page_code(None))
        except ProviderRejected as rejected:
            if rejected.code == LINK_EXPIRED:
                return ProviderSetup(SetupStatus.EXPIRED, ref.session_id)
            if rejected.code in _NO_SUCH_PROCESS:
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
        """Charge a saved card once: an identifier that was used is refused, and then the charge is looked for.

        PENDING for a charge that is at work: no other identifier is tried then. Another charge may have the same 31
        bits; the next identifier is tried where it is certain that this one was not used by an earlier request for the
        same reference. Raises ProviderDeclined for an error id that is not one of our own faults, OutcomeUnknown
        `charge_not_visible` where an earlier request may have used the identifier and nothing is listed under it.
        """
        for salt in range(IDENTIFIERS):
            form = charge_form(request, salt) | {"userId": self._credentials["user_id"]}
            try:
                made = await self._call("createTransactionWithToken", form, self._page_code(None))
                return charge_made(made, mark=self._mark)
            except ProviderRejected as rejected:
                if rejected.code != IDENTIFIER_USED:
                    raise self._as_decline(rejected) from None
            number = identifier(request.reference, salt)
            found = await self._search(number, request.token, request.reference)
            if found.charge is not None:
                return _charged(payment_of_charge(found.charge))
            if found.running:
                return _charged(payment_running(number, request.token))
            if request.asked_before:
                raise OutcomeUnknown("charge_not_visible", "the identifier was used and shows no charge")
        raise ProviderRejected(IDENTIFIER_USED, "every identifier was used by other charges")

    def _as_decline(self, rejected: ProviderRejected) -> ProviderRejected | ProviderDeclined:
        """Error ids of declined charges are not documented: what is no fault of ours is one."""
        if not rejected.code.startswith(UNNAMED):
            return rejected
        error_id = rejected.code.removeprefix(UNNAMED)
        return ProviderDeclined(self._decline_codes.get(error_id, rejected.code), rejected.detail)

    async def _look_at_charge(self, ref: CheckoutRef) -> ProviderPayment:
        """The charge of a saved card: by its id and token, else by card and identifier. PENDING while it runs."""
        named, secret = ref.session_id, ref.session_secret
        if named is not None and secret is not None and not named.startswith(RUNNING):
            form = {"transactionId": named, "transactionToken": secret}
            try:
                data = await self._call("getTransactionInfo", form, self._page_code(None))
            except ProviderRejected as rejected:
                if rejected.code in _NO_SUCH_PROCESS:
                    return _UNKNOWN
                raise
            return payment_of_charge(read_transaction({**data, "transactionToken": secret}, self._mark))
        token, numbers = ref.token, [identifier(ref.reference, salt) for salt in range(IDENTIFIERS)]
        if named is not None and named.startswith(RUNNING):
            token, numbers = secret, [named.removeprefix(RUNNING)]
        if token is None:
            return _UNKNOWN
        seen = _UNKNOWN
        for number in numbers:
            found = await self._search(number, token, ref.reference)
            if found.charge is not None:
                return payment_of_charge(found.charge)
            if found.running:
                seen = payment_running(number, token)
        return seen

    async def _search(self, number: str, token: str, reference: UUID) -> Found:
        """What is listed under an identifier."""
        method = "getTokenTransactionsByExternalIdentifiers"
        form = search_form(number, token) | {"userId": self._credentials["user_id"]}
        try:
            data = answered(await self._send(method, form, self._page_code(None)), method)
        except ProviderRejected as rejected:
            if rejected.code in _NO_SUCH_PROCESS:
                return Found()
            raise
        return charge_found(data, reference, mark=self._mark)

    async def _refund_charge(self, request: RefundRequest) -> ProviderRefund:
        charge_id, secret = request.payment.session_id, request.payment.session_secret
        if charge_id is None or secret is None or charge_id.startswith(RUNNING):  # found later, by its identifier
            seen = await self._look_at_charge(request.payment)
            charge_id, secret = seen.session_id, seen.session_secret
            if seen.captured is None or charge_id is None or secret is None:
                raise ProviderRejected(UNKNOWN_TRANSACTION, "no transaction id or token on record")
        form = {
            "transactionId": charge_id,
            "transactionToken": secret,
            "refundSum": to_wire(request.amount),
            "userId": self._credentials["user_id"],
        }
        try:
            return refund_of(await self._call("refundTransaction", form, self._page_code(None)), mark=self._mark)
        except ProviderRejected as rejected:
            if rejected.code == MANUAL_APPROVAL:
                return ProviderRefund(f"{_APPROVAL}{request.refund_id}", RefundStatus.PENDING)
            raise

    async def _whole_refund(self, request: RefundRequest) -> ProviderRefund | None:
        """The refund by which all of a saved card's charge went back; Meshulam tells nothing of parts."""
        seen = await self._look_at_charge(request.payment)
        if seen.refunded is None or request.refunded_before + request.amount != request.captured:
            return None
        return ProviderRefund(f"{request.transaction_id}-refunded", RefundStatus.SUCCEEDED)

    async def check_account(self) -> AccountCheck:
        """Connection test. Meshulam has no call for it: it is asked about a process that cannot exist.

        "No such process" shows that the host answers and knows the page code (which of the two Meshulam checks first
        is UNCONFIRMED). The user id shows itself only when a checkout is opened.
        """
        form = {"processId": "0", "processToken": "0", "userId": self._credentials["user_id"]}
        try:
            await self._call("getPaymentProcessInfo", form, self._page_code(None))
        except ProviderRejected as rejected:
            if rejected.code not in _NO_SUCH_PROCESS | {NOT_PERFORMED, LINK_EXPIRED}:
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
        await self._http.aclose()

    async def _refund(self, request: RefundRequest, process: Process) -> ProviderRefund:
        charge = process.transaction(request.transaction_id)
        if charge is None:
            raise ProviderRejected(UNKNOWN_TRANSACTION, "no such charge in the process")
        form = refund_form(request, charge) | {"userId": self._credentials["user_id"]}
        try:
            data = await self._call("refundTransaction", form, self._page_code(request.payment.method))
            return refund_of(data, mark=self._mark)
        except ProviderRejected as rejected:
            if rejected.code == MANUAL_APPROVAL:
                return ProviderRefund(f"{_APPROVAL}{request.refund_id}", RefundStatus.PENDING)
            # Nothing is left to refund although a moment ago there was: another try may just have acted.
            late = earlier_refund(await self._process(request.payment), request) if _exhausted(rejected) else None
            if late is None:
                raise
            return late

    def _has_lapsed(self, ref: CheckoutRef) -> bool:
        """Whether the page is gone even if it was opened in the payment's last moment."""
        return ref.expires_at is not None and self._clock() > ref.expires_at + self._link_lifetime + LAPSE_GRACE

    async def _process(self, ref: CheckoutRef) -> Process:
        """The process behind a reference. Raises ProviderRejected `unknown_process` without its id and token."""
        if ref.session_id is None or ref.session_secret is None:
            raise ProviderRejected(UNKNOWN_PROCESS, "no process id or token on record")
        form = {"processId": ref.session_id, "processToken": ref.session_secret}
        data = await self._call("getPaymentProcessInfo", form, self._page_code(ref.method))
        return process_of(data, ref.session_id, mark=self._mark)

    async def _call(self, method: str, form: Mapping[str, str], page_code: str) -> Mapping[str, Any]:
        return data_of(await self._send(method, form, page_code), method)

    async def _send(self, method: str, form: Mapping[str, str], page_code: str) -> object:
        account = {"pageCode": page_code}
        if self._credentials.get("api_key"):
            account["apiKey"] = self._credentials["api_key"]
        return await self._http.call("POST", PATH + method, form=account | dict(form))

    def _page_code(self, method: str | None) -> str:
        """Each method has its page; the default one is the card's."""
        if method is not None and all(method != one.name for one in _METHODS):
            raise ProviderRejected("method_not_supported")
        page_code = self._page_code_of(method)
        if not page_code:
            raise ProviderMisconfigured("page_code_missing", f"page_code_{method}")
        return page_code

    def _page_code_of(self, method: str | None) -> str | None:
        name = "page_code" if method in (None, _METHODS[0].name) else f"page_code_{method}"
        return self._credentials.get(name)

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
        raise ProviderMisconfigured("option_invalid", 'decline_codes is like {"1002": "insufficient_funds"}')
    return dict(option)


def _charged(seen: ProviderPayment) -> Charged:
    return Charged(str(seen.session_id), seen.status, seen.transaction_id, session_secret=seen.session_secret)


def _exhausted(rejected: ProviderRejected) -> bool:
    return rejected.code in _NOTHING_LEFT


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
