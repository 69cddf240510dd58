"""Opening checkouts at providers, with failover, and opening further ways to pay."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import billing
from activities.charges import SavedCharges
from activities.customers import ProviderCustomers
from activities.errors import as_application_error
from activities.guard import ProviderGuard
from domain.money import Money
from domain.payment import (
    CLOSED_WITHOUT_MONEY,
    OPEN,
    Checkout,
    OpenWay,
    PaymentStatus,
    StartPayment,
    attempt_reference,
)
from domain.receipt import Dealer, vat_rate_for
from domain.vat import split_gross
from providers.base import (
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    NothingMoved,
    OpenedCheckout,
    Payer,
    ProviderBusy,
    ProviderError,
    offered,
)
from storage import attempts, audit, payments, provider_health, workspaces
from storage.attempts import SETTLED, Loaded, Way
from storage.models import Attempt, Payment, ProviderAccount, ProviderHealth, Workspace
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

CODES_TRIED = 5
"""How many cash codes of our own are tried before a collision is an error; two in a row are next to impossible."""


class CheckoutActivities:
    """Creates checkouts; the provider is called between two transactions, never inside one.

    `public_base_url` is where providers and payers reach our API.
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
        self._charges = SavedCharges(database, guard, sealer, now, public_base_url=public_base_url)
        self._customers = ProviderCustomers(database, guard)

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        """Create, or find again, the provider's checkout for this payment, and record it.

        A payment of a saved method has none: the method is charged instead (activities/charges.py). Safe to repeat: the
        provider gets our reference as idempotency value (or is asked for it first), and a payment whose checkout is on
        record is answered from there. Where it is certain that an account's checkout cannot be paid, the payment's next
        account is tried. Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await attempts.load(session, command.payment_id)
            wanted = found is not None and await billing.is_still_wanted(session, found.payment)
        if found is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        payment = found.payment
        if not wanted and all(way.attempt is None for way in found.ways):  # its subscription has ended meanwhile
            raise ApplicationError("nobody wants it any more", "subscription_ended", None, type="ProviderRejected")
        if payment.payment_method_id is not None:
            with as_application_error():
                return await self._charges.charge(found, _payer(payment), _vat(payment, found.workspace))
        if payment.provider_session_id is not None:
            return Checkout(PaymentStatus(payment.status), payment.checkout_url)
        route = [payment.provider_account_id, *payment.fallback_accounts]
        failed = sum(way.attempt is not None and way.attempt.status == PaymentStatus.FAILED for way in found.ways)
        with as_application_error():
            for number in range(min(failed + 1, len(route)), len(route)):
                opened = await self._try(found, route[number - 1], number)
                if opened is not None:
                    return opened
            return await self._try_last(found, route[-1], len(route))

    @activity.defn
    async def open_way(self, command: OpenWay) -> Checkout:
        """Open a further way to pay the payment; its attempt is on record already. Safe to repeat.

        A payment that is no longer open gets none: then the answer's status is the payment's and there is no address.
        Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await attempts.load(session, command.payment_id)
            ways = [way for way in (found.ways if found else []) if _has_reference(way, command.reference)]
            if found is None or not ways or ways[0].attempt is None:
                raise ApplicationError("no such attempt", "payment_not_found", None, type="PaymentNotFound")
            payment, way, number = found.payment, ways[0], ways[0].attempt.number
            if ways[0].attempt.session_id is not None:
                return Checkout(PaymentStatus(payment.status), ways[0].attempt.checkout_url)
            if payment.status not in OPEN:
                return Checkout(PaymentStatus(payment.status))
            attempt, unsure = await attempts.begin(session, payment.id, number, {})
        with as_application_error():
            try:
                return await self._open(found, way.account, way.health, number=number, attempt=attempt)
            except ProviderError as error:
                certain = isinstance(error, NothingMoved) and not unsure
                await self._not_opened(attempt, error, certain=certain, final=not isinstance(error, ProviderBusy))
                raise

    async def _try(self, loaded: Loaded, account_id: UUID, number: int) -> Checkout | None:
        """Open at one account; None when it is certain that nothing there can be paid, so another one may be tried.

        The attempt is on record before the provider is asked: whoever goes on after a crash sees that a try began, and
        does not take a later refusal as proof that it moved nothing.
        """
        payment = loaded.payment
        account, health = await self._account(loaded, account_id)
        attempt, unsure = await self._begin(payment, account, number)
        try:
            return await self._open(loaded, account, health, number=number, attempt=attempt)
        except ProviderError as error:
            certain = isinstance(error, NothingMoved) and not unsure
            if not certain and not await self._is_closed(payment, account, health, attempt):
                await self._not_opened(attempt, error, certain=False, final=True)
                raise
            async with self._database.transaction() as session:
                await attempts.not_opened(session, attempt.id, status=PaymentStatus.FAILED.value, error_code=error.code)
                audit.record(
                    session,
                    payment.workspace_id,
                    actor="workflow",
                    action="payment.failed_over",
                    subject=("payment", payment.id),
                    details={"provider": account.provider, "account_id": str(account.id), "code": error.code},
                )
            log.warning("checkout fails over", payment_id=str(payment.id), provider=account.provider, code=error.code)
        return None

    async def _try_last(self, loaded: Loaded, account_id: UUID, number: int) -> Checkout:
        """Open at the only account, or at the last one of the route."""
        payment = loaded.payment
        account, health = await self._account(loaded, account_id)
        attempt: Attempt | None = None
        unsure = False
        if number > 1:
            attempt, unsure = await self._begin(payment, account, number)
        try:
            return await self._open(loaded, account, health, number=number, attempt=attempt)
        except ProviderError as error:
            certain = isinstance(error, NothingMoved) and not unsure
            if attempt is None and certain and not isinstance(error, ProviderBusy):
                attempt, unsure = await self._begin(payment, account, number)
            if attempt is not None:
                certain = certain and not unsure
                await self._not_opened(attempt, error, certain=certain, final=not isinstance(error, ProviderBusy))
            raise

    async def _begin(self, payment: Payment, account: ProviderAccount, number: int) -> tuple[Attempt, bool]:
        values = {
            "provider": account.provider,
            "provider_account_id": account.id,
            "checkout_mode": payment.checkout_mode,
            "method": self._method_at(account, payment),
            "method_fields": payment.method_fields,
        }
        async with self._database.transaction() as session:
            return await attempts.begin(session, payment.id, number, values)

    def _method_at(self, account: ProviderAccount, payment: Payment) -> str | None:
        """The payment's method, or the account's own default: the caller named none, if the account has not got it."""
        if payment.checkout_mode == CheckoutMode.DIRECT:
            return payment.method
        try:
            sheet = self._guard.provider(account).capabilities
        except ProviderError:  # what is wrong shows when it is asked
            return payment.method
        names = [method.name for method in offered(sheet, payment.currency, account.options)]
        return payment.method if payment.method in names or not names else names[0]

    async def _is_closed(
        self, payment: Payment, account: ProviderAccount, health: ProviderHealth | None, attempt: Attempt
    ) -> bool:
        """Whether the provider itself says that what a silent try may have opened cannot be paid."""
        ref = CheckoutRef(
            reference=attempt.reference,
            session_id=None,
            mode=CheckoutMode(attempt.checkout_mode),
            created_at=payment.created_at if attempt.number == 1 else attempt.created_at,
            method=attempt.method,
            amount=payment.money,
            expires_at=payment.expires_at,
        )
        try:
            if not self._guard.provider(account).capabilities.closes(attempt.method):
                return False
            closed = await self._guard.call(account, health, lambda adapter: adapter.close_checkout(ref))
        except ProviderError:
            return False
        return closed.captured is None and closed.status in CLOSED_WITHOUT_MONEY

    async def _not_opened(self, attempt: Attempt, error: ProviderError, *, certain: bool, final: bool) -> None:
        """Keep how a try ended: `certain` that nothing was opened, `final` where another try is pointless."""
        status = PaymentStatus.UNKNOWN.value
        if certain:
            status = PaymentStatus.FAILED.value if final else attempts.OPENING
        async with self._database.transaction() as session:
            await attempts.not_opened(session, attempt.id, status=status, error_code=error.code)

    async def _open(
        self,
        loaded: Loaded,
        account: ProviderAccount,
        health: ProviderHealth | None,
        *,
        number: int,
        attempt: Attempt | None = None,
    ) -> Checkout:
        payment = loaded.payment
        saves_for = payment.customer_id if payment.save_method else None
        for salt in range(CODES_TRIED):

            async def open_for(customer: str | None, salt: int = salt) -> OpenedCheckout:
                request = self._request(loaded, account, number, attempt, salt, customer)
                return await self._guard.call(account, health, lambda adapter: adapter.open_checkout(request))

            opened = await self._customers.using(account, health, saves_for, _payer(payment), open_for)
            try:
                status, url = await self._record(payment, account, number, attempt, opened)
            except IntegrityError:
                if opened.cash is None or salt == CODES_TRIED - 1:
                    raise
                continue
            log.info("checkout opened", payment_id=str(payment.id), provider=account.provider, status=status.value)
            return Checkout(status, url)
        raise AssertionError("unreachable")

    async def _record(
        self,
        payment: Payment,
        account: ProviderAccount,
        number: int,
        attempt: Attempt | None,
        opened: OpenedCheckout,
    ) -> tuple[PaymentStatus, str | None]:
        url = opened.url
        shown_by_us = opened.cash is not None or opened.approve_in is not None
        if opened.form is not None or (shown_by_us and url is None):
            url = f"{self._base}/checkout/{attempt_reference(payment.id, number)}"
        instructions: dict[str, Any] | None = None
        if opened.cash is not None:
            instructions = json.loads(json.dumps(asdict(opened.cash), default=_iso))
        elif opened.approve_in is not None:
            instructions = {"approve_in": opened.approve_in}
        values: dict[str, Any] = {
            "provider": account.provider,
            "provider_account_id": account.id,
            "checkout_mode": payment.checkout_mode if attempt is None else attempt.checkout_mode,
            "method": payment.method if attempt is None else attempt.method,
            "error_code": None,
            "session_id": opened.session_id,
            "session_secret": self._seal(opened.session_secret),
            "checkout_url": url,
            "form": None if opened.form is None else self._seal(json.dumps(asdict(opened.form))),
            "instructions": instructions,
            "status": PaymentStatus.PENDING.value,
        }
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, payment.id)
            earlier = await attempts.by_reference(session, attempt_reference(payment.id, number))
            if earlier is not None and (earlier.session_id is not None or earlier.status in SETTLED):
                # a try that we had given up on was faster: its address may be with the payer already
                return PaymentStatus(locked.status), earlier.checkout_url
            await attempts.record(session, payment.id, number, values)
            if locked.status not in OPEN:
                # paid or closed meanwhile: this way is on record to be closed, the payment's own stays what it is
                return PaymentStatus(locked.status), None
            if not await _shows_another_way(session, locked, opened.session_id):
                locked.provider, locked.provider_account_id = account.provider, account.id
                locked.provider_session_id, locked.checkout_url = opened.session_id, url
                locked.instructions = instructions
                if attempt is not None:
                    locked.checkout_mode, locked.method = attempt.checkout_mode, attempt.method
                if opened.client_secret is not None:
                    locked.client_secret = self._sealer.seal(opened.client_secret)
            payments.change_status(session, workspace, locked, PaymentStatus.PENDING, at=self._now(), actor="workflow")
            return PaymentStatus(locked.status), url

    def _seal(self, text: str | None) -> bytes | None:
        return None if text is None else self._sealer.seal(text)

    async def _account(self, loaded: Loaded, account_id: UUID) -> tuple[ProviderAccount, ProviderHealth | None]:
        for way in loaded.ways:
            if way.account.id == account_id:
                return way.account, way.health
        async with self._database.transaction() as session:
            account = await workspaces.account(session, account_id)
            health = await provider_health.of_account(session, account_id)
        assert account is not None  # noqa: S101  (checked when the payment was accepted)
        return account, health

    def _request(
        self,
        loaded: Loaded,
        account: ProviderAccount,
        number: int,
        attempt: Attempt | None,
        salt: int,
        customer: str | None,
    ) -> CheckoutRequest:
        """All of it comes from rows, so every try sends the same."""
        payment, workspace = loaded.payment, loaded.workspace
        sealed = payment.method_fields if attempt is None else attempt.method_fields
        return CheckoutRequest(
            reference=attempt_reference(payment.id, number),
            workspace_id=payment.workspace_id,
            order_id=payment.order_id,
            amount=payment.money,
            description=payment.description,
            mode=CheckoutMode(payment.checkout_mode if attempt is None else attempt.checkout_mode),
            expires_at=payment.expires_at,
            created_at=payment.created_at if attempt is None or number == 1 else attempt.created_at,
            success_url=payment.success_url,
            cancel_url=payment.cancel_url,
            callback_url=f"{self._base}/api/v1/webhooks/{account.provider}/{account.id}",
            payer=_payer(payment),
            language=payment.language,
            vat=_vat(payment, workspace),
            method=payment.method if attempt is None else attempt.method,
            method_fields={} if sealed is None else self._sealer.open_mapping(sealed),
            salt=salt,
            save_method=payment.save_method,
            customer=customer,
        )


async def _shows_another_way(session: AsyncSession, payment: Payment, session_id: str) -> bool:
    """Whether the payment shows a way that can still be paid: the address that the shop has stays where it looks."""
    if payment.provider_session_id in (None, session_id):
        return False
    shown = (payment.provider_account_id, payment.provider_session_id)
    ways = await attempts.of_payment(session, payment.id)
    return any((way.provider_account_id, way.session_id) == shown and way.status in attempts.LIVE for way in ways)


def _has_reference(way: Way, reference: UUID) -> bool:
    return way.attempt is not None and way.attempt.reference == reference


def _iso(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _payer(payment: Payment) -> Payer:
    return Payer(
        id=payment.customer_id,
        name=payment.customer_name,
        email=payment.customer_email,
        phone=payment.customer_phone,
        document_type=payment.customer_document_type,
        document=payment.customer_document or payment.customer_tax_id,
        ip=payment.customer_ip,
    )


def _vat(payment: Payment, workspace: Workspace) -> Money | None:
    """The tax that the provider is told: that of the day on which the payment was made, so every try says the same."""
    rate = vat_rate_for(Dealer(workspace.dealer), workspaces.vat_rate_at(workspace, payment.created_at))
    return split_gross(payment.money, rate).vat if rate else None
