"""One Stripe account behind the provider contract."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import stripe

from domain.payment import PaymentStatus
from providers.base import (
    CARD,
    CUSTOMER_GONE,
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
    OutcomeUnknown,
    Payer,
    ProviderDispute,
    ProviderError,
    ProviderEvent,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    ProviderRiskAlert,
    ProviderSetup,
    ProviderSubscription,
    RefundRequest,
    SavedMethod,
    SetupRef,
    SetupRequest,
)
from providers.http import base_address
from providers.reading import Tolerance, split_secrets
from providers.stripe.amounts import STEPS, SUPPORTED_CURRENCIES
from providers.stripe.check import StripeCheck
from providers.stripe.errors import NOT_FOUND, acted, customer_is_gone, known_about
from providers.stripe.links import LINK, StripeLinks, is_link
from providers.stripe.methods import StripeMethods
from providers.stripe.objects import (
    JsonObject,
    dispute_of,
    listed_refund,
    payment_of_intent,
    payment_of_session,
    refund_of,
    text,
)
from providers.stripe.requests import (
    MAX_SESSION_LIFETIME,
    MIN_SESSION_LIFETIME,
    intent_params,
    refund_params,
    session_expiry,
    session_params,
)
from providers.stripe.risk import StripeRisk
from providers.stripe.search import StripeSearch
from providers.stripe.subscriptions import StripeSubscriptions
from providers.stripe.transport import StripeTransport
from providers.stripe.webhooks import SIGNATURE_HEADER, check_signature, read_event

KEY_LIFETIME = timedelta(hours=24)
"""Stripe keeps an idempotency key for at least this long; afterwards the same key acts again."""
KEY_TRUSTED_FOR = KEY_LIFETIME - timedelta(hours=1)
"""Older than this: look our reference up before anything is created, with a margin for clocks and slow calls."""

_EXPAND_SESSION = ["payment_intent.latest_charge.refunds"]
_EXPAND_INTENT = ["latest_charge.refunds"]
_UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)


class StripeProvider:
    """One account at Stripe, by its own client: no module-wide key, no retries of the library's.

    Credentials: `secret_key`, `webhook_secret` (comma separated while it is rotated). Options: `api_base`, only to
    reach something else than Stripe itself. Every request ends within `timeout_seconds`; calls raise ProviderError
    subclasses only; their texts hold codes, parameter names and request ids, nothing personal.
    """

    name = "stripe"
    required_credentials = ("secret_key", "webhook_secret")
    options = frozenset({"api_base", "follow_subscriptions", "own_account"})
    capabilities = Capabilities(
        direct_payment=True,
        methods=(CARD, LINK),
        closes_checkout=True,
        lists_refunds=True,
        idempotency_key_lifetime=KEY_LIFETIME,
        looks_up_by_reference=True,
        failed_can_become_paid=False,
        saves_methods=True,
        sets_up_methods=True,
        off_session=True,
        customers=True,
        currencies=SUPPORTED_CURRENCIES,
        steps=STEPS,
        min_checkout_lifetime=MIN_SESSION_LIFETIME,
        max_checkout_lifetime=MAX_SESSION_LIFETIME,
    )

    def __init__(
        self,
        config: AccountConfig,
        *,
        http_client: stripe.HTTPClient | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Check the credentials' form; nothing is opened yet. Raises ProviderMisconfigured.

        `http_client` replaces the transport and `clock` the time (UTC), both for tests.
        """
        self._account_id = config.account_id
        self._timeout_seconds = config.timeout_seconds
        self._tolerance = Tolerance(config.webhook_tolerance_seconds, config.webhook_future_tolerance_seconds)
        self._secret_key = config.credential("secret_key")
        self._webhook_secrets = split_secrets(config.credentials.get("webhook_secret", ""))
        if not self._webhook_secrets:
            raise ProviderMisconfigured("credential_missing", "webhook_secret")
        self._api_base = base_address(config.options, "api_base")
        self._follows = config.options.get("follow_subscriptions") is True
        self._own_account = _own_account(config.options.get("own_account"))
        self._live = _mode_of(self._secret_key)
        self._clock = clock
        self._http_client = http_client
        self._network = config.network
        self._client: stripe.StripeClient | None = None
        # The library writes request bodies and Stripe's messages, e-mails among them, to its log below this level.
        library_log = logging.getLogger("stripe")
        library_log.setLevel(max(library_log.level, logging.WARNING))

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Create the session (hosted) or intent (direct), or find again the one that an earlier try created.

        The key `checkout-{reference}` or `intent-{reference}` makes every repeat return the first one's object.
        Where the key cannot be trusted (old payment, stored failure, other parameters) our reference is looked up
        first. Method `link` makes a payment link instead of a session, under `link-{reference}`.

        Raises ProviderRejected `checkout_window_passed` when Stripe would no longer accept a session's expiry,
        `method_not_supported` for a method or a link in direct mode that there is not, or a link that is to save one.
        """
        method = self.capabilities.method(request.method)
        hosted = request.mode is CheckoutMode.HOSTED
        if method is None or (method is LINK and (not hosted or request.save_method)):
            raise ProviderRejected("method_not_supported")
        if method is LINK:
            return await self._links().open(request, key_trusted=self._trusts_key(request))
        return await (self._open_session(request) if hosted else self._open_intent(request))

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """What Stripe says now. UNKNOWN when it does not know the session or, without one, our reference."""
        seen = await self._look(ref)
        if seen.refunds is not None or seen.refunded is None or not seen.refunded.minor or seen.transaction_id is None:
            return seen
        if is_link(ref):  # of several payments; each would have to be asked about
            return seen
        listed = await self._search().refunds(seen.transaction_id)  # more than an answer about the payment shows
        return replace(seen, refunds=tuple(listed_refund(one) for one in listed))

    async def _look(self, ref: CheckoutRef) -> ProviderPayment:
        if is_link(ref):
            return await self._links().look(ref)
        if ref.session_id is None and ref.transaction_id is None:
            return await self._look_by_reference(ref)
        try:
            if ref.session_id is None:  # a charge that was not made here, such as a followed subscription's
                return payment_of_intent(await self._intent(str(ref.transaction_id)))
            if ref.mode is CheckoutMode.HOSTED:
                return payment_of_session(await self._session(ref.session_id))
            return payment_of_intent(await self._intent(ref.session_id), one_try=ref.mode is CheckoutMode.SAVED)
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return _UNKNOWN
            raise

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Expire the session, cancel the intent or close the link, and return the state after it.

        When Stripe refuses because it is no longer open (paid meanwhile, expired already), the state says so.
        """
        if is_link(ref):
            return await self._links().close(ref)
        session_id = ref.session_id
        if session_id is None:
            found = await self._look_by_reference(ref)
            if found.session_id is None or found.status not in (PaymentStatus.PENDING, PaymentStatus.REQUIRES_ACTION):
                return found
            session_id = found.session_id
        v1 = self._api().v1
        try:
            if ref.mode is CheckoutMode.HOSTED:
                expired = v1.checkout.sessions.expire_async(session_id, {"expand": _EXPAND_SESSION})
                return payment_of_session(await self._call(expired))
            canceled = v1.payment_intents.cancel_async(session_id, {"expand": _EXPAND_INTENT})
            return payment_of_intent(await self._call(canceled))
        except ProviderRejected:
            return await self.look(CheckoutRef(ref.reference, session_id, ref.mode, ref.created_at))

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all of a captured payment; a repeat with the same refund id refunds once.

        A refund has no age here, so its key may be gone: the payment's refunds are looked through first.
        """
        params = refund_params(request)
        earlier = await self._search().refund(request.transaction_id, str(request.refund_id))
        if earlier is not None:
            return refund_of(earlier)
        options: stripe.RequestOptions = {"idempotency_key": f"refund-{request.refund_id}"}
        return refund_of(await self._call(self._api().v1.refunds.create_async(params, options)))

    async def disputes_of(self, transaction_id: str) -> list[ProviderDispute]:
        """Every dispute of a payment intent, as it stands now."""
        return [dispute_of(dispute) for dispute in await self._search().disputes(transaction_id)]

    async def risk_alerts_of(self, transaction_id: str, named: Sequence[str]) -> list[ProviderRiskAlert]:
        """Early fraud warnings of a payment, and the reviews of it that are named."""
        return await StripeRisk(self._api(), self._call).alerts_of(transaction_id, named)

    async def look_subscription(self, subscription_id: str) -> ProviderSubscription | None:
        """A subscription that Stripe manages, as it stands now; None when there is no such."""
        return await StripeSubscriptions(self._api(), self._call).look(subscription_id)

    async def create_customer(self, reference: UUID, payer: Payer) -> str:
        """Stripe's id of a new customer."""
        return await self._methods().create_customer(reference, payer)

    async def open_setup(self, request: SetupRequest) -> OpenedCheckout:
        """A hosted session that saves a method, under the key `setup-{reference}`."""
        return await self._methods().open_setup(request)

    async def look_setup(self, ref: SetupRef) -> ProviderSetup:
        """How a set-up stands."""
        return await self._methods().look_setup(ref)

    async def close_setup(self, ref: SetupRef) -> ProviderSetup:
        """Expire the session of a set-up."""
        return await self._methods().close_setup(ref)

    async def look_method(self, token: str) -> SavedMethod | None:
        """A saved method as it is now."""
        return await self._methods().look_method(token)

    async def detach(self, token: str) -> None:
        """Detach a saved method from its customer, for ever."""
        await self._methods().detach(token)

    async def is_revoked(self, token: str, mandate: str) -> bool:
        """Whether a mandate of a saved method is over."""
        return await self._methods().is_revoked(token, mandate)

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge a saved method once, under the key `charge-{reference}`."""
        return await self._methods().charge(request)

    async def check_account(self) -> AccountCheck:
        """Connection test: whose account it is, what the key may not, and how the webhook endpoint sends events."""
        return await StripeCheck(self._api(), self._call).run(
            self._account_id,
            live=self._live is True,
            restricted=self._secret_key.startswith("rk_"),
            follows=self._follows,
        )

    async def look_refund(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund; without Stripe's id it is found by ours. None: Stripe knows of none."""
        if provider_refund_id is None:
            found = await self._search().refund(request.transaction_id, str(request.refund_id))
            return None if found is None else refund_of(found)
        try:
            return refund_of(await self._call(self._api().v1.refunds.retrieve_async(provider_refund_id)))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return None
            raise

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Authenticate and read a callback. Raises WebhookRejected, nothing else."""
        signature = callback.headers.get(SIGNATURE_HEADER)
        check_signature(signature, callback.body, self._webhook_secrets, callback.received_at, self._tolerance)
        return read_event(callback.body, live=self._live, own_account=self._own_account)

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        http_client, self._http_client, self._client = self._http_client, None, None
        if http_client is not None:
            await http_client.close_async()  # type: ignore[no-untyped-call]

    async def _open_session(self, request: CheckoutRequest) -> OpenedCheckout:
        params = session_params(request)
        too_late = session_expiry(request) - self._clock() < MIN_SESSION_LIFETIME
        if too_late or not self._trusts_key(request):
            found = await self._search().session(str(request.reference), request.created_at)
            if found is not None:
                return _opened_session(found)
        if too_late:
            raise ProviderRejected("checkout_window_passed")
        options: stripe.RequestOptions = {"idempotency_key": f"checkout-{request.reference}"}
        try:
            return _opened_session(await self._call(self._api().v1.checkout.sessions.create_async(params, options)))
        except ProviderError as error:
            if customer_is_gone(error):
                raise ProviderRejected(CUSTOMER_GONE, error.detail) from None
            found = await self._search().session(str(request.reference), request.created_at) if acted(error) else None
            if found is None:
                raise
            return _opened_session(found)

    async def _open_intent(self, request: CheckoutRequest) -> OpenedCheckout:
        params = intent_params(request)
        if not self._trusts_key(request):
            found = await self._search().intent(str(request.reference), request.created_at)
            if found is not None:
                return _opened_intent(found)
        options: stripe.RequestOptions = {"idempotency_key": f"intent-{request.reference}"}
        try:
            return _opened_intent(await self._call(self._api().v1.payment_intents.create_async(params, options)))
        except ProviderError as error:
            found = await self._search().intent(str(request.reference), request.created_at) if acted(error) else None
            if found is None:
                raise
            return _opened_intent(found)

    async def _look_by_reference(self, ref: CheckoutRef) -> ProviderPayment:
        if ref.mode is CheckoutMode.HOSTED:
            session = await self._search().session(str(ref.reference), ref.created_at)
            return payment_of_session(session) if session is not None else _UNKNOWN
        intent = await self._search().intent(str(ref.reference), ref.created_at)
        one_try = ref.mode is CheckoutMode.SAVED
        return payment_of_intent(intent, one_try=one_try) if intent is not None else _UNKNOWN

    async def _session(self, session_id: str) -> JsonObject:
        sessions = self._api().v1.checkout.sessions
        return await self._call(sessions.retrieve_async(session_id, {"expand": _EXPAND_SESSION}))

    async def _intent(self, intent_id: str) -> JsonObject:
        intents = self._api().v1.payment_intents
        return await self._call(intents.retrieve_async(intent_id, {"expand": _EXPAND_INTENT}))

    def _trusts_key(self, request: CheckoutRequest) -> bool:
        return self._clock() - request.created_at <= KEY_TRUSTED_FOR

    def _methods(self) -> StripeMethods:
        return StripeMethods(self._api(), self._call, clock=self._clock, key_trusted_for=KEY_TRUSTED_FOR)

    def _links(self) -> StripeLinks:
        return StripeLinks(self._api(), self._call)

    def _search(self) -> StripeSearch:
        return StripeSearch(self._api(), self._call)

    def _api(self) -> stripe.StripeClient:
        """The client, made at the first call because its connections belong to the running event loop."""
        if self._client is None:
            self._http_client = self._http_client or StripeTransport(
                timeout=self._timeout_seconds, transport=self._network.transport()
            )
            self._client = stripe.StripeClient(
                self._secret_key,
                base_addresses={"api": self._api_base} if self._api_base else None,
                max_network_retries=0,
                http_client=self._http_client,
            )
        return self._client

    async def _call(self, request: Awaitable[Any]) -> JsonObject:
        """Send one request; the answer as plain data, every failure as a ProviderError.

        The cause is dropped on purpose: the library's exceptions carry Stripe's message and body, and a chained
        cause would be written to logs and workflow histories.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await request
        except stripe.StripeError as error:
            raise known_about(error, self._clock()) from None
        except TimeoutError:
            raise OutcomeUnknown("timeout", f"no answer in {self._timeout_seconds:g} s") from None
        except Exception as error:  # whatever broke here, the request may have been sent
            raise OutcomeUnknown("unreadable_answer", type(error).__name__) from None
        if not isinstance(answer, stripe.StripeObject):
            raise OutcomeUnknown("unreadable_answer", type(answer).__name__)
        return answer.to_dict()


def _opened_session(session: JsonObject) -> OpenedCheckout:
    session_id = text(session, "id")
    if session_id is None:
        raise OutcomeUnknown("unreadable_answer", "session without id")
    return OpenedCheckout(session_id, text(session, "url"))


def _opened_intent(intent: JsonObject) -> OpenedCheckout:
    intent_id = text(intent, "id")
    if intent_id is None:
        raise OutcomeUnknown("unreadable_answer", "payment intent without id")
    return OpenedCheckout(intent_id, None, text(intent, "client_secret"))


def _own_account(given: object) -> str | None:
    """What Stripe calls the account of the key, where an option says it."""
    if given is None:
        return None
    if not isinstance(given, str) or not re.fullmatch(r"acct_[A-Za-z0-9]{1,64}", given):
        raise ProviderMisconfigured("option_invalid", "own_account")
    return given


def _mode_of(secret_key: str) -> bool | None:
    """Live or test, as the key's own prefix says; None for a key that says neither."""
    prefix = re.match(r"[a-z]+_(live|test)_", secret_key)
    return None if prefix is None else prefix[1] == "live"
