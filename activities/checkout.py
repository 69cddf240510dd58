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

from activities.errors import as_application_error
from activities.guard import ProviderGuard
from domain.money import Money
from domain.payment import OPEN, Checkout, OpenWay, PaymentStatus, StartPayment, attempt_reference
from domain.vat import split_gross
from providers.base import (
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    NothingMoved,
    OpenedCheckout,
    OutcomeUnknown,
    Payer,
    ProviderError,
)
from storage import attempts, audit, payments, provider_health, workspaces
from storage.attempts import SETTLED, Loaded, Way
from storage.models import Attempt, Payment, ProviderAccount, ProviderHealth, Workspace
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

CODES_TRIED = 5
"""How many cash codes of our own are tried before a collision is an error; two in a row are next to impossible."""
NOT_PAYABLE = (PaymentStatus.EXPIRED, PaymentStatus.CANCELED, PaymentStatus.FAILED)


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

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        """Create, or find again, the provider's checkout for this payment, and record it.

        Safe to repeat: the provider gets our reference as idempotency value (or is asked for it first), and a payment
        whose checkout is on record is answered from there. Where it is certain that an account's checkout cannot be
        paid, the payment's next account is tried. Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await attempts.load(session, command.payment_id)
        if found is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        payment, ways = found.payment, found.ways
        if payment.provider_session_id is not None:
            return Checkout(PaymentStatus(payment.status), payment.checkout_url)
        failed = [way for way in ways if way.attempt is not None and way.attempt.status == "failed"]
        route = [payment.provider_account_id, *payment.fallback_accounts]
        with as_application_error():
            for number, account_id in enumerate(route[len(failed) :], start=len(failed) + 1):
                account, health = await self._account(ways, account_id)
                last = number == len(route)
                opened = await self._try(found, account, health, number=number, last=last)
                if opened is not None:
                    return opened
        raise ApplicationError("every account was tried", "no_account_left", None, type="ProviderRejected")

    @activity.defn
    async def open_way(self, command: OpenWay) -> Checkout:
        """Open a further way to pay the payment; its attempt is on record already. Safe to repeat.

        Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await attempts.load(session, command.payment_id)
        way = next(
            (
                way
                for way in (found.ways if found else [])
                if way.attempt is not None and way.attempt.reference == command.reference
            ),
            None,
        )
        if found is None or way is None or way.attempt is None:
            raise ApplicationError("no such attempt", "payment_not_found", None, type="PaymentNotFound")
        attempt = way.attempt
        if attempt.session_id is not None:
            return Checkout(PaymentStatus(attempt.status), attempt.checkout_url)
        with as_application_error():
            return await self._open(found, way.account, way.health, number=attempt.number, attempt=attempt)

    async def _try(
        self, loaded: Loaded, account: ProviderAccount, health: ProviderHealth | None, *, number: int, last: bool
    ) -> Checkout | None:
        """Open at one account; None when that failed for certain and another account is left."""
        payment = loaded.payment
        try:
            return await self._open(loaded, account, health, number=number)
        except ProviderError as error:
            if last or not await self._cannot_be_paid(payment, account, number, error):
                raise
            async with self._database.transaction() as session:
                await self._give_up(session, payment, account, number, error)
            log.warning("checkout fails over", payment_id=str(payment.id), provider=account.provider, code=error.code)
        return None

    async def _cannot_be_paid(
        self, payment: Payment, account: ProviderAccount, number: int, error: ProviderError
    ) -> bool:
        """Whether it is certain that no checkout of this attempt can be paid: only then another account may open one.

        After silence only the provider's own word counts, that the session is closed.
        """
        if isinstance(error, NothingMoved):
            return True
        provider = self._guard.provider(account)
        if not isinstance(error, OutcomeUnknown) or not provider.capabilities.closes(payment.method):
            return False
        ref = CheckoutRef(
            reference=attempt_reference(payment.id, number),
            session_id=None,
            mode=CheckoutMode(payment.checkout_mode),
            created_at=payment.created_at,
            method=payment.method,
            amount=payment.money,
            expires_at=payment.expires_at,
        )
        try:
            closed = await self._guard.call(account, None, lambda adapter: adapter.close_checkout(ref))
        except ProviderError:
            return False
        return closed.captured is None and closed.status in NOT_PAYABLE

    async def _give_up(
        self, session: AsyncSession, payment: Payment, account: ProviderAccount, number: int, error: ProviderError
    ) -> None:
        await attempts.record(
            session,
            payment.id,
            number,
            {
                "provider": account.provider,
                "provider_account_id": account.id,
                "checkout_mode": payment.checkout_mode,
                "method": payment.method,
                "status": "failed",
                "error_code": error.code,
            },
        )
        audit.record(
            session,
            payment.workspace_id,
            actor="workflow",
            action="payment.failed_over",
            subject=("payment", payment.id),
            details={"provider": account.provider, "account_id": str(account.id), "code": error.code},
        )

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
        for salt in range(CODES_TRIED):
            request = self._request(loaded, account, number, attempt, salt)
            opened = await self._guard.call(account, health, lambda adapter: adapter.open_checkout(request))  # noqa: B023
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
            if PaymentStatus(locked.status) not in OPEN:
                # paid or closed meanwhile: this way is on record to be closed, the payment's own stays what it is
                return PaymentStatus(locked.status), url
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

    async def _account(self, ways: list[Way], account_id: UUID) -> tuple[ProviderAccount, ProviderHealth | None]:
        for way in ways:
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
            created_at=payment.created_at if attempt is None else attempt.created_at,
            success_url=payment.success_url,
            cancel_url=payment.cancel_url,
            callback_url=f"{self._base}/api/v1/webhooks/{account.provider}/{account.id}",
            payer=_payer(payment),
            language=payment.language,
            vat=_vat(payment, workspace),
            method=payment.method if attempt is None else attempt.method,
            method_fields={} if sealed is None else self._sealer.open_mapping(sealed),
            salt=salt,
        )


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
    return split_gross(payment.money, workspace.vat_rate).vat if workspace.vat_rate else None
