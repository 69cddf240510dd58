"""Charging saved methods. A charge is a payment: it has its row, its attempt, its workflow and its settlement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from activities.confirmation import ref_of
from activities.guard import YOUNG, ProviderGuard, looking_back
from domain.money import Money
from domain.payment import CAPTURED, OPEN, Checkout, PaymentStatus, attempt_reference
from domain.setup import MethodStatus
from providers.base import (
    Charged,
    ChargeRequest,
    ChargesSaved,
    CheckoutMode,
    NothingMoved,
    OutcomeUnknown,
    Payer,
    Provider,
    ProviderBusy,
    ProviderDeclined,
    ProviderError,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRejected,
)
from storage import attempts, charged_methods, payment_methods, payments
from storage.attempts import Loaded, Way
from storage.models import Attempt, Payment, PaymentMethod
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

EXPIRED_CARD = "expired_card"


class SavedCharges:
    """Charges the payment's saved method once, whatever happens between us and the provider.

    `public_base_url` is where payers reach the page that leads them to their bank.
    """

    def __init__(
        self,
        database: Database,
        guard: ProviderGuard,
        sealer: Sealer,
        now: Callable[[], datetime],
        *,
        public_base_url: str,
    ) -> None:
        self._database = database
        self._guard = guard
        self._sealer = sealer
        self._now = now
        self._base = public_base_url.rstrip("/")

    async def charge(self, loaded: Loaded, payer: Payer, vat: Money | None) -> Checkout:
        """Charge, or find the charge that an earlier try made, and record the answer. Safe to repeat.

        A payment that is no longer open is not charged any more. Raises ProviderDeclined with the decline's code (also
        for one that is on record already), and other ProviderErrors.
        """
        payment, way = loaded.payment, loaded.ways[0]
        known = _on_record(payment, way.attempt)
        if known is not None:
            return known
        begun = await self._begin(payment, way)
        if isinstance(begun, Checkout):
            return begun
        method, attempt, unsure = begun
        usable = method is not None and method.status == MethodStatus.ACTIVE
        try:
            charged = await self._earlier(payment, way, attempt, again=usable) if unsure else None
            if charged is None:
                if method is None or not usable:
                    raise ProviderDeclined("method_detached" if method is None else f"method_{method.status}")
                token = self._sealer.open(attempt.session_secret or method.token)
                request = replace(self._request(payment, method, payer, vat, token), asked_before=unsure)
                charged = await self._ask(way, request, unsure=unsure)
        except ProviderError as error:
            await self._not_charged(attempt, error, unsure=unsure)
            if method is not None and error.code == EXPIRED_CARD:
                await self._end(method.id, attempt, MethodStatus.EXPIRED)
            elif method is not None and isinstance(error, ProviderDeclined) and error.final:
                await self._end(method.id, attempt, MethodStatus.DETACHED)
            raise
        return await self._record(payment, attempt, charged)

    async def _begin(self, payment: Payment, way: Way) -> Checkout | tuple[PaymentMethod | None, Attempt, bool]:
        """Put on record what is about to be charged; the flag is of `attempts.begin`. How it stands if it is closed."""
        async with self._database.transaction() as session:
            locked, _ = await payments.lock(session, payment.id)
            if locked.status not in OPEN:
                return Checkout(PaymentStatus(locked.status))
            method, card = None, dict[str, Any]()
            if payment.payment_method_id is not None:
                method = await session.get(PaymentMethod, payment.payment_method_id)
            if method is not None:  # the token finds a charge without an answer; an answer's own secret takes its place
                card = {"session_secret": method.token} | charged_methods.columns_of_charge(method)
            values = {
                "provider": way.account.provider,
                "provider_account_id": way.account.id,
                "checkout_mode": CheckoutMode.SAVED.value,
                "method": payment.method,
            }
            attempt, unsure = await attempts.begin(session, payment.id, 1, values | card)
            if not unsure:  # an earlier try charged nothing, and the bank may have renewed the card since
                for name, value in card.items():
                    setattr(attempt, name, value)
            return method, attempt, unsure

    async def _earlier(self, payment: Payment, way: Way, attempt: Attempt, *, again: bool) -> Charged | None:
        """What an earlier request did that went unanswered; None when it is certain that it did nothing.

        With `again` None means that the charge may be asked for once more. A look that is refused (a revoked key)
        says nothing of the earlier request, and raises OutcomeUnknown.
        """
        with looking_back():
            keys_live = self._guard.provider(way.account).capabilities.idempotency_key_lifetime
            if again and keys_live is not None:  # the same request under the same key finds the same charge
                return None
            ref = replace(ref_of(payment, attempt, self._sealer), mode=CheckoutMode.SAVED)
            seen = await self._guard.call(way.account, way.health, lambda adapter: adapter.look(ref))
        if seen.status is not PaymentStatus.UNKNOWN:
            return _charge_seen(seen, attempt)
        if self._now() - attempt.updated_at < YOUNG:
            raise ProviderBusy("charge_not_visible_yet", retry_after=YOUNG)
        async with self._database.transaction() as session:
            if again and not await attempts.claim(session, attempt.id, seen=attempt.updated_at, at=self._now()):
                raise ProviderBusy("charge_is_being_asked", retry_after=YOUNG)
        return None

    async def _ask(self, way: Way, request: ChargeRequest, *, unsure: bool) -> Charged:
        async def ask(adapter: Provider) -> Charged:
            if not isinstance(adapter, ChargesSaved):
                raise ProviderRejected("saved_methods_not_supported")
            return await adapter.charge(request)

        try:
            return await self._guard.call(way.account, way.health, ask)
        except ProviderMisconfigured as error:
            if unsure:  # a key that is refused now says nothing of the earlier request
                raise OutcomeUnknown(error.code, error.detail) from error
            raise

    async def _not_charged(self, attempt: Attempt, error: ProviderError, *, unsure: bool) -> None:
        """Keep how a try ended that charged nothing as far as we know."""
        if isinstance(error, ProviderBusy) and unsure:
            return  # an earlier try is still unaccounted for, and its time counts
        status = PaymentStatus.UNKNOWN.value
        if isinstance(error, NothingMoved):
            status = attempts.OPENING if isinstance(error, ProviderBusy) else PaymentStatus.FAILED.value
        async with self._database.transaction() as session:
            await attempts.not_opened(session, attempt.id, status=status, error_code=error.code)
            if error.session_id is not None:
                await attempts.name_session(session, attempt.id, error.session_id)

    async def _end(self, method_id: UUID, charged: Attempt, status: MethodStatus) -> None:
        """The card is not charged again: its bank says that it has expired, or its provider wants it forgotten.

        One that was renewed while the bank was asked stays as it is.
        """
        async with self._database.transaction() as session:
            method = await payment_methods.lock(session, method_id)
            if method is None or method.status != MethodStatus.ACTIVE:
                return
            card = charged_methods.columns_of_charge(method)
            if charged.method_token_hash is None or all(
                getattr(charged, name) == value for name, value in card.items()
            ):
                ended = {"status": status.value}
                await payment_methods.change(session, method, ended, at=self._now(), actor="provider")

    async def _record(self, payment: Payment, attempt: Attempt, charged: Charged) -> Checkout:
        url = None
        if charged.action_url is not None:
            url = f"{self._base}/checkout/{attempt_reference(payment.id, 1)}"
        waits_for_payer = charged.status is PaymentStatus.REQUIRES_ACTION
        status = PaymentStatus.REQUIRES_ACTION if waits_for_payer else PaymentStatus.PENDING
        values: dict[str, Any] = {
            "provider": attempt.provider,
            "provider_account_id": attempt.provider_account_id,
            "checkout_mode": CheckoutMode.SAVED.value,
            "method": attempt.method,
            "error_code": None,
            "session_id": charged.session_id,
            "transaction_id": charged.transaction_id,
            "session_secret": None if charged.session_secret is None else self._sealer.seal(charged.session_secret),
            "checkout_url": charged.action_url,
            "status": status.value,
        }
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, payment.id)
            earlier = await attempts.by_reference(session, attempt.reference)
            if earlier is None or earlier.status not in attempts.SETTLED:
                await attempts.record(session, payment.id, 1, values)
            if locked.status in OPEN:
                locked.provider_session_id, locked.checkout_url = charged.session_id, url
                if charged.client_secret is not None and waits_for_payer:
                    locked.client_secret = self._sealer.seal(charged.client_secret)
                payments.change_status(session, workspace, locked, status, at=self._now(), actor="workflow")
            now_on_record = PaymentStatus(locked.status)
        log.info("saved method charged", payment_id=str(payment.id), status=charged.status.value)
        # closed meanwhile: the charge is on record all the same, and the look that follows finds what it brought
        look_now = charged.status in CAPTURED or now_on_record not in OPEN
        return Checkout(now_on_record, url, look_now=look_now)

    def _request(
        self, payment: Payment, method: PaymentMethod, payer: Payer, vat: Money | None, token: str
    ) -> ChargeRequest:
        """All of it comes from rows, so every try sends the same: also where the method has another token by now."""
        return ChargeRequest(
            reference=attempt_reference(payment.id, 1),
            workspace_id=payment.workspace_id,
            order_id=payment.order_id,
            amount=payment.money,
            description=payment.description,
            token=token,
            customer=method.provider_customer_id,
            created_at=payment.created_at,
            expires_at=payment.expires_at,
            off_session=payment.off_session,
            return_url=payment.success_url,
            callback_url=f"{self._base}/api/v1/webhooks/{payment.provider}/{payment.provider_account_id}",
            payer=payer,
            vat=vat,
            language=payment.language,
            kind=method.kind,
            exp_month=method.exp_month,
            exp_year=method.exp_year,
        )


def _on_record(payment: Payment, attempt: Attempt | None) -> Checkout | None:
    """The answer of an earlier try, if it was recorded. Raises ProviderDeclined when that was a refusal."""
    if attempt is None:
        return None
    if attempt.status == PaymentStatus.FAILED:
        raise ProviderDeclined(attempt.error_code or "card_declined")
    if attempt.session_id is None:
        return None
    status = PaymentStatus(payment.status)
    return Checkout(status, payment.checkout_url, look_now=status is not PaymentStatus.REQUIRES_ACTION)


def _charge_seen(seen: ProviderPayment, attempt: Attempt) -> Charged:
    """What the provider's books say of a charge whose answer was lost. Raises ProviderDeclined."""
    if seen.status is PaymentStatus.FAILED or seen.status is PaymentStatus.CANCELED:
        raise ProviderDeclined(seen.failure_code or "card_declined")
    session_id = seen.session_id or seen.transaction_id or str(attempt.reference)
    return Charged(session_id, seen.status, seen.transaction_id, session_secret=seen.session_secret)
