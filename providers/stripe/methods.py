"""Saved methods at Stripe: customers, set-ups in hosted sessions, and charges of saved methods.

A charge is a payment intent that is created and confirmed in one call under the key `charge-{reference}`, so every
repeat within the key's life gets the first one's answer, a decline included. Where the bank wants to see the payer the
same intent is confirmed once more without `off_session`: Stripe then names a page for the payer, and no second
intent can charge a second time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import stripe
from stripe.params import CustomerCreateParams, PaymentIntentConfirmParams, PaymentIntentCreateParams
from stripe.params.checkout import SessionCreateParams

from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    CUSTOMER_GONE,
    Charged,
    ChargeRequest,
    OpenedCheckout,
    OutcomeUnknown,
    Payer,
    ProviderDeclined,
    ProviderError,
    ProviderRejected,
    ProviderSetup,
    SavedMethod,
    SetupRef,
    SetupRequest,
)
from providers.stripe.amounts import to_wire
from providers.stripe.errors import NOT_FOUND, acted, customer_is_gone
from providers.stripe.objects import JsonObject, failure_code, method_of, part, reference, text
from providers.stripe.requests import MAX_NAME_LENGTH, locale, session_window
from providers.stripe.search import StripeSearch

NEEDS_THE_PAYER = frozenset({"authentication_required"})
CARD_KIND = "card"
_SETUP = ["setup_intent.payment_method"]
_LISTED_SETUP = ["data.setup_intent.payment_method"]

Call = Callable[[Awaitable[Any]], Awaitable[JsonObject]]


class StripeMethods:
    """Saved methods of one account. `call` sends a request and turns failures into ProviderError."""

    def __init__(
        self, client: stripe.StripeClient, call: Call, *, clock: Callable[[], datetime], key_trusted_for: timedelta
    ) -> None:
        self._v1 = client.v1
        self._call = call
        self._search = StripeSearch(client, call)
        self._clock = clock
        self._key_trusted_for = key_trusted_for

    async def create_customer(self, reference: UUID, payer: Payer) -> str:
        """A customer; the key holds what is said of the payer, so that another spelling is no error of the key."""
        params: CustomerCreateParams = {"metadata": {"customer_reference": str(reference)}}
        if payer.email:
            params["email"] = payer.email
        if payer.name:
            params["name"] = payer.name[:MAX_NAME_LENGTH]
        key = uuid5(reference, f"{payer.email}|{payer.name}")
        made = await self._call(self._v1.customers.create_async(params, {"idempotency_key": f"customer-{key}"}))
        customer_id = text(made, "id")
        if customer_id is None:
            raise OutcomeUnknown("unreadable_answer", "customer without id")
        return customer_id

    async def open_setup(self, request: SetupRequest) -> OpenedCheckout:
        """Create the session, or find again the one that an earlier try created."""
        if not self._trusts_key(request.created_at):
            found = await self._session_of(request.reference, request.created_at)
            if found is not None:
                return _opened(found)
        options: stripe.RequestOptions = {"idempotency_key": f"setup-{request.reference}"}
        try:
            params = setup_params(request)
            return _opened(await self._call(self._v1.checkout.sessions.create_async(params, options)))
        except ProviderError as error:
            if customer_is_gone(error):
                raise ProviderRejected(CUSTOMER_GONE, error.detail) from None
            found = await self._session_of(request.reference, request.created_at) if acted(error) else None
            if found is None:
                raise
            return _opened(found)

    async def look_setup(self, ref: SetupRef) -> ProviderSetup:
        """How the session and its setup intent stand."""
        if ref.session_id is None:
            found = await self._session_of(ref.reference, ref.created_at)
            return ProviderSetup(SetupStatus.UNKNOWN) if found is None else setup_of(found)
        try:
            retrieve = self._v1.checkout.sessions.retrieve_async(ref.session_id, {"expand": _SETUP})
            return setup_of(await self._call(retrieve))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return ProviderSetup(SetupStatus.UNKNOWN)
            raise

    async def close_setup(self, ref: SetupRef) -> ProviderSetup:
        """Expire the session; where Stripe refuses because it is over, the state says so."""
        session_id = ref.session_id
        if session_id is None:
            found = await self.look_setup(ref)
            if found.session_id is None or found.status is not SetupStatus.PENDING:
                return found
            session_id = found.session_id
        try:
            expire = self._v1.checkout.sessions.expire_async(session_id, {"expand": _SETUP})
            return setup_of(await self._call(expire))
        except ProviderRejected:
            return await self.look_setup(SetupRef(ref.reference, session_id, ref.created_at))

    async def look_method(self, token: str) -> SavedMethod | None:
        """The method as it is now; None when it belongs to no customer any more: then it cannot be charged."""
        try:
            found = await self._call(self._v1.payment_methods.retrieve_async(token))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return None
            raise
        method = method_of(found)
        return method if method is not None and method.customer is not None else None

    async def is_revoked(self, token: str, mandate: str) -> bool:
        """Whether a mandate for repeated use is inactive: one for a single use is so after that, as it should be."""
        try:
            found = await self._call(self._v1.mandates.retrieve_async(mandate))
        except ProviderRejected as rejected:
            if rejected.code == NOT_FOUND:
                return False
            raise
        ours = reference(found, "payment_method") == token and found.get("type") == "multi_use"
        return ours and found.get("status") == "inactive"

    async def detach(self, token: str) -> None:
        """Detach from the customer. Stripe refuses what is detached already."""
        try:
            await self._call(self._v1.payment_methods.detach_async(token))
        except ProviderRejected:
            if await self.look_method(token) is not None:
                raise

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge, or find the charge that an earlier try made. Raises ProviderDeclined, other ProviderErrors."""
        found = None if self._trusts_key(request.created_at) else await self._intent_of(request)
        if found is None:
            options: stripe.RequestOptions = {"idempotency_key": f"charge-{request.reference}"}
            try:
                params = charge_params(request)
                found = await self._call(self._v1.payment_intents.create_async(params, options))
            except ProviderDeclined as declined:
                if declined.code not in NEEDS_THE_PAYER or declined.session_id is None:
                    raise
                return await self._ask_the_payer(request, declined.session_id)
            except ProviderError as error:
                found = await self._intent_of(request) if acted(error) else None
                if found is None:
                    raise
        return await self._charged(request, found)

    async def _charged(self, request: ChargeRequest, intent: JsonObject) -> Charged:
        """What an intent of this charge means, whoever confirmed it last."""
        code = failure_code(intent)
        if intent.get("status") == "requires_payment_method" and code in NEEDS_THE_PAYER:
            return await self._ask_the_payer(request, _id_of(intent))
        return charged_of(intent)

    async def _ask_the_payer(self, request: ChargeRequest, intent_id: str) -> Charged:
        """Confirm the same intent as if the payer were here: Stripe then names the page of the payer's bank."""
        params: PaymentIntentConfirmParams = {"payment_method": request.token}
        if request.return_url:
            params["return_url"] = request.return_url
        options: stripe.RequestOptions = {"idempotency_key": f"charge-{request.reference}-payer"}
        try:
            return charged_of(await self._call(self._v1.payment_intents.confirm_async(intent_id, params, options)))
        except ProviderRejected:  # confirmed by an earlier try whose answer was lost
            return charged_of(await self._call(self._v1.payment_intents.retrieve_async(intent_id)))

    async def _intent_of(self, request: ChargeRequest) -> JsonObject | None:
        return await self._search.intent(str(request.reference), request.created_at)

    async def _session_of(self, reference: UUID, created_at: datetime) -> JsonObject | None:
        return await self._search.listed_session(str(reference), created_at, _LISTED_SETUP)

    def _trusts_key(self, created_at: datetime) -> bool:
        return self._clock() - created_at <= self._key_trusted_for


def setup_params(request: SetupRequest) -> SessionCreateParams:
    """A hosted session that saves a method and takes nothing."""
    metadata = {"setup_id": str(request.reference), "workspace_id": str(request.workspace_id)}
    params: SessionCreateParams = {
        "mode": "setup",
        "currency": request.currency.lower(),
        "client_reference_id": str(request.reference),
        "metadata": metadata,
        "setup_intent_data": {"metadata": metadata, "description": request.description[:MAX_NAME_LENGTH]},
        "expires_at": int(session_window(request.created_at, request.expires_at).timestamp()),
        "locale": locale(request.language),
    }
    if request.customer:
        params["customer"] = request.customer
    if request.success_url:
        params["success_url"] = request.success_url
    if request.cancel_url:
        params["cancel_url"] = request.cancel_url
    return params


def charge_params(request: ChargeRequest) -> PaymentIntentCreateParams:
    """A payment intent that is confirmed at once. Raises ProviderRejected when the amount cannot be expressed.

    Stripe refuses (400) to confirm without a `return_url` where a method of the account might redirect, whatever is
    charged. A card needs none of those methods; another kind may, so its charge names the address instead.
    """
    params: PaymentIntentCreateParams = {
        "amount": to_wire(request.amount),
        "currency": request.amount.currency.lower(),
        "automatic_payment_methods": {"enabled": True},
        "payment_method": request.token,
        "confirm": True,
        "metadata": {
            "payment_id": str(request.reference),
            "workspace_id": str(request.workspace_id),
            "order_id": request.order_id[:500],
        },
    }
    if request.kind == CARD_KIND:
        params["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "never"}
    if request.customer:
        params["customer"] = request.customer
    if request.description.strip():
        params["description"] = request.description.strip()[:MAX_NAME_LENGTH]
    if request.off_session:
        params["off_session"] = True
    if request.return_url and not (request.off_session and request.kind == CARD_KIND):
        params["return_url"] = request.return_url
    return params


def setup_of(session: JsonObject) -> ProviderSetup:
    """A session of mode `setup` that was fetched with `setup_intent.payment_method` expanded."""
    intent = part(session, "setup_intent")
    session_id = text(session, "id")
    fault = part(intent, "last_setup_error")
    code = text(fault, "decline_code") or text(fault, "code")
    if intent.get("status") == "succeeded":
        method = method_of(part(intent, "payment_method"), customer=text(session, "customer"))
        if method is None:
            raise OutcomeUnknown("unreadable_answer", "setup intent without a method")
        return ProviderSetup(SetupStatus.SUCCEEDED, session_id, method)
    status = SetupStatus.EXPIRED if session.get("status") == "expired" else SetupStatus.PENDING
    return ProviderSetup(status, session_id, failure_code=code)


def charged_of(intent: JsonObject) -> Charged:
    """What a confirmed intent says. Raises ProviderDeclined when nobody was charged and nobody will be."""
    intent_id, status = _id_of(intent), intent.get("status")
    if status == "succeeded":
        return Charged(intent_id, PaymentStatus.PAID, intent_id)
    if status == "requires_action":
        redirect = part(part(intent, "next_action"), "redirect_to_url")
        return Charged(
            intent_id,
            PaymentStatus.REQUIRES_ACTION,
            intent_id,
            action_url=text(redirect, "url"),
            client_secret=text(intent, "client_secret"),
        )
    if status in ("requires_payment_method", "canceled"):
        raise ProviderDeclined(failure_code(intent) or "card_declined", str(status), session_id=intent_id)
    return Charged(intent_id, PaymentStatus.PENDING, intent_id)


def _id_of(intent: JsonObject) -> str:
    intent_id = text(intent, "id")
    if intent_id is None:
        raise OutcomeUnknown("unreadable_answer", "payment intent without id")
    return intent_id


def _opened(session: JsonObject) -> OpenedCheckout:
    session_id = text(session, "id")
    if session_id is None:
        raise OutcomeUnknown("unreadable_answer", "session without id")
    return OpenedCheckout(session_id, text(session, "url"))
